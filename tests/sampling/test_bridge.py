"""Networks from draws, and draws around networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from xarray import Dataset

from tests.instances import linear_teachers
from tests.instances import noisy_teacher as tasks
from tlnb import Task
from tlnb.networks import TwoLayerNetwork, train_mode
from tlnb.sampling import networks, sample_posterior, sample_transfer, summary

AT: dict[str, Any] = {"temperature": 0.2, "readout_precision": 1.7, "progress": False}


@pytest.fixture(scope="module")
def drawn() -> tuple[Task, Task, Dataset]:
    task, test = tasks(P=8, N0=3)
    given: dict[str, Any] = {"width": 4, "activation": "tanh", "test": test, "weights": True, **AT}
    return task, test, sample_posterior(task, chains=3, draws=40, warmup=50, rng=0, **given)


def test_networks_predict_what_their_draws_do(drawn: tuple[Task, Task, Dataset]) -> None:
    task, test, data = drawn
    found = networks(data, task)
    assert len(found) == 120 and found[0].activation.name == "tanh"
    f = np.array([network(test.X) for network in found]).reshape(40, 3, -1)
    np.testing.assert_allclose(f, data.prediction.transpose("draw", "chain", "test"), rtol=1e-9)
    np.testing.assert_array_equal(found[4].first_layer, data.hidden_weights[1, 1])


def test_drawn_readouts_have_the_law_that_draws_average_over(
    drawn: tuple[Task, Task, Dataset],
) -> None:
    task, test, data = drawn
    stacked = xr.concat([data] * 40, "draw")
    found = networks(stacked, task, readouts="drawn", rng=1)
    f = np.array([network(test.X) for network in found])
    Q = np.array([1.7 / 4 * network.readout @ network.readout for network in found])
    for values, exact in (
        (f.mean(1), float(data.prediction.mean())),
        ((f**2).mean(1), float((data.prediction**2 + data.prediction_variance).mean())),
        (Q, float(data.order_parameter.mean())),
    ):
        assert values.mean() == pytest.approx(exact, abs=4 * values.std() / np.sqrt(len(values)))
    again = networks(stacked.isel(draw=[0]), task, readouts="drawn", rng=2)
    assert not np.allclose(again[0].readout, found[0].readout)


def test_sources_can_be_networks() -> None:
    source, target, test = linear_teachers(0, 40, 10, n_features=6, n_test=8)
    given: dict[str, Any] = {"width": 5, "temperature": 0.2, "warmup": 30, "progress": False}
    data = sample_posterior(source, weights=True, chains=6, draws=3, rng=3, **given)
    given |= {"coupling": 3.0, "draws": 5, "test": test, "rng": 4}
    by_draws = sample_transfer(source, target, sources=data, **given)
    by_networks = sample_transfer(source, target, sources=networks(data, source), **given)
    for name in ("Q_t", "Q_st", "Q_tt", "prediction", "test_error"):
        np.testing.assert_allclose(by_networks[name], by_draws[name], rtol=1e-9)
    # The readouts are those of the networks: Q_s without the spread around their mean.
    assert (by_networks.Q_s < by_draws.Q_s).all()
    assert by_networks.attrs["source_chains"] == 18


def test_trained_sources_help_as_sampled_ones_do() -> None:
    source, target, test = linear_teachers(1, 200, 12, n_features=15, n_test=100)
    at: dict[str, Any] = {"width": 20, "temperature": 0.01, "richness": 1.0}
    trained = [train_mode(source, rng=k, **at).network for k in range(12)]
    given: dict[str, Any] = {"warmup": 60, "draws": 20, "test": test, "progress": False, **at}
    table = {
        g: summary(sample_transfer(source, target, sources=trained, coupling=g, **given))
        for g in (0.0, np.inf)
    }
    apart = table[0.0]["mean"].test_error - table[np.inf]["mean"].test_error
    assert apart > 4 * np.hypot(table[0.0].mcse.test_error, table[np.inf].mcse.test_error)


def test_what_is_refused(drawn: tuple[Task, Task, Dataset]) -> None:
    task, _, data = drawn
    other = tasks(P=8, N0=4)[0]
    network = TwoLayerNetwork.random(4, 3, rng=0)
    for given, error, match in (
        ((data.drop_vars("hidden_weights"), task), TypeError, "drawn must be .* without hidden"),
        ((None, task), TypeError, "drawn must be a Dataset .* got NoneType"),
        ((data, other), ValueError, "task.X must have N0 = 3"),
        ((data, task.X), TypeError, "task must be a tlnb.Task"),
    ):
        with pytest.raises(error, match=match):
            networks(*given)
    with pytest.raises(ValueError, match="readouts must be one of 'mean', 'drawn'"):
        networks(data, task, readouts="median")
    for sources, error, match in (
        ([network] * 2, ValueError, "sources must be networks of 5 units on 3 inputs"),
        ([network, None], TypeError, "sources must be a TwoLayerNetwork, got NoneType"),
        ([], ValueError, "sources must be an integer >= 2, got 0"),
    ):
        width = 5 if sources and sources[-1] is not None else 4
        with pytest.raises(error, match=match):
            sample_transfer(task, task, width=width, coupling=1.0, sources=sources, **AT)
    with pytest.raises(ValueError, match="sources must have the activation 'tanh', got 'erf'"):
        sample_transfer(
            task, task, width=4, coupling=1.0, sources=[network] * 2, activation="tanh", **AT
        )
