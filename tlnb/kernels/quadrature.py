"""Gaussian integrals of a function σ of one variable that has no closed form.

With the orthonormal Hermite polynomials h_k and the coefficients a_k(s) = E[σ(sqrt(s) x) h_k(x)],
x ~ N(0, 1), Mehler's formula gives, for the correlation u of two Gaussians of variances s and s',

    E[σ(z) σ(z')] = Σ_k a_k(s) a_k(s') u^k.

The truncated series is a positive semi-definite kernel, and Parseval's identity bounds what it
drops after degree K: with t(s) = E[σ²] - Σ_{k≤K} a_k(s)², at most sqrt(t(s) t(s')) |u|^(K+1).
Pairs for which that is too much (|u| close to one where σ has kinks or is steep) are integrated
directly: over x and over y in z = sqrt(s) x, z' = sqrt(s') (u x + sqrt(1 - u²) y), or over x alone
where |u| = 1.

All integrals are Gauss-Legendre sums over panels that end at the kinks of σ and shrink
geometrically towards them and towards σ's origin, where a steep σ turns. They are therefore
accurate when σ is smooth between its kinks on scales of about one. The error is estimated from a
second, coarser rule. All errors are relative to sqrt(E[σ(z)²] E[σ(z')²]).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tlnb._renamed import renamed_names
from tlnb.chunking import chunks
from tlnb.errors import QuadratureWarning, warn_caller

Array = NDArray[np.float64]

_TOLERANCE = 1e-11  # of what the series may drop
_WARN_ABOVE = 1e-6
_MAX_DEGREE = 2048
# Estimated costs in units of one degree of the series of one pair: a direct integral over a plane
# or a line, a degree of the coefficients of one variance on panels of its own or on shared ones,
# and the start of a long series.
_PLANE_COST, _LINE_COST = 1_000_000, 20_000
_ROW_COST, _SHARED_ROW_COST = 3_000, 100
_LONG_SERIES_COST = 20_000_000
CACHE = 32_768  # values worked on at a time: temporaries stay in cache
_DIRECT_CHUNK = 500_000  # nodes
_LIMIT = 12.0  # h_k(x) φ(x) is below 1e-16 beyond, for all k
_DIRECT_LIMIT = 8.0  # φ(x) is below 1e-14 beyond
_FINEST = 1e-13  # shortest panel, against 1: what happens within has no weight
_RATIO = 3.0  # of the lengths of neighbouring panels
_WIDTH = 0.25  # shortest panel, in units of σ's argument
_NODES, _COARSE_NODES = 20, 15  # per panel
_DIRECT_NODES, _COARSE_DIRECT_NODES = 12, 9
_CHECKED_PAIRS = 32  # of the directly integrated ones, done again with the coarser rule


class Integrand(Protocol):
    """A vectorised function σ of one variable that knows where it is not smooth.

    ``kinks`` are the points where σ or σ' jumps, in ascending order; `repr` names it in messages.
    """

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where σ or σ' jumps."""
        ...

    def __call__(self, z: Array) -> Array:
        """σ(z), elementwise."""
        ...


class _Series(NamedTuple):
    """Hermite series of σ(sqrt(s) x) for several variances s, the last axis."""

    norm: Array  # sqrt(E[σ²])
    coefficients: Array  # (degree + 1, ...)
    tail: Array  # t(s) / E[σ²]
    error: float  # estimated, of the coefficients, largest over the variances


def hermite_coefficients(sigma: Integrand, variance: Array, degree: int) -> Array:
    """Orthonormal Hermite coefficients of σ(sqrt(variance) x), variance.shape + (degree + 1,).

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.kernels import get_activation
    >>> from tlnb.kernels.quadrature import hermite_coefficients
    >>> square = get_activation(np.square)
    >>> (hermite_coefficients(square, np.array(1.0), 3) ** 2).round(9) + 0.0
    array([1., 0., 2., 0.])
    """
    unique, index = np.unique(variance, return_inverse=True)
    series = _series(sigma, unique, degree)
    _warn(series.error)
    return np.moveaxis(series.coefficients[:, index.reshape(variance.shape)], 0, -1)


