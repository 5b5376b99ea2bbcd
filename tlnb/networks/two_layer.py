r"""A two-layer network with given weights.

f(x) = K^(-1/2) Σ_k a_k [σ(w_k·x/sqrt(N0)) - μ_k], with first layer W (K, N0), readout a (K,) and
feature means μ (K,), zero unless asked for. Features of an odd σ on symmetric inputs are centred;
for others, `TwoLayerNetwork.centred` subtracts their mean over unlabelled inputs. There is no
intercept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb._renamed import renamed_arguments
from tlnb.data.task import Task, check_task
from tlnb.kernels import Activation, get_activation
from tlnb.networks.losses import LOSSES, check_labels_for, is_binary
from tlnb.validation import (
    check_choice,
    check_count,
    check_inputs,
    check_labels,
    check_rng,
    read_only,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, init=False)
class TwoLayerNetwork:
    """f(x) = K^(-1/2) Σ_k a_k [σ(w_k·x/sqrt(N0)) - μ_k]; its arrays are read-only copies.

    Parameters
    ----------
    first_layer : array of shape (K, N0)
    readout : array of shape (K,), optional
        Zero by default.
    activation : str, Activation or callable
    feature_mean : array of shape (K,), optional
        μ, subtracted from the features; zero by default.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, values that are not finite, an unknown activation.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.networks import TwoLayerNetwork
    >>> network = TwoLayerNetwork.random(100, 20, activation="relu", rng=0)
    >>> network(np.ones((3, 20))).shape
    (3,)
    """

    first_layer: Array
    readout: Array
    activation: Activation
    feature_mean: Array

    def __init__(
        self,
        first_layer: ArrayLike,
        readout: ArrayLike | None = None,
        activation: str | Activation | Callable[..., Any] = "erf",
        feature_mean: ArrayLike | None = None,
    ) -> None:
        W = check_inputs(first_layer, "first_layer")

        def of_units(name: str, value: ArrayLike | None) -> Array:
            zero = np.zeros(len(W))
            return read_only(zero if value is None else check_labels(value, len(W), name))

        self.__dict__.update(  # the fields are frozen
            first_layer=read_only(W),
            activation=get_activation(activation),
            readout=of_units("readout", readout),
            feature_mean=of_units("feature_mean", feature_mean),
        )

    @classmethod
    @renamed_arguments(seed="rng")
    def random(
        cls,
        width: int,
        n_features: int,
        *,
        activation: str | Activation | Callable[..., Any] = "erf",
        rng: int | np.random.Generator,
    ) -> TwoLayerNetwork:
        """Return a network of standard normal weights in both layers."""
        K, N0 = check_count("width", width), check_count("n_features", n_features)
        rng = check_rng("rng", rng)
        return cls(rng.standard_normal((K, N0)), rng.standard_normal(K), activation)

    @property
    def n_features(self) -> int:
        """N0, the dimension of the inputs."""
        return self.first_layer.shape[1]

    @property
    def width(self) -> int:
        """K, the number of hidden units."""
        return len(self.first_layer)

    def features(self, X: ArrayLike) -> Array:
        """σ(X Wᵀ/sqrt(N0)) - μ of shape (n, K) at inputs ``X`` (n, N0)."""
        N0 = self.first_layer.shape[1]
        X = check_inputs(X, n_features=N0)
        return self.activation(X @ self.first_layer.T / np.sqrt(N0)) - self.feature_mean

    def __call__(self, X: ArrayLike) -> Array:
        """Outputs f (n,) at inputs ``X`` (n, N0)."""
        return self.features(X) @ self.readout / np.sqrt(self.width)

    def centred(self, X: ArrayLike) -> TwoLayerNetwork:
        """Return the network whose features have mean zero over the inputs ``X`` (n, N0)."""
        return replace(self, feature_mean=self.feature_mean + self.features(X).mean(0))

    def loss(self, task: Task, loss: str = "logistic") -> float:
        """Return the mean loss of an example, without the penalty."""
        check_choice("loss", loss, LOSSES)
        check_labels_for("task", task, loss, classes=1)
        return float(LOSSES[loss](task.y, self(task.X)).mean())

    def error(self, task: Task) -> float:
        """Return the fraction of wrong signs if the labels are ±1, else the mean square error."""
        f = self(check_task("task", task).X)
        if is_binary(task.y):
            return float((task.y * f <= 0).mean())
        return float(((task.y - f) ** 2).mean())


def check_network(name: str, network: object) -> TwoLayerNetwork:
    """Return ``network`` if it is a `TwoLayerNetwork`."""
    if not isinstance(network, TwoLayerNetwork):
        raise TypeError(f"{name} must be a TwoLayerNetwork, got {type(network).__name__}")
    return network
