r"""What a hidden unit feels of the others, measured in sampled networks: for chapter 17.

With the others' features kept, G = T + Σ_{j≠i} σ_j σ_jᵀ/N1, a unit of a network of N1 has exactly

    p(w | others) ∝ N(w; 0, 1/λ0) (1 + q)^(-1/2) exp( m²/(2 N1 (1 + q)) ),
    m = yᵀG⁻¹σ(w),   q = σ(w)ᵀG⁻¹σ(w)/N1,

and its law is the average of this over posteriors of the N1 - 1 others: networks of width N1 - 1 at
the readout precision λ1 N1/(N1 - 1). The theory puts in one m(w) and one q for all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

from tlnb import Task
from tlnb.kernels import get_activation
from tlnb.sampling import sample_posterior
from tlnb.theory.unit_law.closure import Closure, close
from tlnb.theory.unit_law.moments import Moments, Sums, Units, Weights
from tlnb.theory.unit_law.solution import Particles, UnitLawSolution

Array = NDArray[np.float64]
ERF = get_activation("erf")


class Setting(NamedTuple):
    """A task, N1, T and λ1."""

    train: Task
    width: int
    temperature: float
    readout_precision: float

    def features(self, weights: Array, X: Array | None = None) -> Array:
        """σ (..., n) of erf units, by default at the task's inputs."""
        X = self.train.X if X is None else X
        return ERF(weights @ (X.T / np.sqrt(X.shape[1]))) / np.sqrt(self.readout_precision)


def networks(
    at: Setting, test: Task, rng: np.random.Generator, plan: dict
) -> tuple[xr.Dataset, xr.Dataset]:
    """Networks of N1 units; and the N1 - 1 others of one more unit."""
    given = dict(test=test, weights=True, rng=rng, progress=False, **plan)
    given["temperature"], precision = at.temperature, at.readout_precision
    whole = sample_posterior(at.train, width=at.width, readout_precision=precision, **given)
    precision *= at.width / (at.width - 1)
    return whole, sample_posterior(
        at.train, width=at.width - 1, readout_precision=precision, **given
    )


class Responses(NamedTuple):
    """Of B networks: G⁻¹ (B, P, P) and G⁻¹y (B, P)."""

    inverse: Array
    force: Array

    @classmethod
    def of(cls, drawn: xr.Dataset, at: Setting) -> Responses:
        """Of all draws of all chains."""
        W = drawn.hidden_weights.values
        rows = []
        for each in W.reshape(-1, *W.shape[2:]):
            sigma = at.features(each)
            G = sigma.T @ sigma / at.width
            G.flat[:: len(G) + 1] += at.temperature
            rows.append(np.linalg.inv(G))
        inverse = np.array(rows)
        return cls(inverse, inverse @ at.train.y)

    def seen(self) -> tuple[Array, Array, Array]:
        """Mean force (P,), ⟨G⁻¹⟩, and ⟨G⁻¹⟩ - Cov(G⁻¹y): the theory's t and Γ, measured."""
        mean = self.inverse.mean(0)
        return self.force.mean(0), mean, mean - np.cov(self.force.T)


def carriers(whole: xr.Dataset, at: Setting) -> tuple[Array, Array]:
    """How many units share Σn² in each network (chain, draw), and the share of the largest."""
    W = whole.hidden_weights.values
    force = Responses.of(whole, at).force.reshape(*W.shape[:2], -1, 1)
    squares = (at.features(W) @ force)[..., 0] ** 2
    total = squares.sum(-1)
    return total**2 / (squares**2).sum(-1), squares.max(-1) / total


def refed(whole: xr.Dataset, at: Setting, test: Task) -> tuple[dict[str, float], Closure, Array]:
    """The theory's equations at the networks' own averages ⟨σσᵀ⟩ and ⟨n²σσᵀ⟩, and the former."""
    train, width = at.train, at.width
    W = whole.hidden_weights.values
    W = W.reshape(-1, *W.shape[2:])
    here = Responses.of(whole, at)
    sums = np.zeros((2, train.n_examples, train.n_examples + test.n_examples))
    own, carried, kept = np.zeros((2, test.n_examples)), [], []
    for each, inverse, force in zip(W, *here, strict=True):
        sigma, new = at.features(each), at.features(each, test.X)
        n = sigma @ force
        both = np.hstack([sigma, new]) / (width * len(W))
        sums += sigma.T @ both, (sigma * (n**2)[:, None]).T @ both
        own += (new**2).sum(0) / both.shape[0] / len(W), (n**2) @ new**2 / both.shape[0] / len(W)
        carried.append(n**2)
        kept.append(1 - np.einsum("ip,ip->i", sigma @ inverse, sigma) / width)
    (second, cross), (fourth, pulled) = (np.split(x, [train.n_examples], axis=1) for x in sums)
    closed = close(Moments(second, fourth), train.y, width=width, temperature=at.temperature)
    mean = closed.Q * closed.t @ cross
    covariance = closed.Q * cross + pulled / width
    variance = closed.Q * own[0] + own[1] / width
    variance -= np.einsum("pn,pn->n", covariance, closed.propagator @ covariance)
    bias = float(((test.y - mean) ** 2).mean())
    squares = np.array(carried)
    together = width * squares.mean(1).var() / squares.var() - 1
    found = {"Q": closed.mean_square, "readout_variance": closed.Q}
    found |= {"test_error": bias + float(variance.mean()), "squared_bias": bias}
    found |= {"unit_readout_variance": float(np.mean(kept)), "correlation": float(together)}
    found["carriers"] = float(width * squares.mean() ** 2 / (squares**2).mean())
    return found, closed, second


