"""Choosing coupling and priors by leave-one-out: the table, what it shares, controls, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.instances import deterministic, linear_teachers
from tlnb import ConvergenceError
from tlnb.theory import factors, transfer
from tlnb.theory.transfer import TransferProblem, solve
from tlnb.theory.transfer import problem as module
from tlnb.theory.transfer.saddle import Overlaps

GRID: dict[str, Any] = {
    "widths": [20, 50],
    "couplings": [10.0, 0.0, np.inf],
    "temperatures": [0.1, 0.01],
    "readout_precisions": [1.0, 10.0],
}


def test_every_candidate_is_its_own_solution() -> None:
    source, target, _ = deterministic()
    table = TransferProblem(source, target).candidates(**GRID)
    assert dict(table.sizes) == {
        "temperature": 2, "readout_precision": 2, "width": 2, "coupling": 3,
    }  # fmt: skip
    for T in GRID["temperatures"]:
        for precision in GRID["readout_precisions"]:
            for width in GRID["widths"]:
                for coupling in GRID["couplings"]:
                    at: dict[str, Any] = {"width": width, "coupling": coupling}
                    priors: dict[str, Any] = {"temperature": T, "readout_precision": precision}
                    left_out = solve(source, target, **at, **priors).leave_one_out()
                    cell = table.sel(**at, **priors)
                    for name, expected in (
                        ("test_error", left_out.test_error.mean()),
                        ("standard_error", left_out.test_error.std(ddof=1) / np.sqrt(8)),
                        ("squared_residual", (left_out.residual**2).mean()),
                        ("total_variance", left_out.total_variance.mean()),
                    ):
                        np.testing.assert_allclose(cell[name], expected, rtol=1e-7)


def test_the_choice_is_the_least_error_and_can_be_solved() -> None:
    source, target, _ = linear_teachers(1, 60, 20)
    choice = TransferProblem(source, target).choose(**GRID)
    assert choice.test_error == choice.table.test_error.min()
    again = choice.problem.solve(width=choice.width, coupling=choice.coupling)
    np.testing.assert_allclose(again.leave_one_out().test_error.mean(), choice.test_error)
    assert choice.problem.priors.temperature == choice.temperature
    assert choice.problem.priors.source_temperature == choice.temperature  # follows the target's
    assert choice.problem.priors.readout_precision == choice.readout_precision


def test_richness_is_precision_per_unit() -> None:
    source, target, _ = deterministic()
    problem = TransferProblem(source, target)
    grid: dict[str, Any] = GRID | {"readout_precisions": None, "richness": [0.05, 2.0]}
    choice = problem.choose(**grid)
    table = choice.table
    assert choice.readout_precision in (0.05 * choice.width, 2.0 * choice.width)
    grid = GRID | {"widths": [50], "readout_precisions": [2.5, 100.0]}
    same = problem.candidates(**grid).test_error.values
    np.testing.assert_allclose(table.test_error.sel(width=[50]).values, same, rtol=1e-7)


def test_baselines_choose_among_the_same_candidates() -> None:
    source, target, _ = deterministic()
    problem = TransferProblem(source, target)
    scratch = problem.candidates(**GRID, baseline="scratch").test_error
    matched = problem.candidates(**GRID, baseline="matched-prior").test_error
    np.testing.assert_array_equal(scratch.sel(coupling=10.0), scratch.sel(coupling=0.0))
    np.testing.assert_array_equal(matched.sel(coupling=0.0), scratch.sel(coupling=0.0))
    left_out = problem.with_priors(temperature=0.1).alone(10.0).solve(width=20).leave_one_out()
    at: dict[str, Any] = {
        "temperature": 0.1,
        "readout_precision": 1.0,
        "width": 20,
        "coupling": 10.0,
    }
    np.testing.assert_allclose(matched.sel(**at), left_out.test_error.mean())


def test_candidates_share_one_factorisation_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, _ = deterministic()
    sizes, original = [], factors.eigh

    def counting(K: np.ndarray, **options: Any) -> Any:
        sizes.append(len(K))
        return original(K, **options)

    monkeypatch.setattr(factors, "eigh", counting)
    TransferProblem(source, target).choose(**GRID)
    assert sorted(sizes) == [target.n_examples, source.n_examples]


def test_candidates_without_a_saddle_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, _ = deterministic()
    original = module.TransferProblem.saddle

    def lost(self: TransferProblem, width: float, coupling: float) -> Overlaps:
        if self.priors.temperature == 0.01 or coupling == np.inf:
            raise ConvergenceError("lost")
        return original(self, width, coupling)

    monkeypatch.setattr(module.TransferProblem, "saddle", lost)
    problem = TransferProblem(source, target)
    choice = problem.choose(**GRID)
    assert np.isnan(choice.table.test_error.sel(coupling=np.inf)).all()
    assert np.isfinite(choice.test_error)
    with pytest.raises(ConvergenceError, match="no candidate has a physical saddle point"):
        problem.choose(**GRID | {"couplings": [np.inf]})


@pytest.mark.parametrize("seed", [0, 5])
def test_leave_one_out_takes_the_minimum_over_a_fine_grid(seed: int) -> None:
    source, target, _ = linear_teachers(seed, 80, 15)
    chosen = solve(source, target, width=40, temperature=0.1, coupling="leave-one-out")
    problem = TransferProblem(source, target, temperature=0.1)
    grid = [0, *np.geomspace(1e-2, 1e4, 60), np.inf]
    errors = [problem.leave_one_out(40, coupling).test_error.mean() for coupling in grid]
    assert chosen.leave_one_out().test_error.mean() <= min(errors) + 1e-4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"couplings": []}, ValueError, "couplings must name at least one candidate, got none"),
        ({"widths": []}, ValueError, "widths must name at least one candidate"),
        ({"temperatures": []}, ValueError, "temperatures must name at least one"),
        ({"richness": [1.0]}, ValueError, "readout_precisions or richness, got both"),
        ({"couplings": [-1.0]}, ValueError, "couplings must be a number >= 0 or infinity"),
        ({"temperatures": [0.0]}, ValueError, "temperatures must be a number > 0, got 0.0"),
        ({"readout_precisions": ["1"]}, TypeError, "readout_precisions must be a number > 0"),
        ({"baseline": "none"}, ValueError, "baseline must be one of"),
    ],
)
def test_bad_candidates(change: dict[str, Any], error: type[Exception], message: str) -> None:
    source, target, _ = deterministic()
    with pytest.raises(error, match=message):
        TransferProblem(source, target).choose(**GRID | change)


def test_check_coupling_knows_both_criteria() -> None:
    with pytest.raises(ValueError, match="one of 'evidence', 'leave-one-out', got 'best'"):
        transfer.check_coupling("best")
