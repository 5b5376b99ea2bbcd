r"""A readout learned on fixed features: the replica-symmetric fixed point.

n = αK examples of K features u each; their labels are learned by minimising

    Σ_μ ℓ(y_μ, a·u_μ/sqrt(K)) + (λ/2) ‖a‖².

Where the teacher's field ν, with y = sign(ν) or y = ν, and the student's field a·u/sqrt(K) are
jointly Gaussian, three covariances say all about the data: Ω = Cov(u), τ = E[u ν] and ρ_ν = E[ν²].
In the limit n, K → ∞ at fixed α the student's field ω before the example is learned has variance q
and covariance m with ν, and learning the example moves it to prox_{Vℓ}(ω). With Ω = U diag(e) Uᵀ
and t2 = (Uᵀτ)²,

    V = (1/K) Σ_k e_k/(λ + V̂ e_k)       m = m̂ Σ_k t2_k/(λ + V̂ e_k)
    q = (q̂/K) Σ_k e_k²/(λ + V̂ e_k)² + m̂² Σ_k t2_k e_k/(λ + V̂ e_k)²,

and, with f_y = (prox_{Vℓ(y,·)}(ω) - ω)/V, ω = sqrt(q) ξ, ξ ~ N(0, 1), and the label's probability
Z_y = P(y | ω), a normal distribution function of M = m ω/q with variance ρ_ν - m²/q,

    V̂ = -α Σ_y E[Z_y ∂_ω f_y]           q̂ = α Σ_y E[Z_y f_y²]         m̂ = α Σ_y E[∂_M Z_y f_y].

Both labels contribute the same, so that y = 1 stands for both. Source: Gerace et al. (2022),
Loureiro et al. (2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar, root
from scipy.special import expit, ndtr, owens_t, wrightomega

from tlnb.errors import ConvergenceError
from tlnb.validation import check_choice, check_inputs, check_labels, check_positive, read_only

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # on the undamped residual
OPTIMAL_BOUNDS = 1e-4, 1e3  # where an optimal λ is looked for, in units of the mean eigenvalue of Ω
_LIMIT = 9.0  # the normal density is below 1e-17 of its peak beyond
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)  # of one panel
_RATIO = 4.0  # of the lengths of neighbouring panels


@dataclass(frozen=True, eq=False)
class GaussianCovariates:
    """Features and a teacher's field that are jointly Gaussian with mean zero.

    Parameters
    ----------
    feature_covariance : array of shape (K, K)
        Ω = Cov(u), symmetric and positive semi-definite.
    teacher_covariance : array of shape (K,)
        τ = E[u ν].
    teacher_variance : float
        ρ_ν = E[ν²] > 0; noise of the teacher before the sign is taken counts.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, values that are not finite, a covariance that is none, and for
        τᵀΩ⁻¹τ > ρ_ν, which no Gaussian allows: the features would tell more about ν than ν has.

    Attributes
    ----------
    eigenvalues, squared_projections : arrays of shape (K,)
        e_k ≥ 0 of Ω, ascending, and (Uᵀτ)_k².
    """

    feature_covariance: Array = field(repr=False)
    teacher_covariance: Array = field(repr=False)
    teacher_variance: float
    eigenvalues: Array = field(init=False, repr=False)
    squared_projections: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        omega = check_inputs(self.feature_covariance, "feature_covariance")
        mirrored = omega.T if omega.shape[0] == omega.shape[1] else np.inf
        if (apart := np.abs(omega - mirrored).max()) > 1e-10 * np.abs(omega).max():
            what = f"got shape {omega.shape}, transposed entries up to {apart:.2g} apart"
            raise ValueError(f"feature_covariance must be a symmetric matrix, {what}")
        tau = check_labels(self.teacher_covariance, len(omega), "teacher_covariance")
        rho = check_positive("teacher_variance", self.teacher_variance)
        e, U = eigh(omega, check_finite=False, driver="evd")
        noise = len(e) * np.finfo(float).eps * e[-1]
        if e[-1] <= 0 or e[0] < -100 * noise:
            what = f"got eigenvalues from {e[0]:.3g} to {e[-1]:.3g}"
            raise ValueError(f"feature_covariance must be positive semi-definite, not 0, {what}")
        e, t2 = np.maximum(e, 0.0), (tau @ U) ** 2
        if (explained := (t2 / (e + noise)).sum()) > rho * (1 + 1e-8):
            raise ValueError(
                f"teacher_variance must be at least τᵀΩ⁻¹τ = {explained:.6g}, the part of ν that "
                f"the features explain, got {rho:.6g}: an impossible Gaussian"
            )
        arrays = {"feature_covariance": omega, "teacher_covariance": tau}
        for name, array in (arrays | {"eigenvalues": e, "squared_projections": t2}).items():
            object.__setattr__(self, name, read_only(array))
        object.__setattr__(self, "teacher_variance", rho)

    @property
    def n_features(self) -> int:
        """K."""
        return len(self.teacher_covariance)


def proximal(margin: ArrayLike, V: float, loss: str) -> Array:
    """y prox_{Vℓ(y,·)}(ω), the z that minimises ℓ(z) + (z - a)²/(2V), at margins a = yω.

    ℓ(z) is log(1 + e^-z) ("logistic"), max(0, 1 - z) ("hinge") or (1 - z)²/2 ("square"). The
    logistic one is found by Newton's method, which is monotone there, for V of any size.
    """
    V = check_positive("V", V)
    return _LOSSES[check_choice("loss", loss, _LOSSES)](np.asarray(margin, dtype=float), V).z


class _Learned(NamedTuple):
    """At margins a: z = y prox, the pull f = (z - a)/V, its derivative, and the loss ℓ(z)."""

    z: Array
    pull: Array
    slope: Array
    loss: Array


def _logistic(a: Array, V: float) -> _Learned:
    # z(-V - a) = -z(a): z ≥ 0 is enough. There z - a - V/(1 + e^z) is concave and rising, so that a
    # Newton step never ends above the root and, after the first, never moves down. The start is the
    # root with e^-z for 1/(1 + e^z), which is above.
    mirrored = a < -V / 2
    b = np.where(mirrored, -V - a, a)
    z = np.clip(b + wrightomega(np.log(V) - b), 0.0, b + V / 2)
    for _ in range(100):
        tail = expit(-z)
        step = (z - b - V * tail) / (1 + V * tail * (1 - tail))
        z = np.maximum(z - step, np.maximum(b, 0.0))
        if (np.abs(step) <= 1e-14 * (1 + z)).all():
            break
    else:
        raise ConvergenceError(f"the proximal map at V={V:.3g} was not found")
    z = np.where(mirrored, -z, z)
    pull = expit(-z)
    curvature = pull * expit(z)
    return _Learned(z, pull, -curvature / (1 + V * curvature), np.logaddexp(0.0, -z))


def _hinge(a: Array, V: float) -> _Learned:
    pull = np.clip((1 - a) / V, 0.0, 1.0)
    slope = np.where((a < 1) & (a > 1 - V), -1 / V, 0.0)
    return _Learned(np.clip(1.0, a, a + V), pull, slope, np.maximum(1 - V - a, 0.0))


def _square(a: Array, V: float) -> _Learned:
    pull = (1 - a) / (1 + V)
    return _Learned((a + V) / (1 + V), pull, np.full_like(a, -1 / (1 + V)), pull**2 / 2)


_LOSSES = {"logistic": _logistic, "square": _square, "hinge": _hinge}


def _nodes(V: float, q: float, steepness: float, loss: str) -> tuple[Array, Array]:
    """Nodes and weights of E over ξ ~ N(0, 1), panels shrinking towards what is steep.

    That is the label's probability at 0, the kinks of the hinge's proximal map, and the branch
    points of the logistic one, at a distance of π above ω = c and -V - c.
    """
    s = np.sqrt(q)
    steep = [(0.0, 1 / max(steepness, 0.1))]
    if loss == "hinge":
        steep += [(1 / s, 3.0), ((1 - V) / s, 3.0)]
    else:
        z = 2 * np.arcsinh(np.sqrt(V) / 2)
        c = z + V / np.expm1(z)
        steep += [(c / s, np.pi / s), ((-V - c) / s, np.pi / s)]
    ends = [np.arange(-_LIMIT, _LIMIT + 1, 3)]
    for centre, scale in steep:
        away = scale * _RATIO ** np.arange(np.ceil(np.log(3 / scale) / np.log(_RATIO)))
        ends += [centre + away, centre - away, [centre]]
    ends = np.unique(np.clip(np.concatenate(ends), -_LIMIT, _LIMIT))
    half = np.diff(ends)[:, None] / 2
    xi = (ends[:-1, None] + half * (1 + _NODES)).ravel()
    return xi, (half * _WEIGHTS).ravel() * np.exp(-(xi**2) / 2) / np.sqrt(2 * np.pi)


@dataclass(frozen=True)
class _Problem:
    """The two halves of the fixed-point map at one sample ratio and regularisation."""

    covariates: GaussianCovariates
    sample_ratio: float
    regularization: float
    loss: str
    labels: str

    def overlaps(self, V_hat: float, q_hat: float, m_hat: float) -> tuple[float, float, float]:
        """V, q, m of a readout under the pull of all examples: always those of a Gaussian."""
        e, t2 = self.covariates.eigenvalues, self.covariates.squared_projections
        r = 1 / (self.regularization + V_hat * e)
        er = e * r
        q = q_hat * np.mean(er * er) + m_hat**2 * (t2 * er) @ r
        return float(np.mean(er)), float(q), float(m_hat * (t2 @ r))

    def norm(self, V_hat: float, q_hat: float, m_hat: float) -> float:
        """‖a‖²/K."""
        e, t2 = self.covariates.eigenvalues, self.covariates.squared_projections
        r = 1 / (self.regularization + V_hat * e)
        return float(q_hat * np.mean(e * r * r) + m_hat**2 * (t2 @ (r * r)))

    def conjugates(self, V: float, q: float, m: float) -> tuple[float, float, float]:
        """V̂, q̂, m̂, the pull of all examples on a readout of these overlaps; NaN if impossible."""
        if not (0 < V < np.inf and 0 < q < np.inf):
            return (np.nan,) * 3
        if self.loss == "square":
            variance, slope = self._label_moments()
            pull = self.sample_ratio / (1 + V)
            return pull, pull * (variance - 2 * slope * m + q) / (1 + V), pull * slope
        Z, dZ, learned = self._at_nodes(V, q, m)
        means = -Z @ learned.slope, Z @ learned.pull**2, dZ @ learned.pull
        return tuple(2 * self.sample_ratio * float(mean) for mean in means)

    def train_loss(self, V: float, q: float, m: float) -> float:
        """Mean loss of the training examples."""
        if self.loss == "square":
            variance, slope = self._label_moments()
            return (variance - 2 * slope * m + q) / (1 + V) ** 2 / 2
        Z, _, learned = self._at_nodes(V, q, m)
        return 2 * float(Z @ learned.loss)

    def errors(self, V: float, q: float, m: float) -> tuple[float, float]:
        """Test and training error."""
        if self.labels == "linear":
            error = self.covariates.teacher_variance - 2 * m + q
            return error, error / (1 + V) ** 2
        border = -V / 2 if self.loss == "logistic" else -V  # the margin that is moved to zero
        threshold = np.array([0.0, border / np.sqrt(q)])
        below = ndtr(threshold) - 2 * owens_t(threshold, self._teacher_given_student(q, m)[1])
        return tuple(below.tolist())

    def _label_moments(self) -> tuple[float, float]:
        """E[y²], and E[y ω]/m."""
        rho = self.covariates.teacher_variance
        return (rho, 1.0) if self.labels == "linear" else (1.0, float(np.sqrt(2 / (np.pi * rho))))

    def _teacher_given_student(self, q: float, m: float) -> tuple[float, float]:
        """Variance of ν given ω, and its mean in units of its spread, for each unit of ξ."""
        rho = self.covariates.teacher_variance
        variance = max(rho - m**2 / q, 1e-15 * rho)
        return variance, m / np.sqrt(q * variance)

    def _at_nodes(self, V: float, q: float, m: float) -> tuple[Array, Array, _Learned]:
        """Z and ∂Z, times the nodes' weights, and the proximal map at the nodes, for y = 1."""
        V0, steepness = self._teacher_given_student(q, m)
        xi, weights = _nodes(V, q, steepness, self.loss)
        dZ = np.exp(-((steepness * xi) ** 2) / 2) / np.sqrt(2 * np.pi * V0)
        learned = _LOSSES[self.loss](np.sqrt(q) * xi, V)
        return weights * ndtr(steepness * xi), weights * dZ, learned

    def residual(self, hats: Array) -> float:
        """Largest relative change of V, q, m under one undamped step of the map."""
        old = np.array(self.overlaps(*hats))
        new = np.array(self.overlaps(*self.conjugates(*old)))
        return float(np.max(np.abs(new - old) / np.where(old > 0, old, 1.0)))


