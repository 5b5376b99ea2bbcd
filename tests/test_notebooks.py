"""The stored chapters: executed, checked, illustrated and readable without running them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
import repository
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHECK = re.compile(r"^\s*assert\b|assert_\w+\(|NBVAL_CHECK_OUTPUT|pytest\.raises", re.MULTILINE)
MACHINE_PATH = re.compile(r"(?<![\w.])(/home/|/Users/|/root/|/work/|/tmp/|/usr/lib/|[A-Z]:\\\\)")


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request: pytest.FixtureRequest) -> NotebookNode:
    return nbformat.read(request.param, as_version=4)


def _code(chapter: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in chapter.cells if cell.cell_type == "code" and cell.source.strip()]


def _prose(chapter: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")


def test_is_valid_and_executed_from_top_to_bottom(chapter: NotebookNode) -> None:
    nbformat.validate(chapter)
    assert chapter.metadata.kernelspec.name == "python3"
    counts = [cell.execution_count for cell in _code(chapter)]
    assert counts == list(range(1, len(counts) + 1))


def test_stores_no_error_and_no_warning(chapter: NotebookNode) -> None:
    outputs = [output for cell in _code(chapter) for output in cell.outputs]
    assert not [output.ename for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


def test_at_least_five_cells_check_something(chapter: NotebookNode) -> None:
    checks = [
        cell
        for cell in _code(chapter)
        if CHECK.search(cell.source) or "nbval-check-output" in cell.metadata.get("tags", [])
    ]
    assert len(checks) >= 5


def test_first_cell_finds_the_package(chapter: NotebookNode) -> None:
    first = _code(chapter)[0]
    assert first.source == repository.first_cell(repository.repository_url())
    assert "hide-input" in first.metadata.tags


def test_figures_have_captions_names_and_alt_text(chapter: NotebookNode) -> None:
    figures = [
        cell
        for cell in _code(chapter)
        if any("image/png" in output.get("data", {}) for output in cell.outputs)
    ]
    assert figures
    for cell in figures:
        mystnb = cell.metadata["mystnb"]
        assert mystnb["figure"]["caption"].strip()
        assert mystnb["figure"]["name"].startswith("fig-")
        assert len(mystnb["image"]["alt"]) > 20


def test_names_no_path_of_a_machine_and_stays_small(chapter: NotebookNode) -> None:
    for cell in chapter.cells:
        text = cell.source + "".join(
            json.dumps({k: v for k, v in output.get("data", {}).items() if k != "image/png"})
            + output.get("text", "")
            for output in cell.get("outputs", [])
        )
        assert not MACHINE_PATH.search(text), cell.source
    assert len(nbformat.writes(chapter)) < 1_500_000


def test_has_at_least_four_exercises_each_with_a_solution(chapter: NotebookNode) -> None:
    prose = _prose(chapter)
    exercises = re.findall(r"\{exercise\}[^\n]*\n:label: (\S+)", prose)
    starts = re.findall(r"\{solution-start\} (\S+)", prose)
    assert len(exercises) >= 4
    assert sorted(exercises) == sorted(starts + re.findall(r"\{solution\} (\S+)", prose))
    assert len(starts) == len(re.findall(r"\{solution-end\}", prose))


def test_numbers_its_equations_and_ends_with_summary_exercises_and_pointers(
    chapter: NotebookNode,
) -> None:
    prose = _prose(chapter)
    labels = re.findall(r"\$\$ \((eq-[\w-]+)\)", prose)
    assert labels and len(labels) == len(set(labels))
    endings = re.findall(r"^## (Summary|Exercises|Where to go next)\s*$", prose, re.MULTILINE)
    assert endings == ["Summary", "Exercises", "Where to go next"]
