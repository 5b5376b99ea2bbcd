"""The same network written in different ways: outputs, objectives and minima agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import erf

from tests.instances import linear_teachers
from tlnb.networks.parametrisations import (
    LOSSES,
    PARAMETRISATIONS,
    decay_table,
    theory_point,
    weight_decays,
)
from tlnb.networks.transfer import train_mode

N0, N1, P = 6, 5, 20
SIZES: dict[str, Any] = {"width": N1, "n_features": N0, "n_examples": P}


def loss_of(name: str, y: np.ndarray, f: Any) -> float:
    squares = ((y - f) ** 2).sum()
    return {
        "half-sum": squares / 2,
        "sum": squares,
        "half-mean": squares / 2 / len(y),
        "mean": squares / len(y),
    }[name]


def written(name: str, X: np.ndarray, u: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Networks as their authors write them."""
    if name == "standard":  # nn.Linear, σ, nn.Linear
        return erf(X @ u.T) @ a
    if name == "mean-field":
        return (a * erf(X @ u.T / np.sqrt(N0))).mean(1)
    return erf(X @ u.T / np.sqrt(N0)) @ a / np.sqrt(N1)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_objectives_are_proportional(name: str, loss: str) -> None:
    """At any weights: theirs = 2C times the theory's at the point that it means."""
    task, _, _ = linear_teachers(0, P, 5, n_features=N0)
    rng = np.random.default_rng(1)
    T, ratios = 0.03, []
    point = theory_point(0.7, parametrisation=name, loss=loss, temperature=T, **SIZES)
    assert point.richness == pytest.approx(point.readout_precision / N1)
    for _ in range(5):
        u, a = rng.standard_normal((N1, N0)), rng.standard_normal(N1)
        way = PARAMETRISATIONS[name]
        w, v = u / way.hidden_scale(N0), a / way.readout_scale(N1)
        f = written(name, task.X, u, a)
        theirs = loss_of(loss, task.y, f) + 0.35 * ((u**2).sum() + (a**2).sum())
        mine = erf(task.X @ w.T / np.sqrt(N0)) @ v / np.sqrt(N1)
        np.testing.assert_allclose(f, mine, rtol=1e-12)
        decay = point.weight_precision * (w**2).sum() + point.readout_precision * (v**2).sum()
        ratios.append(theirs / (((task.y - mine) ** 2).sum() / 2 + T * decay / 2))
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-12)
    assert ratios[0] == pytest.approx(loss_of(loss, np.zeros(P), np.ones(P)) * 2 / P)


@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_training_as_they_write_it_ends_at_the_mode(name: str) -> None:
    """A general optimiser on their objective, started where the mode is, stays in function."""
    task, _, test = linear_teachers(0, P, 5, n_features=N0)
    ω, way = 0.05, PARAMETRISATIONS[name]
    point = theory_point(ω, parametrisation=name, loss="mean", **SIZES)
    at = {key: getattr(point, key) for key in ("temperature", "weight_precision")}
    at["readout_precision"] = point.readout_precision
    mode = train_mode(task, width=N1, tolerance=1e-8, **at).network

    def theirs(x: np.ndarray) -> float:
        u, a = x[:-N1].reshape(N1, N0), x[-N1:]
        return loss_of("mean", task.y, written(name, task.X, u, a)) + ω / 2 * (x**2).sum()

    u, a = mode.first_layer * way.hidden_scale(N0), mode.readout * way.readout_scale(N1)
    found = minimize(theirs, np.append(u, a), options={"gtol": 1e-7})
    assert found.fun == pytest.approx(theirs(np.append(u, a)), rel=1e-8)
    out = written(name, test.X, found.x[:-N1].reshape(N1, N0), found.x[-N1:])
    np.testing.assert_allclose(out, mode(test.X), atol=1e-3)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_there_and_back(name: str, loss: str) -> None:
    given: dict[str, Any] = {"parametrisation": name, "loss": loss, **SIZES}
    decays = weight_decays(0.01, 1.3, 40.0, **given)
    point = theory_point((decays.hidden, decays.readout), temperature=0.01, **given)
    np.testing.assert_allclose(point, [0.01, 1.3, 40.0, 40.0 / N1], rtol=1e-12)
    at_one = theory_point((decays.hidden, decays.readout), **given)
    np.testing.assert_allclose(at_one[:3], [0.013, 1.0, 40.0 / 1.3], rtol=1e-12)


def test_richness_that_each_way_of_writing_means() -> None:
    found = decay_table(0.3, **SIZES)
    expected = {"ntk": 1 / N1, "standard": N0 / N1**2, "mean-field": 1.0}
    for name, richness in expected.items():
        assert found.richness[name] == pytest.approx(richness, rel=1e-12)
    for width in (10, 1000):  # mean-field networks are as rich at any width
        sizes: dict[str, Any] = SIZES | {"width": width}
        assert decay_table(0.3, **sizes).richness["mean-field"] == pytest.approx(1)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"weight_decay": 0.0}, "weight_decay must be a number > 0, got 0.0"),
        ({"weight_decay": (1.0, -1.0)}, "weight_decay must be a number > 0, got -1.0"),
        ({"weight_decay": (1.0, 1.0, 1.0)}, "weight_decay must be a number or two"),
        ({"parametrisation": "pytorch"}, "parametrisation must be one of 'ntk', 'standard'"),
        ({"loss": "mse"}, "loss must be one of 'half-sum'"),
        ({"width": 0}, "width must be an integer >= 1, got 0"),
        ({"n_features": 0}, "n_features"),
        ({"n_examples": 0}, "n_examples"),
        ({"temperature": -1.0}, "temperature must be a number > 0"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], match: str) -> None:
    given: dict[str, Any] = {"weight_decay": 0.1, **SIZES} | change
    with pytest.raises(ValueError, match=match):
        theory_point(given.pop("weight_decay"), **given)