def dual(sigma: Integrand, c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
    """E[σ(z_i) σ(z'_j)] for variances c_xx (n,), c_yy (m,) and covariances c_xy (n, m).

    Examples
    --------
    Of cubes, at variances of one and a covariance c, it is 9c + 6c³:

    >>> import numpy as np
    >>> from tlnb.kernels import get_activation
    >>> from tlnb.kernels.quadrature import dual
    >>> cube = get_activation(lambda x: x**3)
    >>> dual(cube, np.ones(1), np.array([[1.0, 0.5]]), np.ones(2)).round(6)
    array([[15.  ,  5.25]])
    """
    unique, index = np.unique(np.concatenate([c_xx, c_yy]), return_inverse=True)
    left, right = index[: len(c_xx), None], index[None, len(c_xx) :]
    return _pairs(sigma, unique, left, right, c_xy)


def dual_diagonal(sigma: Integrand, c_xx: Array, c_xy: Array, c_yy: Array) -> Array:
    """E[σ(z_i) σ(z'_i)] for variances c_xx, c_yy and covariances c_xy, all (n,)."""
    unique, index = np.unique(np.concatenate([c_xx, c_yy]), return_inverse=True)
    left, right = index[: len(c_xx), None], index[len(c_xx) :, None]
    return _pairs(sigma, unique, left, right, c_xy[:, None])[:, 0]


def _pairs(
    sigma: Integrand,
    variances: Array,
    left: NDArray[np.intp],
    right: NDArray[np.intp],
    c_xy: Array,
) -> Array:
    """Kernel of the pairs of variances[left] and variances[right], which broadcast to c_xy."""
    block = np.empty(c_xy.shape)
    if block.size == 0:
        return block
    scale = np.sqrt(variances)
    # slices of left and of right; a single row of right serves all of left's
    shared = len(right) == 1
    parts = [
        (rows, slice(None) if shared else rows) for rows in chunks(len(c_xy), c_xy.shape[1], CACHE)
    ]

    def correlations() -> Iterator[Array]:
        for rows, others in parts:
            yield _correlation(scale[left[rows]], c_xy[rows], scale[right[others]])

    for most in (_MAX_DEGREE // 16, _MAX_DEGREE):  # most kernels need no long series
        degree, rest = _degree(sigma, variances, correlations(), most)
        if rest < _LONG_SERIES_COST:
            break
    series = _series(sigma, variances, degree)
    a, b = series.coefficients[:, left], series.coefficients[:, right]
    # |u|^(K+1) sqrt(t t') > tolerance, with the power taken once per variance
    power = 0.5 / (degree + 1)
    reach = series.tail**power
    direct = []
    for (rows, others), u in zip(parts, correlations(), strict=True):
        block[rows] = _mehler(a[:, rows], b[:, others], u)
        np.abs(u, out=u)
        u *= reach[left[rows]] * reach[right[others]]
        direct.append(np.flatnonzero(u > _TOLERANCE ** (2 * power)) + rows.start * c_xy.shape[1])

    entries = np.unravel_index(np.concatenate(direct), c_xy.shape)
    i, j = (np.broadcast_to(side, c_xy.shape)[entries] for side in (left, right))
    u = _correlation(scale[i], c_xy[entries], scale[j])
    block[entries] = values = _direct(sigma, scale[i], scale[j], u, _DIRECT_NODES)
    some = slice(None, None, 1 + len(u) // _CHECKED_PAIRS)
    i, j, u = i[some], j[some], u[some]
    coarse = _direct(sigma, scale[i], scale[j], u, _COARSE_DIRECT_NODES)
    difference = _ratio(np.abs(coarse - values[some]), series.norm[i] * series.norm[j])
    _warn(series.error + np.max(difference, initial=0.0))
    return block


def _correlation(scale: Array, c_xy: Array, other: Array) -> Array:
    """c_xy / (scale other) in [-1, 1], 0 for a vanishing variance, ±1 up to rounding exactly."""
    product = scale * other
    u = np.divide(c_xy, product, out=np.zeros_like(c_xy), where=product > 0)
    np.copyto(u, np.sign(u), where=np.abs(u) > 1 - 1e-15)
    return u


def _mehler(a: Array, b: Array, u: Array) -> Array:
    """Σ_k a[k] b[k] u^k, where a[k] and b[k] broadcast to the shape of u."""
    total, term = np.multiply(a[-1], b[-1]), np.empty(u.shape)
    for k in range(len(a) - 2, -1, -1):
        total *= u
        total += np.multiply(a[k], b[k], out=term)
    return total


def _degree(
    sigma: Integrand,
    variances: Array,
    correlations: Iterable[Array],
    most: int,
) -> tuple[int, float]:
    """The degree up to ``most`` at which series and direct integrals cost least.

    Also the cost of the direct integrals that remain.
    """
    degrees = np.unique(np.geomspace(4, most, 40).astype(int))
    series = _series(sigma, variances[-1:], most)
    square = series.norm**2
    tail = _ratio(square - np.cumsum(series.coefficients[:, 0] ** 2)[degrees], square)
    tail = np.maximum(tail, 0.1 * _TOLERANCE)
    reach = (0.1 * _TOLERANCE / tail) ** (1 / (degrees + 1))  # |u| up to which a degree is enough
    n_pairs, direct = 0, np.zeros(len(degrees) + 1)
    for u in correlations:
        u = np.abs(u).ravel()
        n_pairs += u.size
        cost = np.where(u < 1, _PLANE_COST, _LINE_COST)
        direct += np.bincount(np.searchsorted(reach, u), cost, minlength=len(direct))
    rest = np.sum(direct) - np.cumsum(direct)[:-1]
    row = _SHARED_ROW_COST if _shares_panels(sigma) else _ROW_COST
    best = np.argmin(degrees * (n_pairs + row * len(variances)) + rest)
    return int(degrees[best]), float(rest[best])


def _series(sigma: Integrand, variances: Array, degree: int) -> _Series:
    """Hermite series up to a degree for ascending variances of shape (n,)."""
    scale = np.sqrt(variances)
    square, error = np.empty((2, len(scale)))
    coefficients = np.empty((degree + 1, len(scale)))
    step = min(1.0, 16 / np.sqrt(degree + 1))  # resolves the oscillations of h_k
    shared = _shares_panels(sigma)

    def integrands(rows: slice, n_nodes: int) -> tuple[Array, Array, Array]:
        finest = scale[-1:, None] if shared else scale[rows, None]
        x, weight = _rule(*_features(sigma, finest), _LIMIT, step, n_nodes)
        values = _values(sigma, scale[rows, None] * x)
        weighted = weight * values
        return x, weighted, weighted * values

    x = integrands(slice(-1, None), _NODES)[0]
    polynomials = np.concatenate(list(_hermite(x, degree))) if shared else np.empty(0)
    for rows in chunks(len(scale), x.size, CACHE):
        x, weighted, squares = integrands(rows, _NODES)
        square[rows] = np.sum(squares, axis=-1)
        if shared:
            coefficients[:, rows] = polynomials @ weighted.T
        else:
            for k, h in enumerate(_hermite(x, degree)):
                coefficients[k, rows] = np.einsum("ix,ix->i", weighted, h)
        outermost = np.sum(squares, axis=-1, where=np.abs(x) > _LIMIT - 1)
        _, weighted, squares = integrands(rows, _COARSE_NODES)
        shift = np.sum(weighted, axis=-1) - coefficients[0, rows]
        error[rows] = np.abs(np.sum(squares, axis=-1) - square[rows])
        error[rows] += np.abs(shift) * np.sqrt(square[rows]) + outermost

    tail = _ratio(square - np.sum(coefficients**2, axis=0), square)
    return _Series(
        np.sqrt(square),
        coefficients,
        np.maximum(tail, np.finfo(float).eps),
        np.max(_ratio(error, square), initial=0.0),
    )


def _hermite(x: Array, degree: int) -> Iterator[Array]:
    """The orthonormal Hermite polynomials h_0(x), ..., h_degree(x)."""
    h, previous = np.ones_like(x), np.zeros_like(x)
    for k in range(degree + 1):
        yield h
        h, previous = (x * h - np.sqrt(k) * previous) / np.sqrt(k + 1), h


def _shares_panels(sigma: Integrand) -> bool:
    """Whether the same panels in x = z / sqrt(s) serve every variance s."""
    return not any(sigma.kinks)


def _direct(sigma: Integrand, scale: Array, other: Array, u: Array, nodes: int) -> Array:
    """E[σ(z) σ(z')] of pairs with standard deviations scale, other and correlation u, all (n,)."""
    values = np.empty(len(u))
    for integral, chosen in ((_on_line, np.abs(u) == 1), (_on_plane, np.abs(u) < 1)):
        pairs = np.flatnonzero(chosen)
        pairs = pairs[np.argsort(np.abs(u[pairs]), kind="stable")]  # batches of similar panels
        start, size = 0, 1
        while start < len(pairs):
            some = pairs[start : start + size]
            values[some], n_nodes = integral(
                sigma, scale[some, None], other[some, None], u[some, None], nodes
            )
            start, size = start + size, max(1, _DIRECT_CHUNK // n_nodes)
    return values


def _on_line(
    sigma: Integrand, scale: Array, other: Array, u: Array, nodes: int
) -> tuple[Array, int]:
    """Pairs with u = ±1, arguments (n, 1): integrals over x, and the nodes each took."""
    features = zip(_features(sigma, scale), _features(sigma, u * other), strict=True)
    centres, widths = (np.concatenate(both, axis=-1) for both in features)
    x, weight = _rule(centres, widths, _DIRECT_LIMIT, 1.0, nodes)
    weight *= _values(sigma, scale * x)
    weight *= _values(sigma, u * other * x)
    return np.sum(weight, axis=-1), x.shape[-1]


def _on_plane(
    sigma: Integrand, scale: Array, other: Array, u: Array, nodes: int
) -> tuple[Array, int]:
    """Pairs with |u| < 1, arguments (n, 1): integrals over x and y, and the nodes each took."""
    v = np.sqrt((1 - u) * (1 + u))
    # E[σ(z') | x] varies where u x meets a feature, no faster than the spread v of z' smooths it
    centres, widths = _features(sigma, u * other)
    widths = np.where(
        np.isin(_turns(sigma), sigma.kinks),
        0.5 * v / np.abs(u),
        np.maximum(widths, 0.5 * v / np.abs(u)),
    )
    features = zip(_features(sigma, scale), (centres, widths), strict=True)
    centres, widths = (np.concatenate(both, axis=-1) for both in features)
    x, weight = _rule(centres, widths, _DIRECT_LIMIT, 1.5, nodes)
    centres, widths = _features(sigma, v * other)
    centres = centres[:, None, :] - (u / v * x)[..., None]
    y, inner = _rule(centres, widths[:, None, :], _DIRECT_LIMIT, 3.0, nodes)
    inner *= _values(sigma, other[..., None] * (u[..., None] * x[..., None] + v[..., None] * y))
    weight *= np.sum(inner, axis=-1)
    weight *= _values(sigma, scale * x)
    return np.sum(weight, axis=-1), inner[0].size


def _turns(sigma: Integrand) -> Array:
    return np.array(sorted({0.0, *sigma.kinks}))


def _features(sigma: Integrand, scale: Array) -> tuple[Array, Array]:
    """Where σ(scale x) turns, and the scale it turns on: arrays (n, f) from scale (n, 1)."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        centres = np.nan_to_num(_turns(sigma) / scale, nan=0.0)
        return centres, np.broadcast_to(_WIDTH / np.abs(scale), centres.shape)


def _rule(
    centres: Array, widths: Array, limit: float, step: float, n_nodes: int
) -> tuple[Array, Array]:
    """Nodes and weights, the normal density included, of E[f(x)], x ~ N(0, 1).

    Panels are at most ``step`` long, end at the ``centres`` (..., f) and shrink to the ``widths``
    (..., f) around them. Returns two arrays (..., number of nodes) over [-limit, limit].
    """
    widths = np.clip(widths, _FINEST, step)
    levels = int(np.ceil(np.log(step / np.min(widths, initial=step)) / np.log(_RATIO)))
    offsets = step * (widths / step)[..., None] ** (np.arange(1, levels + 1) / max(levels, 1))
    sides = [centres[..., None], centres[..., None] - offsets, centres[..., None] + offsets]
    graded = np.concatenate(sides, axis=-1).reshape(*centres.shape[:-1], -1)
    grid = np.linspace(-limit, limit, int(np.ceil(2 * limit / step)) + 1)
    grid = np.broadcast_to(grid, (*centres.shape[:-1], grid.size))
    edges = np.concatenate([grid, np.clip(graded, -limit, limit)], axis=-1)
    edges.sort(axis=-1)
    half = 0.5 * np.diff(edges)[..., None]
    middle = 0.5 * (edges[..., 1:] + edges[..., :-1])[..., None]
    nodes, weights = _gauss_legendre(n_nodes)
    x = (middle + half * nodes).reshape(*centres.shape[:-1], -1)
    density = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    density *= (half * weights).reshape(x.shape)
    return x, density


@cache
def _gauss_legendre(n_nodes: int) -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(n_nodes)


def _values(sigma: Integrand, z: Array) -> Array:
    values = sigma(z)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{sigma!r} must be finite where it is integrated, |z| <= {np.abs(z).max():.3g}"
        )
    return values


def _ratio(numerator: Array, denominator: Array) -> Array:
    out = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def _warn(error: float) -> None:
    if error > _WARN_ABOVE:
        warn_caller(
            f"Gaussian integrals carry an estimated relative error of {error:.1e}: the activation "
            "has kinks that are not declared (Activation(name, function, kinks=(...))), varies on "
            "scales far below one, or grows too fast",
            QuadratureWarning,
        )


__getattr__ = renamed_names(__name__)