class GLMSolution(NamedTuple):
    """The fixed point and what follows from it.

    Attributes
    ----------
    V, q, m : response of the student's field to a pull on it, its variance, and its covariance with
        the teacher's field.
    V_hat, q_hat, m_hat : their conjugates.
    regularization : λ, the given or the optimal one.
    test_error : probability of a wrong sign; the mean square error for linear labels.
    train_loss : ℓ, averaged over the training examples.
    train_error : test_error's counterpart on the training examples.
    norm : ‖a‖²/K.
    objective : what is minimised, for each example: train_loss + λ ‖a‖²/(2αK).
    residual : largest relative change of V, q, m under one undamped step of the map.
    iterations : evaluations of the map.
    converged : the residual is below 1e-9 and the overlaps are those of a Gaussian.
    """

    V: float
    q: float
    m: float
    V_hat: float
    q_hat: float
    m_hat: float
    regularization: float
    test_error: float
    train_loss: float
    train_error: float
    norm: float
    objective: float
    residual: float
    iterations: int
    converged: bool


def solve(
    covariates: GaussianCovariates,
    *,
    sample_ratio: float,
    regularization: float | str,
    loss: str = "logistic",
    labels: str = "sign",
    initial: GLMSolution | None = None,
) -> GLMSolution:
    """The fixed point of a readout trained on α examples for each feature.

    Parameters
    ----------
    covariates : GaussianCovariates
    sample_ratio : float
        α = n/K > 0.
    regularization : float or "optimal"
        λ > 0; "optimal" takes the λ of least test error between 1e-4 and 1e3 mean eigenvalues of Ω
        (the end of that interval where the error falls beyond; the least one where it is flat).
    loss : {"logistic", "square", "hinge"}
        ln(1 + e^(-yx)), (y - x)²/2 or max(0, 1 - yx).
    labels : {"sign", "linear"}
        y = sign(ν), or y = ν; the latter with square loss only.
    initial : GLMSolution, optional
        Of a problem close by, to start from.

    Notes
    -----
    The same readout in scikit-learn: features divided by sqrt(K), ``fit_intercept=False``, and
    ``C=1/λ`` in LogisticRegression and LinearSVC(loss="hinge"), ``alpha=λ`` in Ridge. The objective
    is a sum over examples. There is no intercept: u and ν have mean zero. Features with a mean
    must have it subtracted, the population's in the theory and in the simulation alike; an
    intercept fitted to balanced labels does the same in the limit.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    ConvergenceError
        If no fixed point with a residual below 1e-9 was reached.
    """
    if not isinstance(covariates, GaussianCovariates):
        raise TypeError(f"covariates must be GaussianCovariates, got {type(covariates).__name__}")
    sample_ratio = check_positive("sample_ratio", sample_ratio)
    check_choice("loss", loss, _LOSSES)
    if check_choice("labels", labels, ["sign", "linear"]) == "linear" and loss != "square":
        raise ValueError(f"labels='linear' must come with loss='square', got loss={loss!r}")
    if not isinstance(initial, GLMSolution | None):
        raise TypeError(f"initial must be a GLMSolution or None, got {type(initial).__name__}")
    start = None if initial is None else np.array(initial[3:6])
    if isinstance(regularization, str):
        check_choice("regularization", regularization, ["optimal"])
        return _optimal(_Problem(covariates, sample_ratio, 1.0, loss, labels))
    try:
        regularization = check_positive("regularization", regularization)
    except ValueError as error:
        why = "the minimiser of separable examples runs away, or is not unique"
        raise ValueError(f"{error}: without it {why}; take a small one, as 1e-4") from None
    return _solve(_Problem(covariates, sample_ratio, regularization, loss, labels), start)


