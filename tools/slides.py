"""Slides from the chapters, for reveal.js, into _build/course/slides: part of ``make course``.

A chapter's deck takes what its cells are marked as: headings with the paragraph that opens them,
numbered equations, figures with their captions. Code stays in the notebook beside it. Everything a
deck loads is copied beside it; ``?print-pdf`` behind its address lays it out for printing.
"""

from __future__ import annotations

import html
import re
import shutil
import sys
from base64 import b64decode
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = ("Exercises", "Where to go next")
_EQUATION = re.compile(r"\$\$((?:(?!\$\$).)+)\$\$(?: \((eq-[\w-]+)\))?", re.DOTALL)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="reveal/reveal.css">
<link rel="stylesheet" href="reveal/theme/white.css">
<style>
.reveal {{ font-size: 30px; }} .reveal section {{ text-align: left; }}
.reveal h1 {{ font-size: 1.9em; }} .reveal h2 {{ font-size: 1.4em; }}
.reveal h1, .reveal h2 {{ text-transform: none; }}
.reveal img {{ max-height: 500px; display: block; margin: 0 auto; }}
.reveal figcaption {{ font-size: 0.6em; }}
</style>
<script>window.MathJax = {{ tex: {{ macros: {{ erf: "\\\\operatorname{{erf}}",
  Tr: "\\\\operatorname{{Tr}}", E: "\\\\mathbb{{E}}" }} }} }};</script>
<script defer src="mathjax/tex-chtml.js"></script></head>
<body><div class="reveal"><div class="slides">
{slides}
</div></div><script src="reveal/reveal.js"></script>
<script>Reveal.initialize({{ hash: true, slideNumber: true, width: 1100, height: 700 }});</script>
</body></html>
"""


def _markdown() -> MarkdownIt:
    renderer = MarkdownIt("commonmark").enable("table").use(amsmath_plugin)
    return renderer.use(
        dollarmath_plugin,
        renderer=lambda tex, options: (
            rf"\[{html.escape(tex)}\]" if options["display_mode"] else rf"\({html.escape(tex)}\)"
        ),
    )


def plain(text: str) -> str:
    """A chapter's prose without what only the book resolves: citations, references, labels."""
    text = re.sub(r"\{cite:t\}`[^`]*`", "the paper", text)
    text = re.sub(r"\s*\{cite(?::p)?\}`[^`]*`", "", text)
    text = re.sub(r"\{eq\}`eq-\d\d-([\w-]+)`", r"(\1)", text)
    text = re.sub(r"\{(?:eq|numref|ref|doc)\}`(?:([^`<]+) <[^`>]+>|[^`]*)`", r"\1", text)
    text = re.sub(r"^(?:`{3,}|:{3,}|:\w+:).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\(?[\w-]+\)=\s*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)


def _tag(label: str) -> str:
    return rf"\tag{{\text{{{label[6:]}}}}}"


def _sections(chapter: NotebookNode) -> list[tuple[str, list[NotebookNode]]]:
    """Cells under each heading of first or second level, which is cut off the first of them."""
    found: list[tuple[str, list[NotebookNode]]] = []
    for cell in chapter.cells:
        if cell.cell_type != "markdown":
            if found:
                found[-1][1].append(cell)
            continue
        for part in re.split(r"^(?=#{1,2} )", cell.source, flags=re.MULTILINE):
            heading = re.match(r"#{1,2} (.+)\n?", part)
            if heading:
                found.append((heading[1], []))
                part = part[heading.end() :]
            if part.strip() and found:
                found[-1][1].append(nbformat.v4.new_markdown_cell(part.strip()))
    return found


def slides(chapter: NotebookNode, images: dict[str, bytes]) -> str:
    """The sections of a deck; figures are put into ``images`` under their names."""
    render = _markdown().render
    made: list[str] = []
    for heading, cells in _sections(chapter):
        if heading.strip() in LEFT_OUT:
            continue
        prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
        words = [p for p in "\n\n".join(prose).split("\n\n") if not _EQUATION.search(p)]
        opening = next((p for p in words if not p.startswith(("`", ":", "(", "|"))), "")
        if heading.strip() == "Summary":
            opening = prose[0] if prose else ""
        level = "h2" if made else "h1"
        parts = [
            f"<section><{level}>{html.escape(heading)}</{level}>{render(plain(opening))}</section>"
        ]
        for source in prose:
            for tex, label in _EQUATION.findall(source):
                if label:
                    parts.append(f"<section>{render(f'$${tex.strip()} {_tag(label)}$$')}</section>")
        for cell in cells:
            shown = cell.metadata.get("mystnb", {}).get("figure")
            for output in cell.get("outputs", []):
                if shown and (image := output.get("data", {}).get("image/png")):
                    images[shown["name"]] = b64decode(image)
                    alternative = html.escape(cell.metadata.mystnb["image"]["alt"])
                    parts.append(
                        f'<section><figure><img src="figures/{shown["name"]}.png" '
                        f'alt="{alternative}"><figcaption>{render(plain(shown["caption"]))}'
                        "</figcaption></figure></section>"
                    )
        made.append(f"<section>{''.join(parts)}</section>")
    return "\n".join(made)


def main(folder: Path = ROOT / "_build" / "course" / "slides") -> None:
    """A deck for every chapter, with reveal.js and MathJax beside them."""
    try:
        reveal = distribution("sphinx-revealjs").locate_file(
            "sphinx_revealjs/_static/revealjs/dist"
        )
    except PackageNotFoundError:
        sys.exit("slides need reveal.js: pip install --no-deps -r requirements-course.txt")
    mathjax = distribution("sphinx-mathjax-offline").locate_file(
        "sphinx-mathjax-offline/static/mathjax"
    )
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(str(reveal), folder / "reveal")
    shutil.copytree(str(mathjax), folder / "mathjax")
    (folder / "figures").mkdir()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        images: dict[str, bytes] = {}
        deck = slides(nbformat.read(path, as_version=4), images)
        page = _PAGE.format(title=path.stem, slides=deck)
        (folder / f"{path.stem}.html").write_text(page, encoding="utf8")
        for name, content in images.items():
            (folder / "figures" / f"{name}.png").write_bytes(content)
    sys.stdout.write(f"slides: {folder.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
