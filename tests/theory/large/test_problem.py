"""Transfer from a source that is never factorised, against the dense solver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlnb import Task, TransferGPRegressor, coupling_sweep
from tlnb.errors import ConvergenceError
from tlnb.kernels import get_activation, kernel
from tlnb.priors import weight_covariances
from tlnb.theory.large import iterative
from tlnb.theory.large import problem as large_problem
from tlnb.theory.large.coupled import AtNode, Known, Solver
from tlnb.theory.large.curve import with_errors
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.large.nodes import (
    coupling_of,
    degree_for,
    extrapolation,
    in_turn,
    nodes,
    share_of,
    weights,
)
from tlnb.theory.large.problem import LargeTransferProblem, transfer_problem
from tlnb.theory.transfer import Priors, TransferProblem, solve

P, P_T, N_TEST, N0 = 320, 30, 40, 30
NUMBERS = {
    *("Q_s", "Q_t", "Q_st", "Q_tt", "train_error", "squared_bias", "total_variance"),
    *("test_error", "classification_error", "source_variance", "log_evidence"),
}
GRID: dict[str, Any] = {"widths": [60, 300, np.inf], "couplings": [np.inf, 0, 0.3, 5]}
OPTIONS = LargeOptions(tile=120, columns=16)


@pytest.fixture(scope="module")
def tasks() -> tuple[Task, Task, Task]:
    variances = np.arange(1, N0 + 1) ** -0.7
    X = np.random.default_rng(0).standard_normal((P + P_T + N_TEST, N0))
    X *= np.sqrt(N0 * variances / variances.sum())
    y = np.sign(X[:, 0] + X[:, 1] * X[:, 2])
    return tuple(Task(X[p], y[p]) for p in np.split(np.arange(len(X)), [P, P + P_T]))


@pytest.mark.parametrize(
    "priors",
    [
        {},
        {"activation": "relu", "source_weight_precision": 1.5},
        {"coupling_scheme": "variance-preserving", "readout_precision": 3.0},
        {"source_temperature": 0.05, "weight_precision": 2.0, "source_readout_precision": 2.0},
        {"richness": 0.02},
    ],
)
def test_curve_is_the_dense_one_within_its_errors(
    tasks: tuple[Task, Task, Task], priors: dict[str, Any]
) -> None:
    source, target, test = tasks
    grid = GRID if "richness" not in priors else GRID | {"widths": [60, 300]}
    priors = {"temperature": 0.1} | priors
    truth = TransferProblem(source, target, **priors).sweep(test, **grid)
    found = coupling_sweep(
        source, target, test, **grid, **priors, solver="iterative", options=OPTIONS
    )
    assert set(found) - set(truth) == {f"{name}_error" for name in NUMBERS}
    for name in NUMBERS:
        off, error = np.abs(found[name] - truth[name]), found[f"{name}_error"]
        assert float((off - 1e-3 * np.abs(truth[name])).max()) < 1e-9, name
        assert float((off - 4 * error).max()) < 1e-5, name
        assert float(error.sel(coupling=0).max()) == 0 or name == "Q_s"
    off = np.abs(found.test_error - truth.test_error)
    assert float((off / truth.test_error).max()) < 1e-4
    assert float((found.test_error_error / found.test_error).max()) < 5e-3


def test_baselines_know_of_no_source(tasks: tuple[Task, Task, Task]) -> None:
    for baseline in ("scratch", "matched-prior"):
        truth, found = (
            coupling_sweep(
                *tasks, widths=[60], couplings=[1.0], temperature=0.1, baseline=baseline, solver=s
            )
            for s in ("dense", "iterative")
        )
        assert found.test_error.item() == truth.test_error.item()
        assert found.test_error_error.item() == 0 < found.Q_s_error.item()


def test_single_solutions_and_their_predictions(tasks: tuple[Task, Task, Task]) -> None:
    source, target, test = tasks
    priors: dict[str, Any] = {"temperature": 0.1, "width": 60, "coupling": 2.0}
    truth = solve(source, target, **priors, solver="dense")
    found = solve(source, target, **priors, solver="iterative", options=OPTIONS)
    ours, theirs = (each.predict(test.X, test.y) for each in (found, truth))
    for name in ours._fields:
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-4)
    for mine, other in zip(found.leave_one_out(), truth.leave_one_out(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-3)


def test_what_a_prepared_problem_shares(
    tasks: tuple[Task, Task, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, _ = tasks
    problem = LargeTransferProblem(source, target, temperature=0.1, options=OPTIONS)
    tiles = problem.source_kernel.tiles
    colder = problem.with_priors(temperature=0.05, source_temperature=0.1)
    assert colder.source_kernel.tiles is tiles and colder.options is OPTIONS
    other = problem.with_priors(source_weight_precision=2.0)
    assert other.source_kernel is not problem.source_kernel and other.options is OPTIONS
    flipped = problem.with_labels(-source.y, -target.y)
    assert flipped.source_kernel.tiles is tiles
    one, two = (each.solve(width=60, coupling=1.0).Q_st for each in (problem, flipped))
    assert one == pytest.approx(two)
    fewer = problem.with_target(Task(target.X[:9], target.y[:9]))
    assert fewer.source_saddle(60) is problem.source_saddle(60)
    truth = TransferProblem(source, target, temperature=0.1)
    lists: dict[str, Any] = {"widths": [60], "couplings": [0.0, 1.0], "temperatures": [0.1, 0.2]}
    np.testing.assert_allclose(
        problem.candidates(**lists).test_error, truth.candidates(**lists).test_error, rtol=1e-3
    )


def test_a_curve_is_continued_from_its_folder(
    tasks: tuple[Task, Task, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = LargeOptions(tile=120, folder=tmp_path)
    grid: dict[str, Any] = {"widths": [60], "couplings": [0.5, np.inf], "temperature": 0.1}
    at, calls = Solver._at, list[float]()

    def counted(self: Solver, share: float) -> list[AtNode]:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(share)
        return at(self, share)

    monkeypatch.setattr(Solver, "_at", counted)
    with pytest.raises(KeyboardInterrupt):
        coupling_sweep(*tasks, **grid, solver="iterative", options=options)

    def noted(self: Solver, share: float) -> list[AtNode]:
        calls.append(share)
        return at(self, share)

    monkeypatch.setattr(Solver, "_at", noted)
    found = coupling_sweep(*tasks, **grid, solver="iterative", options=options)
    assert len(calls) == len(set(calls)) == len(list(tmp_path.glob("coupling_*.npz")))
    fresh = coupling_sweep(*tasks, **grid, solver="iterative", options=LargeOptions(tile=120))
    # Equal but for what other first guesses leave, far below the tolerance.
    np.testing.assert_allclose(found.test_error, fresh.test_error, rtol=1e-6)


def test_slopes_are_derivatives_of_the_blocks(tasks: tuple[Task, Task, Task]) -> None:
    source, target, test = tasks
    tight = LargeOptions(tile=120, tolerance=1e-4)
    problem = LargeTransferProblem(source, target, temperature=0.1, options=tight)
    saddle = problem.source_saddle(60)
    step, values = 1e-2, []
    solver = Solver(problem.kernels, [saddle], test.X[:5])
    B, B0 = (solver._kernel(X, 0.7) for X in (target.X, test.X[:5]))
    dense = kernel(source.X, activation="erf")
    for sign in (-1, 1):
        Q = saddle.Q * np.exp(sign * step)
        G = 0.1 * np.eye(P) + Q * dense
        m, u = B.T @ np.linalg.solve(G, B), B.T @ np.linalg.solve(G, source.y)
        known = B0.T @ np.linalg.solve(G, B)
        kk = np.diag(B0.T @ np.linalg.solve(G, B0))
        values.append(Known(m, u, known, kk, B0.T @ np.linalg.solve(G, source.y)))
    found = solver._at(0.7)[0]
    for name in Known._fields:
        low, high = (getattr(each, name) for each in values)
        value, slope = getattr(found.value, name), getattr(found.slope, name)
        scale = np.abs(high).max()
        np.testing.assert_allclose(slope, (high - low) / (2 * step), atol=3e-3 * scale)
        np.testing.assert_allclose(value, 0.5 * (high + low), atol=1e-3 * scale)


# nodes


@pytest.mark.parametrize("scheme", ["elastic", "variance-preserving"])
def test_a_share_is_that_of_its_coupling(scheme: str) -> None:
    precisions: dict[str, Any] = {"source_precision": 1.7, "target_precision": 0.6}
    for share in (0.0, 0.2, 0.9, 1.0):
        c = weight_covariances(
            coupling_of(share, scheme=scheme, **precisions),
            source_weight_precision=1.7,
            target_weight_precision=0.6,
            scheme=scheme,
        )
        assert share_of(c) == pytest.approx(share)


def test_interpolation_is_exact_for_polynomials_of_its_degree() -> None:
    for degree in (4, 6):
        x = nodes(degree)
        assert set(x) <= set(nodes(2 * degree)) and x[0] == 0 and x[-1] == 1
        for power in range(degree + 1):
            for share in (0.0, 0.123, x[2], 1.0):
                assert weights(share, degree) @ x**power == pytest.approx(share**power)


def test_more_nodes_where_the_activation_asks_for_them(tasks: tuple[Task, Task, Task]) -> None:
    source, target, _ = tasks
    arguments: dict[str, Any] = {
        "covariances": lambda share: weight_covariances(
            coupling_of(share, scheme="elastic", source_precision=1, target_precision=1)
        ),
        "Q": 2.0,
        "temperature": 0.1,
    }

    def degree(X_t: Any, name: str, tolerance: float) -> int:
        rng = np.random.default_rng(0)
        sigma = get_activation(name)
        return degree_for(source.X, X_t, sigma, **arguments, tolerance=tolerance, rng=rng).degree

    # Kernels of examples that source and target share have a root at b = 1 under the sign.
    smooth, tight = (degree(target.X, "erf", tolerance) for tolerance in (1e-3, 1e-7))
    assert smooth < tight
    with pytest.raises(ConvergenceError, match="32 nodes"):
        degree(source.X, "sign", 1e-7)


def test_interpolation_is_compared_with_solutions(
    tasks: tuple[Task, Task, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few nodes at first: the comparison sees it and doubles them."""
    source, target, test = tasks
    monkeypatch.setattr(Solver, "_degree", lambda self, saddle, rng: (2, 0.15))
    problem = LargeTransferProblem(source, target, temperature=0.1, options=OPTIONS)
    found = problem.sweep(test, widths=[60], couplings=[0.4])
    assert problem.interpolant(60).degree >= 4
    truth = TransferProblem(source, target, temperature=0.1)
    error = truth.sweep(test, widths=[60], couplings=[0.4]).test_error.item()
    assert found.test_error.item() == pytest.approx(error, rel=1e-3)


