r"""Correlated hidden manifolds: a pair of tasks with one knob for each way to be related.

An input is a nonlinear image of a latent vector of lower dimension; its label looks at the latent
vector only:

    c ~ N(0, I_D),   x = φ(cᵀF/sqrt(D)),   y = sign(θ·c/sqrt(D))   or   y = θ·c/sqrt(D),

with generative features F of shape (D, N0) and a teacher θ of shape (D,), standard Gaussian
entries. The target has features and a teacher of its own, correlated with those of the source:

    teacher overlap q      θ_t = q θ_s + sqrt(1-q²) θ'
    feature overlap η      F_t = η F_s + sqrt(1-η²) F'
    replaced fraction ρ    round(ρD) of the D rows of F_t are new; θ_t is kept
    latent dimension D_t   the first min(D, D_t) rows and entries are shared, further ones are new

Sources: Gerace et al. (2022), section 2; the hidden manifold is that of Goldt et al. (2020).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.chunking import chunks
from tlnb.data.task import Task
from tlnb.kernels import Activation, get_activation
from tlnb.validation import (
    check_between,
    check_choice,
    check_count,
    check_inputs,
    check_nonnegative,
    check_rng,
    read_only,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HiddenManifold:
    """One hidden manifold: latent vectors to inputs, to the teacher's field, and to labels.

    Latent vectors ``c`` have shape (n, D), as ``rng.standard_normal((n, D))`` draws them.

    Parameters
    ----------
    F : array of shape (D, N0)
        Generative features.
    theta : array of shape (D,)
        Teacher.
    nonlinearity : Activation
        φ.
    labels : "sign" or "linear"
    label_noise : float
        Standard deviation of a Gaussian added to the teacher's field, before the sign if there
        is one.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.data.manifold import HiddenManifold
    >>> from tlnb.kernels import get_activation
    >>> F, theta = np.random.default_rng(0).standard_normal((2, 20, 50))
    >>> world = HiddenManifold(F, theta[:, 0], get_activation("erf"))
    >>> task = world.sample(200, rng=1)
    >>> task.X.shape, bool(np.isin(task.y, [-1, 1]).all())
    ((200, 50), True)
    """

    F: Array
    theta: Array
    nonlinearity: Activation
    labels: str = "sign"
    label_noise: float = 0.0

    @property
    def latent_dim(self) -> int:
        """D."""
        return self.F.shape[0]

    @property
    def n_features(self) -> int:
        """N0."""
        return self.F.shape[1]

    @property
    def teacher_variance(self) -> float:
        """ρ_ν = θᵀθ/D + label_noise², the variance of the field that the labels are made of."""
        return float(self.theta @ self.theta / self.latent_dim + self.label_noise**2)

    def inputs(self, c: ArrayLike) -> Array:
        """x = φ(cᵀF/sqrt(D)), of shape (n, N0)."""
        c = self._latent(c)
        x = np.empty((len(c), self.n_features))
        for part in chunks(len(c), self.n_features):  # φ makes copies: of a part at a time
            x[part] = self.nonlinearity(c[part] @ self.F / np.sqrt(self.latent_dim))
        return x

    def field(self, c: ArrayLike) -> Array:
        """The teacher's field ν = θ·c/sqrt(D), without noise, of shape (n,)."""
        return self._latent(c) @ self.theta / np.sqrt(self.latent_dim)

    def _latent(self, c: ArrayLike) -> Array:
        c = check_inputs(c, "c")
        if c.shape[1] != self.latent_dim:
            raise ValueError(f"c must have D = {self.latent_dim} columns, got shape {c.shape}")
        return c

    def sample(self, n: int, rng: np.random.Generator | int, name: str = "") -> Task:
        """A `Task` of ``n`` examples; ``rng`` is a numpy Generator or a seed.

        Labels of few examples may be all of one class. The inputs do not depend on the noise.
        """
        n, rng = check_count("n", n), check_rng("rng", rng)
        c = rng.standard_normal((n, self.latent_dim))
        y = self.field(c)
        if self.label_noise:
            y += self.label_noise * rng.standard_normal(n)
        return Task(self.inputs(c), np.copysign(1.0, y) if self.labels == "sign" else y, name=name)


