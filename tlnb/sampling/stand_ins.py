r"""Activations that are quick to compute and nearly right, for the forces inside a trajectory.

A trajectory is reversible and keeps volume whatever function of the position pulls it along, and
is accepted by the energies at its two ends, in double precision. The force in between may therefore
be a little wrong: draws have exactly the law they would have, and a few more of them are refused.
It is that of a likelihood nearby, in single precision and, for the error function, with

    tanh(z (a + b z²)),

which differs from it by less than 3·10⁻⁴ and whose derivative needs no further exponential.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk, dtrmm, ssyrk, strmm
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtri, spotrf, spotrs, strtri

from tlnb.kernels import Activation, get_activation

Array = NDArray[Any]
# a and b of the least largest difference over all z
LINEAR, CUBIC = 1.12968, 0.09979
COLDEST = 1e-4  # the noise's sqrt(T) is then still thirty times the difference
STIFFEST = 1e5  # examples in units of λ1 T up to which single precision is enough


ROUTINES: dict[Any, tuple[Callable[..., Any], ...]] = {
    np.dtype(np.float64): (dsyrk, dpotrf, dpotrs, dtrtri, dtrmm),
    np.dtype(np.float32): (ssyrk, spotrf, spotrs, strtri, strmm),
}


class Units(NamedTuple):
    """σ and σ' of preactivations (...), together, in a floating-point type."""

    both: Callable[[Array], tuple[Array, Array]]
    dtype: Any = np.float64

    def cast(self, *arrays: Array) -> list[Array]:
        """Arrays in this type."""
        return [x.astype(self.dtype, copy=False) for x in arrays]


def exact(activation: Activation) -> Units:
    """The activation itself."""
    return Units(lambda z: (activation(z), activation.derivative(z)))


def _nearly_erf(z: Array) -> tuple[Array, Array]:
    square = z * z
    near = CUBIC * square
    near += LINEAR
    near *= z
    np.tanh(near, out=near)
    # (1 - σ²)(a + 3 b z²)
    slope = near * near
    np.subtract(1, slope, out=slope)
    square *= 3 * CUBIC
    square += LINEAR
    slope *= square
    return near, slope


def _tanh(z: Array) -> tuple[Array, Array]:
    values = np.tanh(z)
    slope = values * values
    return values, np.subtract(1, slope, out=slope)


STAND_INS = {get_activation("erf"): _nearly_erf, get_activation("tanh"): _tanh}


def stand_in(
    activation: Activation, temperature: float, readout_precision: float, n_examples: int
) -> Units:
    """Units close to those of ``activation``, or itself where none are known.

    Also where the likelihood is too narrow for them. P/(λ1 T) bounds the condition of T + K̂ for
    features of size one.
    """
    if activation not in STAND_INS or temperature < COLDEST:
        return exact(activation)
    enough = n_examples <= STIFFEST * readout_precision * temperature
    return Units(STAND_INS[activation], np.float32 if enough else np.float64)


class Likelihood(Protocol):
    """What `force` asks of a likelihood of hidden weights (C, ...)."""

    def collapsed(self, W: Array, /) -> tuple[Array, Array]:
        """L (C,) and its gradient, of the shape of ``W``."""
        ...

    def of_units(self, W: Array, units: Units, /) -> tuple[Array, Array]:
        """The same with other units."""
        ...

    @property
    def stand_in(self) -> Units:
        """The units of the force."""
        ...


def force(likelihood: Likelihood, W: Array) -> Array:
    """The gradient of L, nearly: what pulls a trajectory between its ends."""
    value, gradient = likelihood.of_units(W, likelihood.stand_in)
    lost = ~np.isfinite(value)  # single precision was not enough
    if lost.any():
        gradient[lost] = likelihood.collapsed(W[lost])[1]
    return gradient
