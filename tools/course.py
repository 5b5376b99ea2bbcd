"""Notebooks for a course, made from the chapters: ``make course``.

The *instructor's* version is a chapter with nbgrader's marks: a code cell of a solution is an
answer between BEGIN and END SOLUTION, the assertions at its end are an autograded check of one
point, and text or code without assertions is graded by hand. The *student's* version is the same
notebook with the answers taken out, prompts and checks left in place, and no stored output in
them. nbgrader reads both: the first as ``source``, the second as ``release``.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"
ANSWER = "*Your answer here.*"

_START = re.compile(r"(`{3,})\{solution-start\} (\S+)\n(?::class: dropdown\n)?\1\n?")
_END = re.compile(r"(`{3,})\{solution-end\}\n\1\n?")
_EXERCISE = re.compile(r"(`{3,})\{exercise\}([^\n]*)\n:label: (\S+)\n(.*?)\n\1(?!`)", re.DOTALL)


def _marks(name: str, *, grade: bool, solution: bool) -> dict:
    """Metadata of nbgrader's schema 3."""
    marks = {
        "schema_version": 3,
        "grade_id": name,
        "grade": grade,
        "solution": solution,
        "locked": not solution,
        "task": False,
    }
    return {"nbgrader": marks | ({"points": 1} if grade else {})}


def split_checks(source: str) -> tuple[str, str]:
    """A solution's code before its final assertions, and those with what is printed among them."""
    body = ast.parse(source).body
    first = len(body)
    while first and isinstance(body[first - 1], (ast.Assert, ast.Expr)):
        first -= 1
    while first < len(body) and not isinstance(body[first], ast.Assert):
        first += 1
    if first in (0, len(body)):
        return source, ""
    lines = source.split("\n")
    at = body[first].lineno - 1
    while at and lines[at - 1].lstrip().startswith("#"):
        at -= 1
    return "\n".join(lines[:at]).rstrip(), "\n".join(lines[at:])


def names_needed(answer: str, check: str) -> list[str]:
    """What an answer defines and its check uses."""
    stored = {
        node.id
        for node in ast.walk(ast.parse(answer))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    } | {n.name for n in ast.parse(answer).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    used = [n for n in ast.walk(ast.parse(check)) if isinstance(n, ast.Name)]
    used.sort(key=lambda name: (name.lineno, name.col_offset))
    return [name for name in dict.fromkeys(n.id for n in used) if name in stored]


def _answer_cells(cell: NotebookNode, name: str) -> list[NotebookNode]:
    """A solution's code cell as an answer and, where it asserts something, a check."""
    answer, check = split_checks(cell.source)
    if not check:
        marked = f"{BEGIN}\n{answer}\n{END}"
        return [new_code_cell(marked, metadata=_marks(name, grade=True, solution=True))]
    needed = ", ".join(names_needed(answer, check))
    prompt = f"# The check below uses {needed}.\n" if needed else ""
    return [
        new_code_cell(
            f"{prompt}{BEGIN}\n{answer}\n{END}",
            metadata=_marks(name, grade=False, solution=True),
        ),
        new_code_cell(check, metadata=_marks(f"{name}-check", grade=True, solution=False)),
    ]


def _pieces(text: str) -> list[tuple[str | None, str]]:
    """A markdown cell cut where solutions start ("start"), end ("end"), with the text between."""
    marks = [(m.start(), m.end(), "start", m[2]) for m in _START.finditer(text)]
    marks += [(m.start(), m.end(), "end", "") for m in _END.finditer(text)]
    found: list[tuple[str | None, str]] = []
    at = 0
    for start, end, kind, label in sorted(marks):
        found += [(None, text[at:start].strip()), (kind, label)]
        at = end
    return [*found, (None, text[at:].strip())]


def _heading(match: re.Match) -> str:
    number = match[3].removeprefix("ex-")
    return f"### Exercise {number}:{match[2]}\n\n{match[4].strip()}"


def instructor(chapter: NotebookNode) -> NotebookNode:
    """A chapter with its solutions marked for nbgrader."""
    made = nbformat.v4.new_notebook(metadata=chapter.metadata)
    label, count = "", 0
    for cell in chapter.cells:
        if cell.cell_type == "code" and label:
            count += 1
            made.cells += _answer_cells(cell, f"{label}-{count}")
        elif cell.cell_type == "code":
            made.cells.append(cell)
        else:
            for kind, text in _pieces(cell.source):
                if kind == "start":
                    label, count = text, 0
                elif kind == "end":
                    label = ""
                elif text and label:
                    count += 1
                    marks = _marks(f"{label}-{count}", grade=True, solution=True)
                    made.cells.append(new_markdown_cell(text, metadata=marks))
                elif text:
                    made.cells.append(new_markdown_cell(_EXERCISE.sub(_heading, text)))
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"
    return made


def student(marked: NotebookNode) -> NotebookNode:
    """The instructor's version without the answers."""
    made = nbformat.from_dict(marked)
    for cell in made.cells:
        marks = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "code" and marks:
            cell.outputs, cell.execution_count = [], None
        if marks.get("solution"):
            if cell.cell_type == "markdown":
                cell.source = ANSWER
            else:
                cell.source = re.sub(f"{BEGIN}.*{END}", STUB, cell.source, flags=re.DOTALL)
    return made


def main(folder: Path = ROOT / "_build" / "course") -> None:
    """Write both versions of every chapter, and the stored results that they read."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "results", folder / "results")
    points = 0
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        marked = instructor(nbformat.read(path, as_version=4))
        for name, notebook in (("instructor", marked), ("student", student(marked))):
            (folder / name).mkdir(exist_ok=True)
            nbformat.validate(notebook)
            nbformat.write(notebook, folder / name / path.name)
        points += sum(c.metadata.get("nbgrader", {}).get("points", 0) for c in marked.cells)
    sys.stdout.write(f"{folder.name}/student and {folder.name}/instructor: {points} points\n")


if __name__ == "__main__":
    main()
