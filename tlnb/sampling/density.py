r"""The density that the chains move in: a network's posterior in whitened coordinates.

The prior of the hidden weights is N(centre, spread²): centre 0 and spread 1/sqrt(λ0) for one task,
b w_s and 1/sqrt(λ0t + γ) for a target around a quenched source w_s. With W = centre + spread ξ the
prior of ξ is N(0, 1), whatever the task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task, check_task
from tlnb.priors import PriorsAtWidth
from tlnb.sampling.likelihood import Fit, NetworkLikelihood, Readouts

Array = NDArray[np.float64]


class CollapsedLikelihood(Protocol):
    """A likelihood of hidden weights alone: log likelihoods of C networks and their gradient."""

    def collapsed(self, W: Array, /) -> tuple[Array, Array]:
        """L (C,) and its gradient, of the shape of ``W``."""
        ...

    def force(self, W: Array, /) -> Array:
        """The gradient, nearly."""
        ...


@dataclass(frozen=True, eq=False)
class Whitened:
    """A posterior in whitened coordinates: hidden weights centre + spread ξ, ξ ~ N(0, 1).

    Called with positions (C, ...) it returns log likelihoods (C,) and their gradients: what
    `tlnb.sampling.hmc` asks of a target. ``centre`` is of the positions' shape, or 0; ``spread`` is
    a number, or one for each coordinate.
    """

    network: Any  # a CollapsedLikelihood
    centre: Array | float
    spread: Array | float

    def weights(self, position: Array) -> Array:
        """Hidden weights at whitened positions."""
        return self.centre + self.spread * position

    def __call__(self, position: Array) -> tuple[Array, Array]:
        """Log likelihood (C,) and its gradient at whitened positions."""
        likelihood: CollapsedLikelihood = self.network
        value, gradient = likelihood.collapsed(self.weights(position))
        gradient *= self.spread
        return value, gradient

    def force(self, position: Array) -> Array:
        """The gradient, nearly: what pulls a trajectory between its ends."""
        gradient = self.network.force(self.weights(position))
        gradient *= self.spread
        return gradient


@dataclass(frozen=True, eq=False)
class WhitenedPosterior(Whitened):
    """That of a network of one hidden layer, readouts integrated out or not.

    Positions are (C, N1, N0), or (C, N1, N0 + 1) with the readouts last, v = ξ/sqrt(λ1).
    """

    network: NetworkLikelihood
    collapsed: bool

    def split(self, position: Array) -> tuple[Array, Array | None]:
        """Hidden weights (C, N1, N0) and readouts (C, N1), None where they are integrated out."""
        if self.collapsed:
            return self.weights(position), None
        v = position[..., -1] / np.sqrt(self.network.readout_precision)
        return self.weights(position[..., :-1]), v

    def __call__(self, position: Array) -> tuple[Array, Array]:
        """Log likelihood (C,) and its gradient at whitened positions."""
        W, v = self.split(position)
        if v is None:
            return super().__call__(position)
        value, by_W, by_v = self.network.joint(W, v)
        by_v /= np.sqrt(self.network.readout_precision)
        return value, np.concatenate([self.spread * by_W, by_v[..., None]], axis=-1)

    def force(self, position: Array) -> Array:
        """The gradient, nearly where the readouts are integrated out."""
        return super().force(position) if self.collapsed else self(position)[1]

    def in_detail(self, position: Array) -> tuple[Array, Array, tuple[Array, ...]]:
        """The same, and what `measure` needs of the readouts that are integrated out."""
        if not self.collapsed:
            return *self(position), ()
        value, gradient, fit = self.network.collapsed_fit(self.weights(position))
        gradient *= self.spread
        return value, gradient, tuple(fit)

    def measure(
        self, position: Array, test: Task | None, details: tuple[Array, ...] = ()
    ) -> dict[str, Array]:
        """What is recorded of each chain; ``details`` are those of its state, if they are known."""
        W, v = self.split(position)
        net = self.network
        if v is None:
            readouts = Readouts(net, Fit(*details)) if details else net.readouts(net.features(W))
            row = {
                "order_parameter": readouts.order_parameter(),
                "train_error": readouts.train_error(),
                "readout": readouts.mean,
            }
        else:
            f = net.output(W, v)
            row = {
                "order_parameter": net.readout_precision / net.width * (v**2).sum(1),
                "train_error": ((net.task.y - f) ** 2).mean(1),
                "readout": v,
            }
        if test is not None:
            if v is None:
                mean, variance = readouts.predict(net.features(W, test.X))
            else:
                mean = net.output(W, v, test.X)
                variance = np.zeros_like(mean)
            row["prediction"], row["prediction_variance"] = mean, variance
            row["test_error"] = ((test.y - mean) ** 2 + variance).mean(1)
        return row


def likelihood_of(task: Task, priors: PriorsAtWidth, width: int) -> NetworkLikelihood:
    """The likelihood of networks of ``width`` units on ``task``; the target's T and λ1."""
    priors.activation.derivative(np.zeros(1))  # a missing derivative is said now
    check_task("task", task)
    return NetworkLikelihood(
        task, priors.activation, width, priors.temperature, priors.readout_precision
    )
