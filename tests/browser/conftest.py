"""A Chromium and the built site, for `make browser`; elsewhere these tests say why they skip."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import site
from tests.browser.chromium import executable


def _reason_to_skip() -> str | None:
    if site.SITE is None:
        return "no built site was named: run `make browser`"
    if not (site.SITE / "index.html").is_file():
        return f"there is no built site in {site.SITE.name}: run `make book`"
    if not all(map(importlib.util.find_spec, ("playwright", "axe_playwright_python"))):
        return "playwright is not installed: pip install -r requirements-browser.txt"
    return None


@pytest.fixture(scope="session", autouse=True)
def _asked_for() -> None:
    if reason := _reason_to_skip():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = executable(playwright)
        if path is None:
            pytest.skip(
                "no Chromium here: apt install chromium, or python -m playwright install chromium"
            )
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where the site is served."""
    with site.served(site.SITE) as url:
        yield url
