"""Course notebooks: answers taken out, prompts and checks left, both versions run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import course
import nbformat
import pytest

nbclient = pytest.importorskip("nbclient", reason="needs the extra book")

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: One chapter is run in both versions; with COURSE=all every one is.
RUN = CHAPTERS if os.environ.get("COURSE") == "all" else CHAPTERS[1:2]
KEYS = {"schema_version", "grade_id", "grade", "solution", "locked", "task"}


def _marks(notebook: Any) -> list[Any]:
    return [c.metadata["nbgrader"] for c in notebook.cells if "nbgrader" in c.metadata]


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request: pytest.FixtureRequest) -> Any:
    return nbformat.read(request.param, as_version=4)


def test_every_exercise_has_a_prompt_an_answer_and_no_solution_in_the_students_version(
    chapter: Any,
) -> None:
    marked = course.instructor(chapter)
    given = course.student(marked)
    prose = "\n".join(c.source for c in chapter.cells if c.cell_type == "markdown")
    labels = [name for _, name in course._START.findall(prose)]
    assert len(labels) >= 4
    text = "\n".join(c.source for c in given.cells)
    assert "solution-start" not in text and course.BEGIN not in text
    for label in labels:
        assert f"### Exercise {label.removeprefix('ex-')}" in text
        assert any(m["grade_id"].startswith(f"{label}-") and m["grade"] for m in _marks(given))


def test_marks_are_those_of_nbgrader(chapter: Any) -> None:
    marks = _marks(course.instructor(chapter))
    names = [m["grade_id"] for m in marks]
    assert len(names) == len(set(names))
    for m in marks:
        assert KEYS <= set(m) and ("points" in m) == m["grade"]
        assert m["locked"] != m["solution"] and (m["grade"] or m["solution"])


def test_the_instructors_version_holds_every_statement_of_the_chapter(chapter: Any) -> None:
    def statements(cells: Any) -> list[Any]:
        lines = "\n".join(c.source for c in cells if c.cell_type == "code").split("\n")
        return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]

    assert statements(course.instructor(chapter).cells) == statements(chapter.cells)


def test_checks_are_the_assertions_at_the_end_and_say_what_they_need() -> None:
    source = "a = f(1)\nb = 2\nprint(b)\n# a is what it should be\nassert a > b\nprint(a)\nassert b"
    answer, check = course.split_checks(source)
    assert answer == "a = f(1)\nb = 2\nprint(b)"
    assert check.startswith("# a is") and check.endswith("assert b")
    assert course.names_needed(answer, check) == ["a", "b"]
    assert course.split_checks("a = 1\nprint(a)") == ("a = 1\nprint(a)", "")
    assert course.split_checks("assert f()") == ("assert f()", "")


def test_students_lose_answers_and_outputs_and_nothing_else() -> None:
    marked = course.instructor(nbformat.read(CHAPTERS[0], as_version=4))
    for before, after in zip(marked.cells, course.student(marked).cells, strict=True):
        marks = before.metadata.get("nbgrader", {})
        if not marks.get("solution"):
            assert after.source == before.source
        elif before.cell_type == "code":
            assert after.source.endswith(course.STUB)
        if marks and before.cell_type == "code":
            assert not after.outputs


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_both_versions_run(path: Path) -> None:
    marked = course.instructor(nbformat.read(path, as_version=4))
    given = course.student(marked)
    for notebook in (marked, given):
        where = {"metadata": {"path": str(ROOT / "notebooks")}}
        nbclient.NotebookClient(notebook, allow_errors=True, timeout=300, resources=where).execute()
    failed = [
        [c for c in nb.cells if any(o.output_type == "error" for o in c.get("outputs", []))]
        for nb in (marked, given)
    ]
    assert not failed[0]
    assert failed[1] and all("nbgrader" in c.metadata for c in failed[1])
    stubs = [c for c in given.cells if c.cell_type == "code" and course.STUB in c.source]
    assert all(c in failed[1] for c in stubs)
