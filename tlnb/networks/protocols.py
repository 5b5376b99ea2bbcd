"""What of a source to hand on to a target: four protocols, every one tuned on the same data.

As in Gerace et al. (2022): TF, the source's first layer and a new readout; RF, a random first
layer; 2L, both layers trained from scratch; fTF, both layers trained from the network of TF.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tlnb._renamed import renamed_arguments
from tlnb.data.task import Task
from tlnb.errors import ConvergenceError
from tlnb.networks.losses import check_labels_for
from tlnb.networks.training import train_readout, train_two_layer
from tlnb.networks.two_layer import TwoLayerNetwork, check_network
from tlnb.validation import check_choice, check_seed

PROTOCOLS = ("TF", "RF", "2L", "fTF")
TRAINING = ("optimizer", "batch_size", "epochs", "tolerance", "patience", "restarts", "progress")


class Protocol(NamedTuple):
    """What a protocol arrived at: the network with the least validation error of its candidates."""

    network: TwoLayerNetwork
    regularization: float
    learning_rate: float  # NaN where there is none
    validation_error: float


@renamed_arguments(seed="rng")
def compare_protocols(
    source: TwoLayerNetwork,
    target: Task,
    validation: Task,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    loss: str = "logistic",
    regularizations: Sequence[float] = (0.01, 0.1, 0.3, 1.0, 10.0),
    learning_rates: Sequence[float] = (0.003, 0.03),
    readout_regularizations: Sequence[float] | None = None,
    centre_on: ArrayLike | None = None,
    rng: int | np.random.Generator = 0,
    **training: Any,
) -> dict[str, Protocol]:
    """Train the target by each protocol, every one tuned on the validation task.

    Of each protocol the candidate with the least validation error is kept: one for each
    regularisation, and with ``optimizer="adam"`` and both layers trained for each learning rate
    too. Trainings of both layers stop early on the validation task.

    Parameters
    ----------
    source : TwoLayerNetwork
        The network trained on the source. RF and 2L have its width and activation.
    protocols : sequence of "TF", "RF", "2L", "fTF"
    regularizations, learning_rates, readout_regularizations : sequence of float
        The candidates, each > 0. Of readouts, which are cheap, it may be a longer list; None: the
        same.
    centre_on : array of shape (n, N0), optional
        Unlabelled inputs over which the features of TF and RF are centred.
    rng : int or Generator
        Of the random first layer and of the starts.
    training
        Of `train_two_layer`, for 2L and fTF: optimizer, batch_size, epochs, tolerance, patience,
        restarts, progress.

    Raises
    ------
    ValueError, TypeError, ConvergenceError
        As of `train_readout` and `train_two_layer`; of a divergence only if every candidate of
        a protocol diverges.

    Examples
    --------
    >>> from tlnb import CorrelatedHiddenManifold
    >>> from tlnb.networks import TwoLayerNetwork, compare_protocols
    >>> task = CorrelatedHiddenManifold(40, 20, random_state=0).sample_target(200, rng=1)
    >>> rows = slice(0, 100), slice(100, 200)
    >>> train, validation = (type(task)(task.X[part], task.y[part]) for part in rows)
    >>> network = TwoLayerNetwork.random(30, 40, rng=2)
    >>> found = compare_protocols(network, train, validation, protocols=("TF", "RF"))
    >>> [f"{name}: {best.regularization}" for name, best in found.items()]
    ['TF: ...', 'RF: ...']
    """
    if unknown := set(training) - set(TRAINING):
        raise TypeError(f"training must be among {', '.join(TRAINING)}, got {sorted(unknown)}")
    check_labels_for("target", target, loss, check_network("source", source).n_features)
    check_labels_for("validation", validation, loss, target.n_features, classes=1)
    for protocol in protocols:
        check_choice("protocols", protocol, PROTOCOLS)
    of_readouts = regularizations if readout_regularizations is None else readout_regularizations
    if not (len(regularizations) and len(of_readouts) and len(learning_rates)):
        raise ValueError("regularizations and learning_rates must hold a candidate, got none")
    states = np.random.SeedSequence(check_seed("rng", rng)).generate_state(2)
    width, activation = source.width, source.activation
    random = TwoLayerNetwork.random(
        width, target.n_features, activation=activation, rng=int(states[0])
    )
    frozen = {"TF": source, "RF": random}
    if centre_on is not None:
        frozen = {name: network.centred(centre_on) for name, network in frozen.items()}
    train_both = partial(
        train_two_layer,
        target,
        width=width,
        activation=activation,
        loss=loss,
        validation=validation,
        rng=int(states[1]),
        **training,
    )
    found: dict[str, Protocol] = {}
    for protocol in dict.fromkeys([*(["TF"] if "fTF" in protocols else []), *protocols]):
        start = found["TF"].network if protocol == "fTF" else None
        adam = protocol not in frozen and training.get("optimizer") == "adam"
        penalties = of_readouts if protocol in frozen else regularizations
        candidates = []
        for penalty, rate in product(penalties, learning_rates if adam else [np.nan]):
            with suppress(ConvergenceError):
                if protocol in frozen:
                    network = train_readout(
                        frozen[protocol], target, regularization=penalty, loss=loss
                    )
                else:
                    options: dict[str, Any] = {"learning_rate": rate} if adam else {}
                    network = train_both(initial=start, regularization=penalty, **options).network
                errors = network.error(validation), network.loss(validation, loss)
                candidates.append((*errors, Protocol(network, penalty, rate, errors[0])))
        if not candidates:
            raise ConvergenceError(f"no candidate of protocol {protocol} converged")
        found[protocol] = min(candidates, key=lambda candidate: candidate[:2])[2]
    return {protocol: found[protocol] for protocol in protocols}
