"""Stored results are those that the experiments declare, made by the commands that they name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.sweep import RESULTS, chapters, path_of, sweeps_of
from tlnb import sweeps

DECLARED = {
    path_of(chapter, name): (chapter, name, sweep)
    for chapter in chapters()
    for name, sweep in sweeps_of(chapter).items()
}


def test_every_stored_result_is_declared_and_every_declared_one_is_stored() -> None:
    assert set(RESULTS.glob("*.nc")) == set(DECLARED)


@pytest.mark.parametrize("path", DECLARED, ids=lambda path: path.stem)
def test_stored_result_is_of_the_declared_sweep(path: Path) -> None:
    chapter, name, sweep = DECLARED[path]
    stored = sweeps.load(path)
    assert (stored["failure"] == "").all()
    assert stored["failure"].dims == tuple(sweep.grid)
    for axis, values in sweep.grid.items():
        np.testing.assert_array_equal(stored[axis], values)
    for array, dims in sweep.dims.items():
        assert stored[array].dims == (*sweep.grid, *dims)
    assert json.loads(stored.attrs["fixed"]) == json.loads(json.dumps(sweep.fixed))
    assert stored.attrs["seed"] == str(sweep.seed)
    assert stored.attrs["command"] == f"python -m experiments {chapter} {name}"
    assert stored.attrs["function"].split(".")[-1] == sweep.function.__name__
    assert path.stat().st_size < 3_000_000


def test_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--list"])
    listed = capsys.readouterr().out.split("\n")
    assert [line for line in listed if line.startswith("python -m experiments 12 ")] == [
        f"python -m experiments 12 {name}" for name in sweeps_of("12")
    ]
    assert len(listed) == len(DECLARED) + 1


def test_unknown_chapters_and_sweeps_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["99"])
    assert "invalid choice: '99'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["04", "heights"])
    assert "chapter 04 has widths, got heights" in capsys.readouterr().err
