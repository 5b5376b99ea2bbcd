"""Candidates against solving each of them; choices by hand."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from tlnb.data.images import digits, transfer_tasks
from tlnb.data.task import Task
from tlnb.errors import ConvergenceError
from tlnb.gain.candidates import COLUMNS, Candidates, Errors, Grid, alone, coupled
from tlnb.theory import one_task, transfer
from tlnb.theory.transfer import TransferProblem
from tlnb.theory.transfer.predictor import TransferSolution

N0 = 12
rng = np.random.default_rng(0)
THETA = rng.standard_normal((3, N0))
X = rng.standard_normal((70, N0))
Y = np.sign(X @ THETA.T).T  # three tasks of the same inputs
SOURCES = [Task(X[:40], y[:40]) for y in Y]
TARGETS = [Task(X[40:52], y[40:52]) for y in Y]
TESTS = [Task(X[52:], y[52:]) for y in Y]
GRID = Grid(np.array([0.01, 0.1]), np.array([0.1, 1.0]), np.array([0.0, 1.0, np.inf]), 30.0)


def problems() -> list[TransferProblem]:
    first = TransferProblem(SOURCES[0], TARGETS[0])
    labels = zip(SOURCES, TARGETS, strict=True)
    return [first.with_labels(s.y, t.y) for s, t in labels]


def test_coupled_networks_are_those_of_the_solver() -> None:
    found = coupled(problems()[:1], TESTS[:1], GRID)
    assert len(found) == 8 and (found.table.coupling > 0).all()
    for i, row in found.table.iterrows():
        at: dict[str, Any] = {
            "temperature": row.temperature,
            "readout_precision": row.readout_precision,
        }
        assert row.readout_precision == pytest.approx(30 * row.richness)
        solution = transfer.solve(
            SOURCES[0], TARGETS[0], width=row.width, coupling=row.coupling, **at
        )
        left = solution.leave_one_out()
        np.testing.assert_allclose(found.left_out.test_error[i], left.test_error, rtol=1e-7)
        np.testing.assert_allclose(found.left_out.squared_bias[i], left.residual**2, rtol=1e-6)
        outcome = solution.predict(TESTS[0].X, TESTS[0].y)
        np.testing.assert_allclose(found.test.test_error[i], outcome.test_error, rtol=1e-7)
        wrong = outcome.mean * TESTS[0].y <= 0
        np.testing.assert_array_equal(found.test.classification_error[i], wrong)


@pytest.mark.parametrize("coupling", [0.0, 1.0])
def test_opponents_are_those_of_the_solver(coupling: float) -> None:
    found = alone(problems()[:1], TESTS[:1], GRID, [10.0, np.inf], [coupling])
    c_t = problems()[0].covariances(coupling).c_t
    for i, row in found.table.iterrows():
        solution = one_task.solve(
            TARGETS[0],
            width=row.width,
            temperature=row.temperature,
            readout_precision=row.readout_precision,
            weight_precision=1 / c_t,
        )
        outcome = solution.predict(TESTS[0].X, TESTS[0].y)
        np.testing.assert_allclose(found.test.test_error[i], outcome.test_error, rtol=1e-7)
        left = solution.leave_one_out().test_error
        np.testing.assert_allclose(found.left_out.test_error[i], left, rtol=1e-7)
    infinite = found.table[np.isinf(found.table.width)]
    np.testing.assert_allclose(infinite.readout_precision, 30 * infinite.richness)


def test_a_class_against_the_rest_is_a_task_of_its_own() -> None:
    together = coupled(problems(), TESTS, GRID)
    each = [
        coupled([problem], [test], GRID) for problem, test in zip(problems(), TESTS, strict=True)
    ]
    for kind in ("left_out", "test"):
        errors = np.mean([getattr(one, kind).test_error for one in each], axis=0)
        np.testing.assert_allclose(getattr(together, kind).test_error, errors, rtol=1e-9)


def test_the_class_said_is_that_of_the_largest_output() -> None:
    y = np.array([[2.0, -1, -1], [-1, 2, -1], [-1, -1, 2]])
    mean = np.array([[[0.9, 0.2, 0.0], [0.1, 0.1, 0.0], [0.0, 0.0, 0.1]]])
    errors = Errors.of(y, mean, np.full((1, 3, 3), 0.25))
    np.testing.assert_array_equal(errors.classification_error, [[0, 1, 0]])
    np.testing.assert_allclose(errors.test_error, errors.squared_bias + 0.25)
    np.testing.assert_allclose(errors.squared_bias, ((y - mean[0]) ** 2).mean(0)[None])
    values = Errors.of(np.array([[0.3, 1.2]]), np.zeros((1, 1, 2)), np.zeros((1, 1, 2)))
    assert np.isnan(values.classification_error).all()


def test_without_a_test_set_and_at_infinite_width() -> None:
    grid = GRID._replace(width=np.inf)
    blind = coupled(problems()[:1], None, grid)
    assert blind.test is None
    judged = coupled(problems()[:1], TESTS[:1], grid)
    np.testing.assert_array_equal(blind.left_out.test_error, judged.left_out.test_error)
    # nothing but the prior is coupled there
    prior = alone(problems()[:1], TESTS[:1], grid, [np.inf], [1.0, np.inf])
    np.testing.assert_allclose(judged.test.test_error, prior.test.test_error, rtol=1e-12)


def test_one_that_does_not_converge_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = TransferProblem.solve

    def fails(self: TransferProblem, *, width: float, coupling: float) -> TransferSolution:
        if self.priors.temperature == 0.01:
            raise ConvergenceError("no saddle point at .01")
        return inner(self, width=width, coupling=coupling)

    monkeypatch.setattr(TransferProblem, "solve", fails)
    found = coupled(problems()[:1], TESTS[:1], GRID)
    assert (found.table.temperature == 0.1).all() and len(found.failures) == 4
    with pytest.raises(ConvergenceError, match="no candidate converged; the first: no saddle"):
        coupled(problems()[:1], TESTS[:1], GRID._replace(temperatures=np.array([0.01])))


def test_the_source_is_decomposed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from tlnb.theory.factors import Eigenbasis

    sizes, inner = [], vars(Eigenbasis)["of"].__func__

    def counted(cls: type[Eigenbasis], K: np.ndarray) -> Eigenbasis:
        sizes.append(len(K))
        return inner(cls, K)

    monkeypatch.setattr(Eigenbasis, "of", classmethod(counted))
    coupled(problems(), TESTS, GRID)
    assert sizes.count(40) == 1


def test_best_is_of_least_left_out_error_whatever_the_test_says() -> None:
    import pandas as pd

    left_out = Errors(np.array([[1.0, 3], [2, 1], [4, 4]]), *2 * [np.zeros((3, 2))])
    test = Errors(np.array([[9.0], [9], [0]]), *2 * [np.zeros((3, 1))])
    rows = Candidates(pd.DataFrame(np.ones((3, 5)), columns=list(COLUMNS)), left_out, test)
    assert rows.best() == 1
    assert rows.where(np.array([True, False, True])).best() == 0
    np.testing.assert_array_equal(rows.averages().on_test_test_error, [9, 9, 0])


def test_leave_one_out_chooses_on_digits_where_the_evidence_does_not() -> None:
    # the table of chapter 09 on images that come with scikit-learn: choices, regrets and ranks
    low = "0,1,2,3,4|5,6,7,8,9"
    sizes: dict[str, Any] = {"n_source": 200, "n_target": 40, "n_test": 200}
    source, target, _, test = transfer_tasks(digits(), low, low, **sizes)
    problem = TransferProblem(source, target)
    rows = []
    for T, precision in product((0.001, 0.01, 0.1), (1, 10, 100, 1000)):
        mine = problem.with_priors(temperature=T, readout_precision=precision)
        for coupling in (0, 0.3, 1, 3, 10, 100, np.inf):
            solution = mine.solve(width=100, coupling=coupling)
            left_out = solution.leave_one_out().test_error.mean()
            error = solution.predict(test.X, test.y).test_error.mean()
            rows.append((coupling, precision, left_out, -solution.log_evidence, error))
    coupling, precision, left_out, evidence, error = np.array(rows).T
    chosen, mistaken = left_out.argmin(), evidence.argmin()
    assert coupling[chosen] > 0 and precision[chosen] == 1000
    assert (coupling[mistaken], precision[mistaken]) == (0, 1)
    assert error[chosen] < 1.05 * error.min() and error[mistaken] > 1.5 * error.min()
    assert error[chosen] < 0.8 * error[coupling == 0].min()
    assert spearmanr(left_out, error)[0] > 0.8 and spearmanr(evidence, error)[0] < 0
