r"""Transferability scores: numbers that rank sources for a target without training on it.

Four that practitioners use, to be held against the theory's verdict and against trained networks.
Larger is better in all of them. With n target examples of labels y:

* LEEP (Nguyen et al. 2020): the log likelihood of the target's labels under the predictor that
  passes through the source's classes z, Σ_z P(y|z) θ(x)_z, θ(x) the source network's probabilities
  and P(y|z) the conditional of the empirical joint P(y, z) = (1/n) Σ_{i: y_i = y} θ(x_i)_z;
* LogME (You et al. 2021): the largest log evidence, per example, of a Bayesian linear regression
  of the labels on the source's features, y ~ N(F w, 1/β), w ~ N(0, 1/α);
* H-score (Bao et al. 2019): Tr[cov(F)⁺ cov(E[F|y])], how much of the features' variance, each
  direction measured by its own, lies between the classes;
* kernel alignment (Cristianini et al. 2001; centred: Cortes et al. 2012): the cosine between a
  kernel and that of the labels, ⟨K, yyᵀ⟩/(‖K‖ ‖yyᵀ‖) in the Frobenius product.

None of them knows the width, the number of source examples, or what a network without the source
would do: they rank sources, they do not say whether to transfer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import svd
from scipy.optimize import minimize_scalar

from tlnb.validation import check_inputs

__all__ = ["h_score", "kernel_alignment", "leep", "log_evidence", "log_me"]

Array = NDArray[np.float64]


def leep(source_probabilities: ArrayLike, y: ArrayLike) -> float:
    """The log expected empirical prediction of the target's labels.

    Parameters
    ----------
    source_probabilities : array of shape (n, Z)
        θ(x_i): what the source network says of its own Z classes at the target's inputs; rows are
        ≥ 0 and sum to 1.
    y : array of shape (n,)
        Classes of the target: numbers or names.

    Returns
    -------
    float
        At most 0; at least minus the entropy of the labels, which is reached where the source's
        classes tell nothing.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, and rows that are no probabilities.

    Notes
    -----
    Nguyen, Hassner, Seeger, Archambeau, ICML 2020, equations (1) and (2).

    Examples
    --------
    >>> round(leep([[1, 0], [1, 0], [0, 1], [0, 1]], [1, 1, -1, -1]), 12)
    0.0
    """
    theta = check_inputs(source_probabilities, "source_probabilities")
    if (theta < 0).any() or not np.allclose(theta.sum(axis=1), 1, rtol=0, atol=1e-6):
        raise ValueError("source_probabilities must have rows >= 0 that sum to 1")
    which, _ = _classes(y, len(theta))
    joint = which.T @ theta / len(theta)  # P(y, z)
    marginal = joint.sum(axis=0)
    # A source class that no example has any share of enters no sum.
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    likelihood = ((which @ conditional) * theta).sum(axis=1)
    return float(np.log(likelihood).mean())


def log_evidence(features: ArrayLike, y: ArrayLike, alpha: float, beta: float) -> float:
    """Log evidence of y ~ N(F w, 1/β), w ~ N(0, 1/α), divided by the number of examples.

    Parameters
    ----------
    features : array of shape (n, K)
    y : array of shape (n,)
    alpha, beta : float
        Precisions of the weights and of the noise, > 0.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.stats import multivariate_normal
    >>> from tlnb.scores import log_evidence
    >>> F, y = np.array([[1.0], [2.0], [-1.0]]), np.array([1.0, 1.0, -1.0])
    >>> direct = multivariate_normal.logpdf(y, cov=np.eye(3) / 4.0 + F @ F.T / 0.5)
    >>> bool(np.isclose(log_evidence(F, y, alpha=0.5, beta=4.0), direct / 3))
    True
    """
    F, y = check_inputs(features, "features"), np.asarray(y, dtype=float)
    return _log_evidence(*_spectrum(F, y), len(y), alpha, beta)


def _spectrum(F: Array, y: Array) -> tuple[Array, Array, float]:
    """Squared singular values of F, squared projections of y, and what of y lies outside."""
    U, s, _ = svd(F, full_matrices=False)
    z2 = (U.T @ y) ** 2
    return s**2, z2, max(float(y @ y - z2.sum()), 0.0)


def _log_evidence(e: Array, z2: Array, outside: float, n: int, alpha: float, beta: float) -> float:
    variance = 1 / beta + e / alpha
    quadratic = (z2 / variance).sum() + beta * outside
    log_det = np.log(variance).sum() - (n - len(e)) * np.log(beta)
    return float(-0.5 * (quadratic + log_det + n * np.log(2 * np.pi)) / n)


def log_me(features: ArrayLike, y: ArrayLike) -> float:
    """The maximum evidence of a linear regression of the labels on the source's features.

    Parameters
    ----------
    features : array of shape (n, K)
        Of the source network, at the target's inputs.
    y : array of shape (n,)
        Two classes or more: each class against the rest, coded 1 and 0 as in the paper, and the
        mean over classes. Real numbers that are all different: one regression.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes and values that are not finite.

    Notes
    -----
    You, Liu, Wang, Long, ICML 2021. The paper iterates a fixed point in (α, β); here β is
    eliminated in closed form, β = n / Σ_k z_k²/(1 + e_k/r), and the evidence is maximised over the
    ratio r = α/β alone: a scan, then Brent's method, so that it is the highest of several maxima.

    Examples
    --------
    Features that hold the label against features that do not:

    >>> import numpy as np
    >>> from tlnb.scores import log_me
    >>> noise = np.random.default_rng(0).standard_normal((100, 5))
    >>> y = np.repeat([0, 1], 50)
    >>> log_me(noise + 2 * y[:, None], y) > log_me(noise, y)
    True
    """
    F = check_inputs(features, "features")
    values = np.asarray(y)
    which, labels = _classes(values, len(F))
    columns = which.T if len(labels) < len(F) else [values.astype(float)]
    return float(np.mean([_largest_evidence(F, column) for column in columns]))


def _largest_evidence(F: Array, y: Array) -> float:
    e, z2, outside = _spectrum(F, y)
    n, size = len(y), float(y @ y)

    def evidence(log_ratio: float) -> float:
        ratio = np.exp(log_ratio)
        misfit = (z2 / (1 + e / ratio)).sum() + outside
        # Labels that are fitted exactly have infinite evidence; rounding is where that ends.
        beta = n / max(misfit, 1e-12 * size)
        return _log_evidence(e, z2, outside, n, ratio * beta, beta)

    scale = np.log(max(e.max(), np.finfo(float).tiny))
    grid = scale + np.linspace(-30, 30, 121)
    values = [evidence(t) for t in grid]
    best = int(np.argmax(values))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found = minimize_scalar(lambda t: -evidence(t), bounds=bounds, method="bounded")
    return max(-float(found.fun), values[best])


def h_score(features: ArrayLike, y: ArrayLike) -> float:
    """Between-class variance of the features, each direction in units of its own variance.

    Parameters
    ----------
    features : array of shape (n, K)
    y : array of shape (n,)
        Classes: numbers or names.

    Returns
    -------
    float
        Between 0 and the number of classes minus one.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes and values that are not finite.

    Notes
    -----
    Bao, Li, Huang, Zhang, Zheng, Zamir, Guibas, ICIP 2019, definition 2. With more features than
    examples it reaches its largest value for any labels; Ibrahim et al. (2022) shrink for that.

    Examples
    --------
    One feature that is the class, among others that know nothing of it, is a score of one:

    >>> import numpy as np
    >>> from tlnb.scores import h_score
    >>> y = np.repeat([0, 1], 500)
    >>> noise = np.random.default_rng(0).standard_normal((1000, 4))
    >>> round(h_score(np.column_stack([y, noise]), y), 1), round(h_score(noise, y), 1)
    (1.0, 0.0)
    """
    F = check_inputs(features, "features")
    which, _ = _classes(y, len(F))
    F = F - F.mean(axis=0)
    # Tr[cov(F)⁺ cov(E[F|y])] is the squared length of the class means in whitened coordinates.
    U, s, _ = svd(F, full_matrices=False)
    white = U[:, s > s[0] * max(F.shape) * np.finfo(float).eps] if s[0] > 0 else U[:, :0]
    sums = which.T @ white
    return float((sums**2 / which.sum(axis=0)[:, None]).sum())


def kernel_alignment(kernel: ArrayLike, y: ArrayLike, *, centred: bool = True) -> float:
    """The cosine between a kernel and that of the labels.

    Parameters
    ----------
    kernel : array of shape (n, n)
        Symmetric; such as features times their transpose.
    y : array of shape (n,)
        Two values as ±1, or real numbers; more than two classes as integers or names: the labels'
        kernel is then that of one-against-rest codes, 1 for the same class.
    centred : bool
        Centre both kernels first (Cortes et al.); without, Cristianini et al.

    Returns
    -------
    float
        Between -1 and 1; between 0 and 1 for a positive semidefinite kernel. 0 where a kernel
        vanishes.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes and values that are not finite.

    Examples
    --------
    >>> kernel_alignment([[1, -1], [-1, 1]], [1, -1])
    1.0
    """
    K = check_inputs(kernel, "kernel")
    if K.shape[0] != K.shape[1] or not np.allclose(K, K.T, rtol=1e-8, atol=1e-12 * abs(K).max()):
        raise ValueError(f"kernel must be a symmetric array of shape (n, n), got shape {K.shape}")
    values = np.asarray(y)
    which, labels = _classes(values, len(K))
    numbers = values.dtype.kind in "biuf" and (len(labels) == 2 or values.dtype.kind == "f")
    codes = values.astype(float)[:, None] if numbers else which
    if centred:
        K = K - K.mean(axis=0) - K.mean(axis=0)[:, None] + K.mean()
        codes = codes - codes.mean(axis=0)
    sizes = np.linalg.norm(K) * np.linalg.norm(codes.T @ codes)
    return float(np.einsum("ic,ij,jc->", codes, K, codes) / sizes) if sizes > 0 else 0.0


def _classes(y: ArrayLike, n: int) -> tuple[Array, NDArray[Any]]:
    """Which example (n,) is of which class, as an array (n, classes) of 0 and 1; the classes."""
    y = np.asarray(y)
    if y.shape != (n,):
        raise ValueError(f"y must have shape ({n},), got {y.shape}")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("y must be finite")
    labels, which = np.unique(y, return_inverse=True)
    return np.eye(len(labels))[which], labels
