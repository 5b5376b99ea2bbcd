r"""Nested kernels: what infinitely wide hidden layers make of inner products.

With the covariances c_ab⁽ˡ⁾ per component of the weights of layer l (`WeightCovariances`),

    K⁽⁰⁾ = x·x'/N0,    K_ab⁽ˡ⁾ = κ(c_aa⁽ˡ⁾ K_aa⁽ˡ⁻¹⁾, c_ab⁽ˡ⁾ K_ab⁽ˡ⁻¹⁾, c_bb⁽ˡ⁾ K_bb⁽ˡ⁻¹⁾),

where κ is the dual kernel of the activation and the first and last arguments are the variances of
the two preactivations. The last layer's kernel carries the readout precisions. Source: Lee et al.
(2018) for one network, Ingrosso et al. (2025) for two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.kernels import Activation

Array = NDArray[np.float64]


class Layers(NamedTuple):
    """Variances of the preactivations of one system on n inputs, layer by layer.

    ``variances``: L arrays (n,); ``diagonal`` (n,): K⁽ᴸ⁾(x, x), without a precision.
    """

    variances: list[Array]
    diagonal: Array


def through_layers(
    activation: Activation, norms: Array, covariances: Sequence[tuple[float, float]]
) -> Layers:
    """Follow the n pairs (x, x) with scaled squared ``norms`` (n,) through the layers.

    ``covariances`` holds (c_aa, c_ab) of each layer: of a system with itself both are equal; of two
    target replicas, c_t and c_tt'. The variances are those of system a.

    Raises
    ------
    ValueError
        If the activation has no kernel at some layer: preactivations whose variance is not finite,
        or outputs without a second moment.
    """
    own = cross = norms
    variances = []
    for layer, (c_aa, c_ab) in enumerate(covariances, 1):
        variance = c_aa * own
        covariance = c_ab * cross
        variances.append(variance)
        with np.errstate(over="ignore", invalid="ignore"):
            own, cross = (
                _map(activation, layer, variance, x, variance) for x in (variance, covariance)
            )
    return Layers(variances, cross)


def nested_kernel(
    activation: Activation,
    gram: Array,
    left: Sequence[Array],
    right: Sequence[Array],
    covariances: Sequence[float],
) -> Array:
    """K_ab⁽ᴸ⁾ of shape (n, m), without a precision.

    Parameters
    ----------
    gram : array of shape (n, m)
        Inner products x·x'/N0.
    left, right : sequences of L arrays (n,) and (m,)
        Variances of the preactivations of system a and of system b, see `through_layers`.
    covariances : sequence of L floats
        c_ab of each layer.

    Examples
    --------
    Linear layers hand the inner products on as they are:

    >>> import numpy as np
    >>> from tlnb.kernels import get_activation, gram, squared_norms
    >>> from tlnb.theory.deep.nested import nested_kernel, through_layers
    >>> X, linear = np.random.default_rng(0).standard_normal((4, 10)), get_activation("linear")
    >>> own = through_layers(linear, squared_norms(X), [(1.0, 1.0)] * 3).variances
    >>> np.allclose(nested_kernel(linear, gram(X), own, own, [1.0] * 3), gram(X))
    True
    """
    K = gram
    for layer, (rows, columns, c_ab) in enumerate(zip(left, right, covariances, strict=True), 1):
        with np.errstate(over="ignore", invalid="ignore"):
            K = _map(activation, layer, rows, c_ab * K, columns)
    return K


def _map(activation: Activation, layer: int, c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
    """One layer: a block of pairs, or n single ones; errors say in which layer."""
    kernel = activation.dual if c_xy.ndim == 2 else activation.dual_diagonal
    try:
        K = kernel(c_xx, c_xy, c_yy)
    except ValueError as error:
        raise ValueError(f"{_no_kernel(activation, layer, c_xx)}: {error}") from error
    if not np.isfinite(K.sum()):
        raise ValueError(f"{_no_kernel(activation, layer, c_xx)}: its integral is not finite")
    return K


def _no_kernel(activation: Activation, layer: int, variances: Array) -> str:
    return (
        f"activation {activation.name!r} has no kernel in hidden layer {layer}, where "
        f"preactivations have variances up to {np.max(variances):.3g}"
    )
