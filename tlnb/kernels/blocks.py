r"""Inputs and weight covariances to kernel blocks.

For two systems a, b (source, target, another target replica) whose hidden weights have covariances
c_aa, c_ab, c_bb per component, and inputs x, x',

    K_ab(x, x') = E[σ(z) σ(z')] / sqrt(λ1a λ1b),
    (z, z') ~ N(0, [[c_aa x·x, c_ab x·x'], [c_ab x·x', c_bb x'·x']] / N0).

Every kernel carries its readout precisions λ1. Source: Ingrosso et al. (2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tlnb._renamed import renamed
from tlnb.kernels.activations import Activation, get_activation
from tlnb.validation import check_inputs, check_positive

Array = NDArray[np.float64]


def gram(X: Array, Z: Array | None = None) -> Array:
    """Scaled inner products ``X Zᵀ / N0`` of shape (n, m); of ``X`` with itself without ``Z``.

    Examples
    --------
    >>> import numpy as np
    >>> gram(np.array([[2.0, 0.0], [1.0, 1.0]]))
    array([[2., 1.],
           [1., 1.]])
    """
    block = X @ (X if Z is None else Z).T
    block /= X.shape[1]
    return block


def squared_norms(X: Array) -> Array:
    """Scaled squared norms ``|x|² / N0`` of shape (n,).

    Examples
    --------
    >>> import numpy as np
    >>> squared_norms(np.array([[2.0, 0.0], [1.0, 1.0]]))
    array([2., 1.])
    """
    return np.einsum("ij,ij->i", X, X) / X.shape[1]


def kernel(
    X: Array,
    Z: Array | None = None,
    *,
    activation: str | Activation,
    weight_variance: float = 1.0,
    readout_precision: float = 1.0,
) -> Array:
    """Kernel of one system between inputs ``X`` (n, N0) and ``Z`` (m, N0), of shape (n, m).

    ``weight_variance`` is 1/λ0, the prior variance of a hidden weight, ``readout_precision`` λ1.

    Raises
    ------
    ValueError
        For inputs that are not finite or of different N0, a variance or precision ≤ 0, or an
        unknown activation.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.kernels import kernel
    >>> kernel(np.eye(2), activation="linear")
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    X = check_inputs(X)
    Z = X if Z is None else check_inputs(Z, "Z", X.shape[1])
    c = check_positive("weight_variance", weight_variance)
    precision = check_positive("readout_precision", readout_precision)
    products = InnerProducts.of(X) if Z is X else InnerProducts.between(X, Z)
    return products.dual(get_activation(activation), c, c, c, precision)


@dataclass(frozen=True)
class InnerProducts:
    """Inner products of two sets of inputs, from which kernels at many covariances are made.

    Examples
    --------
    The kernel of a source with targets whose weights share half their variance with its own:

    >>> import numpy as np
    >>> products = InnerProducts.of(np.eye(2))
    >>> products.dual(get_activation("linear"), left=1.0, cross=0.5, right=1.0)
    array([[0.25, 0.  ],
           [0.  , 0.25]])
    """

    gram: Array
    left: Array
    right: Array

    @classmethod
    def between(cls, X: Array, Z: Array) -> InnerProducts:
        """Those of inputs ``X`` (n, N0) against ``Z`` (m, N0)."""
        return cls(gram(X, Z), squared_norms(X), squared_norms(Z))

    @classmethod
    def of(cls, X: Array) -> InnerProducts:
        """Those of inputs ``X`` (n, N0) against themselves."""
        G = gram(X)
        return cls(G, np.diagonal(G), np.diagonal(G))

    def dual(
        self,
        activation: Activation,
        left: float,
        cross: float,
        right: float,
        precision: float = 1.0,
    ) -> Array:
        """The kernel of shape (n, m) at covariances c_aa, c_ab, c_bb; precision sqrt(λ1a λ1b)."""
        K = activation.dual(left * self.left, cross * self.gram, right * self.right)
        if precision != 1.0:
            K /= precision
        return K

    @renamed("Block.kernel", "InnerProducts.dual")
    def kernel(
        self, activation: Activation, left: float, cross: float, right: float, precision: float
    ) -> Array:
        """The former name of `dual`."""
        return self.dual(activation, left, cross, right, precision)


def dual_diagonal(
    activation: Activation,
    norms: Array,
    variance: float,
    covariance: float,
    precision: float = 1.0,
) -> Array:
    """K(x, x) of shape (n,) for inputs with scaled squared ``norms``.

    Two systems of weight variance ``variance`` each and ``covariance`` between them; one system
    with itself has both equal.

    Examples
    --------
    >>> import numpy as np
    >>> dual_diagonal(get_activation("linear"), np.array([1.0, 3.0]), 1.0, 0.5)
    array([0.5, 1.5])
    """
    z = variance * norms
    return activation.dual_diagonal(z, covariance * norms, z) / precision
