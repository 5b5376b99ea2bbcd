"""What every sampler of targets around quenched sources does, whatever the networks are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlnb.sampling.chains import Plan, Run, run_chains
from tlnb.sampling.density import Whitened
from tlnb.sampling.hmc import State
from tlnb.sampling.records import not_moved
from tlnb.validation import check_count

Array = NDArray[np.float64]


def take_sources(
    sources: Any, sample: Callable[..., Any], source_chains: int, source_thin: int, warmup: int
) -> tuple[int | None, Any]:
    """How many of the sources are asked for (None: all there are), and the draws they are among.

    ``sources`` is their number, for which ``sample`` draws networks with their hidden weights, or
    is returned as it is.
    """
    if not isinstance(sources, (int, np.integer)):
        return None, sources
    count = check_count("sources", sources, 2)
    chains = min(check_count("source_chains", source_chains), count)
    thin = check_count("source_thin", source_thin)
    draws = -(-count // chains)
    return count, sample(chains=chains, draws=draws, warmup=warmup, thin=thin, weights=True)


def run_around(
    around: Whitened,
    frozen: bool,
    plan: Plan,
    rng: np.random.Generator,
    record: Callable[[State], dict[str, Array]],
    progress: bool,
    moved: Mapping[str, Any],
) -> Run:
    """The target chains; if all is frozen one record of the centre, and how the sources moved."""
    centre = np.asarray(around.centre)
    if frozen:
        still = State(np.zeros_like(centre), np.empty(0), np.empty(0))
        return not_moved({name: x[:, None] for name, x in record(still).items()}, moved)
    positions = rng.standard_normal((1, *centre.shape))
    return run_chains([around], "collapsed-hmc", positions, plan, rng, record, progress, "targets")
