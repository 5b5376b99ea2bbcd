"""How far each number of a simulation can be trusted: R-hat, sample sizes, Monte Carlo errors."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tlnb.errors import needs

if TYPE_CHECKING:
    from pandas import DataFrame
    from xarray import Dataset

Array = NDArray[np.float64]
FEWEST = 100  # effective draws below which a chain is called too short
NOT_JUDGED = (np.nan,) * 5
PARTS = ("squared_bias", "total_variance", "source_variance")


def chain_statistics(x: Array) -> tuple[float, float]:
    """Rank-normalised R-hat and bulk effective sample size of x (chain, draw); NaN if too short.

    Examples
    --------
    Four chains of independent draws, and the same with one chain that stands apart:

    >>> import numpy as np
    >>> from tlnb.sampling.diagnostics import chain_statistics
    >>> draws = np.random.default_rng(0).standard_normal((4, 500))
    >>> r_hat, effective = chain_statistics(draws)
    >>> r_hat < 1.01, 1500 < effective < 2500
    (True, True)
    >>> chain_statistics(draws + [[0], [0], [0], [3]])[0] > 1.3
    True
    """
    if x.shape[1] < 4:
        return np.nan, np.nan
    with needs("sampling"):
        import arviz as az

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(az.rhat(x)) if len(x) > 1 else np.nan, float(az.ess(x))


def pooled_r_hat(x: Array) -> float:
    """Split R-hat of x (source, chain, draw), both variances averaged over the sources.

    Examples
    --------
    Sources may differ, the chains around each of them may not:

    >>> import numpy as np
    >>> from tlnb.sampling.diagnostics import pooled_r_hat
    >>> draws = np.random.default_rng(0).standard_normal((10, 2, 200))
    >>> sources, chains = 3.0 * np.arange(10)[:, None, None], 3.0 * np.arange(2)[:, None]
    >>> pooled_r_hat(draws + sources) < 1.01, pooled_r_hat(draws + chains) > 1.5
    (True, True)
    """
    n = x.shape[2] // 2
    if n < 2:
        return np.nan
    halves = np.concatenate([x[..., :n], x[..., n : 2 * n]], axis=1)
    within = halves.var(axis=2, ddof=1).mean()
    between = halves.mean(axis=2).var(axis=1, ddof=1).mean()
    return float(np.sqrt((n - 1) / n + between / within))


def summary(dataset: Dataset) -> DataFrame:
    """Mean, Monte Carlo error, effective sample size and R-hat of every quantity sampled.

    One task: chain statistics by arviz. Transfer: R-hat and effective sample size are taken within
    each quenched source, whose means differ by construction (variances pooled over the sources
    before their ratio is taken; sample sizes summed). The error is that of the mean over sources,
    from their spread and the quantity's own effective number of sources: sources of one chain are
    not quite independent. Squared bias, total and source variance are estimated without the bias of
    a finite number of sources, their errors by the jackknife. R-hat of Q_s, and of these three, is
    that along the chains the sources were taken from.

    A quantity whose chains are too short to be judged (fewer than 100 effective draws, or 10
    sources) has no numbers: they are NaN, and ``judged`` is False.

    Returns
    -------
    pandas.DataFrame with columns mean, mcse, ess, r_hat, judged and, for transfer, sources

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.sampling import sample_posterior, summary
    >>> X = np.random.default_rng(0).standard_normal((20, 5))
    >>> given = {"width": 10, "temperature": 0.1, "rng": 0, "progress": False}
    >>> drawn = sample_posterior(Task(X, X[:, 0]), chains=4, draws=200, warmup=50, **given)
    >>> bool(summary(drawn).loc["order_parameter", "judged"])
    True
    """
    import pandas as pd

    rows: dict[Hashable, tuple[float, ...]] = {}
    columns = ["mean", "mcse", "ess", "r_hat"]
    transfer = "source" in dataset.dims
    dataset = dataset.transpose("source", "chain", "draw", ..., missing_dims="ignore")
    for name, values in dataset.data_vars.items():
        if not {"source", "chain", "draw"} >= set(values.dims):
            continue
        x = values.values
        rows[name] = _of_sources(x, dataset.attrs) if transfer else _of_chains(x)
    if transfer:
        columns.append("sources")
        if "prediction" in dataset:
            judged = np.isfinite(rows["test_error"][1])
            rows.update(_decomposition(dataset) if judged else dict.fromkeys(PARTS, NOT_JUDGED))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table["judged"] = table["mcse"].notna()
    return table


def _of_chains(x: Array) -> tuple[float, ...]:
    """Mean, Monte Carlo error, effective sample size and R-hat of a quantity over (chain, draw)."""
    with needs("sampling"):
        import arviz as az

    r_hat, ess = chain_statistics(x)
    if not ess >= FEWEST:
        return NOT_JUDGED[:4]
    return float(x.mean()), float(az.mcse(x)), ess, r_hat


def _independent(x: Array, chains: int) -> tuple[float, float]:
    """Effective number of the sources with values x (source,), and R-hat of their chains."""
    # Source s is of chain s modulo their number.
    of_chain = x[: len(x) // chains * chains].reshape(-1, chains).T
    r_hat, ess = chain_statistics(of_chain)
    return min(float(len(x)), np.nan_to_num(ess, nan=float(chains))), r_hat


def _of_sources(x: Array, attributes: dict[str, Any]) -> tuple[float, ...]:
    """The same over (source, chain, draw), or (source,) for what belongs to the source alone."""
    means = x.reshape(len(x), -1).mean(1)
    independent, r_hat = _independent(means, attributes["source_chains"])
    ess = independent
    if x.shape[1:] == (1, 1):  # frozen features: nothing was left to sample
        r_hat, ess = 1.0, float(len(x))
    elif x.ndim > 1:
        r_hat, ess = pooled_r_hat(x), sum(chain_statistics(of_source)[1] for of_source in x)
    if not (independent >= FEWEST / 10 and ess >= min(FEWEST, independent)):
        return NOT_JUDGED
    error = means.std(ddof=1) / np.sqrt(independent)
    return float(means.mean()), float(error), float(ess), float(r_hat), independent


def _decomposition(dataset: Dataset) -> dict[str, tuple[float, ...]]:
    """Squared bias, total and source variance, averaged over test points, with jackknife errors."""
    f, spread = dataset.prediction.values, dataset.prediction_variance.values
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

    def parts(keep: NDArray[np.intp]) -> Array:
        m, n = mean[keep], len(keep)
        product = (m.sum(0) ** 2 - (m**2).sum(0)) / (n * (n - 1))  # of two different sources
        bias = (y**2 - 2 * y * m.mean(0) + product).mean()
        return np.array([bias, (second[keep].mean(0) - product).mean(),
                         (pairs[keep].mean(0) - product).mean()])  # fmt: skip

    everything = np.arange(S)
    whole = parts(everything)
    left_out = np.array([parts(np.delete(everything, s)) for s in everything])
    of_source = S * whole - (S - 1) * left_out  # the jackknife's pseudo-values
    found: dict[str, tuple[float, ...]] = {}
    for name, value, x in zip(PARTS, whole, of_source.T, strict=True):
        independent, r_hat = _independent(x, dataset.attrs["source_chains"])
        error = x.std(ddof=1) / np.sqrt(independent)
        found[name] = (float(value), float(error), independent, r_hat, independent)
    return found
