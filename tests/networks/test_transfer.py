"""Networks at the mode of their posterior: gradients, limits, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import erf

from tests.instances import linear_teachers
from tlnb import Activation, ConvergenceError, Task
from tlnb.networks import TwoLayerNetwork, train_mode, train_readout, train_transfer
from tlnb.networks.training import train_two_layer
from tlnb.networks.transfer import ModeObjective, error_table

AT: dict[str, Any] = {"temperature": 0.05, "weight_precision": 1.3, "readout_precision": 2.0}
FORMULAS = {
    "linear": lambda z: z,
    "erf": erf,
    "tanh": np.tanh,
    "relu": lambda z: np.where(z.real > 0, z, 0),
}


@pytest.fixture(scope="module")
def related() -> tuple[Task, Task, Task]:
    return linear_teachers(0, 60, 12, n_features=8, n_test=200)


def flat(network: TwoLayerNetwork) -> np.ndarray:
    return np.append(network.first_layer, network.readout)


def energy(
    task: Task,
    x: np.ndarray,
    width: int,
    sigma: Activation,
    source: np.ndarray | float = 0.0,
    coupling: float = 0.0,
) -> float:
    """The first formula of the module, sum by sum, over all weights."""
    W, v = x[:-width].reshape(width, -1), x[-width:]
    total = 0.5 * AT["temperature"] * AT["readout_precision"] * (v**2).sum()
    total = total + 0.5 * AT["temperature"] * AT["weight_precision"] * (W**2).sum()
    total = total + 0.5 * AT["temperature"] * coupling * ((W - source) ** 2).sum()
    for inputs, y in zip(task.X, task.y, strict=True):
        f = sigma(W @ inputs / np.sqrt(len(inputs))) @ v / np.sqrt(width)
        total = total + 0.5 * (y - f) ** 2
    return total


def worst_slope(task: Task, network: TwoLayerNetwork, sigma: Activation, **given: Any) -> float:
    """The largest derivative of the energy in any weight, by complex steps."""
    x, K = flat(network), network.width
    slopes = [energy(task, x + 1e-30j * e, K, sigma, **given).imag for e in np.eye(len(x))]
    return abs(np.array(slopes)).max() / 1e-30


@pytest.mark.parametrize("P,width", [(9, 4), (4, 9), (5, 5)])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_gradient_with_the_readout_put_in(name: str, P: int, width: int) -> None:
    rng = np.random.default_rng(0)
    task = Task(rng.standard_normal((P, 3)), rng.standard_normal(P))
    network = TwoLayerNetwork(rng.standard_normal((width, 3)), activation=name)
    network = network.centred(rng.standard_normal((4, 3)))
    objective = ModeObjective(network, task, 0.07, 0.4, rng.standard_normal((width, 3)))
    x = rng.standard_normal(3 * width)
    value, gradient = objective(x)
    for i, entry in enumerate(1e-5 * np.eye(len(x))):
        difference = (objective(x + entry)[0] - objective(x - entry)[0]) / 2e-5
        assert gradient[i] == pytest.approx(difference, rel=1e-5, abs=1e-7)
    # The value is that of all weights at the best readout, which no other readout betters.
    best = objective.unpack(x)
    fit = train_readout(best, task, regularization=0.07, loss="square")
    np.testing.assert_allclose(best.readout, fit.readout, rtol=1e-8, atol=1e-10)
    f = best(task.X)
    whole = 0.5 * ((task.y - f) ** 2).sum() + 0.035 * (best.readout**2).sum()
    whole += 0.2 * ((x.reshape(width, 3) - objective.centre) ** 2).sum()
    assert value == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("coupling", [0.0, 0.7])
def test_all_weights_are_stationary(
    related: tuple[Task, Task, Task], name: str, coupling: float
) -> None:
    source, target, _ = related
    given: dict[str, Any] = {"activation": name, "tolerance": 1e-7, **AT}
    taught = train_mode(source, width=6, **given)
    found = train_mode(target, source=taught.network, coupling=coupling, **given)
    pull: dict[str, Any] = {"source": taught.network.first_layer, "coupling": coupling}
    if name != "relu":  # which stops at a kink
        assert found.converged
        assert worst_slope(target, found.network, FORMULAS[name], **pull) < 1e-5
    whole = energy(target, flat(found.network), 6, FORMULAS[name], **pull)
    assert found.objective == pytest.approx(whole, rel=1e-9)


def test_variable_projection_ends_where_descent_in_all_weights_does() -> None:
    """Equal decays: the objective of `train_two_layer`, from the same hidden weights."""
    task, _, _ = linear_teachers(0, 40, 5, n_features=6)
    at: dict[str, Any] = {"temperature": 0.1, "weight_precision": 2.0, "readout_precision": 2.0}
    found = train_mode(task, width=5, tolerance=1e-7, **at)
    again = train_two_layer(
        task, initial=found.network, loss="square", regularization=0.2, epochs=500
    )
    assert again.objective == pytest.approx(found.objective, rel=1e-9)
    np.testing.assert_allclose(again.network(task.X), found.network(task.X), atol=1e-4)
    # From elsewhere: linear networks have one minimum of the function.
    at["activation"] = "linear"
    found = train_mode(task, width=8, tolerance=1e-7, **at)
    other = train_two_layer(
        task, width=8, activation="linear", loss="square", regularization=0.2, epochs=3000, rng=4
    )
    assert other.objective == pytest.approx(found.objective, rel=1e-7)


def test_limits_of_the_coupling(related: tuple[Task, Task, Task]) -> None:
    source, target, test = related
    taught = train_mode(source, width=10, **AT).network
    around: dict[str, Any] = {"source": taught, "tolerance": 1e-7, **AT}
    frozen = train_mode(target, coupling=np.inf, **around)
    np.testing.assert_array_equal(frozen.network.first_layer, taught.first_layer)
    ridge = train_readout(taught, target, regularization=0.1, loss="square")
    np.testing.assert_allclose(frozen.network.readout, ridge.readout, rtol=1e-8)
    tight = train_mode(target, coupling=1e7, **around)
    np.testing.assert_allclose(tight.network(test.X), frozen.network(test.X), atol=1e-4)
    scratch = train_mode(target, width=10, tolerance=1e-7, rng=3, **AT)
    same = train_mode(target, coupling=0.0, rng=3, **around)
    np.testing.assert_array_equal(flat(scratch.network), flat(same.network))
    # A coupling too weak to be felt: still a stationary point of the uncoupled energy.
    loose = train_mode(target, coupling=1e-9, **around)
    assert worst_slope(target, loose.network, erf) < 1e-5
    away = [
        np.linalg.norm(
            train_mode(target, coupling=g, **around).network.first_layer - taught.first_layer
        )
        for g in (0.1, 1.0, 10.0, 100.0)
    ]
    assert (np.diff(away) < 0).all()


def test_the_scheme_that_keeps_variances_decays_as_its_prior_says(
    related: tuple[Task, Task, Task],
) -> None:
    source, target, _ = related
    taught = train_mode(source, width=6, **AT).network
    given: dict[str, Any] = AT | {"coupling_scheme": "variance-preserving"}
    found = train_mode(target, source=taught, coupling=2.0, tolerance=1e-7, **given)
    λ0 = 1.3
    total = (λ0 + np.sqrt(λ0**2 + 16.0)) / 2  # λ0t + γ
    same: dict[str, Any] = AT | {"weight_precision": total - 2.0}
    other = train_mode(target, source=taught, coupling=2.0, tolerance=1e-7, **same)
    np.testing.assert_allclose(flat(found.network), flat(other.network), atol=1e-5)


def test_more_decay_means_smaller_weights_and_a_worse_fit() -> None:
    task, _, _ = linear_teachers(0, 40, 5, n_features=6)
    fits, norms = [], []
    for decay in (0.1, 1.0, 10.0):
        network = train_mode(task, width=6, temperature=decay / 10, rng=1).network
        fits.append(((task.y - network(task.X)) ** 2).mean())
        norms.append((flat(network) ** 2).sum())
    assert (np.diff(fits) > 0).all() and (np.diff(norms) < 0).all()


def test_only_products_with_the_temperature_matter(related: tuple[Task, Task, Task]) -> None:
    """The mode knows Tλ0, Tλ1 and Tγ, as training knows its weight decays."""
    source, target, test = related
    taught = train_mode(source, width=6, **AT).network
    hot = train_mode(target, source=taught, coupling=0.5, tolerance=1e-8, **AT)
    cold = {name: value * (0.1 if name == "temperature" else 10) for name, value in AT.items()}
    same = train_mode(target, source=taught, coupling=5.0, tolerance=1e-8, **cold)
    np.testing.assert_allclose(same.network(test.X), hot.network(test.X), atol=1e-6)


def test_a_source_of_the_same_task_helps() -> None:
    source, target, test = linear_teachers(1, 300, 12, n_features=20, n_test=500)
    at: dict[str, Any] = {"temperature": 0.01, "readout_precision": 20.0}
    trained = train_transfer(source, target, width=20, coupling=10.0, starts=3, rng=1, **at)
    assert list(trained) == ["source", "scratch", "frozen", "fine-tuned"]
    assert all(mode.converged for modes in trained.values() for mode in modes)
    found = error_table(trained, test)
    assert len(found) == 9 and found.converged.all()
    by_way = found.groupby("way").squared_error
    assert by_way.max()["fine-tuned"] < 0.5 * by_way.min()["scratch"]
    assert (by_way.nunique() == 3).all()  # starts that differ
    again = train_transfer(source, target, width=20, coupling=10.0, starts=3, rng=1, **at)
    assert found.equals(error_table(again, test))
    at_zero = train_transfer(source, target, width=20, coupling=0.0, starts=2, rng=1, **at)
    for one, other in zip(at_zero["scratch"], at_zero["fine-tuned"], strict=True):
        np.testing.assert_array_equal(flat(one.network), flat(other.network))


def test_richness_is_a_readout_precision_for_each_unit(related: tuple[Task, Task, Task]) -> None:
    source, target, _ = related
    at: dict[str, Any] = {"width": 6, "coupling": 1.0, "starts": 1, "temperature": 0.05}
    rich = train_transfer(source, target, richness=0.5, source_richness=1.0, **at)
    same = train_transfer(source, target, readout_precision=3.0, source_readout_precision=6.0, **at)
    for way, (mode,) in rich.items():
        np.testing.assert_array_equal(flat(mode.network), flat(same[way][0].network))


def test_restarts_take_the_best() -> None:
    task, _, _ = linear_teachers(0, 30, 5, n_features=6)
    alone = [train_mode(task, width=3, rng=seed, **AT).objective for seed in range(3)]
    several = [train_mode(task, width=3, rng=seed, restarts=5, **AT).objective for seed in range(3)]
    assert (np.array(several) <= alone).all() and min(several) < max(alone)


TASK, _, _ = linear_teachers(0, 10, 5, n_features=3)
NETWORK = TwoLayerNetwork.random(2, 3, rng=0)


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"width": None}, TypeError, "width must be an integer >= 1, got None"),
        ({"width": 0}, ValueError, "width must be an integer >= 1, got 0"),
        ({"coupling": 1.0}, ValueError, "coupling must be 0 without a source network, got 1"),
        ({"coupling": -1.0}, ValueError, "coupling must be a number >= 0 or infinity"),
        ({"source": NETWORK, "width": 3}, ValueError, "width must be the source's, 2, got 3"),
        ({"source": TASK}, TypeError, "source must be a TwoLayerNetwork, got Task"),
        ({"source": TwoLayerNetwork.random(2, 4, rng=0)}, ValueError, "task.X must have N0 = 4"),
        ({"task": TASK.X}, TypeError, "task must be a tlnb.Task"),
        ({"restarts": 0}, ValueError, "restarts"),
        ({"iterations": 0}, ValueError, "iterations"),
        ({"tolerance": 0.0}, ValueError, "tolerance must be a number > 0"),
        ({"temperature": 0.0}, ValueError, "temperature must be a number > 0"),
        ({"rng": -1}, ValueError, "rng must be an integer >= 0, got -1"),
        ({"activation": Activation("cube", lambda z: z**3)}, TypeError, "has no derivative"),
        ({"temprature": 0.1}, TypeError, "temprature"),
    ],
)
def test_bad_arguments_are_named(
    change: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        train_mode(**{"task": TASK, "width": 2} | change)


def test_features_that_are_not_finite_are_reported() -> None:
    blown = Activation("blown", lambda z: np.exp(z**2), lambda z: 2 * z * np.exp(z**2))
    with pytest.raises(ConvergenceError, match="training diverged: features are not finite"):
        train_mode(Task(100 * TASK.X, TASK.y), width=2, activation=blown)


def test_pairs_are_checked() -> None:
    for change, error, match in (
        ({"starts": 0}, ValueError, "starts must be an integer >= 1"),
        ({"target": Task(np.ones((2, 4)), [1, 2])}, ValueError, "target.X must have N0 = 3"),
        ({"source": None}, TypeError, "source must be a tlnb.Task"),
    ):
        given: dict[str, Any] = {
            "source": TASK,
            "target": TASK,
            "width": 2,
            "coupling": 1.0,
        } | change
        with pytest.raises(error, match=match):
            train_transfer(given.pop("source"), given.pop("target"), **given)
