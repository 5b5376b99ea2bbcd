"""Sphinx extension: pages that load little: icons from their font alone, figures in time.

The theme brings every icon twice, as fonts and as a script of half a megabyte; the fonts do. It
also asks for fonts that no page of the book uses before any text is laid out.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

_ICON_SCRIPT = re.compile(
    r'\s*<link rel="preload" as="script" href="[^"]*fontawesome[^"]*"[^>]*>'
    r'|\s*<script[^>]*src="[^"]*fontawesome[^"]*"[^>]*></script>'
)
_UNUSED_FONTS = re.compile(r'\s*<link rel="preload"[^>]*fa-(?:brands|regular)-400[^>]*>')
_IMAGE = re.compile(r"<img (?![^>]*\bloading=)")


def lean(page: str) -> str:
    """The page without what it does not need, its images loaded when they come near."""
    page = _UNUSED_FONTS.sub("", _ICON_SCRIPT.sub("", page))
    return _IMAGE.sub('<img loading="lazy" decoding="async" ', page)


def _rewrite(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf8")
        if (leaner := lean(text)) != text:
            path.write_text(leaner, encoding="utf8")


def setup(app: Sphinx) -> dict:
    """Connect to Sphinx."""
    app.connect("build-finished", _rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
