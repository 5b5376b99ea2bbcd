"""One large task against the decomposed kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tlnb import RenormalizedGPRegressor, Task, TransferGPRegressor
from tlnb.errors import ConvergenceError
from tlnb.theory import one_task
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.large.one_task import EstimatedLeaveOneOut, solve
from tlnb.theory.leave_one_out import LeaveOneOut, leave_one_out

X = np.random.default_rng(0).standard_normal((360, 12))
Y = np.sign(X[:, 0] + X[:, 1] * X[:, 2])
TASK, TEST = Task(X[:300], Y[:300]), Task(X[300:], Y[300:])


@pytest.mark.parametrize(
    "given",
    [
        {"width": 60},
        {"width": np.inf, "readout_precision": 2.0},
        {"width": 100, "richness": 0.05, "activation": "relu", "weight_precision": 1.5},
    ],
)
def test_one_large_task_is_the_dense_one(given: dict[str, Any]) -> None:
    given = {"temperature": 0.1} | given
    truth = one_task.solve(TASK, **given)
    found = solve(TASK, options=LargeOptions(tile=120, columns=25), **given)
    assert found.readout_precision == truth.readout_precision
    assert found.Q == pytest.approx(truth.Q, rel=1e-3)
    assert abs(found.Q - truth.Q) <= 4 * found.Q_error
    assert abs(found.log_evidence - truth.log_evidence) < 4 * found.log_evidence_error + 0.02
    assert found.train_error == pytest.approx(truth.train_error, rel=5e-3)
    ours, theirs = (each.predict(TEST.X, TEST.y) for each in (found, truth))
    for name in ours._fields:
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=2e-3)
    assert ours.test_error.mean() == pytest.approx(theirs.test_error.mean(), rel=1e-3)


def test_estimators_take_the_solver() -> None:
    dense, large = (
        RenormalizedGPRegressor(width=60, temperature=0.1, solver=solver).fit(TASK.X, TASK.y)
        for solver in ("dense", "iterative")
    )
    for ours, theirs in zip(
        *(m.predict(TEST.X, return_std=True) for m in (large, dense)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
    alone = TransferGPRegressor(width=60, temperature=0.1, solver="iterative")
    np.testing.assert_allclose(alone.fit(TASK.X, TASK.y).predict(TEST.X), large.predict(TEST.X))
    with pytest.raises(ValueError, match="solver"):
        RenormalizedGPRegressor(solver="gpu").fit(TASK.X, TASK.y)


@pytest.mark.parametrize(
    "given",
    [
        {"width": 60},
        {"width": np.inf, "readout_precision": 2.0},
        {"width": 100, "richness": 0.05, "activation": "relu", "weight_precision": 1.5},
    ],
)
def test_leaving_one_out_is_the_dense_one_within_its_errors(given: dict[str, Any]) -> None:
    given = {"temperature": 0.1} | given
    truth = one_task.solve(TASK, **given).leave_one_out()
    found = solve(TASK, options=LargeOptions(tile=120, rng=1), **given).leave_one_out()
    scale = truth.test_error.mean()
    assert abs(found.test_error.mean() - scale) < 4 * found.mean_error + 1e-3 * scale
    assert found.mean_error < 5e-3 * scale
    away = (found.test_error - truth.test_error) / found.error
    assert 0.7 < np.sqrt((away**2).mean()) < 1.5 and abs(away.mean()) < 0.3
    np.testing.assert_allclose(found.residual, truth.residual, atol=0.3, rtol=0.3)
    np.testing.assert_array_equal(found.source_variance, 0)
    ours = found.residual.mean(), found.total_variance.mean()
    theirs = truth.residual.mean(), truth.total_variance.mean()
    np.testing.assert_allclose(ours, theirs, rtol=2e-2, atol=2e-3)


def test_the_jackknife_takes_the_bias_of_noise_away() -> None:
    rng = np.random.default_rng(0)
    diagonal = np.full(4000, 2.0)
    estimates = diagonal + 0.5 * rng.standard_normal((8, 4000))

    def left_out(d: np.ndarray) -> LeaveOneOut:
        return leave_one_out(np.ones_like(d), d, 0.0, 0.1)

    truth = left_out(diagonal).test_error[0]
    plain = left_out(estimates.mean(axis=0)).test_error.mean()
    found = EstimatedLeaveOneOut.jackknifed(left_out, estimates)
    off = found.test_error.mean() - truth
    assert abs(off) < 4 * found.mean_error < 0.5 * (plain - truth)
    spread = found.test_error.std()
    assert np.sqrt((found.error**2).mean()) == pytest.approx(spread, rel=0.15)


def test_left_out_errors_that_are_not_known_well_enough_are_refused() -> None:
    few = LargeOptions(tile=120, n_landmarks=20, most_probes=64, tolerance=2e-2, rng=3)
    solution = solve(TASK, width=60, temperature=0.1, options=few)
    tight = replace(few, tolerance=1e-4)
    tight_solution = replace(solution, _kernel=replace(solution._kernel, options=tight))
    assert len(solution.leave_one_out().residual) == 300
    with pytest.raises(ConvergenceError, match="random vectors"):
        tight_solution.leave_one_out()