def test_nodes_come_in_turn_and_solutions_are_extrapolated() -> None:
    for known in ([], [0.0, 0.5, 1.0]):
        todo = [share for share in nodes(6) if share not in known]
        order = in_turn(todo, known)
        assert sorted(order) == sorted(todo)
        rest = [*known, *order]
        for i in range(max(1, len(known)), len(rest)):
            far = [np.prod(np.abs(share - np.array(rest[:i]))) for share in rest[i:]]
            assert far[0] == pytest.approx(max(far))
    at = [0.0, 0.3, 1.0, 0.6]
    for power in range(4):
        for share in (0.2, 0.3, 0.95):
            weights_ = extrapolation(share, at)
            assert weights_ @ np.array(at) ** power == pytest.approx(share**power)


def test_solutions_at_other_nodes_are_good_first_guesses(
    tasks: tuple[Task, Task, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer iterations, the same numbers; without memory to keep them in they are not kept."""
    source, target, test = tasks
    iterations, errors = [], []
    for memory in (np.inf, 0.0):
        counted: list[int] = []

        def solve_counted(*args: Any, _into: Any = counted, **keywords: Any) -> iterative.Solution:
            found = iterative.solve(*args, **keywords)
            _into.append(found.iterations)
            return found

        monkeypatch.setattr("tlnb.theory.large.coupled.solve", solve_counted)
        monkeypatch.setattr("tlnb.theory.large.coupled.available", lambda memory=memory: memory)
        problem = LargeTransferProblem(source, target, temperature=0.1, options=OPTIONS)
        problem.prepare([60, 300], test.X)
        iterations.append(sum(counted))
        errors.append(problem.leave_one_out(60, 3.0).test_error.mean())
    assert iterations[0] < 0.9 * iterations[1]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)


# which solver


def test_the_solver_is_chosen_by_size(
    tasks: tuple[Task, Task, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, _ = tasks
    priors = Priors(temperature=0.1)
    assert type(transfer_problem(source, target, priors)) is TransferProblem
    assert type(transfer_problem(source, target, priors, "iterative")) is LargeTransferProblem
    monkeypatch.setattr(large_problem, "DENSE_UP_TO", P - 1)
    assert type(transfer_problem(source, target, priors)) is LargeTransferProblem
    assert type(transfer_problem(source, target, priors, "dense")) is TransferProblem
    with pytest.raises(ValueError, match="solver must be"):
        transfer_problem(source, target, priors, "gpu")
    with pytest.raises(TypeError, match="LargeOptions"):
        transfer_problem(source, target, priors, "iterative", {"tolerance": 0.1})


def test_the_estimator_takes_the_solver(tasks: tuple[Task, Task, Task]) -> None:
    source, target, test = tasks
    dense, iterative = (
        TransferGPRegressor(width=60, coupling="leave-one-out", temperature=0.1, solver=solver).fit(
            target.X, target.y, source=source
        )
        for solver in ("dense", "iterative")
    )
    np.testing.assert_allclose(iterative.predict(test.X), dense.predict(test.X), atol=2e-3)
    with pytest.raises(ValueError, match="solver"):
        TransferGPRegressor(solver="gpu").fit(target.X, target.y)


def test_what_is_not_known_well_enough_is_refused(tasks: tuple[Task, Task, Task]) -> None:
    options = LargeOptions(n_landmarks=5, n_probes=8, most_probes=8, tolerance=2e-5)
    with pytest.raises(ConvergenceError, match="standard error"):
        coupling_sweep(
            *tasks,
            widths=[60],
            couplings=[1.0],
            temperature=0.1,
            solver="iterative",
            options=options,
        )


def test_a_test_error_above_the_tolerance_is_refused(
    tasks: tuple[Task, Task, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, test = tasks
    problem = LargeTransferProblem(source, target, temperature=0.1, options=OPTIONS)
    found = problem.sweep(test, widths=[60], couplings=[1.0])
    found["test_error_error"] += 0.02 * found.test_error
    with pytest.raises(ConvergenceError, match=r"coupling=1 is known to"):
        with_errors(found, [0.0], OPTIONS)
