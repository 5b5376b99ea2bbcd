"""Sources and the targets drawn around them, against theory, exact integrals and each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from xarray import Dataset

from tests.instances import linear_teachers
from tests.instances import noisy_teacher as tasks
from tlnb import Task
from tlnb.sampling import sample_posterior, sample_transfer, summary
from tlnb.sampling.chains import Run
from tlnb.theory import transfer

QUIET: dict[str, Any] = {"progress": False}


@pytest.fixture(scope="module")
def related() -> tuple[Task, Task, Task]:
    return linear_teachers(0, 40, 10, n_features=12, n_test=8)


def z_scores(table: Any, expected: Any) -> dict[str, float]:
    return {k: (table["mean"][k] - v) / table.mcse[k] for k, v in expected.items()}


def test_without_coupling_nothing_is_shared(related: tuple[Task, Task, Task]) -> None:
    source, target, test = related
    given: dict[str, Any] = {"width": 10, "temperature": 0.2, **QUIET}
    data = sample_transfer(
        source, target, coupling=0.0, sources=40, test=test, draws=60, warmup=60, rng=0, **given
    )
    assert data.Q_t.dims == ("source", "chain", "draw") and data.Q_s.dims == ("source",)
    assert data.prediction.dims == ("source", "chain", "draw", "test")
    table = summary(data)
    assert table.judged.all() and (table.mcse > 0).all()
    z = z_scores(table, {"Q_st": 0, "Q_tt": 0, "source_variance": 0})
    assert max(map(abs, z.values())) < 4, z
    alone = summary(sample_posterior(
        target, test=test, chains=20, draws=150, warmup=60, rng=1, **given
    ))  # fmt: skip
    for name, of_one in {"Q_t": "order_parameter", "test_error": "test_error",
                         "train_error": "train_error"}.items():  # fmt: skip
        error = np.hypot(table.mcse[name], alone.mcse[of_one])
        assert abs(table["mean"][name] - alone["mean"][of_one]) < 4 * error
    bias, variance = table["mean"]["squared_bias"], table["mean"]["total_variance"]
    assert bias + variance == pytest.approx(table["mean"]["test_error"], rel=1e-10)


def test_frozen_features_are_the_limit_of_a_strong_coupling(
    related: tuple[Task, Task, Task],
) -> None:
    source, target, test = related
    given: dict[str, Any] = {"width": 10, "temperature": 0.2, "sources": 40, "test": test, "rng": 3}
    given |= {"warmup": 60, **QUIET}
    frozen = sample_transfer(source, target, coupling=np.inf, **given)
    assert dict(frozen.sizes) == {"source": 40, "chain": 1, "draw": 1, "test": 8}
    tight = sample_transfer(source, target, coupling=1e8, draws=4, **given)
    np.testing.assert_array_equal(frozen.Q_s, tight.Q_s)  # the same sources
    for name in ("Q_t", "Q_st", "Q_tt", "train_error", "test_error", "prediction"):
        limit = frozen[name].mean(("chain", "draw"))
        np.testing.assert_allclose(tight[name].mean(("chain", "draw")), limit, atol=2e-3)
    table = summary(frozen)
    assert table.judged.all()
    # Given frozen features only the readouts differ between replicas: their means coincide.
    assert (frozen.Q_tt > 0).all() and (frozen.Q_t > frozen.Q_tt).all()


def test_transfer_at_moderate_coupling_meets_the_theory() -> None:
    source, target, test = linear_teachers(0, 80, 15, n_test=20)
    given: dict[str, Any] = {"width": 40, "temperature": 0.1, "coupling": 2.0}
    theory = transfer.solve(source, target, **given)
    outcome = theory.predict(test.X, test.y)
    data = sample_transfer(
        source, target, test=test, sources=60, draws=25, warmup=60, thin=2, source_chains=20,
        rng=0, **given, **QUIET,
    )  # fmt: skip
    table = summary(data)
    assert table.equals(summary(data.transpose("test", "draw", "source", "chain")))
    assert table.judged.all()
    expected = {
        "Q_s": (theory.Q_s, 0.05),
        "Q_t": (theory.Q_t, 0.03),
        "Q_st": (theory.Q_st, 0.10),
        "Q_tt": (theory.Q_tt, 0.10),
        "test_error": (outcome.test_error.mean(), 0.05),
        "train_error": (theory.train_error, 0.05),
        "total_variance": (outcome.total_variance.mean(), 0.05),
        "source_variance": (outcome.source_variance.mean(), 0.15),
        "squared_bias": (outcome.squared_bias.mean(), 0.10),
    }
    for name, (value, allowed) in expected.items():
        row = table.loc[name]
        assert abs(row["mean"] - value) < allowed * value + 3 * row.mcse, (name, value, row)
        assert row.mcse < (0.2 if name == "source_variance" else 0.1) * value
    # The effect itself: far from nothing shared.
    assert table["mean"]["Q_st"] > 10 * table.mcse["Q_st"]


def test_unequal_priors_of_source_and_target_are_each_its_own() -> None:
    """Frozen linear features at N1 = 1: one-dimensional integrals over the source's weight."""
    source, target = Task([[1.2], [-0.7]], [0.9, -0.2]), Task([[0.8]], [1.1])
    priors: dict[str, Any] = {
        "temperature": 0.3, "readout_precision": 0.8, "weight_precision": 5.0,
        "source_temperature": 0.6, "source_readout_precision": 1.9, "source_weight_precision": 0.5,
    }  # fmt: skip
    data = sample_transfer(
        source, target, width=1, coupling=np.inf, sources=3000, source_chains=30, source_thin=2,
        activation="linear", rng=0, **priors, **QUIET,
    )  # fmt: skip
    w = np.linspace(-15, 15, 40_001)
    S, R = source.X[:, 0], target.X[0, 0]
    norms, T_s, l_s = (S @ S) * w**2, 0.6, 1.9
    # The source: K̂ = w² S Sᵀ/λ1, of rank one.
    quadratic = (source.y @ source.y - (S @ source.y * w) ** 2 / (l_s * T_s + norms)) / T_s
    density = np.exp(-0.25 * w**2 - 0.5 * quadratic) / np.sqrt(l_s * T_s + norms)
    density /= density.sum()
    v_s = w * (S @ source.y) / (norms + l_s * T_s)
    v_t = w * R * 1.1 / ((w * R) ** 2 + 0.8 * 0.3)
    variance = 0.3 / ((w * R) ** 2 + 0.8 * 0.3)
    expected = {
        "Q_t": 0.8 * density @ (v_t**2 + variance),
        "Q_tt": 0.8 * density @ v_t**2,
        "Q_st": np.sqrt(1.9 * 0.8) * density @ (v_s * v_t),
        "Q_s": 1.9 * density @ (v_s**2 + 0.6 / (norms + l_s * T_s)),
    }
    table = summary(data)
    z = z_scores(table, expected)
    assert max(map(abs, z.values())) < 4, z
    assert (table.mcse[list(expected)] < 0.05 * np.array(list(expected.values()))).all()


