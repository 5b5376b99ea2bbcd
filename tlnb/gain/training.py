"""Real networks beside the verdict: trained from scratch, on frozen features, and fine-tuned.

A network starts at hidden weights W_0 drawn from its prior: N(0, 1/λ0), or N(b W_s, 1/(λ0 + γ))
around a trained source. It minimises

    ½ Σ_μ (y_μ - f(x_μ))² + (Tλ1/2) ‖v‖² + (T(λ0 + γ)/2) ‖W - W_0‖²,

weight decay towards the start. That leaves features the randomness of the prior, as the posterior
of the theory does (for a linear model it draws from it: Pearce et al. 2020), and as a training does
that ends before a weak decay has had its time. With ``decay_to="zero"`` the decay is towards zero,
and W the posterior's mode (`tlnb.networks.train_mode`): what training has no use for is gone from
its features, and frozen they are a worse start for another task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task
from tlnb.gain.candidates import Errors
from tlnb.networks.transfer import Mode, train_mode
from tlnb.networks.two_layer import TwoLayerNetwork
from tlnb.priors import PriorOptions, Priors, weight_covariances
from tlnb.validation import check_choice

if TYPE_CHECKING:
    from pandas import DataFrame

Array = NDArray[np.float64]
WAYS = ("scratch", "frozen", "fine-tuned")
DECAYS = ("start", "zero")
NEGLIGIBLE = 1e-12  # a weight decay to zero, relative to the pull to the start


def train_networks(
    sources: Sequence[Task],
    targets: Sequence[Task],
    points: Mapping[str, Mapping[str, float]],
    X: Array,
    *,
    width: int,
    starts: int = 3,
    decay_to: str = "start",
    rng: int = 0,
    tick: Callable[[], object] = lambda: None,
    **priors: Any,
) -> tuple[dict[str, Array], dict[str, NDArray[np.bool_]]]:
    """Train networks with the weight decays that points mean; their outputs at new inputs.

    Parameters
    ----------
    sources, targets : sequences of Task
        One for each class.
    points : mapping
        For each way, "scratch", "frozen" and "fine-tuned", its coupling, temperature and
        readout_precision, from which the decays above follow.
    X : array of shape (n, N0)
    width : int
        N1.
    starts : int
        Networks of each way, around as many source networks.
    decay_to : {"start", "zero"}
        See above.
    rng : int
        Of the starts.
    tick : callable
        Called once a network of each start and way.
    **priors
        activation, weight_precision and coupling_scheme of `tlnb.priors.Priors`.

    Returns
    -------
    outputs, converged : dicts by way of arrays (starts, classes, n) and (starts,)

    Raises
    ------
    ValueError, TypeError, ConvergenceError
        As `tlnb.networks.train_mode` does.
    """
    check_choice("decay_to", decay_to, DECAYS)
    taught: dict[tuple[Any, ...], Mode] = {}
    outputs, converged = {}, {}
    for way, point in points.items():
        at = Priors(
            temperature=point["temperature"],
            readout_precision=point["readout_precision"],
            **priors,
        )
        coupling = point["coupling"]
        modes = np.empty((starts, len(targets)), dtype=object)
        for start, c in np.ndindex(modes.shape):
            seeds = np.random.SeedSequence(rng, spawn_key=(start, c)).spawn(3)
            first, around, alone = (np.random.default_rng(seed) for seed in seeds)
            given = width, at, decay_to
            if coupling == 0:
                modes[start, c] = _trained(targets[c], None, 0.0, *given, alone)
            else:
                key = start, c, at.temperature, at.readout_precision
                if key not in taught:
                    taught[key] = _trained(sources[c], None, 0.0, *given, first)
                network = taught[key].network
                modes[start, c] = _trained(targets[c], network, coupling, *given, around)
            if c + 1 == len(targets):
                tick()
        outputs[way] = np.array([[mode.network(X) for mode in row] for row in modes])
        converged[way] = np.array([all(mode.converged for mode in row) for row in modes])
    return outputs, converged


def train_beside(
    sources: Sequence[Task],
    targets: Sequence[Task],
    tests: Sequence[Task],
    points: Mapping[str, Mapping[str, float]],
    **options: Any,
) -> DataFrame:
    """Test errors of networks trained at the points.

    Parameters are those of `train_networks`, with the test tasks of each class instead of X.

    Returns
    -------
    DataFrame with a row for each way and start: coupling, weight_decay (Tλ0), readout_decay (Tλ1),
        elastic_decay (Tγ), squared_error and classification_error on the test set, converged.
    """
    import pandas as pd

    outputs, converged = train_networks(sources, targets, points, tests[0].X, **options)
    y, weight_precision = np.array([task.y for task in tests]), options.get("weight_precision", 1.0)
    tables = []
    for way, point in points.items():
        _, squared, wrong = Errors.of(y, outputs[way], np.zeros(1))
        decays = weight_precision, point["readout_precision"], point["coupling"]
        names = "weight_decay", "readout_decay", "elastic_decay"
        columns = {"way": way, "start": np.arange(len(squared)), "coupling": point["coupling"]}
        columns |= {k: point["temperature"] * v for k, v in zip(names, decays, strict=True)}
        columns |= {"squared_error": squared.mean(1), "classification_error": wrong.mean(1)}
        tables.append(pd.DataFrame(columns | {"converged": converged[way]}))
    return pd.concat(tables, ignore_index=True)


def _trained(
    task: Task,
    source: TwoLayerNetwork | None,
    coupling: float,
    width: int,
    at: Priors,
    decay_to: str,
    rng: np.random.Generator,
) -> Mode:
    given: PriorOptions = {
        "activation": at.activation,
        "temperature": at.temperature,
        "readout_precision": at.readout_precision,
    }
    if decay_to == "zero" or np.isinf(coupling):
        given["weight_precision"] = at.weight_precision
        given["coupling_scheme"] = at.coupling_scheme
        return train_mode(task, width=width, source=source, coupling=coupling, rng=rng, **given)
    c_s, c_st, c_t, c_tt = weight_covariances(
        coupling,
        source_weight_precision=at.weight_precision,
        target_weight_precision=at.weight_precision,
        scheme=at.coupling_scheme,
    )
    centre = 0.0 if source is None else c_st / c_s * source.first_layer
    start = centre + np.sqrt(c_t - c_tt) * rng.standard_normal((width, task.n_features))
    # A pull to the start and no decay to zero: the start is the source of this training.
    given["weight_precision"] = NEGLIGIBLE / (c_t - c_tt)
    return train_mode(
        task,
        source=TwoLayerNetwork(start, activation=at.activation),
        coupling=1 / (c_t - c_tt),
        **given,
    )
