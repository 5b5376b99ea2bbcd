"""The site's own code: lean pages, cards, map, repeated equations, explained symbols."""

from __future__ import annotations

import re
from pathlib import Path

import explorer_data
import pytest

front_matter = pytest.importorskip(
    "front_matter", exc_type=ImportError, reason="needs the extra book"
)
lean_pages = pytest.importorskip("lean_pages", exc_type=ImportError, reason="needs the extra book")

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = [path.stem[:2] for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))]

PAGE = """<link rel="preload" as="font" href="_static/fontawesome/fa-solid-900.woff2" />
<link rel="preload" as="font" href="_static/fontawesome/fa-brands-400.woff2" />
<script src="_static/vendor/fontawesome/6.5.2/js/all.min.js?digest=1"></script>
<script src="_static/scripts/bootstrap.js"></script>
<img alt="a" src="a.png"><img loading="eager" src="b.png">
<table border="1" class="dataframe"></table>"""


def test_pages_load_icons_once_and_images_when_they_are_near() -> None:
    page = lean_pages.lean(PAGE)
    assert "fontawesome/6.5.2/js" not in page and "fa-brands" not in page
    assert "fa-solid-900" in page and "bootstrap.js" in page
    assert page.count('loading="lazy"') == 1 and 'loading="eager" src="b.png"' in page
    assert page.count('class="dataframe" tabindex="0">') == 1
    assert lean_pages.lean(page) == page


def test_size_of_a_site_and_its_heaviest_page(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("short")
    (tmp_path / "b.html").write_text('<img src="b.png">')
    (tmp_path / "b.png").write_bytes(bytes(2_000_000))
    found = lean_pages.measured(tmp_path)
    assert found["site-size"] == "2.0 MB" and found["site-pages"] == "2"
    assert found["heaviest-page"].startswith("b, 2.0")


def test_mathjax_keeps_what_pages_load(tmp_path: Path) -> None:
    mathjax = tmp_path / "_static" / "mathjax"
    kept = ["tex-chtml.js", "core.js", "output/svg.js", "sre/mathmaps/en.json"]
    idle = ["tex-svg-full.js", "node-main.js", "sre/mathmaps/fr.json"]
    for name in kept + idle:
        (mathjax / name).parent.mkdir(parents=True, exist_ok=True)
        (mathjax / name).touch()
    (tmp_path / "a.html").write_text('<script src="_static/mathjax/tex-chtml.js"></script>')
    assert set(lean_pages.idle_mathjax(tmp_path)) == {mathjax / name for name in idle}


def test_every_chapter_has_a_card_and_a_place_on_the_map() -> None:
    intro = (ROOT / "book" / "intro.md").read_text(encoding="utf8")
    cards = re.findall(r"^(\d\d) \| \S+ \| (.+\?)$", intro, re.MULTILINE)
    assert set(CHAPTERS) <= {number for number, _ in cards}
    assert set(CHAPTERS) <= set(front_matter.PLACES) == set(front_matter.NEEDS)
    assert len(set(front_matter.PLACES.values())) == len(front_matter.PLACES)


def test_a_chapter_stands_below_or_beside_those_it_needs() -> None:
    for number, needed in front_matter.NEEDS.items():
        for other in needed:
            assert front_matter.PLACES[other][1] <= front_matter.PLACES[number][1]
            assert other < number


@pytest.mark.parametrize("number", CHAPTERS)
def test_cards_show_a_figure_with_its_alternative_text(number: int) -> None:
    image, alternative = front_matter.figure(front_matter.chapter_path(number), "none")
    assert image.startswith(b"\x89PNG") and len(alternative) > 20


def test_repeated_equations_are_those_of_the_chapters() -> None:
    page = (ROOT / "book" / "formulas.md").read_text(encoding="utf8")
    labels = re.findall(r"\{formula\} (\S+)", page)
    assert len(labels) >= 15 and len(labels) == len(set(labels))
    for label in labels:
        assert "$$" not in front_matter.equation(label)
    assert r"\ln\det" in front_matter.equation("eq-02-action")
    with pytest.raises(ValueError, match="eq-02-nothing"):
        front_matter.equation("eq-02-nothing")


def test_networks_of_the_transfer_explorer_stand_at_its_sliders() -> None:
    found = explorer_data.networks()
    assert {point["source"] for point in found} == set(range(len(explorer_data.SOURCES)))
    for point in found:
        assert point["couplings"] == sorted(point["couplings"])
        for kind in ("sampled", "trained"):
            errors, bars = point[kind], point[f"{kind}_se"]
            assert len(errors) == len(bars) == len(point["couplings"])
            assert 0 < max(bars) < 0.1 < min(errors) < 1.2


def test_symbols_carry_the_words_of_the_notation_page() -> None:
    table = {(s["key"], s["part"]): s["meaning"] for s in front_matter.symbols()}
    assert table["Q_st", "I, II"] == "source-target"
    assert table["N_1", "all"] == "hidden width"
    assert table["λ_1", "I, II"] == "precision of readout weights"
    assert table["D", "I, II"] != table["D", "III"]
    assert table["Q", "17"] != table["Q", "I, II"] and table["t", "17"].startswith("force")
    assert not [m for m in table.values() if re.search(r"[$\\`]", m)]
