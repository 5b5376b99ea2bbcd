"""Sphinx extension: the pages before the chapters, made from the chapters themselves.

``{chapters}`` shows chapters as cards, a question and a figure each; ``{formula} LABEL`` repeats a
numbered equation; ``{book-map}`` draws which chapter needs which. Symbols in formulas are explained
where the pointer rests on them: book/symbols/symbols.js looks them up in the notation page.
"""

from __future__ import annotations

import html
import io
import json
import re
import shutil
import unicodedata
from base64 import b64decode
from functools import cache
from pathlib import Path

import nbformat
from docutils import nodes
from docutils.parsers.rst import Directive
from PIL import Image
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "book" / "symbols" / "symbols.js"
THUMBNAIL = (440, 300)  # pixels, twice what is shown


@cache
def _notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def chapter_path(number: str) -> Path:
    """The notebook of a chapter, found by its number of two digits."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return path


def chapter_title(path: Path) -> str:
    """The heading of a chapter."""
    prose = "\n".join(c.source for c in _notebook(path).cells if c.cell_type == "markdown")
    return re.findall(r"^# (.+)$", prose, re.MULTILINE)[0]


def equation(label: str) -> str:
    """The TeX of a chapter's equation ``eq-NN-name``."""
    path = chapter_path(label[3:5])
    prose = "\n".join(c.source for c in _notebook(path).cells if c.cell_type == "markdown")
    found = re.search(rf"\$\$((?:(?!\$\$).)*)\$\$ \({label}\)", prose, re.DOTALL)
    if not found:
        raise ValueError(f"no equation {label} in {path.name}")
    return found[1].strip().rstrip(" .,")


def figure(path: Path, name: str) -> tuple[bytes, str]:
    """The stored image of a chapter's figure, as PNG, and its alternative text.

    The first figure of the chapter, where none has that name.
    """
    found = {}
    for cell in _notebook(path).cells:
        mystnb = cell.metadata.get("mystnb", {})
        for output in cell.get("outputs", []):
            if image := output.get("data", {}).get("image/png"):
                found[mystnb["figure"]["name"]] = b64decode(image), mystnb["image"]["alt"]
    return found.get(name) or next(iter(found.values()))


class Chapters(Directive):
    """Cards from lines ``NN | fig-NN-name | question``, of the chapters that exist."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Make the HTML or the nodes that stand for the directive."""
        env = self.state.document.settings.env
        cards = [self._card(env, line) for line in self.content if self._exists(line)]
        page = f'<ul class="chapter-cards">{"".join(cards)}</ul>'
        return [nodes.raw("", page, format="html")]

    @staticmethod
    def _exists(line: str) -> bool:
        return any((ROOT / "notebooks").glob(f"{line[:2]}_*.ipynb"))

    def _card(self, env: BuildEnvironment, line: str) -> str:
        number, name, question = (part.strip() for part in line.split("|"))
        path = chapter_path(number)
        env.note_dependency(str(path))
        content, alternative = figure(path, name)
        folder = Path(env.app.outdir) / "_static" / "cards"
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.open(io.BytesIO(content)).convert("RGB")
        image.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
        image.quantize(64).save(folder / f"{number}.png", optimize=True)
        target = env.app.builder.get_relative_uri(env.docname, f"notebooks/{path.stem}")
        static = env.app.builder.get_relative_uri(env.docname, "index").removesuffix("index.html")
        return (
            f'<li><a href="{target}"><img src="{static}_static/cards/{number}.png" '
            f'width="{image.width // 2}" height="{image.height // 2}" loading="lazy" '
            f'alt="{html.escape(alternative)}">'
            f'<span class="card-title">{int(number)}. {html.escape(chapter_title(path))}</span>'
            f'<span class="card-question">{html.escape(question)}</span></a></li>'
        )


class Formula(Directive):
    """A chapter's equation, repeated without its number."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the HTML or the nodes that stand for the directive."""
        env = self.state.document.settings.env
        env.note_dependency(str(chapter_path(self.arguments[0][3:5])))
        try:
            tex = equation(self.arguments[0])
        except ValueError as error:
            raise self.error(str(error)) from error
        return [nodes.math_block(tex, tex, nowrap=False, number=None)]


#: Which chapter needs which: those above it in the map, by its lines.
NEEDS = {
    "01": (),
    "02": ("01",),
    "03": ("02",),
    "04": ("02",),
    "05": ("02",),
    "06": ("05",),
    "07": ("04", "06"),
    "08": ("07",),
    "09": ("08",),
    "10": ("05",),
    "11": ("01",),
    "12": ("11",),
    "13": ("12",),
    "14": ("13",),
    "15": ("13",),
    "16": ("09", "14"),
    "17": ("07",),
    "18": ("05",),
}
#: Column and row of each in the map.
PLACES = {
    "01": (1, 0),
    "02": (0, 1),
    "03": (1, 1),
    "04": (0, 2),
    "05": (1, 2),
    "06": (1, 3),
    "07": (0, 3),
    "08": (0, 4),
    "09": (0, 5),
    "10": (1, 4),
    "17": (1, 5),
    "11": (2, 1),
    "12": (2, 2),
    "13": (2, 3),
    "14": (2, 4),
    "15": (2, 5),
    "16": (1, 6),
    "18": (0, 6),
}
_WIDTH, _HEIGHT, _GAP, _STEP = 215, 46, 18, 78


