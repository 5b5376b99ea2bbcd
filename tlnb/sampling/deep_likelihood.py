r"""Likelihoods of the hidden weights of deep networks, readouts integrated out, with gradients.

f(x) = N_L^(-1/2) v·φ_L with φ_l = σ(h_l), h_l = W_l φ_(l-1)/sqrt(N_(l-1)) and φ_0 = x: L hidden
layers of widths N_1, ..., N_L, for many networks at once. The readouts are integrated out as for
one hidden layer (`tlnb.sampling.likelihood`), of which the last layer's features are the features;
the gradient goes down by backpropagation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tlnb.chunking import chunks
from tlnb.data.task import Task
from tlnb.kernels import Activation
from tlnb.sampling.likelihood import IN_CACHE, NetworkLikelihood, Readouts
from tlnb.sampling.stand_ins import Units, exact, force

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DeepLikelihood:
    """What the hidden weights of deep networks are judged by on one task.

    Weights of C networks stand in rows of an array (C, D), the layers one after the other.

    Parameters
    ----------
    task : Task
        Inputs (P, N0) and labels (P,).
    activation : Activation
        σ, with a derivative.
    widths : tuple of int
        (N_1, ..., N_L).
    temperature, readout_precision : float
        T and λ1.
    """

    task: Task
    activation: Activation
    widths: tuple[int, ...]
    temperature: float
    readout_precision: float

    @cached_property
    def top(self) -> NetworkLikelihood:
        """The last layer's features with a readout."""
        args = self.task, self.activation, self.widths[-1], self.temperature
        return NetworkLikelihood(*args, self.readout_precision)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(N_l, N_(l-1)) of every hidden layer."""
        below = [self.task.n_features, *self.widths[:-1]]
        return list(zip(self.widths, below, strict=True))

    @property
    def size(self) -> int:
        """D, the number of hidden weights of one network."""
        return sum(rows * columns for rows, columns in self.shapes)

    def layers(self, weights: Array) -> list[Array]:
        """Views (C, N_l, N_(l-1)) of ``weights`` (C, D)."""
        ends = np.cumsum([rows * columns for rows, columns in self.shapes])
        parts = np.split(weights, ends[:-1], axis=-1)
        pairs = zip(parts, self.shapes, strict=True)
        return [part.reshape(*part.shape[:-1], *shape) for part, shape in pairs]

    def per_weight(self, of_layers: Array) -> Array:
        """One number for each layer, repeated for each of its weights: (D,)."""
        return np.repeat(of_layers, [rows * columns for rows, columns in self.shapes])

    def features(self, weights: Array, X: Array | None = None) -> Array:
        """φ_L of shape (C, n, N_L) at inputs ``X`` (n, N0), the task's by default."""
        phi = self.task.X if X is None else X
        for layer in self.layers(weights):
            phi = self.activation(_preactivations(phi, layer))
        return phi

    def collapsed(self, weights: Array) -> tuple[Array, Array]:
        """The collapsed log likelihood (C,) of ``weights`` (C, D) and its gradient (C, D)."""
        return self.of_units(weights, exact(self.activation))

    def force(self, weights: Array) -> Array:
        """The gradient (C, D), nearly: see `tlnb.sampling.stand_ins`."""
        return force(self, weights)

    @property
    def stand_in(self) -> Units:
        """The units of the force."""
        return self.top.stand_in

    def of_units(self, weights: Array, units: Units) -> tuple[Array, Array]:
        """L (C,) and its gradient with ``units`` in place of σ, in their precision."""
        value, gradient = np.empty(len(weights)), np.empty(weights.shape)
        weights, X = units.cast(weights, self.task.X)
        for part in chunks(len(weights), self.task.n_examples * max(self.widths), IN_CACHE):
            W, by_W = self.layers(weights[part]), self.layers(gradient[part])
            entering, derivatives = [X], []
            for of_layer in W:
                phi, derivative = units.both(_preactivations(entering[-1], of_layer))
                entering.append(phi)
                derivatives.append(derivative)
            value[part], slope = self._by_features(entering[-1])
            for layer in range(len(W) - 1, -1, -1):
                slope *= derivatives[layer]
                slope /= W[layer].shape[-1] ** 0.5
                np.matmul(slope.swapaxes(1, 2), entering[layer], out=by_W[layer])
                if layer:
                    slope = np.matmul(slope, W[layer])
        return value, gradient

    def _by_features(self, Phi: Array) -> tuple[Array, Array]:
        """The collapsed log likelihood (C,) and its gradient in the last features (C, P, N_L)."""
        rows = Phi if self.top.wide else Phi.swapaxes(1, 2)
        value, alpha, solved = self.top.fit(rows)
        if not self.top.wide:
            solved = solved.swapaxes(1, 2)
        # c dL/dΦ = α αᵀΦ - (T + K̂)⁻¹Φ
        slope = alpha[:, :, None] * np.matmul(alpha[:, None, :], Phi) - solved
        return value, slope / (self.readout_precision * self.widths[-1])

    def readouts(self, weights: Array) -> Readouts:
        """The Gaussian law of the readouts given the hidden weights (C, D)."""
        return self.top.readouts(self.features(weights))

    def propagated_back(self, weights: Array, readouts: Readouts) -> list[tuple[Array, Array]]:
        """Readouts propagated back by the weights alone to every layer below the last.

        From layer L - 1 down: their means β_l (C, N_l), and ⟨‖β_l‖²⟩/N_l (C,), in units where the
        prior variance of a readout is 1. Of linear networks, whose overlaps A_l they are.
        """
        found, unit = [], np.sqrt(self.readout_precision)
        back = None
        for W in self.layers(weights)[:0:-1]:
            step = W.swapaxes(-1, -2) / np.sqrt(W.shape[-2])
            back = step if back is None else np.matmul(step, back)
            mean = unit * np.matmul(back, readouts.mean[..., None])[..., 0]
            through = [np.matmul(x, back.swapaxes(-1, -2)) for x in (readouts.Phi, readouts.solved)]
            spread = (back**2).sum((-1, -2))
            spread -= (through[0] * through[1]).sum((-1, -2)) / readouts.scale
            found.append((mean, ((mean**2).sum(-1) + spread) / back.shape[-2]))
        return found


def _preactivations(phi: Array, W: Array) -> Array:
    """h_l of shape (C, n, N_l) from what enters the layer, (n, N_0) or (C, n, N_(l-1))."""
    h = np.matmul(phi, W.swapaxes(-1, -2))
    h /= W.shape[-1] ** 0.5
    return h
