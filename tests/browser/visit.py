"""One look at a page, as a reader has it: three widths, light and dark, everything unfolded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WIDTHS = (390, 768, 1280)
MODES = ("light", "dark")
DESKTOP = 1280
LOOK = Path(__file__).with_name("look.js")

_PAINTED = "performance.getEntriesByName('first-contentful-paint').length > 0"


@dataclass
class Visit:
    """What was seen; every list holds complaints, in words."""

    script_errors: list[str] = field(default_factory=list)
    foreign_requests: list[str] = field(default_factory=list)
    failed_requests: list[str] = field(default_factory=list)
    failed_formulas: list[str] = field(default_factory=list)
    too_wide: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)
    shown_in_print: list[str] = field(default_factory=list)
    painted_without_figures: bool = False
    n_bytes: int = 0


@contextmanager
def opened(
    browser: Any, address: str, name: str, record: Visit | None = None, **options: Any
) -> Iterator[Any]:
    """A settled page in a context of its own, its errors and requests recorded."""
    context = browser.new_context(viewport={"width": DESKTOP, "height": 900}, **options)
    record = record if record is not None else Visit()
    context.add_init_script(path=LOOK)
    page = context.new_page()
    page.on("pageerror", lambda error: record.script_errors.append(str(error)))
    page.on(
        "console",
        lambda said: record.script_errors.append(said.text) if said.type == "error" else None,
    )
    page.on("request", lambda request: _check_host(request.url, address, record))
    page.on(
        "response",
        lambda answer: (
            record.failed_requests.append(f"{answer.status} {answer.url}")
            if answer.status >= 400
            else None
        ),
    )
    try:
        held: list = []
        holding = [True]

        def figure(route: Any) -> None:  # keeps figures back until something is painted
            held.append(route) if holding[0] else route.continue_()

        page.route("**/*.{png,jpg,jpeg,gif,webp}", figure)
        page.goto(f"{address}/{name}", wait_until="commit")
        page.wait_for_function(_PAINTED)
        record.painted_without_figures = page.locator(".bd-article h1").first.is_visible()
        holding[0] = False
        for route in held:
            route.continue_()
        page.wait_for_load_state("load")
        page.evaluate("look.settled()")
        yield page
    finally:
        context.close()


def _check_host(url: str, address: str, record: Visit) -> None:
    if not url.startswith((address + "/", "data:", "blob:")):
        record.foreign_requests.append(url)


def set_mode(page: Any, mode: str) -> None:
    page.evaluate("mode => { document.documentElement.dataset.theme = mode; }", mode)


def look(browser: Any, address: str, name: str) -> Visit:
    """Open a page, resize it, darken it, print it; what is wrong with it."""
    seen = Visit()
    with opened(browser, address, name, seen) as page:
        seen.n_bytes = page.evaluate("look.bytes()")
        seen.failed_formulas = page.evaluate("look.failedFormulas()")
        seen.images = [tuple(image) for image in page.evaluate("look.images()")]
        page.evaluate("look.unfold()")
        for mode in MODES:
            set_mode(page, mode)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                at = f"{mode}, {width} px: "
                seen.too_wide += [at + what for what in page.evaluate("look.tooWide()")]
                clipped = page.evaluate("look.clipped", width < DESKTOP)
                seen.clipped += [at + what for what in clipped]
            rules = None if mode == "light" else ["color-contrast"]
            seen.violations += [f"{mode}: {what}" for what in violations(page, rules)]
        page.emulate_media(media="print")
        seen.shown_in_print = [
            what
            for what in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer")
            if page.locator(what).count() and page.locator(what).first.is_visible()
        ]
    return seen


#: MathJax's formulas speak for themselves; code, and entries of the reference, are alike on every
#: page, and looked at on one.
ALIKE = (("mjx-container",), (".highlight",), ("dl.py",))


def violations(page: Any, rules: list[str] | None = None, *, leave_out: Any = ALIKE) -> list[str]:
    """What axe calls serious or critical, by all its rules or some."""
    from axe_playwright_python.sync_playwright import Axe

    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
    if rules:
        options["runOnly"] = rules
    found = Axe().run(page, context={"exclude": [list(e) for e in leave_out]}, options=options)
    return [
        f"{violation['id']} ({violation['impact']}): {node['target'][0]}: {node['html'][:100]}"
        for violation in found.response["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
