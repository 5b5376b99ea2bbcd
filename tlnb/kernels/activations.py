"""Activation functions σ and their Gaussian integrals.

A layer enters the theory only through integrals of its activation over jointly Gaussian
preactivations. The dual kernel is

    K = E[σ(z) σ(z')],   (z, z') ~ N(0, [[C_xx, C_xy], [C_xy, C_yy]]),

with the closed forms, for D = C_xx C_yy - C_xy²,

    linear   C_xy
    erf      (2/π) arctan[2 C_xy / sqrt(1 + 2 C_xx + 2 C_yy + 4 D)]
    relu     [sqrt(D) + C_xy (π - θ)] / (2π),   θ = arctan2(sqrt(D), C_xy)
    sign     (2/π) arctan2(C_xy, sqrt(D)).

They are the arcsine kernel (Williams, "Computing with infinite networks", 1997) and the
arc-cosine kernels of order one and zero (Cho and Saul, "Kernel methods for deep learning", 2009;
the sign is twice a step less one), with the cosine of the angle taken from the Gram determinant D,
so that collinear, duplicated and very large inputs keep their digits. Every other activation is
integrated by `tlnb.kernels.quadrature`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf, ndtr

from tlnb._renamed import renamed
from tlnb.chunking import chunks
from tlnb.kernels import quadrature

Array = NDArray[np.float64]

_LARGEST_VARIANCE = 1e150  # its square is still a float64


@dataclass(frozen=True)
class _NoDerivative:
    """Stands in for a derivative that was not given."""

    name: str

    def __call__(self, z: ArrayLike) -> Array:
        """Say that there is none."""
        raise TypeError(
            f"activation {self.name!r} has no derivative; "
            "give one as Activation(name, function, derivative)"
        )


@dataclass(frozen=True, repr=False, init=False)
class Activation:
    """An activation function σ with its Gaussian integrals.

    ``activation(z)`` is σ(z) and ``activation.derivative(z)`` is σ'(z), elementwise.

    Parameters
    ----------
    name : str
        What it is called in messages.
    function, derivative : callable
        σ and σ', vectorised: an array goes to an array of the same shape. The derivative is needed
        by gradients only; calling it when absent is a TypeError.
    kinks : tuple of float
        The points where σ or σ' jumps; integrals are split there.

    Raises
    ------
    TypeError
        If ``function`` or ``derivative`` is not callable.
    ValueError
        If ``function`` does not return finite values in the shape of its argument.

    Examples
    --------
    A unit of one's own, its Gaussian integrals found by quadrature:

    >>> import numpy as np
    >>> from tlnb import Activation
    >>> cubic = Activation("cubic", lambda z: z**3)
    >>> print(f"{float(cubic.dual([1.0], [[0.5]], [1.0])[0, 0]):.3f}")  # 9 ρ + 6 ρ³
    5.250
    """

    name: str
    function: Callable[[Array], ArrayLike]
    derivative: Callable[[Array], Array]
    kinks: tuple[float, ...]
    _closed_form: Callable[[Array, Array, Array], Array] | None

    def __init__(
        self,
        name: str,
        function: Callable[[Array], ArrayLike],
        derivative: Callable[[Array], Array] | None = None,
        kinks: Iterable[float] = (),
        *,
        _closed_form: Callable[[Array, Array, Array], Array] | None = None,
    ) -> None:
        derivative = _NoDerivative(name) if derivative is None else derivative
        for argument, value in (("function", function), ("derivative", derivative)):
            if not callable(value):
                raise TypeError(f"{argument} must be callable, got {value!r}")
        ordered = tuple(sorted({float(kink) for kink in kinks}))
        if not np.isfinite(ordered).all():
            raise ValueError(f"kinks must be finite numbers, got {ordered}")
        self.__dict__.update(  # the fields are frozen
            name=name,
            function=function,
            derivative=derivative,
            kinks=ordered,
            _closed_form=_closed_form,
        )
        self._check_values()

    def _check_values(self) -> None:
        probe = np.linspace(-2.9, 3.1, 6).reshape(2, 3)
        allowed = (
            f"activation {self.name!r} must map an array to finite real values of the same shape; "
            f"an array of shape {probe.shape} over [-2.9, 3.1] gave"
        )
        try:
            with np.errstate(all="ignore"):
                values = self(probe)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{allowed} {error!r}") from error
        if values.shape != probe.shape or not np.isfinite(values).all():
            raise ValueError(f"{allowed} {values!r}")

    def __call__(self, z: ArrayLike) -> Array:
        """σ(z), entry by entry."""
        return np.asarray(self.function(np.asarray(z, dtype=np.float64)), dtype=np.float64)

    def __repr__(self) -> str:
        return f"Activation({self.name!r})"

    def dual(self, c_xx: ArrayLike, c_xy: ArrayLike, c_yy: ArrayLike) -> Array:
        """E[σ(z_i) σ(z'_j)] of a block of pairs, z_i ~ N(0, c_xx[i]), z'_j ~ N(0, c_yy[j]).

        Parameters
        ----------
        c_xx, c_yy : arrays of shape (n,) and (m,)
            Variances of the rows and columns, at most 1e150.
        c_xy : array of shape (n, m)
            Covariances; beyond ±sqrt(c_xx c_yy) they count as ±sqrt(c_xx c_yy).

        Returns
        -------
        array of shape (n, m), without any precision

        Raises
        ------
        ValueError
            For a variance out of range, values that are not finite, shapes that disagree.

        Warns
        -----
        QuadratureWarning
            If σ has no closed form and the estimated error exceeds 1e-6.
        """
        c_xx, c_yy = _variances(c_xx, "c_xx", ndim=1), _variances(c_yy, "c_yy", ndim=1)
        c_xy = _covariances(c_xy, (len(c_xx), len(c_yy)))
        if self._closed_form is None:
            return quadrature.dual(self, c_xx, c_xy, c_yy)
        block = np.empty(c_xy.shape)
        for rows in chunks(len(c_xy), len(c_yy), quadrature.CACHE):
            block[rows] = self._closed_form(c_xx[rows, None], c_xy[rows], c_yy)
        return block

    def dual_diagonal(self, c_xx: ArrayLike, c_xy: ArrayLike, c_yy: ArrayLike) -> Array:
        """E[σ(z_i) σ(z'_i)] of n pairs; the arguments and the result all have shape (n,).

        Raises and warns as :meth:`dual` does.
        """
        c_xx, c_yy = _variances(c_xx, "c_xx", ndim=1), _variances(c_yy, "c_yy", ndim=1)
        c_xy = _covariances(c_xy, c_xx.shape)
        if c_xx.shape != c_yy.shape:
            raise ValueError(f"c_yy must have shape {c_xx.shape} like c_xx, got {c_yy.shape}")
        if self._closed_form is None:
            return quadrature.dual_diagonal(self, c_xx, c_xy, c_yy)
        return self._closed_form(c_xx, c_xy, c_yy)

    @renamed("Activation.kernel", "Activation.dual")
    def kernel(self, c_xx: ArrayLike, c_xy: ArrayLike, c_yy: ArrayLike) -> Array:
        """The former name of `dual`."""
        return self.dual(c_xx, c_xy, c_yy)

    @renamed("Activation.kernel_diagonal", "Activation.dual_diagonal")
    def kernel_diagonal(self, c_xx: ArrayLike, c_xy: ArrayLike, c_yy: ArrayLike) -> Array:
        """The former name of `dual_diagonal`."""
        return self.dual_diagonal(c_xx, c_xy, c_yy)

    def mean(self, variance: ArrayLike) -> Array:
        """E[σ(z)] for z ~ N(0, variance), in the shape of ``variance``."""
        return self.hermite_coefficients(variance, 0)[..., 0]

    def hermite_coefficients(self, variance: ArrayLike, degree: int) -> Array:
        """Coefficients a_k = E[σ(sqrt(variance) x) h_k(x)], x ~ N(0, 1), k = 0, ..., degree.

        The h_k = He_k / sqrt(k!) are orthonormal, so that Σ_k a_k² = E[σ²] over all degrees.
        Every activation is integrated numerically here, those with a closed-form kernel too.

        The result has shape variance.shape + (degree + 1,). Raises `ValueError` for a variance out
        of range or a negative degree, warns as :meth:`dual` does.
        """
        if not isinstance(degree, (int, np.integer)) or degree < 0:
            raise ValueError(f"degree must be an integer >= 0, got {degree!r}")
        variance = _variances(variance, "variance")
        return quadrature.hermite_coefficients(self, variance, degree)


def get_activation(activation: str | Activation | Callable[[Array], ArrayLike]) -> Activation:
    """Return the activation of that name, or wrap a vectorised callable in one.

    A bare callable is taken to have no kinks and no derivative; say ``Activation(name, function,
    derivative, kinks)`` to declare them.

    Raises
    ------
    ValueError
        For an unknown name, or a callable that is not vectorised or not finite.
    TypeError
        For what is neither a name, nor an Activation, nor a callable.

    Examples
    --------
    >>> from tlnb.kernels import get_activation
    >>> get_activation("relu")
    Activation('relu')
    >>> print(f"{float(get_activation('relu').dual([1.0], [[1.0]], [1.0])[0, 0]):.3f}")
    0.500
    """
    if isinstance(activation, Activation):
        return activation
    allowed = ", ".join(map(repr, _NAMED))
    if isinstance(activation, str):
        if activation not in _NAMED:
            raise ValueError(
                f"activation must be one of {allowed}, an Activation or a vectorised callable, "
                f"got {activation!r}"
            )
        return _NAMED[activation]
    if not callable(activation):
        raise TypeError(
            f"activation must be one of {allowed}, an Activation or a vectorised callable, "
            f"got {activation!r}"
        )
    return Activation(getattr(activation, "__name__", type(activation).__name__), activation)


def _variances(values: ArrayLike, name: str, ndim: int | None = None) -> Array:
    values = np.asarray(values, dtype=np.float64)
    if ndim is not None and values.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axis, got shape {values.shape}")
    bad = ~((values >= 0) & (values <= _LARGEST_VARIANCE))
    if bad.any():
        raise ValueError(
            f"{name} must hold variances between 0 and {_LARGEST_VARIANCE:g}, got {values[bad][0]}"
        )
    return values


def _covariances(values: ArrayLike, shape: tuple[int, ...]) -> Array:
    values = np.asarray(values, dtype=np.float64)
    if values.shape != shape:
        raise ValueError(f"c_xy must have shape {shape}, got {values.shape}")
    if not np.isfinite(values.sum()):
        raise ValueError("c_xy must be finite, got NaN or infinite values")
    return values


def _gram_determinant(c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
    determinant = c_xx * c_yy
    determinant -= c_xy * c_xy
    return np.maximum(determinant, 0.0, out=determinant)


def _linear_kernel(c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
    return c_xy.copy()


def _erf_kernel(c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
    kernel = _gram_determinant(c_xx, c_xy, c_yy)
    kernel *= 4.0
    kernel += 2.0 * c_xx
    kernel += 1.0 + 2.0 * c_yy
    np.sqrt(kernel, out=kernel)
    kernel = np.arctan2(2.0 * c_xy, kernel, out=kernel)
    kernel *= 2.0 / np.pi
    return kernel


def _sign_kernel(c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
    kernel = np.sqrt(_gram_determinant(c_xx, c_xy, c_yy))
    kernel = np.arctan2(c_xy, kernel, out=kernel)
    kernel *= 2.0 / np.pi
    return kernel


def _relu_kernel(c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
    sine = np.sqrt(_gram_determinant(c_xx, c_xy, c_yy))
    kernel = np.arctan2(sine, -c_xy)  # π - θ
    kernel *= c_xy
    kernel += sine
    kernel *= 0.5 / np.pi
    return kernel


def _identity(z: Array) -> Array:
    return z + 0.0


def _erf_derivative(z: Array) -> Array:
    return (2.0 / np.sqrt(np.pi)) * np.exp(-np.square(z))


def _relu(z: Array) -> Array:
    return np.maximum(z, 0.0)


def _relu_derivative(z: Array) -> Array:
    return np.where(np.asarray(z) > 0, 1.0, 0.0)


def _tanh_derivative(z: Array) -> Array:
    return 1.0 - np.square(np.tanh(z))


def _gelu(z: Array) -> Array:
    return z * ndtr(z)


def _gelu_derivative(z: Array) -> Array:
    return ndtr(z) + z * np.exp(-0.5 * np.square(z)) / np.sqrt(2.0 * np.pi)


_NAMED = {
    activation.name: activation
    for activation in (
        Activation("linear", _identity, np.ones_like, _closed_form=_linear_kernel),
        Activation("erf", erf, _erf_derivative, _closed_form=_erf_kernel),
        Activation("relu", _relu, _relu_derivative, kinks=(0.0,), _closed_form=_relu_kernel),
        Activation("tanh", np.tanh, _tanh_derivative),
        Activation("gelu", _gelu, _gelu_derivative),
        Activation("sign", np.sign, kinks=(0.0,), _closed_form=_sign_kernel),
    )
}
