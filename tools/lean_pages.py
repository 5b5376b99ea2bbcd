"""Sphinx extension: pages that load little: icons from their font alone, figures in time.

The theme brings every icon twice, as fonts and as a script of half a megabyte; the fonts do. It
also asks for fonts that no page of the book uses before any text is laid out. MathJax comes in ten
bundles and speaks twelve languages; the pages load one bundle and speak English. The status page
is told how large the site came out.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from sphinx.application import Sphinx

_ICON_SCRIPT = re.compile(
    r'\s*<link rel="preload" as="script" href="[^"]*fontawesome[^"]*"[^>]*>'
    r'|\s*<script[^>]*src="[^"]*fontawesome[^"]*"[^>]*></script>'
)
_UNUSED_FONTS = re.compile(r'\s*<link rel="preload"[^>]*fa-(?:brands|regular)-400[^>]*>')
_IMAGE = re.compile(r"<img (?![^>]*\bloading=)")
_TABLE = re.compile(r'<table border="1" class="dataframe"(?! tabindex)')
_LANGUAGES = ("base.json", "en.json", "nemeth.json")


def lean(page: str) -> str:
    """The page without what it does not need, its images loaded when they come near.

    Tables, which scroll where they are wide, can be reached and scrolled from the keyboard.
    """
    page = _UNUSED_FONTS.sub("", _ICON_SCRIPT.sub("", page))
    page = _TABLE.sub(r'\g<0> tabindex="0"', page)
    return _IMAGE.sub('<img loading="lazy" decoding="async" ', page)


def idle_mathjax(site: Path) -> list[Path]:
    """Files of MathJax that no page asks for: other bundles, other languages."""
    mathjax = site / "_static" / "mathjax"
    pages = "".join(path.read_text(encoding="utf8") for path in site.rglob("*.html"))
    bundles = [path for path in mathjax.glob("*-*.js") if f"mathjax/{path.name}" not in pages]
    speech = [path for path in mathjax.glob("sre/mathmaps/*") if path.name not in _LANGUAGES]
    return bundles + speech


def measured(site: Path) -> dict[str, str]:
    """Size of the site, and its heaviest page: compressed text with the images that it shows."""
    files = [path for path in site.rglob("*") if path.is_file()]
    weights = {}
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf8")
        images = {path.parent / name for name in re.findall(r'<img [^>]*src="([^":]+)"', text)}
        weight = len(gzip.compress(text.encode())) + sum(i.stat().st_size for i in images)
        weights[path.relative_to(site).with_suffix("").as_posix()] = weight
    heaviest = max(weights, key=weights.__getitem__)
    return {
        "site-size": f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB",
        "site-pages": str(len(weights)),
        "heaviest-page": f"{heaviest}, {weights[heaviest] / 1e6:.2f} MB",
    }


def _rewrite(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    site = Path(app.outdir)
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf8")
        if (leaner := lean(text)) != text:
            path.write_text(leaner, encoding="utf8")
    for path in idle_mathjax(site):
        path.unlink()
    status = site / "book" / "status.html"
    if status.exists():
        text = status.read_text(encoding="utf8")
        for name, value in measured(site).items():
            text = re.sub(rf'(<span id="{name}">)[^<]*', rf"\g<1>{value}", text)
        status.write_text(text, encoding="utf8")


def setup(app: Sphinx) -> dict:
    """Connect to Sphinx."""
    app.connect("build-finished", _rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