def felt(
    weights: Array, others: Responses, law: UnitLawSolution, at: Setting, second: Array
) -> dict[str, Array | float]:
    """Fields and tilts of units (M, N0), averaged over the networks of the others.

    ``exact`` (M,) is the logarithm of the averaged tilt; ``mean`` and ``own`` are what the theory
    has for it, with the measured t and Γ, and q as its mean or of each unit; ``law`` what it has
    with its own.
    """
    width, sigma = at.width, at.features(weights)
    m = sigma @ others.force.T
    q = np.array([np.einsum("mp,mp->m", sigma @ G, sigma) for G in others.inverse]).T / width
    tilt = -0.5 * np.log1p(q) + m**2 / (2 * width * (1 + q))
    exact = logsumexp(tilt, axis=1)
    share = np.exp(tilt - exact[:, None])
    t, inverse, Gamma = others.seen()
    own_q = np.einsum("mp,mp->m", sigma @ Gamma, sigma) / width
    least, own_q = float(own_q.min()), np.maximum(own_q, -0.9)  # noise of ⟨G⁻¹⟩ - Cov
    field, mean_q = sigma @ t, float(np.vdot(Gamma, second) / width)
    logs = np.log1p(q)
    pull = (at.train.y @ t - at.temperature * (t @ t)) / (t @ second @ t)
    return {
        "exact": exact - np.log(m.shape[1]),
        "mean": field**2 / (2 * width * (1 + mean_q)) - 0.5 * np.log1p(mean_q),
        "own": field**2 / (2 * width * (1 + own_q)) - 0.5 * np.log1p(own_q),
        "law": law.readout_variance * (sigma @ law.force) ** 2 / (2 * width)
        + 0.5 * np.log(law.readout_variance),
        "field": field,
        "variance": q.mean(1),
        "field_spread": float(np.sqrt(m.var(1).mean() / (field**2).mean())),
        "variance_between_networks": float(np.sqrt(logs.var(1).mean())),
        "variance_between_units": float(logs.mean(1).std()),
        "networks_that_count": float((1 / (share**2).sum(1)).mean()),
        "spread_Q": 1 / (1 + mean_q),
        "spread_Q_without": float(1 / (1 + np.vdot(inverse, second) / width)),
        "pull_Q": float(pull),
        "least_own_q": least,
    }


def law_of_networks(
    whole: xr.Dataset, at: Setting, closed: Closure, populations: int, per_population: int
) -> UnitLawSolution:
    """A source's law whose units are those of networks, for targets around them.

    The first half of a population's units is of the first half of the chains, the second of the
    second, so that halves share no network; populations differ in the units.
    """
    W = whole.hidden_weights.transpose("chain", "draw", ...).values
    half = per_population // 2
    places = W.reshape(2, -1, *W.shape[1:]).swapaxes(1, 2)  # (half, draw, chain, unit, n)
    places = places.reshape(2, -1, populations, W.shape[-1])
    times = places.shape[1] // half
    places = places[:, -times * half :].reshape(2, times, half, populations, -1)
    # (population, time, half, unit, n), as a source's particles are kept.
    positions = places.transpose(3, 1, 0, 2, 4).reshape(populations, -1, W.shape[-1])
    units = Units(at.train.X, ERF, 1.0, at.readout_precision)
    none = np.zeros(positions.shape[:2])
    sums = Sums(*(np.zeros(0) for _ in Sums._fields))  # no averages are asked of it
    particles = Particles(units, positions, Weights(none, none), closed.propagator, sums)
    return UnitLawSolution(
        at.width, at.temperature, closed.mean_square, closed.Q, np.nan, np.nan, {"Q": np.nan}, 0.0,
        0, True, at.train.y, particles, (closed,) * 5,
    )  # fmt: skip
