"""The Franz-Parisi action: derivatives, closed ends, and the branch that is followed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import solve as linear_solve

from tests.instances import deterministic, linear_teachers
from tlnb import ConvergenceError, Task
from tlnb.priors import Priors
from tlnb.theory import transfer
from tlnb.theory.transfer import (
    Branch,
    TransferProblem,
    expand,
    franz_parisi_action,
    frozen,
    newton,
)
from tlnb.theory.transfer.action import KernelBlocks

UNEQUAL = Priors(
    temperature=0.2,
    weight_precision=1.5,
    readout_precision=0.7,
    source_temperature=0.05,
    source_weight_precision=0.8,
    source_readout_precision=1.9,
)


def blocks_at(coupling: float, width: float = 20, priors: Priors = UNEQUAL) -> KernelBlocks:
    source, target, _ = deterministic()
    return TransferProblem(source, target, priors).blocks(width, coupling)


def reduced_action(point: Any, blocks: Any) -> float:
    """S(D, Q_tt) with Q_st at its stationary value, found here by a parabola through three."""
    D, Q_tt = point
    values = [franz_parisi_action(D + Q_tt, Q_tt, x, blocks) for x in (-1.0, 0.0, 1.0)]
    second, first = values[0] - 2 * values[1] + values[2], (values[2] - values[0]) / 2
    return values[1] - first**2 / (2 * second)


@pytest.mark.parametrize("coupling", [0.3, 10.0, np.inf])
@pytest.mark.parametrize("place", [(0.7, 0.2), (1.2, 0.9)])
def test_gradient_and_hessian_by_finite_differences(
    coupling: float, place: tuple[float, float]
) -> None:
    blocks, point, h = blocks_at(coupling), np.array(place), 1e-4
    exact = expand(*point, blocks)

    def action(a: int, b: int) -> float:
        return reduced_action(point + h * np.array([a, b]), blocks)

    gradient = [(action(1, 0) - action(-1, 0)) / (2 * h), (action(0, 1) - action(0, -1)) / (2 * h)]
    np.testing.assert_allclose(exact.gradient, gradient, rtol=1e-5, atol=1e-5)
    hessian = (
        np.array(
            [
                [
                    action(1, 0) - 2 * action(0, 0) + action(-1, 0),
                    (action(1, 1) - action(1, -1) - action(-1, 1) + action(-1, -1)) / 4,
                ],
                [0.0, action(0, 1) - 2 * action(0, 0) + action(0, -1)],
            ]
        )
        / h**2
    )
    hessian[1, 0] = hessian[0, 1]
    np.testing.assert_allclose(exact.hessian, hessian, rtol=1e-4, atol=1e-4)


def test_gradient_is_the_stationarity_equation_with_plain_solves() -> None:
    blocks = blocks_at(3.0)
    D, Q_tt = 0.8, 0.25
    point = expand(D, Q_tt, blocks)
    x = point.Q_st
    Delta = blocks.temperature * np.eye(8) + D * blocks.K_t + Q_tt * (blocks.K_t - blocks.K_tt)
    E, r = Q_tt * blocks.K_tt - x**2 * blocks.m, blocks.y - x * blocks.u
    W_K, W_C, W_E, W_m = (linear_solve(Delta, A) for A in (blocks.K_t, blocks.K_tt, E, blocks.m))
    w, W_u = linear_solve(Delta, r), linear_solve(Delta, blocks.u)
    excess = Q_tt - x**2 / blocks.Q_s
    by_D = 20 * (1 - 1 / D + excess / D**2) + np.trace(W_K) - np.trace(W_K @ W_E)
    by_Q_tt = 20 * (1 - 1 / D) + np.trace(W_K) - np.trace((W_K - W_C) @ W_E)
    np.testing.assert_allclose(
        point.gradient,
        [by_D - w @ blocks.K_t @ w, by_Q_tt - w @ (blocks.K_t - blocks.K_tt) @ w],
        rtol=1e-10,
    )
    explicit = blocks.y @ W_u / (20 / (blocks.Q_s * D) - np.trace(W_m) + blocks.u @ W_u)
    np.testing.assert_allclose(x, explicit, rtol=1e-12)


@pytest.mark.parametrize("coupling", [0.1, 1.0, 100.0])
def test_newton_converges_quadratically_to_a_stationary_point_of_the_action(
    coupling: float,
) -> None:
    blocks = blocks_at(coupling)
    branch = Branch(blocks_at, 1.0, 1.0)
    solution = branch.at(coupling)
    assert solution.converged and solution.residual < 1e-12
    at = solution.Q_t, solution.Q_tt, solution.Q_st
    np.testing.assert_allclose(solution.action, franz_parisi_action(*at, blocks), rtol=1e-12)
    again = newton(1.01 * solution.D, solution.Q_tt + 0.01, blocks)
    assert again.iterations <= 5
    np.testing.assert_allclose(
        [again.D, again.Q_tt], [solution.D, solution.Q_tt], rtol=1e-10, atol=1e-11
    )
    h = 1e-5
    for direction in np.eye(3):
        before, after = (np.array(at) + sign * h * direction for sign in (-1, 1))
        difference = franz_parisi_action(*after, blocks) - franz_parisi_action(*before, blocks)
        assert abs(difference) / (2 * h) < 1e-5


def test_branch_ends_in_the_closed_solution_at_infinite_coupling() -> None:
    closed = frozen(blocks_at(np.inf))
    branch = Branch(blocks_at, 1.0, 1.0)
    gaps = []
    for coupling in (1e4, 1e5):
        point = branch.at(coupling)
        gaps.append([point.D - closed.D, point.Q_tt - closed.Q_tt, point.Q_st - closed.Q_st])
    np.testing.assert_allclose(np.divide(*gaps), 10, rtol=0.05)  # approached as 1/γ


def test_frozen_D_is_the_root_of_its_one_dimensional_equation() -> None:
    blocks = blocks_at(np.inf)
    solution = frozen(blocks)
    e = np.linalg.eigvalsh(blocks.K_t)
    pulled = (solution.D * e / (blocks.temperature + solution.D * e)).sum()
    np.testing.assert_allclose(20 * (1 - solution.D), pulled, rtol=1e-10)


def test_points_do_not_depend_on_the_path() -> None:
    direct, stepwise = Branch(blocks_at, 1.0, 1.0), Branch(blocks_at, 1.0, 1.0)
    for coupling in np.geomspace(1e-3, 50, 23):
        point = stepwise.at(coupling)
    np.testing.assert_allclose(
        [direct.at(50.0).D, direct.at(50.0).Q_tt], [point.D, point.Q_tt], rtol=1e-9
    )
    before = stepwise.at(0.5)  # between points that are already known
    np.testing.assert_allclose(before.D, Branch(blocks_at, 1.0, 1.0).at(0.5).D, rtol=1e-9)


def test_couplings_a_rounding_error_apart() -> None:
    branch = Branch(blocks_at, 1.0, 1.0)
    first = branch.at(0.01)
    np.testing.assert_allclose(branch.at(np.nextafter(0.01, 1)).D, first.D, rtol=1e-12)
    np.testing.assert_allclose(branch.at(10.0**-1.9999999999999998).D, first.D, rtol=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("activation", ["erf", "relu", "linear"])
def test_hard_instances_stay_on_the_physical_branch(seed: int, activation: str) -> None:
    """More examples than units at a low temperature, where unphysical saddles abound."""
    source, target, _ = linear_teachers(seed, 80, 60, overlap=0.5)
    priors = Priors(activation=activation, temperature=1e-3)
    tasks = TransferProblem(source, target, priors)
    for coupling in (0.01, 1.0, 10.0, 1e3, 1e6, np.inf):
        point = tasks.saddle(5, coupling)
        blocks = tasks.blocks(5, coupling)
        assert point.converged
        assert point.D > 0
        assert point.Q_tt >= point.Q_st**2 / blocks.Q_s - 1e-9
        Delta = transfer.delta(point.D, point.Q_tt, blocks)
        assert np.linalg.eigvalsh(Delta)[0] > 0
        W_C = linear_solve(Delta, blocks.K_tt, assume_a="pos")
        assert 5 / point.D**2 > np.trace(W_C @ W_C)


def test_unphysical_saddles_do_not_count_as_converged() -> None:
    """A stationary point with a negative overlap of replicas lies beside the physical one."""
    source, target, _ = linear_teachers(0, 80, 60, overlap=0.5)
    signs = (Task(task.X, np.sign(task.y)) for task in (source, target))
    tasks = TransferProblem(*signs, Priors(temperature=0.1))
    astray = newton(3.2, -6.6, tasks.blocks(20, 3.0))
    assert astray.residual < 1e-9 and astray.Q_tt < 0
    assert not astray.physical and not astray.converged
    assert tasks.saddle(20, 3.0).Q_tt > 0


@pytest.mark.parametrize("spoil", [{"y": np.full(8, 1e200)}, {"K_tt": 1e3 * np.eye(8)}])
def test_a_lost_branch_says_so(spoil: dict[str, Any]) -> None:
    def broken(coupling: float) -> Any:
        return blocks_at(coupling)._replace(**(spoil if coupling > 0.3 else {}))

    with (
        np.errstate(all="ignore"),
        pytest.raises(ConvergenceError, match=r"branch of saddle points was lost.*larger width"),
    ):
        Branch(broken, 1.0, 1.0).at(1.0)
