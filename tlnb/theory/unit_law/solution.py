"""What the law of a hidden unit says of one task: order parameter, errors, predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.chunking import chunks
from tlnb.kernels import InnerProducts, dual_diagonal, squared_norms
from tlnb.theory.prediction import AVERAGED, Prediction, combined, concatenate, prediction
from tlnb.theory.unit_law.closure import Closure, close
from tlnb.theory.unit_law.moments import CHUNK, Sums, Units, Weights
from tlnb.validation import check_inputs, check_labels

if TYPE_CHECKING:
    from tlnb.data.task import Task

Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number and its Monte Carlo standard error."""

    value: float
    mcse: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.mcse:.1g}"


def spread(values: Array, pooled: Array | float | None = None) -> Array:
    """Standard error of the mean over independent populations, the first axis.

    At least half of what separates the first half of them from the second, which started elsewhere;
    and, if what all of them give together is known, at least its bias: averages over too few units
    are off by the order of one over their number, those over one population by G times as much.
    """
    G = len(values)
    apart = abs(values[: G // 2].mean(0) - values[G // 2 :].mean(0)) / 2
    found = np.maximum(np.std(values, axis=0, ddof=1) / np.sqrt(G), apart)
    return found if pooled is None else np.maximum(found, abs(values.mean(0) - pooled) / (G - 1))


def estimates(
    predictions: Sequence[Prediction], error: Callable[[Array, float], Array]
) -> dict[str, Estimate]:
    """Means over the test points of a pooled prediction, with errors from those after it."""
    pooled, *others = predictions
    found = {}
    for name in AVERAGED:
        value = float(getattr(pooled, name).mean())
        each = np.array([getattr(p, name).mean() for p in others])
        found[name] = Estimate(value, float(error(each, value)))
    return found


def leave_one_out(closed: Closure, y: Array, temperature: float) -> Prediction:
    """The prediction of each training label from the others (P,).

    The label's law given the others is Gaussian with precision Γ_μμ, and t_μ is its score: the
    residual is t_μ/Γ_μμ, the output's variance 1/Γ_μμ - T.
    """
    variance = 1 / closed.variance - temperature
    mean = y - closed.t / closed.variance
    return prediction(mean, np.maximum(variance, 0.0), np.zeros_like(mean), y)


@dataclass(frozen=True, eq=False)
class Particles:
    """Units drawn from their law, in populations, with what each of them counts.

    ``positions`` (G, M, N0) whitened, ``weights`` (G, M) each; ``kernel`` (P, P) of the prior,
    and ``sums`` their means on the training inputs.
    """

    units: Units
    positions: Array
    weights: Weights
    kernel: Array
    sums: Sums

    @property
    def hidden_weights(self) -> Array:
        """w of shape (G, M, N0)."""
        return self.units.spread * self.positions

    def subsets(self) -> list[slice]:
        """All populations, then each of them."""
        return [slice(None), *(slice(g, g + 1) for g in range(len(self.positions)))]

    def against(self, X: Array) -> tuple[Sums, Sums]:
        """Means of σσ(x)ᵀ and σ(x)² over each population at inputs ``X`` (n, N0)."""
        G, M, _ = self.positions.shape
        first, *rest = chunks(M, G * (len(X) + len(self.units.X)), CHUNK)
        products, squares = self._means(first, X)
        for part in rest:
            share = (part.stop - part.start) / part.stop
            more = self._means(part, X)
            products, squares = products.mix(more[0], share), squares.mix(more[1], share)
        return products, squares

    def _means(self, part: slice, X: Array) -> tuple[Sums, Sums]:
        """What `against` returns, over some particles of each population."""
        position = self.positions[:, part]
        weights = Weights(*(w[:, part] for w in self.weights))
        new = self.units.features(position, X)
        return Sums.of(self.units.features(position), new, weights), Sums.diagonal(new, weights)

    def prior(self, X: Array) -> tuple[Array, Array]:
        """The prior's kernel of training inputs with ``X`` (P, n), and its diagonal (n,)."""
        c, precision = self.units.spread**2, self.units.readout_precision
        sigma = self.units.activation
        K = InnerProducts.between(self.units.X, X).dual(sigma, c, c, c, precision)
        return K, dual_diagonal(sigma, squared_norms(X), c, c, precision)


@dataclass(frozen=True, eq=False)
class UnitLawSolution:
    """One task: the law of its hidden units and what follows from it.

    Attributes
    ----------
    width, temperature : N1 and T.
    Q : (λ1/N1) ⟨‖v‖²⟩ = ⟨V⟩, the observable that the scalar theory calls Q.
    readout_variance : Q of this theory's equations, the variance of a readout given its unit in
        units of 1/λ1.
    train_error : ⟨(y - f)²⟩ averaged over the training examples.
    log_evidence : leading order of ln ∫ Π N(y | f, T) over normalised priors.
    errors : Monte Carlo standard errors by name.
    residual : how far the force t that the particles felt last is from the one they give back,
        relative.
    steps : of the particles, warm-up included.
    converged : True, or `solve` would have raised.
    """

    width: float
    temperature: float
    Q: float
    readout_variance: float
    train_error: float
    log_evidence: float
    errors: dict[str, float]
    residual: float
    steps: int
    converged: bool
    y: Array = field(repr=False)
    particles: Particles = field(repr=False)
    closures: tuple[Closure, ...] = field(repr=False)  # of all populations, then of each

    @property
    def force(self) -> Array:
        """t (P,): what the labels pull on, (T + Q⟨σσᵀ⟩)⁻¹ y."""
        return self.closures[0].t

    @property
    def propagator(self) -> Array:
        """Γ (P, P)."""
        return self.closures[0].propagator

    @property
    def learnt_kernel(self) -> Array:
        """⟨Vσσᵀ⟩ (P, P): the kernel of the trained networks on the training inputs."""
        moments = self.particles.sums.only(slice(None)).moments(self.particles.kernel)[0]
        return moments.self_energy(self.readout_variance, self.width)

    def fields(self) -> Array:
        """m of every particle (G, M) at the force of the solution."""
        t = np.broadcast_to(self.force, (len(self.particles.positions), len(self.force)))
        return self.particles.units.fields(self.particles.positions, t)[0]

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Mean and variance of the output at inputs ``X`` (n, N0), errors given labels ``y`` (n,).

        Memory is bounded: the test points are taken in chunks.
        """
        return self._predictions(X, y)[0]

    def predict_mcse(self, X: ArrayLike, y: ArrayLike | None = None) -> Prediction:
        """Monte Carlo standard errors of every field of `predict`."""
        _, *others = self._predictions(X, y)
        return combined(others, lambda each: spread(np.array(each)))

    def averages(self, test: Task) -> dict[str, Estimate]:
        """Means over the test points of errors and variances, each with its Monte Carlo error."""
        return estimates(self._predictions(test.X, test.y), spread)

    def leave_one_out(self) -> Prediction:
        """The prediction of each training label from the other labels, its law held."""
        return leave_one_out(self.closures[0], self.y, self.temperature)

    def _predictions(self, X: ArrayLike, y: ArrayLike | None) -> list[Prediction]:
        X = check_inputs(X, n_features=self.particles.units.X.shape[1])
        y = None if y is None else check_labels(y, len(X))
        subsets = self.particles.subsets()
        parts: list[list[Prediction]] = [[] for _ in subsets]
        for part in chunks(len(X), 8 * len(self.y)):
            with_train, own = self.particles.against(X[part])
            K, k = self.particles.prior(X[part])
            for row, kept, closed in zip(parts, subsets, self.closures, strict=True):
                cross = with_train.only(kept).moments(K)[0]
                variance = own.only(kept).moments(k)[0].self_energy(closed.Q, self.width)
                covariance = cross.self_energy(closed.Q, self.width)
                mean = closed.Q * closed.t @ cross.second
                explained = np.einsum("pn,pn->n", covariance, closed.propagator @ covariance)
                total = np.maximum(variance - explained, 0.0)
                labels = None if y is None else y[part]
                row.append(prediction(mean, total, np.zeros_like(mean), labels))
        return [concatenate(row) for row in parts]


def summarise(
    particles: Particles, y: Array, *, width: float, temperature: float
) -> tuple[tuple[Closure, ...], dict[str, Estimate]]:
    """The closures of all populations and of each, and the numbers they give."""
    closures, rows = [], []
    for kept in particles.subsets():
        sums = particles.sums.only(kept)
        closed = close(sums.moments(particles.kernel)[0], y, width=width, temperature=temperature)
        closures.append(closed)
        rows.append(_numbers(closed, float(sums.undo[0]), y, width, temperature))
    estimates = {
        name: Estimate(value, float(spread(np.array([row[name] for row in rows[1:]]), value)))
        for name, value in rows[0].items()
    }
    return tuple(closures), estimates


def _numbers(
    closed: Closure, undo: float, y: Array, width: float, temperature: float
) -> dict[str, Any]:
    """Observables of one closure; ``undo`` = ⟨e^(-u)⟩ is one over the law's normalisation."""
    t, T = closed.t, temperature
    left_out = leave_one_out(closed, y, T)
    trace = float(closed.variance.sum())
    free = width * (0.5 * np.log(closed.Q) - np.log(undo)) - t @ y + 0.5 * T * (t @ t)
    free += 0.5 * (len(y) * (1 - np.log(2 * np.pi)) - T * trace - closed.log_det)
    return {
        "Q": closed.mean_square,
        "readout_variance": closed.Q,
        "train_error": float(T**2 * (t @ t) / len(y) + T - T**2 * trace / len(y)),
        "log_evidence": float(free),
        "leave_one_out_error": float(((y - left_out.mean) ** 2 + left_out.total_variance).mean()),
    }
