"""Deep samplers: gradients, one layer, prior alone, exact answers, quenched sources."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.instances import linear_teachers
from tlnb import Task
from tlnb.kernels import get_activation
from tlnb.sampling import sample_deep_posterior, sample_deep_transfer, sample_posterior, summary
from tlnb.sampling.deep_likelihood import DeepLikelihood
from tlnb.sampling.likelihood import NetworkLikelihood
from tlnb.theory import deep

RNG = np.random.default_rng(0)
TASK = Task(RNG.standard_normal((6, 3)), RNG.standard_normal(6))
QUIET: dict[str, Any] = {"progress": False, "rng": 1}


def network(
    widths: tuple[int, ...], activation: str = "erf", P: int = 6
) -> tuple[DeepLikelihood, np.ndarray]:
    task = Task(TASK.X[:P], TASK.y[:P])
    net = DeepLikelihood(task, get_activation(activation), widths, 0.3, 1.7)
    return net, np.random.default_rng(2).standard_normal((3, net.size))


def plain(net: Any, weights: Any) -> np.ndarray:
    """ln N(y; 0, T + K̂) of one network, layer by layer."""
    phi = net.task.X
    for W in net.layers(weights):
        phi = net.activation(phi @ W.T / np.sqrt(W.shape[1]))
    M = net.temperature * np.eye(len(phi)) + phi @ phi.T / net.readout_precision / phi.shape[1]
    fit = net.task.y @ np.linalg.solve(M, net.task.y)
    return -0.5 * (np.linalg.slogdet(2 * np.pi * M)[1] + fit)


@pytest.mark.parametrize("widths", [(4,), (5, 7), (7, 3), (3, 8, 4), (2, 3, 2, 9)])
@pytest.mark.parametrize("activation", ["linear", "erf", "tanh", "gelu"])
def test_likelihood_and_gradient_by_finite_differences(widths: tuple, activation: str) -> None:
    net, weights = network(widths, activation)
    value, gradient = net.collapsed(weights)
    np.testing.assert_allclose(value, [plain(net, w) for w in weights], rtol=1e-10)
    h, direction = 1e-5, np.random.default_rng(3).standard_normal((4, net.size))
    for w, g in zip(weights, gradient, strict=True):
        for d in direction:
            slope = (plain(net, w + h * d) - plain(net, w - h * d)) / (2 * h)
            assert d @ g == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_one_layer_is_the_density_of_one_hidden_layer() -> None:
    net, weights = network((5,))
    one = NetworkLikelihood(net.task, net.activation, 5, net.temperature, net.readout_precision)
    value, gradient = net.collapsed(weights)
    expected, by_W = one.collapsed(weights.reshape(3, 5, 3))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient.reshape(by_W.shape), by_W, rtol=1e-10, atol=1e-13)


def test_one_layer_draws_the_same_networks() -> None:
    """With an activation that has no stand-in: in double precision throughout."""
    given: dict[str, Any] = {
        "activation": "gelu",
        "temperature": 0.2,
        "chains": 3,
        "draws": 5,
        "warmup": 8,
        "test": TASK,
        **QUIET,
    }
    deep_one = sample_deep_posterior(TASK, widths=(5,), **given)
    one = sample_posterior(TASK, width=5, **given)
    for name in ("order_parameter", "train_error", "prediction", "test_error"):
        np.testing.assert_allclose(deep_one[name], one[name], rtol=1e-8)


@pytest.mark.parametrize("widths", [(4,), (5, 7), (3, 8, 4)])
def test_the_force_is_the_gradient_nearly(widths: tuple[int, ...]) -> None:
    for activation, far in (("erf", 6e-3), ("tanh", 1e-5)):
        net, weights = network(widths, activation)
        near, exact = net.force(weights), net.collapsed(weights)[1]
        assert 0 < abs(near - exact).max() < far * abs(exact).max()
    net, weights = network(widths, "gelu")
    np.testing.assert_array_equal(net.force(weights), net.collapsed(weights)[1])


def test_many_chains_at_once_are_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    net, weights = network((5, 4))
    together = net.collapsed(weights)
    monkeypatch.setattr("tlnb.sampling.deep_likelihood.IN_CACHE", 1)
    for whole, apart in zip(together, net.collapsed(weights), strict=True):
        np.testing.assert_allclose(apart, whole, rtol=1e-12)


def test_readouts_propagated_back_by_sampling_readouts() -> None:
    net, weights = network((6, 5, 4), "linear")
    readouts = net.readouts(weights[:1])
    Phi = net.features(weights[:1])[0]
    precision = net.readout_precision * np.eye(4) + Phi.T @ Phi / 4 / net.temperature
    draws = np.random.default_rng(4).multivariate_normal(
        readouts.mean[0], np.linalg.inv(precision), size=200_000
    ) * np.sqrt(net.readout_precision)
    layers = [W[0] for W in net.layers(weights[:1])]
    for W, (mean, square) in zip(
        layers[:0:-1], net.propagated_back(weights[:1], readouts), strict=True
    ):
        draws = draws @ W / np.sqrt(len(W))
        np.testing.assert_allclose(mean[0], draws.mean(0), atol=0.02)
        assert square[0] == pytest.approx((draws**2).sum(1).mean() / W.shape[1], rel=0.02)


def test_without_data_to_speak_of_the_prior_comes_back() -> None:
    """At a temperature that drowns the labels weights are N(0, 1/λ0), overlaps one."""
    drawn = sample_deep_posterior(
        TASK, widths=(8, 6), activation="linear", temperature=1e6, weight_precision=2.0,
        chains=8, draws=60, warmup=10, weights=True, **QUIET,
    )  # fmt: skip
    w = drawn.weights.values
    assert w.mean() == pytest.approx(0, abs=0.02) and w.var() == pytest.approx(0.5, rel=0.03)
    assert (w**4).mean() / w.var() ** 2 == pytest.approx(3, rel=0.05)
    np.testing.assert_allclose(drawn.order_parameter, 1, atol=1e-4)
    assert float(drawn.overlap_1.mean()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("couplings", [2.0, (np.inf, 0.0), (3.0, np.inf)])
def test_linear_networks_of_two_layers_are_as_the_theory_says(
    couplings: float | tuple[float, float],
) -> None:
    """Exact at leading order: what is left is of order 1/N and the Monte Carlo error."""
    source, target, test = linear_teachers(0, 60, 15)
    given: dict[str, Any] = {"activation": "linear", "temperature": 0.1, "couplings": couplings}
    sampled = sample_deep_transfer(
        source, target, widths=(60, 50), test=test, sources=30, draws=16, warmup=40, thin=2,
        source_thin=3, **given, **QUIET,
    )  # fmt: skip
    table = summary(sampled)
    solved = deep.solve(source, target, widths=(60, 50), **given)
    expected = {"Q_s": solved.Q_s, "Q_t": solved.Q_t, "Q_st": solved.Q_st, "Q_tt": solved.Q_tt}
    expected |= dict(zip(("A_s_1", "A_st_1", "A_t_1", "A_tt_1"), solved.overlaps[0], strict=True))
    expected["test_error"] = solved.predict(test.X, test.y).test_error.mean()
    expected["train_error"] = solved.train_error
    for name, value in expected.items():
        error = table.loc[name, "mcse"]
        assert abs(table.loc[name, "mean"] - value) < 4.5 * error + 0.04 * max(1.0, abs(value)), (
            name
        )


def test_frozen_networks_keep_the_source_and_sample_nothing() -> None:
    source, target, test = linear_teachers(1, 30, 10)
    given: dict[str, Any] = {"widths": (7, 5), "temperature": 0.1, "test": test, **QUIET}
    drawn = sample_deep_posterior(
        source, widths=(7, 5), temperature=0.1, chains=3, draws=4, warmup=5, weights=True, **QUIET
    )
    frozen = sample_deep_transfer(source, target, couplings=np.inf, sources=drawn, **given)
    assert frozen.sizes["chain"] == frozen.sizes["draw"] == 1 and frozen.sizes["source"] == 12
    W = drawn.weights.transpose("draw", "chain", ...).values.reshape(12, -1)
    net = DeepLikelihood(target, get_activation("erf"), (7, 5), 0.1, 1.0)
    expected, _ = net.readouts(W).predict(net.features(W, test.X))
    np.testing.assert_allclose(frozen.prediction[:, 0, 0], expected, rtol=1e-10)
    # At a very large coupling targets are drawn, and stay there.
    near = sample_deep_transfer(
        source, target, couplings=1e8, sources=drawn, draws=3, warmup=3, **given
    )
    np.testing.assert_allclose(
        near.prediction.mean(["chain", "draw"]), frozen.prediction[:, 0, 0], atol=2e-2
    )


def test_only_the_frozen_layers_keep_the_source() -> None:
    net, W = network((4, 5))
    from tlnb.priors import Priors
    from tlnb.sampling.deep import _around

    centre, spread = _around(W, net, Priors(weight_precision=2.0), (np.inf, 0.0))
    first = 4 * 3
    np.testing.assert_array_equal(centre[:, :first], W[:, :first])
    assert not spread[:first].any() and not centre[:, first:].any()
    np.testing.assert_allclose(spread[first:], 2**-0.5)
    centre, spread = _around(W, net, Priors(weight_precision=2.0), (6.0, np.inf))
    np.testing.assert_allclose(centre[:, :first], 0.75 * W[:, :first])
    np.testing.assert_allclose(spread[:first], 8**-0.5)


def test_sources_of_another_problem_are_refused() -> None:
    source, target, _ = linear_teachers(1, 30, 10)
    plan: dict[str, Any] = {"chains": 2, "draws": 3, "warmup": 3, "weights": True, **QUIET}
    drawn = sample_deep_posterior(source, widths=(7, 5), temperature=0.1, **plan)
    at: dict[str, Any] = {"couplings": 1.0, "sources": drawn, "temperature": 0.1, **QUIET}
    with pytest.raises(ValueError, match=r"widths \(7, 6\)"):
        sample_deep_transfer(source, target, widths=(7, 6), **at)
    with pytest.raises(ValueError, match="another task"):
        sample_deep_transfer(Task(source.X, -(source.y**2)), target, widths=(7, 5), **at)
    with pytest.raises(TypeError, match="sources must be"):
        sample_deep_transfer(source, target, widths=(7, 5), **(at | {"sources": "many"}))
    with pytest.raises(TypeError, match="widths"):
        sample_deep_posterior(source, widths=20)
    with pytest.raises(ValueError, match="couplings"):
        sample_deep_transfer(source, target, widths=(7, 5), **(at | {"couplings": (1.0,) * 3}))
