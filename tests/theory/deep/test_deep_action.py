"""The deep action: derivatives, conditions, and the saddle points that are followed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.instances import UNEQUAL, deterministic, linear_teachers
from tlnb.errors import ConvergenceError
from tlnb.theory.deep import DeepTransferProblem
from tlnb.theory.deep.action import DeepBlocks, deep_action, expand
from tlnb.theory.deep.saddle import Branch, _Equations, _moved, follow_width, newton
from tlnb.theory.deep.wishart import layers_action, layers_gradient, layers_hessian

WIDTHS = (20.0, 35.0, 12.0)


def problem(depth: int = 3, **priors: Any) -> DeepTransferProblem:
    source, target, _ = deterministic()
    return DeepTransferProblem(source, target, depth=depth, **(UNEQUAL | priors))


def blocks_at(
    coupling: float, depth: int = 3, widths: tuple[float, ...] = WIDTHS, **priors: Any
) -> DeepBlocks:
    return problem(depth, **priors).blocks(widths[:depth], (coupling,) * depth)


def some_point(blocks: DeepBlocks, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scale = blocks.chain.scale
    D, o = scale * rng.uniform(0.6, 1.3, len(scale)), scale * rng.uniform(0.1, 0.6, len(scale))
    return np.array([D, scale * rng.uniform(0.05, 0.3, len(scale)), o])


def differences(function: Callable, z: np.ndarray, h: float = 1e-6) -> np.ndarray:
    steps = h * np.eye(z.size).reshape(z.size, *z.shape)
    return np.array([(function(z + s) - function(z - s)) / (2 * h) for s in steps])


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_derivatives_of_the_chain_by_finite_differences(depth: int) -> None:
    chain = blocks_at(2.0, depth).chain
    z = some_point(blocks_at(2.0, depth))
    by_hand = differences(lambda z: layers_action(chain, z), z)
    np.testing.assert_allclose(layers_gradient(chain, z).ravel(), by_hand, rtol=1e-6, atol=1e-6)
    second = differences(lambda z: layers_gradient(chain, z).ravel(), z)
    np.testing.assert_allclose(layers_hessian(chain, z), second, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("coupling", [0.3, 10.0, np.inf])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_reduced_gradient_and_hessian_by_finite_differences(depth: int, coupling: float) -> None:
    blocks = blocks_at(coupling, depth)
    at = some_point(blocks)[[0, 2]]
    exact = expand(*at, blocks)
    # The x_l are where the action is stationary in them ...
    by_x = differences(lambda z: deep_action(z, blocks), exact.z)[depth : 2 * depth]
    assert abs(by_x).max() < 1e-5

    # ... and follow when the other overlaps move.
    def reduced(at: Any) -> float:
        return deep_action(expand(*at, blocks).z, blocks)

    gradient = differences(reduced, at, 1e-5)
    np.testing.assert_allclose(exact.gradient.ravel(), gradient, rtol=1e-5, atol=1e-5)
    hessian = differences(lambda at: expand(*at, blocks).gradient.ravel(), at)
    rounding = 1e-4 + 1e-9 * abs(exact.hessian).max()
    np.testing.assert_allclose(exact.hessian, hessian, rtol=1e-5, atol=rounding)


@pytest.mark.parametrize("activation", ["linear", "erf"])
@pytest.mark.parametrize("coupling", [0.1, 1.0, 100.0, np.inf])
def test_newton_converges_quadratically_to_a_stationary_point(
    activation: str, coupling: float
) -> None:
    prepared = problem(activation=activation)
    found = prepared.saddle(WIDTHS, (coupling,) * 3)
    assert found.converged and found.residual < 1e-12
    blocks = prepared.blocks(WIDTHS, (coupling,) * 3)
    again = newton(found.coordinates + 0.01, blocks)
    assert again.iterations <= 6
    np.testing.assert_allclose(again.z, found.z, rtol=1e-9, atol=1e-11)
    slopes = differences(lambda z: deep_action(z, blocks), found.z, 1e-5)
    assert abs(slopes).max() < 1e-5


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equations_relative_to_the_layer_above_by_finite_differences(depth: int) -> None:
    blocks = blocks_at(3.0, depth)
    point = expand(*some_point(blocks)[[0, 2]], blocks)
    exact = _Equations.at(point, blocks)

    def equations(step: float) -> np.ndarray:
        return _Equations.at(expand(*_moved(point, blocks, step), blocks), blocks).equations

    def reduced(step: float) -> float:
        return deep_action(expand(*_moved(point, blocks, step), blocks).z, blocks)

    origin = np.zeros((2, depth))
    np.testing.assert_allclose(
        exact.equations, differences(reduced, origin, 1e-5), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(exact.jacobian, differences(equations, origin), rtol=1e-5, atol=1e-4)


def test_layers_of_very_different_widths_converge_quickly() -> None:
    """A layer of a million units follows the one above it, however far that moves."""
    prepared = problem(depth=2)
    widths = (1e6, 20.0)
    found = prepared.saddle(widths, (2.0, 2.0))
    assert found.converged
    blocks = prepared.blocks(widths, (2.0, 2.0))
    point = expand(found.z[0], found.z[2], blocks)
    D, o = _moved(point, blocks, np.array([[0.0, 0.05], [0.0, 0.02]]))
    assert abs(D[0] / found.z[0, 0] - 1) > 0.02  # the first layer has followed
    again = newton(np.array([np.log(D), o]), blocks)
    assert again.iterations < 12
    np.testing.assert_allclose(again.z, found.z, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("activation", ["linear", "erf"])
@pytest.mark.parametrize("depth", [2, 4])
def test_two_ways_lead_to_the_same_point(activation: str, depth: int) -> None:
    """Couplings from zero, or widths from infinity: no unphysical saddle lies on both."""
    source, target, _ = linear_teachers(0, 80, 60, overlap=0.5)
    prepared = DeepTransferProblem(
        source, target, depth=depth, activation=activation, temperature=0.01
    )
    widths = (12.0, 8.0, 10.0, 9.0)[:depth]
    for coupling in (0.2, 3.0, np.inf):
        couplings = (coupling,) * depth
        found = prepared.saddle(widths, couplings)
        other = follow_width(
            lambda t, g=couplings: prepared.blocks(  # type: ignore[misc]
                tuple(np.exp(-t) * np.array(widths)), g
            )
        )
        np.testing.assert_allclose(other.z, found.z, rtol=1e-8, atol=1e-10)


def test_the_branch_reaches_infinity_as_one_over_the_coupling() -> None:
    prepared = problem(activation="erf")
    limit = prepared.saddle(WIDTHS, (np.inf,) * 3)
    gaps = [prepared.saddle(WIDTHS, (g,) * 3).z - limit.z for g in (1e4, 1e5)]
    np.testing.assert_allclose(np.divide(*gaps), 10, rtol=0.05)


def test_accepted_points_are_physical() -> None:
    source, target, _ = linear_teachers(1, 80, 60, overlap=0.5)
    prepared = DeepTransferProblem(source, target, depth=2, temperature=1e-3)
    for coupling in (0.01, 1.0, 10.0, np.inf):
        found = prepared.saddle((6.0, 5.0), (coupling,) * 2)
        D, x, o = found.z
        s = prepared.blocks((6.0, 5.0), (coupling,) * 2).chain.s
        assert found.converged and (D > 0).all() and (o >= x**2 / s - 1e-9).all()


def test_an_unphysical_point_does_not_count_as_converged() -> None:
    """With the overlaps of replicas negative, Cauchy-Schwarz is broken."""
    blocks = blocks_at(1.0, 2)
    z = some_point(blocks)
    assert not expand(z[0], -abs(z[2]), blocks).physical
    # Nor where fluctuations between replicas grow: many examples that all targets share, few units.
    narrow = blocks_at(1.0, 2, widths=(5.0, 5.0))
    assert expand(z[0], z[2], narrow).physical
    alike = narrow._replace(K_tt=40 * np.eye(8), K_t=narrow.K_t + 40 * np.eye(8))
    assert not expand(z[0], z[2], alike).physical


def test_a_lost_branch_says_so() -> None:
    def broken(coupling: float) -> Any:
        blocks = blocks_at(coupling, 2)
        return blocks._replace(y=np.full(8, 1e200)) if coupling > 0.3 else blocks

    with (
        np.errstate(all="ignore"),
        pytest.raises(ConvergenceError, match=r"branch of saddle points was lost.*larger widths"),
    ):
        Branch(broken, np.ones(2), 1.0).at(1.0)