def test_three_replicas_and_reproducible_transfer(related: tuple[Task, Task, Task]) -> None:
    source, target, _ = related

    def run(seed: int) -> Dataset:
        return sample_transfer(
            source, target, width=4, coupling=3.0, sources=5, chains=3, draws=3, warmup=5,
            rng=seed, **QUIET,
        )  # fmt: skip

    data = run(2)
    assert dict(data.sizes) == {"source": 5, "chain": 3, "draw": 3}
    xr.testing.assert_identical(data, run(2))
    assert not np.allclose(data.Q_tt, run(3).Q_tt)
    assert {"coupling", "source_chains", "acceptance"} <= set(data.attrs)
    # v1·v2, v2·v3, v3·v1 belong to the chains in turn: no pair counts twice.
    assert len(np.unique(data.Q_tt[..., 0])) == 15


def test_sources_drawn_before_are_the_same_as_those_drawn_within(
    related: tuple[Task, Task, Task],
) -> None:
    source, target, test = related
    given: dict[str, Any] = {"width": 4, "temperature": 0.2, "warmup": 8, **QUIET}
    rng = np.random.default_rng(5)
    sources = sample_posterior(source, chains=5, draws=4, thin=3, weights=True, rng=rng, **given)
    assert sources.hidden_weights.dims == ("chain", "draw", "unit", "feature")
    given |= {"coupling": 3.0, "test": test, "draws": 4}
    before = sample_transfer(source, target, sources=sources, rng=rng, **given)
    within = sample_transfer(
        source,
        target,
        sources=20,
        source_chains=5,
        source_thin=3,
        rng=np.random.default_rng(5),
        **given,
    )
    xr.testing.assert_identical(before, within)
    np.testing.assert_array_equal(before.Q_s[:5], sources.order_parameter[:, 0])
    assert "hidden_weights" not in summary(sources).index
    fewer = sources.isel(draw=slice(2))
    assert sample_transfer(source, target, sources=fewer, **given).sizes["source"] == 10


