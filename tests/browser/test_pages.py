"""Every page of the built site, looked at in Chromium."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser import site, visit

#: Harmless, and not ours: none at present.
KNOWN_ERRORS: tuple[str, ...] = ()
#: What axe finds in the theme's own parts, by rule and selector.
THEME_VIOLATIONS: tuple[str, ...] = (
    # The bibliography's list has entries that are no list items: Sphinx writes it so.
    "aria-required-children (critical): .citation-list",
)
LARGEST_PAGE = 1_500_000

PAGES = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in site.chapters()]
_seen: dict[str, visit.Visit] = {}


@pytest.fixture(params=PAGES)
def seen(request: pytest.FixtureRequest, browser: Any, address: str) -> visit.Visit:
    """The page, looked at once for all tests."""
    if request.param not in _seen:
        _seen[request.param] = visit.look(browser, address, request.param)
    return _seen[request.param]


def test_no_script_error_and_no_missing_file(seen: visit.Visit) -> None:
    errors = [
        error for error in seen.script_errors if not error.startswith(KNOWN_ERRORS or ("\0",))
    ]
    assert not errors and not seen.failed_requests


def test_nothing_is_requested_from_another_host(seen: visit.Visit) -> None:
    assert not seen.foreign_requests


def test_every_formula_is_set(seen: visit.Visit) -> None:
    assert not seen.failed_formulas


def test_nothing_is_wider_than_the_screen(seen: visit.Visit) -> None:
    assert not seen.too_wide


def test_no_code_is_clipped_and_on_phones_it_scrolls(seen: visit.Visit) -> None:
    assert not seen.clipped


def test_no_serious_accessibility_violation(seen: visit.Visit) -> None:
    ours = [what for what in seen.violations if not any(name in what for name in THEME_VIOLATIONS)]
    assert not ours


def test_code_can_be_read_in_both_modes(browser: Any, address: str) -> None:
    with visit.opened(browser, address, "notebooks/01_infinite_width.html") as page:
        page.evaluate("document.querySelectorAll('.cell ~ .cell').forEach(e => e.remove())")
        for mode in visit.MODES:
            visit.set_mode(page, mode)
            assert not visit.violations(page, ["color-contrast"], leave_out=())


def test_images_say_what_they_show(seen: visit.Visit) -> None:
    assert not [source for source, alternative in seen.images if len(alternative) < 20]


def test_is_light_and_painted_before_any_figure_arrives(seen: visit.Visit) -> None:
    assert seen.painted_without_figures
    assert seen.n_bytes <= LARGEST_PAGE


def test_print_shows_the_text_alone(seen: visit.Visit) -> None:
    assert not seen.shown_in_print
