"""One large task against the decomposed kernel."""

from __future__ import annotations

import numpy as np
import pytest

from tlnb import RenormalizedGPRegressor, Task, TransferGPRegressor
from tlnb.theory import one_task
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.large.one_task import solve

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
def test_one_large_task_is_the_dense_one(given):
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


def test_estimators_take_the_solver():
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
