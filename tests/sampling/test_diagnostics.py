"""The table of a simulation: errors and sample sizes of series whose statistics are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from xarray import Dataset

from tlnb.sampling import summary
from tlnb.sampling.diagnostics import PARTS, _decomposition, _independent, pooled_r_hat


def ar1(rng: np.random.Generator, shape: Any, rho: float) -> np.ndarray:
    """Stationary AR(1) series of unit variance along the last axis."""
    x = rng.standard_normal(shape)
    for i in range(1, shape[-1]):
        x[..., i] = rho * x[..., i - 1] + np.sqrt(1 - rho**2) * x[..., i]
    return x


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_errors_and_sample_sizes_of_known_chains(rho: float) -> None:
    rng, chains, draws = np.random.default_rng(0), 4, 1500
    names = [f"x{i}" for i in range(120)]
    values = ar1(rng, (120, chains, draws), rho)
    data = xr.Dataset({n: (("chain", "draw"), 3 + x) for n, x in zip(names, values, strict=True)})
    table = summary(data)
    assert table.judged.all() and (table.r_hat < 1.05).all()
    z = (table["mean"] - 3) / table.mcse
    assert 0.8 < z.std() < 1.2 and (abs(z) < 2).mean() > 0.9
    exact = chains * draws * (1 - rho) / (1 + rho)
    assert table.ess.mean() == pytest.approx(exact, rel=0.1)


def test_chains_that_disagree_are_seen() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 2000)) + 2 * np.arange(4)[:, None]
    table = summary(xr.Dataset({"x": (("chain", "draw"), x)}))
    assert not table.judged["x"] or table.r_hat["x"] > 1.5


@pytest.mark.parametrize("draws,rho", [(1, 0.0), (3, 0.0), (12, 0.0), (500, 0.99)])
def test_chains_too_short_have_no_numbers(draws: int, rho: float) -> None:
    x = ar1(np.random.default_rng(0), (4, draws), rho)
    table = summary(xr.Dataset({"x": (("chain", "draw"), x)}))
    assert not table.judged["x"]
    assert table.drop(columns="judged").isna().all(axis=None)


def synthetic(
    rng: np.random.Generator,
    S: int,
    *,
    chains: int = 2,
    draws: int = 10,
    a: float = 0.7,
    b: float = 1.1,
    c: float = 0.4,
) -> tuple[Dataset, dict[str, Any]]:
    """Sources of spread a, draws around them of spread b, readouts of variance c."""
    mean, y = np.array([0.5, -1.0, 2.0]), np.array([1.0, -1.2, 1.0])
    f = mean + a * rng.standard_normal((S, 1, 1, 3))
    f = f + b * rng.standard_normal((S, chains, draws, 3))
    dims = ("source", "chain", "draw")
    error = ((y - f) ** 2 + c).mean(-1)
    data = xr.Dataset(
        {
            "prediction": ((*dims, "test"), f),
            "prediction_variance": ((*dims, "test"), np.full_like(f, c)),
            "test_error": (dims, error),
        },
        attrs={"test_labels": y, "source_chains": S},
    )
    bias = ((y - mean) ** 2).mean()
    truth: dict[str, Any] = {
        "squared_bias": bias,
        "total_variance": a**2 + b**2 + c,
        "source_variance": a**2,
    }
    return data, truth | {"test_error": bias + a**2 + b**2 + c}


@pytest.mark.parametrize("sources,chains", [(12, 2), (40, 3)])
def test_decomposition_is_unbiased_and_its_errors_are_calibrated(sources: int, chains: int) -> None:
    rng, away, errors = np.random.default_rng(0), [], []
    for _ in range(300):
        data, truth = synthetic(rng, sources, chains=chains, draws=4)
        parts = _decomposition(data)
        away.append([parts[name][0] - truth[name] for name in PARTS])
        errors.append([parts[name][1] for name in PARTS])
    off, z = np.array(away), np.divide(away, errors)
    assert (abs(off.mean(0)) < 4 * off.std(0) / np.sqrt(300)).all()
    assert ((0.85 < z.std(0)) & (z.std(0) < 1.4)).all(), z.std(0)


def test_the_table_of_a_transfer_holds_the_truth() -> None:
    data, truth = synthetic(np.random.default_rng(0), 60)
    table = summary(data)
    assert table.judged.all() and list(table.index) == ["test_error", *PARTS]
    z = {name: (table["mean"][name] - value) / table.mcse[name] for name, value in truth.items()}
    assert max(map(abs, z.values())) < 4, z
    total = table["mean"]["squared_bias"] + table["mean"]["total_variance"]
    assert total == pytest.approx(table["mean"]["test_error"], rel=1e-12)


def test_frozen_sources_are_decomposed_without_replicas() -> None:
    rng, away = np.random.default_rng(0), []
    for _ in range(300):
        data, truth = synthetic(rng, 20, chains=1, draws=1, b=0.0)
        parts = _decomposition(data)
        away.append([parts[name][0] - truth[name] for name in PARTS])
    assert (abs(np.mean(away, axis=0)) < 4 * np.std(away, axis=0) / np.sqrt(300)).all()


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_sources_of_one_chain_count_for_less_if_they_are_correlated(rho: float) -> None:
    """In the order of `sample_transfer`: the first draws of all chains before the second ones."""
    rng, chains, length = np.random.default_rng(0), 10, 40
    x = ar1(rng, (200, chains, length), rho).swapaxes(1, 2).reshape(200, -1)
    found = np.array([_independent(of_source, chains) for of_source in x])
    exact = chains * length * (1 - rho) / (1 + rho)
    assert found[:, 0].mean() == pytest.approx(exact, rel=0.12)
    assert np.median(found[:, 1]) < 1.2 and found[:, 0].max() <= chains * length
    z = x.mean(1) / (x.std(1, ddof=1) / np.sqrt(found[:, 0]))
    assert 0.85 < z.std() < 1.15
    assert _independent(x[0], 400)[0] == 400 and _independent(x[0][:30], 10)[0] == 10


def test_each_quantity_has_its_own_number_of_sources() -> None:
    rng = np.random.default_rng(0)
    data, _ = synthetic(rng, 60)
    data.attrs["source_chains"] = 4
    data["Q_t"] = data.test_error + 20 * xr.DataArray(
        ar1(rng, (4, 15), 0.9).T.ravel(), dims="source"
    )
    table = summary(data)
    assert table.sources["test_error"] > 30 > 2 * table.sources["Q_t"] or not table.judged["Q_t"]
    means = data.test_error.mean(("chain", "draw"))
    error = means.std(ddof=1) / np.sqrt(table.sources["test_error"])
    assert table.mcse["test_error"] == pytest.approx(float(error), rel=1e-12)


@pytest.mark.parametrize(
    "sources,draws,source_chains", [(5, 10, 5), (40, 3, 40), (27, 10, 9), (60, 10, 1)]
)
def test_too_few_sources_or_draws_have_no_numbers(
    sources: int, draws: int, source_chains: int
) -> None:
    data, _ = synthetic(np.random.default_rng(0), sources, draws=draws)
    data.attrs["source_chains"] = source_chains
    if source_chains == 1:  # a chain that never moved
        data["test_error"] = data.test_error + 100 * (data.source // 30)
    table = summary(data)
    assert not table.judged.any()
    assert table.drop(columns="judged").isna().all(axis=None)


@pytest.mark.parametrize("sources,draws", [(20, 200), (100, 24)])
def test_r_hat_is_taken_within_sources(sources: int, draws: int) -> None:
    """Sources differ by construction; chains around one source that differ are a fault."""
    data, _ = synthetic(np.random.default_rng(0), sources, draws=draws, a=5.0)
    assert 0.97 < summary(data).r_hat["test_error"] < 1.02
    data["test_error"] = data.test_error + 5 * data.test_error.std() * xr.DataArray(
        [0.0, 1.0], dims="chain"
    )
    table = summary(data)
    assert not table.judged["test_error"] or table.r_hat["test_error"] > 1.5


def test_pooled_r_hat_of_chains_that_are_off_by_a_known_amount() -> None:
    """A shift d between two chains of unit variance: R² = 1 + d²/3 over their four halves."""
    x = np.random.default_rng(0).standard_normal((300, 2, 100))
    assert pooled_r_hat(x) == pytest.approx(1, abs=0.003)
    x[:, 0] += 0.6
    assert pooled_r_hat(x) == pytest.approx(np.sqrt(1 + 0.6**2 / 3), rel=0.005)
