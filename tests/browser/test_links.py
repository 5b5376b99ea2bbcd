"""Links and anchors inside the site, and its search."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import site, visit

#: What a reader would type, and a page that must be among the answers.
SEARCHES = {
    "replica": "05_franz_parisi_action",
    "Franz-Parisi": "05_franz_parisi_action",
    "kernel renormalisation": "02_proportional_limit",
    "Wishart": "03_exact_linear_networks",
    "Langevin": "04_sampling_the_posterior",
    "order parameter": "06_order_parameters",
    "negative transfer": "14_phase_diagrams",
    "double descent": "12_replica_readout",
    "fine-tuned": "13_transferred_features",
    "TransferGPRegressor": "api",
}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.links += [given[name] for name in ("href", "src") if name in given]


@cache
def _parsed(name: str) -> _Page:
    page = _Page()
    page.feed((site.SITE / name).read_text(encoding="utf8"))
    return page


@pytest.mark.parametrize("name", site.pages())
def test_every_internal_link_and_anchor_exists(name: str) -> None:
    broken = []
    for link in _parsed(name).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or link.startswith("#!"):
            continue
        target = (site.SITE / name).parent / unquote(parts.path) if parts.path else site.SITE / name
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file():
            broken.append(link)
        elif parts.fragment and target.suffix == ".html":
            page = _parsed(target.resolve().relative_to(site.SITE).as_posix())
            if unquote(parts.fragment) not in page.anchors:
                broken.append(link)
    assert not broken


@pytest.mark.parametrize(("term", "expected"), SEARCHES.items())
def test_search_finds_what_a_reader_would_try(
    browser: Any, address: Any, term: Any, expected: Any
) -> None:
    with visit.opened(browser, address, f"search.html?q={term}") as page:
        page.wait_for_selector("#search-results li a")
        page.wait_for_function(
            "document.querySelector('#search-results p.search-summary, "
            "#search-results .search-summary')?.textContent.length > 0"
        )
        links = page.eval_on_selector_all("#search-results li a", "all => all.map(a => a.href)")
    assert any(expected in link for link in links), links