@np.errstate(all="ignore")  # a trial step may overflow
def _solve(problem: _Problem, start: Array | None) -> GLMSolution:
    """Newton's method from ``start`` or a guess, else with λ annealed downwards."""
    hats, evaluations = _newton(problem, _guess(problem) if start is None else start)
    if hats is None:
        hats, spent = _anneal(problem)
        evaluations += spent
    overlaps, λ = problem.overlaps(*hats), problem.regularization
    test_error, train_error = problem.errors(*overlaps)
    train_loss, norm = problem.train_loss(*overlaps), problem.norm(*hats)
    objective = train_loss + λ * norm / (2 * problem.sample_ratio)
    outcome = test_error, train_loss, train_error, norm, objective
    return GLMSolution(
        *overlaps, *hats.tolist(), λ, *outcome, problem.residual(hats), evaluations, converged=True
    )


def _guess(problem: _Problem) -> Array:
    """V̂, q̂, m̂ after a few damped steps of the map."""
    alpha, rho = problem.sample_ratio, problem.covariates.teacher_variance
    hats = np.array([alpha / 4, alpha / 4, alpha / np.sqrt(8 * np.pi * rho)])
    for _ in range(5):
        hats = np.sqrt(hats * problem.conjugates(*problem.overlaps(*hats)))
    return hats