@dataclass(frozen=True, eq=False)
class CorrelatedHiddenManifold:
    """A source and a target hidden manifold, related as its knobs say.

    ``source`` and ``target`` are a `HiddenManifold` each. Every random ingredient has a stream of
    its own: at one ``random_state`` a knob changes nothing but what it is about, and never the
    source, and the rows replaced at some fraction are among those replaced at a larger one.

    Parameters
    ----------
    n_features : int
        N0, the dimension of the inputs.
    latent_dim : int
        D, the latent dimension of the source.
    teacher_overlap, feature_overlap : float from -1 to 1
        q and η. The overlaps of drawn teachers and features differ from them by O(1/sqrt(D)) and
        O(1/sqrt(D N0)).
    replaced_fraction : float from 0 to 1
        ρ. After the overlap η, round(ρD) random rows of the target's features are drawn anew.
    target_latent_dim : int, optional
        D_t; as the source's by default. Rows are shared, overlapped and replaced before a smaller
        D_t cuts them.
    nonlinearity : str, Activation or callable
        φ: "sign", "linear", "tanh", or any activation of `tlnb.kernels.activations`.
    labels : "sign" or "linear"
        Classification or regression.
    label_noise : float >= 0
        As of `HiddenManifold`, the same for both tasks.
    random_state : int, optional
        Seed of features and teachers; fresh entropy by default.

    Raises
    ------
    ValueError, TypeError
        For knobs out of range, an unknown nonlinearity or kind of labels.

    Examples
    --------
    >>> from tlnb import CorrelatedHiddenManifold
    >>> pair = CorrelatedHiddenManifold(200, 100, teacher_overlap=0.9, random_state=0)
    >>> source, target = pair.sample_source(500, rng=1), pair.sample_target(50, rng=2)
    >>> source.X.shape, target.X.shape
    ((500, 200), (50, 200))
    """

    n_features: int
    latent_dim: int
    _: KW_ONLY
    teacher_overlap: float = 1.0
    feature_overlap: float = 1.0
    replaced_fraction: float = 0.0
    target_latent_dim: int | None = None
    nonlinearity: str | Activation | Callable[[Array], ArrayLike] = "sign"
    labels: str = "sign"
    label_noise: float = 0.0
    random_state: int | None = None

    def __post_init__(self) -> None:
        check_count("n_features", self.n_features)
        check_count("latent_dim", self.latent_dim)
        if self.target_latent_dim is not None:
            check_count("target_latent_dim", self.target_latent_dim)
        check_between("teacher_overlap", self.teacher_overlap, -1, 1)
        check_between("feature_overlap", self.feature_overlap, -1, 1)
        check_between("replaced_fraction", self.replaced_fraction, 0, 1)
        try:
            φ = get_activation(self.nonlinearity)
        except (TypeError, ValueError) as error:
            raise type(error)(f"nonlinearity is not an activation: {error}") from None
        check_choice("labels", self.labels, ("sign", "linear"))
        check_nonnegative("label_noise", self.label_noise)
        seed: object = self.random_state
        seed = np.random.SeedSequence().entropy if seed is None else seed
        object.__setattr__(self, "random_state", check_count("random_state", seed, least=0))
        object.__setattr__(self, "nonlinearity", φ)

    def _stream(self, key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.random_state, spawn_key=(key,)))

    def _side(self, F: Array, theta: Array) -> HiddenManifold:
        φ, noise = get_activation(self.nonlinearity), float(self.label_noise)
        return HiddenManifold(read_only(F), read_only(theta), φ, self.labels, noise)

    @cached_property
    def source(self) -> HiddenManifold:
        """The source's manifold, which depends on no knob of the target."""
        D = self.latent_dim
        F = self._stream(0).standard_normal((D, self.n_features))
        return self._side(F, self._stream(1).standard_normal(D))

    @cached_property
    def target(self) -> HiddenManifold:
        """The target's manifold."""
        D, N0 = self.latent_dim, self.n_features
        D_t = D if self.target_latent_dim is None else self.target_latent_dim
        q, η = float(self.teacher_overlap), float(self.feature_overlap)
        F = η * self.F_source
        F += np.sqrt(1 - η**2) * self._stream(2).standard_normal((D, N0))
        replaced = self._stream(3).permutation(D)[: round(self.replaced_fraction * D)]
        F[replaced] = self._stream(4).standard_normal((D, N0))[replaced]
        theta = q * self.theta_source
        theta += np.sqrt(1 - q**2) * self._stream(5).standard_normal(D)
        if D_t > D:
            F = np.concatenate([F, self._stream(6).standard_normal((D_t - D, N0))])
            theta = np.concatenate([theta, self._stream(7).standard_normal(D_t - D)])
        return self._side(F[:D_t], theta[:D_t])

    @property
    def F_source(self) -> Array:
        """Generative features of the source, of shape (D, N0)."""
        return self.source.F

    @property
    def F_target(self) -> Array:
        """Generative features of the target, of shape (D_t, N0)."""
        return self.target.F

    @property
    def theta_source(self) -> Array:
        """Teacher of the source, of shape (D,)."""
        return self.source.theta

    @property
    def theta_target(self) -> Array:
        """Teacher of the target, of shape (D_t,)."""
        return self.target.theta

    def sample_source(self, n: int, rng: np.random.Generator | int) -> Task:
        """``n`` examples of the source; see `HiddenManifold.sample`."""
        return self.source.sample(n, rng, "source")

    def sample_target(self, n: int, rng: np.random.Generator | int) -> Task:
        """``n`` examples of the target; see `HiddenManifold.sample`."""
        return self.target.sample(n, rng, "target")
