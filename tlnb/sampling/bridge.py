"""From draws of a posterior to networks that can be looked at, trained on and handed over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tlnb.data.task import Task, check_task
from tlnb.kernels import Activation
from tlnb.networks.two_layer import TwoLayerNetwork
from tlnb.sampling.likelihood import NetworkLikelihood, draw_readouts
from tlnb.validation import check_choice, check_rng

if TYPE_CHECKING:
    from xarray import Dataset


def networks(
    drawn: Dataset,
    task: Task,
    *,
    activation: str | Activation | None = None,
    readouts: str = "mean",
    rng: int | np.random.Generator = 0,
) -> list[TwoLayerNetwork]:
    """The networks that `sample_posterior` drew, one for each chain and draw.

    Parameters
    ----------
    drawn : Dataset
        Of ``sample_posterior(task, weights=True, ...)``, over (chain, draw, unit, feature).
    task : Task
        The task whose posterior it is: the readouts' law needs it.
    activation : str or Activation, optional
        σ, where the name in the dataset's attributes is not one that tlnb knows.
    readouts : {"mean", "drawn"}
        The readouts' mean given the hidden weights, so that a network's output is the prediction of
        its draw; or readouts drawn from their law, so that networks are draws of all weights.
    rng : int or Generator
        Of the readouts drawn.

    Returns
    -------
    list of TwoLayerNetwork
        The first draws of all chains stand before the second ones, as the sources of
        `sample_transfer` do.

    Raises
    ------
    ValueError, TypeError
        For draws without hidden weights or of inputs of another dimension.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.sampling import networks, sample_posterior
    >>> X = np.random.default_rng(0).standard_normal((20, 3))
    >>> task = Task(X, np.sign(X[:, 0]))
    >>> drawn = sample_posterior(
    ...     task, width=5, test=task, weights=True, chains=2, draws=3, warmup=20, progress=False
    ... )
    >>> drawn_networks = networks(drawn, task)
    >>> len(drawn_networks), bool(np.allclose(drawn_networks[0](X), drawn.prediction[0, 0]))
    (6, True)
    """
    check_choice("readouts", readouts, ("mean", "drawn"))
    rng = check_rng("rng", rng, purpose="networks")
    if "hidden_weights" not in getattr(drawn, "data_vars", ()):
        raise TypeError(
            "drawn must be a Dataset of sample_posterior(..., weights=True), got "
            f"{type(drawn).__name__} without hidden_weights"
        )
    W = drawn.hidden_weights.transpose("draw", "chain", "unit", "feature").values
    W = W.reshape(-1, *W.shape[2:])
    check_task("task", task, W.shape[2])
    first = TwoLayerNetwork(W[0], activation=activation or drawn.attrs["activation"])
    likelihood = NetworkLikelihood(
        task, first.activation, W.shape[1], drawn.attrs["temperature"],
        drawn.attrs["readout_precision"],
    )  # fmt: skip
    if readouts == "drawn":
        v = draw_readouts(likelihood, W, rng)
    else:
        v = likelihood.readouts(likelihood.features(W)).mean
    return [TwoLayerNetwork(w, a, first.activation) for w, a in zip(W, v, strict=True)]
