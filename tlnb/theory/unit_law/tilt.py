r"""The tilt of the prior that units move in, and the force that moves them.

A unit's law is its prior times e^u, u = Q m²/(2 N1), m = (t + ζ + η)·σ(w); from one problem to the
next only what multiplies σ differs. A trajectory may be pushed by any function of the position
(`tlnb.sampling.stand_ins`): here by the gradient of u in single precision, with a stand-in for σ.
The energies that judge it are exact; the features which they need are kept with the particles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.chunking import chunks
from tlnb.sampling.hmc import State
from tlnb.sampling.stand_ins import STAND_INS, exact
from tlnb.theory.unit_law.moments import Units

Array = NDArray[np.float64]
IN_CACHE = 2**16  # numbers in one array


class Part(NamedTuple):
    """Some particles of population ``g``: within it, and among all."""

    g: int
    within: slice
    among: slice


@dataclass(frozen=True)
class Tilt:
    """u for particles in G populations of M, their whitened positions flattened to (G M, N0).

    ``pull`` (G, 1 or M, P) is what multiplies σ in m, ``strength`` (G, 1) is Q/N1.
    """

    units: Units
    pull: Array
    strength: Array

    def __call__(self, position: Array, /) -> tuple[Array, Array]:
        """u (G M,) and its gradient (G M, N0)."""
        shaped = position.reshape(len(self.pull), -1, position.shape[-1])
        m, slope = self.units.fields(shaped, self.pull)
        slope *= (self.strength * m)[..., None]
        return (0.5 * self.strength * m**2).ravel(), slope.reshape(position.shape)

    def in_detail(self, position: Array) -> tuple[Array, Array, tuple[Array, ...]]:
        """u, the force, and the features σ (G M, P)."""
        features = np.empty((len(position), len(self.units.X)))
        scale = self.units.readout_precision**-0.5
        for part in self._parts(position):
            h = self._weights(position, part) @ self._inputs.T
            np.multiply(self.units.activation(h), scale, out=features[part.among])
        state = self.at(position, features)
        return state.log_likelihood, state.gradient, state.details

    def at(self, position: Array, features: Array) -> State:
        """The state of particles whose features (G M, P) are known."""
        u = np.empty(len(position))
        for part in self._parts(position):
            m = _along(features[part.among], self._of(self.pull, part))
            u[part.among] = 0.5 * self.strength[part.g, 0] * m**2
        return State(position, u, self.force(position), (features,))

    def force(self, position: Array) -> Array:
        """The gradient of u (G M, N0), nearly."""
        gradient = np.empty(position.shape)
        X, pull = self._single
        of_unit = STAND_INS.get(self.units.activation, exact(self.units.activation).both)
        scale = self.units.spread / self.units.readout_precision
        for part in self._parts(position):
            w = self._weights(position, part).astype(np.float32)
            sigma, slope = (x.astype(np.float32, copy=False) for x in of_unit(w @ X.T))
            t = self._of(pull, part)
            m = _along(sigma, t)
            m *= scale * float(self.strength[part.g, 0])
            slope *= t
            np.multiply(m[:, None], slope @ X, out=gradient[part.among])
        return gradient

    @cached_property
    def _inputs(self) -> Array:
        return self.units.X / np.sqrt(self.units.X.shape[1])

    @cached_property
    def _single(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._inputs.astype(np.float32), self.pull.astype(np.float32)

    def _weights(self, position: Array, part: Part) -> Array:
        w, centre = self.units.spread * position[part.among], self.units.centre
        return w + centre[part.g, part.within] if isinstance(centre, np.ndarray) else w

    def _of(self, pull: NDArray[Any], part: Part) -> NDArray[Any]:
        return pull[part.g] if pull.shape[1] == 1 else pull[part.g, part.within]

    def _parts(self, position: Array) -> Iterator[Part]:
        M = len(position) // len(self.pull)
        for g in range(len(self.pull)):
            for within in chunks(M, len(self.units.X), IN_CACHE):
                yield Part(g, within, slice(g * M + within.start, g * M + within.stop))


def _along(features: NDArray[Any], pull: NDArray[Any]) -> NDArray[Any]:
    """m of every particle: one pull for all, or one for each."""
    return features @ pull[0] if len(pull) == 1 else np.einsum("mp,mp->m", features, pull)