@pytest.mark.parametrize(
    "change,error,words",
    [
        ({"coupling": -1.0}, ValueError, "coupling must be a number >= 0 or infinity, got -1.0"),
        ({"sources": 1}, ValueError, "sources must be an integer >= 2, got 1"),
        ({"chains": 1}, ValueError, "chains must be an integer >= 2, got 1"),
        ({"source_chains": 0}, ValueError, "source_chains"),
        ({"source_thin": 0}, ValueError, "source_thin"),
        ({"width": np.inf}, TypeError, "width must be an integer"),
        ({"target": tasks(N0=4)[0]}, ValueError, "target.X must have N0 = 5"),
        ({"source": None}, TypeError, "source must be a tlnb.Task"),
        ({"coupling_scheme": "stiff"}, ValueError, "coupling_scheme"),
        ({"activation": np.sin}, TypeError, "'sin' has no derivative"),
        ({"temprature": 0.1}, TypeError, "temprature"),
    ],
)
def test_bad_arguments_of_a_transfer_are_named(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    task = tasks()[0]
    given: dict[str, Any] = {
        "source": task,
        "target": task,
        "width": 3,
        "coupling": 1.0,
        "rng": 0,
        **QUIET,
    }
    given |= change
    with pytest.raises(error, match=words):
        sample_transfer(given.pop("source"), given.pop("target"), **given)


@pytest.mark.parametrize(
    "change",
    [{"width": 4}, {"source_temperature": 0.3}, {"source_weight_precision": 2.0},
     {"activation": "tanh"}, {"source": tasks(seed=1)[0]}, {"source": tasks(N0=6)[0]}],
)  # fmt: skip
def test_sources_of_another_posterior_are_refused(change: dict[str, Any]) -> None:
    task = tasks()[0]
    drawn = sample_posterior(task, width=3, weights=True, draws=3, warmup=0, rng=0, **QUIET)
    given: dict[str, Any] = {"source": task, "width": 3, "coupling": 1.0} | change
    target = tasks(N0=given["source"].n_features)[0]
    with pytest.raises(ValueError, match=r"sources must be .* from the posterior of this source"):
        sample_transfer(given.pop("source"), target, sources=drawn, **given, **QUIET)
    for bare, error, words in (
        (drawn.drop_vars("hidden_weights"), TypeError, "got Dataset without hidden_weights"),
        (drawn.drop_vars("order_parameter"), TypeError, "hidden_weights and order_parameter"),
        (drawn.isel(chain=0), ValueError, r"sources must be .* got a Dataset over .'draw'"),
        (drawn.isel(chain=[0], draw=[0]), ValueError, "sources must be an integer >= 2, got 1"),
    ):
        with pytest.raises(error, match=words):
            sample_transfer(task, task, sources=bare, width=3, coupling=1.0, **QUIET)


def test_no_random_numbers_are_shared_with_the_sampler_of_one_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both with the integer 5, and a Generator is used as it is."""
    from tlnb.sampling import posterior
    from tlnb.sampling import transfer as module

    first = []

    def run(
        targets: Any,
        sampler: str,
        positions: np.ndarray,
        plan: Any,
        rng: np.random.Generator,
        *rest: Any,
    ) -> Run:
        first.append(positions.ravel()[:50])
        return original(targets, sampler, positions, plan, rng, *rest)

    original = posterior.run_chains
    monkeypatch.setattr(posterior, "run_chains", run)
    task, given = tasks()[0], {"width": 3, "warmup": 2, "rng": 5, **QUIET}
    sample_posterior(task, draws=2, **given)
    module.sample_transfer(task, task, coupling=1.0, sources=4, draws=2, **given)
    assert not np.isin(first[1], first[0]).any() and abs(np.corrcoef(*first)[0, 1]) < 0.5
    given["rng"] = np.random.default_rng(5)
    module.sample_transfer(task, task, coupling=1.0, sources=4, draws=2, **given)
    np.testing.assert_array_equal(first[2], first[0])


def test_the_old_name_of_the_seed_is_taken_with_a_warning() -> None:
    task = tasks()[0]
    given: dict[str, Any] = {
        "width": 3,
        "coupling": 1.0,
        "sources": 4,
        "draws": 2,
        "warmup": 2,
        **QUIET,
    }
    with pytest.warns(DeprecationWarning, match="argument seed of sample_transfer is now rng"):
        old = sample_transfer(task, task, seed=1, **given)
    xr.testing.assert_identical(old, sample_transfer(task, task, rng=1, **given))