def _newton(problem: _Problem, start: Array) -> tuple[Array | None, int]:
    """V̂, q̂, m̂ at the fixed point, None if it was not reached, and evaluations of the map.

    Unknown are the logarithms of V̂ + λ/e_max, q̂ and m̂. Any three numbers are a possible Gaussian,
    and V̂ may vanish, as the hinge's does at large λ.
    """
    shift = np.array([problem.regularization / problem.covariates.eigenvalues[-1], 0, 0])
    first = np.log(start + shift)

    def change(x: Array) -> Array:
        hats = np.exp(np.clip(x, first - 30, first + 30)) - shift  # a first step may go anywhere
        return np.log(problem.conjugates(*problem.overlaps(*hats)) + shift) - x

    def jacobian(x: Array) -> Array:
        h, at = 1e-6, change(x)
        return np.array([change(x + step) - at for step in h * np.eye(3)]).T / h

    found = root(change, first, jac=jacobian, options={"xtol": 1e-13})
    hats = np.maximum(np.exp(found.x) - shift, 0.0)
    reached = problem.residual(hats) <= TOLERANCE
    return hats if reached else None, found.nfev + 4 * found.njev


def _anneal(problem: _Problem) -> tuple[Array, int]:
    """`_newton` from a λ so large that the map contracts, in steps as long as it succeeds."""
    λ, evaluations, step = problem.regularization, 0, np.log(10.0)
    at = 10 * max(λ, problem.covariates.eigenvalues[-1]) * max(problem.sample_ratio, 1.0)
    hats = _guess(replace(problem, regularization=at))
    while at > λ and step > 1e-3 and evaluations < 5000:
        lower = max(at * np.exp(-step), λ)
        found, spent = _newton(replace(problem, regularization=lower), hats)
        evaluations += spent
        if found is None:
            step /= 3
        else:
            hats, at, step = found, lower, 1.5 * step
    if at > λ:
        raise ConvergenceError(
            f"no fixed point at sample_ratio={problem.sample_ratio:g}, regularization={λ:g}: "
            f"residual {problem.residual(hats):.1e}, allowed {TOLERANCE:.0e}; it was followed down "
            f"to regularization={at:.2g}: try more of it, or a teacher with more noise"
        )
    return hats, evaluations