class BookMap(Directive):
    """The chapters that exist, with a line from each to those that need it."""

    def run(self) -> list[nodes.Node]:
        """Make the HTML or the nodes that stand for the directive."""
        env = self.state.document.settings.env
        found = {p.stem[:2]: p for p in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")}
        places = {n: (c * (_WIDTH + _GAP), r * _STEP) for n, (c, r) in PLACES.items() if n in found}
        lines, boxes = [], []
        for number, (x, y) in places.items():
            path = found[number]
            env.note_dependency(str(path))
            for needed in NEEDS[number]:
                if needed in places:
                    lines.append(_line(places[needed], (x, y)))
            target = env.app.builder.get_relative_uri(env.docname, f"notebooks/{path.stem}")
            text = f"{int(number)}. {html.escape(_short(chapter_title(path)))}"
            boxes.append(
                f'<a href="{target}">'
                f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>'
                f'<text x="{x + _WIDTH / 2}" y="{y + _HEIGHT / 2 + 5}">{text}</text></a>'
            )
        width = 3 * _WIDTH + 2 * _GAP
        height = max(y for _, y in places.values()) + _HEIGHT
        drawing = (
            f'<div class="book-map" tabindex="0"><svg viewBox="-2 -2 {width + 4} {height + 4}" '
            f'width="{width}" role="group" aria-label="Map of the book">'
            f"{''.join(lines)}{''.join(boxes)}</svg></div>"
        )
        return [nodes.raw("", drawing, format="html")]


def _line(above: tuple[float, float], below: tuple[float, float]) -> str:
    """From a box to one that needs it: beside it in the same row, or from above."""
    (a, b), (x, y) = above, below
    if b == y:
        right = a < x
        start, end = (a + _WIDTH if right else a), (x if right else x + _WIDTH)
        return f'<path d="M{start} {b + _HEIGHT / 2}H{end}"/>'
    x1, y1, x2 = a + _WIDTH / 2, b + _HEIGHT, x + _WIDTH / 2
    middle = y - (_STEP - _HEIGHT) / 2
    return f'<path d="M{x1} {y1}V{middle}H{x2}V{y}"/>'


def _short(title: str) -> str:
    return title if len(title) <= 27 else title[:26].rsplit(" ", 1)[0] + " …"


def symbols() -> list[dict[str, str]]:
    """Every symbol of the notation page with its meaning and the chapters it is meant for.

    The key is what a browser shows of the symbol without its styling: ``Q_st``, ``λ_0``, ``γ``.
    """
    text = (ROOT / "book" / "notation.md").read_text(encoding="utf8")
    found: list[dict[str, str]] = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        if title.startswith("Letters that clash"):
            continue
        part = "III" if re.match(r"Hidden|Networks trained|A readout", title) else "I, II"
        part = "all" if title.startswith("Data") else part
        part = "17" if title.startswith("The law of a hidden unit") else part
        for row in re.findall(r"^\|(.+)\|$", body, re.MULTILINE):
            meaning, symbol, *_ = (cell.strip() for cell in row.split("|"))
            for tex in re.findall(r"\$([^$]+)\$", symbol):
                key = _key(tex.split("=")[0].split(r"\in")[0].strip())
                if key and key not in {s["key"] for s in found if s["part"] == part}:
                    found.append({"key": key, "meaning": _plain(meaning), "part": part})
    return found


_GREEK = {
    name: unicodedata.lookup(f"GREEK SMALL LETTER {name.upper().replace('LAMBDA', 'LAMDA')}")
    for name in (
        "alpha beta gamma delta epsilon eta theta kappa lambda mu nu xi rho sigma tau phi omega"
    ).split()
} | {"varepsilon": "ε", "varphi": "φ", "Omega": "Ω", "Phi": "Φ", "Delta": "Δ"}


def _key(tex: str) -> str | None:
    """``Q_{st}`` to ``Q_st``; None for what is not one letter with an index."""
    tex = re.sub(r"\\([A-Za-z]+)", lambda m: _GREEK.get(m[1], m[0]), tex)
    match = re.fullmatch(r"(\w)(?:_\{?([\w']+)\}?)?(?:\^\\star)?", tex)
    return match and (f"{match[1]}_{match[2]}" if match[2] else match[1])


def _plain(meaning: str) -> str:
    """A meaning as a tooltip can show it."""
    meaning = re.sub(r"\\([A-Za-z]+)", lambda m: _GREEK.get(m[1], m[1]), meaning)
    return re.sub(r"[$`{}]", "", meaning)


def _prepare(app: Sphinx) -> None:
    folder = Path(app.outdir) / "_static" / "symbols"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SCRIPT, folder)
    table = json.dumps(symbols(), ensure_ascii=False)
    (folder / "table.js").write_text(f"window.tlnbSymbols = {table};\n", encoding="utf8")


def _load(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if page.startswith(("notebooks/", "book/")):
        app.add_js_file("symbols/table.js", loading_method="defer")
        app.add_js_file("symbols/symbols.js", loading_method="defer")


def setup(app: Sphinx) -> dict:
    """Connect to Sphinx."""
    app.add_directive("chapters", Chapters)
    app.add_directive("formula", Formula)
    app.add_directive("book-map", BookMap)
    app.connect("builder-inited", _prepare)
    app.connect("html-page-context", _load)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
