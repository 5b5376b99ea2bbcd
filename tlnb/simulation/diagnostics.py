"""How far each number of a simulation can be trusted: R-hat, sample sizes, Monte Carlo errors."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pandas import DataFrame
    from xarray import Dataset

Array = NDArray[np.float64]
FEWEST = 100  # effective draws below which a chain is called too short
NOT_JUDGED = (np.nan,) * 4
PARTS = ("squared_bias", "total_variance", "source_variance")


def chain_statistics(x: Array) -> tuple[float, float]:
    """Rank-normalised R-hat and bulk effective sample size of x (chain, draw); NaN if too short."""
    if x.shape[1] < 4:
        return np.nan, np.nan
    import arviz as az

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(az.rhat(x)) if len(x) > 1 else np.nan, float(az.ess(x))


def summary(dataset: Dataset) -> DataFrame:
    """Mean, Monte Carlo error, effective sample size and R-hat of every quantity sampled.

    One task: chain statistics by arviz. Transfer: R-hat and effective sample size are taken within
    each quenched source, whose means differ by construction (the largest R-hat and the sum of the
    sample sizes are given), and the error is that of the mean over sources, from their spread.
    Squared bias, total and source variance are estimated without the bias of a finite number of
    sources, their errors by the jackknife over sources.

    A quantity whose chains are too short to be judged (fewer than 100 effective draws, or 10
    sources) has no numbers: they are NaN, and ``judged`` is False.

    Returns
    -------
    pandas.DataFrame with columns mean, mcse, ess, r_hat, judged
    """
    import pandas as pd

    rows = {}
    transfer = "source" in dataset.dims
    for name, values in dataset.data_vars.items():
        if "test" in values.dims:
            continue
        rows[name] = _of_sources(values.values, dataset.attrs) if transfer else _of_chains(values)
    if transfer and "prediction" in dataset:
        judged = np.isfinite(rows["test_error"][1])
        parts = _decomposition(dataset) if judged else dict.fromkeys(PARTS, NOT_JUDGED)
        rows |= parts
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "mcse", "ess", "r_hat"])
    table["judged"] = table["mcse"].notna()
    return table


def _of_chains(values: Any) -> tuple[float, float, float, float]:
    """Mean, Monte Carlo error, effective sample size and R-hat of a quantity over (chain, draw)."""
    import arviz as az

    x = values.transpose("chain", "draw").values
    r_hat, ess = chain_statistics(x)
    if not ess >= FEWEST:
        return NOT_JUDGED
    return float(x.mean()), float(az.mcse(x)), ess, r_hat


def _of_sources(x: Array, attributes: dict[str, Any]) -> tuple[float, float, float, float]:
    """The same over (source, chain, draw), or (source,) for what belongs to the source alone."""
    sources = len(x)
    means = x.reshape(sources, -1).mean(1)
    # Sources taken from one chain are not quite independent.
    independent = min(sources, attributes["source_ess"])
    error = means.std(ddof=1) / np.sqrt(independent)
    if x.ndim == 1:
        r_hat, ess = attributes["source_r_hat"], float(independent)
    elif x.shape[1:] == (1, 1):  # frozen features: nothing was left to sample
        r_hat, ess = 1.0, float(sources)
    else:
        statistics = np.array([chain_statistics(of_source) for of_source in x])
        r_hat, ess = statistics[:, 0].max(), statistics[:, 1].sum()
    if not (independent >= FEWEST / 10 and ess >= min(FEWEST, independent)):
        return NOT_JUDGED
    return float(means.mean()), float(error), float(ess), float(r_hat)


def _decomposition(dataset: Dataset) -> dict[str, tuple[float, float, float, float]]:
    """Squared bias, total and source variance, averaged over test points, with jackknife errors."""
    f = dataset.prediction.transpose("source", "chain", "draw", "test").values
    spread = dataset.prediction_variance.transpose("source", "chain", "draw", "test").values
    y = dataset.attrs["test_labels"]
    S = len(f)
    mean = f.mean((1, 2))
    # Two replicas around one source: different chains; for frozen features, one and the same.
    of_chains = f.mean(2)
    copies = f.shape[1]
    total = of_chains.sum(1)
    if copies > 1:
        pairs = (total**2 - (of_chains**2).sum(1)) / (copies * (copies - 1))
    else:
        pairs = mean**2
    second = (f**2 + spread).mean((1, 2))

    def parts(keep: Array) -> Array:
        m, n = mean[keep], len(keep)
        product = (m.sum(0) ** 2 - (m**2).sum(0)) / (n * (n - 1))  # of two different sources
        bias = (y**2 - 2 * y * m.mean(0) + product).mean()
        return np.array([bias, (second[keep].mean(0) - product).mean(),
                         (pairs[keep].mean(0) - product).mean()])  # fmt: skip

    everything = np.arange(S)
    whole = parts(everything)
    left_out = np.array([parts(np.delete(everything, s)) for s in everything])
    factor = (S - 1) * max(1.0, S / dataset.attrs["source_ess"])
    errors = np.sqrt(factor * left_out.var(0))
    return {
        name: (float(value), float(error), float(S), np.nan)
        for name, value, error in zip(PARTS, whole, errors, strict=True)
    }