def _optimal(problem: _Problem) -> GLMSolution:
    """The solution of least test error: a scan in decades of λ, refined around its best."""
    ends = problem.covariates.eigenvalues.mean() * np.array(OPTIMAL_BOUNDS)
    logs = np.log(np.geomspace(ends[1], ends[0], 8))
    found = []

    def error(log: float, near: GLMSolution | None) -> float:
        at = replace(problem, regularization=float(np.exp(log)))
        solution = _solve(at, None if near is None else np.array(near[3:6]))
        found.append((float(f"{solution.test_error:.10g}"), solution.regularization, solution))
        return solution.test_error

    for log in logs:
        error(log, found[-1][-1] if found else None)
    k = found.index(min(found))
    bounds = logs[min(k + 1, len(logs) - 1)], logs[max(k - 1, 0)]
    settings = {"method": "bounded", "options": {"xatol": 1e-3}}
    minimize_scalar(error, args=(found[k][-1],), bounds=bounds, **settings)
    return min(found)[-1]._replace(iterations=sum(entry[-1].iterations for entry in found))


def learning_curve(
    covariates: GaussianCovariates,
    *,
    sample_ratios: Sequence[float],
    regularization: float | str,
    loss: str = "logistic",
    labels: str = "sign",
) -> Dataset:
    """`solve` over sample ratios, each solution starting from the one before.

    Returns a Dataset over ``sample_ratio``, in the given order, with everything that a
    `GLMSolution` holds. Parameters, and what is raised, are as of `solve`.
    """
    import xarray as xr

    ratios = [check_positive("sample_ratios", ratio) for ratio in np.ravel(sample_ratios).tolist()]
    if not ratios:
        raise ValueError("sample_ratios must hold at least one number > 0, got none")
    settings = {"regularization": regularization, "loss": loss, "labels": labels}
    solutions: dict[float, GLMSolution] = {}
    last = None
    for ratio in sorted(ratios):
        last = solve(covariates, sample_ratio=ratio, initial=last, **settings)
        solutions[ratio] = last
    columns = zip(*(solutions[ratio] for ratio in ratios), strict=True)
    table = dict(zip(GLMSolution._fields, columns, strict=True))
    return xr.Dataset(
        {name: ("sample_ratio", list(column)) for name, column in table.items()},
        coords={"sample_ratio": ratios},
        attrs={"loss": loss, "labels": labels},
    )
