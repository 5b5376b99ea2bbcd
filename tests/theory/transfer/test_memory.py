"""Peak memory, by tracemalloc: bounded by the target's own matrices and a fixed budget."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tlnb import Task
from tlnb.theory.prediction import Prediction
from tlnb.theory.transfer import Overlaps, TransferProblem, expand
from tlnb.theory.transfer.predictor import CoupledPredictor

MEGABYTE = 2**20


def peak(function: Callable) -> tuple:
    """Bytes held at the worst moment, beyond those from before, and what the function returns."""
    tracemalloc.start()
    try:
        result = function()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def problem_of(n_source: int, n_target: int) -> TransferProblem:
    X = np.random.default_rng(0).standard_normal((n_source + n_target, 30))
    y = np.sign(X[:, 0])
    source, target = Task(X[:n_source], y[:n_source]), Task(X[n_source:], y[n_source:])
    return TransferProblem(source, target, temperature=0.1)


@pytest.mark.parametrize(("n_source", "n_target"), [(10, 1000), (1000, 10)])
def test_prediction_is_bounded_by_neither_set_nor_the_test_points(
    n_source: int, n_target: int
) -> None:
    """One block of all test points would hold 160 MB."""
    problem = problem_of(n_source, n_target)
    held = Overlaps(0.8, 0.3, 0.1, np.nan, 0.0, 1, True, 0.0)
    predictor = problem.predictor(held, problem.blocks(40, 1.0), 1.0)
    X = np.random.default_rng(1).standard_normal((20_000, 30))

    def predict() -> Iterator[Prediction]:
        for part in problem.kernels.parts(len(X)):
            yield predictor(problem.kernels.test(problem.kernels.products(X[part]), 1.0))

    used, parts = peak(lambda: [outcome.mean.sum() for outcome in predict()])
    assert used < 100 * MEGABYTE and len(parts) > 1


@pytest.mark.parametrize("n_source", [40, 400])
def test_the_equations_at_many_target_examples(n_source: int) -> None:
    """Kernels, factor, derivatives and predictor within six matrices of the target's size.

    Beside them only the source's rows: three matrices of its size by the target's.
    """
    problem = problem_of(n_source, 1200)

    def work() -> CoupledPredictor:
        blocks = problem.blocks(300, 1.0)
        point = expand(0.9, 0.05, blocks)
        held = Overlaps(0.9, 0.05, point.Q_st, np.nan, 0.0, 1, True, 0.0)
        return problem.predictor(held, blocks, 1.0)

    used, _ = peak(work)
    assert used < 8 * (6 * 1200**2 + 3 * n_source * 1200)


def test_a_whole_solution_at_many_target_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next coupling's matrices take the place of the last one's."""
    for module in ("kernels", "prepared"):
        monkeypatch.setattr(f"tlnb.theory.transfer.{module}.CACHE", 1)
    problem = problem_of(40, 1200)
    used, solution = peak(lambda: problem.solve(width=300, coupling=0.02))
    assert len(problem._branches[300].points) == 2
    assert solution.converged and used < 8 * (6 * 1200**2 + 3 * 40 * 1200)
    # The target's own eigenvectors, which have been forgotten, are made again where needed.
    alone = problem.solve(width=300, coupling=0.0)
    expected = problem_of(40, 1200).solve(width=300, coupling=0.0)
    np.testing.assert_allclose(alone.predict(problem.target.X[:5]).mean,
                               expected.predict(problem.target.X[:5]).mean, rtol=1e-9)  # fmt: skip


def test_frozen_features_at_many_target_examples() -> None:
    problem = problem_of(40, 1200)
    used, solution = peak(lambda: problem.solve(width=300, coupling=np.inf))
    assert solution.converged and used < 6 * 8 * 1200**2
