"""Slides: the numbered equations and figures of a chapter, and no mark-up of the book."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

slides = pytest.importorskip("slides", exc_type=ImportError, reason="needs the extra book")

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def _numbered(chapter: Any) -> list[str]:
    """Names of the chapter's numbered equations, exercises and pointers left out."""
    prose = "\n\n".join(c.source for c in chapter.cells if c.cell_type == "markdown")
    sections = re.split(r"^(?=#{1,2} )", prose, flags=re.MULTILINE)
    kept = [s for s in sections if not s.startswith(("## Exercises", "## Where to go next"))]
    return re.findall(r"^\$\$ \(eq-\d\d-([\w-]+)\)$", "".join(kept), re.MULTILINE)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_deck_holds_the_chapters_figures_and_equations(path: Path) -> None:
    chapter = nbformat.read(path, as_version=4)
    images: dict[str, bytes] = {}
    deck = slides.slides(chapter, images)
    figures = {
        cell.metadata["mystnb"]["figure"]["name"]
        for cell in chapter.cells
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    }
    assert set(images) == figures
    assert deck.count("<section") == deck.count("</section>")
    assert re.findall(r"\\tag\{\\text\{([^}]+)\}", deck) == _numbered(chapter) != []
    assert not re.search(r"\{(eq|numref|cite|ref)[:}]", deck)
    assert "Exercises" not in re.findall(r"<h2>([^<]*)</h2>", deck)


def test_prose_keeps_its_words() -> None:
    text = "By {eq}`eq-02-action` and {cite:t}`gerace2022` {cite:p}`williams1998`, [see](a.md)."
    assert slides.plain(text) == "By (action) and the paper, see."
