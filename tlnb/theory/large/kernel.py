"""The kernel of a large source: tiles, a low rank, and what is known of both exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tlnb.theory.factors import Eigenbasis
from tlnb.theory.large.cluster import ClusterKernel
from tlnb.theory.large.low_rank import LowRank
from tlnb.theory.large.tiles import TiledKernel, available
from tlnb.theory.large.traces import FEWEST, Moments, signs
from tlnb.theory.one_task.kernel import NetworkKernel
from tlnb.validation import check_count, check_positive, check_rng, check_seed

if TYPE_CHECKING:
    from distributed import Client

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LargeOptions:
    """How a large source is solved.

    Parameters
    ----------
    tolerance : float
        Largest relative error of Q_s and of a test error; what is above is refused. Solver and
        interpolation aim at a fifth of it.
    n_landmarks : int, optional
        Of the low rank; by default a quarter of the examples, at most 2000.
    n_probes, most_probes : int
        Random vectors for traces: to begin with, and the most that may be taken if Q_s asks.
    tile : int
        Rows and columns of a tile.
    columns : int
        Right-hand sides that are solved at once, for which eight vectors each are held.
    screen, finalists : int
        Where more than ``finalists`` temperatures, readout precisions and widths are to choose
        from, they are judged on ``screen`` examples of the source, and that many of the best are
        solved for whole.
    folder : path, optional
        Where tiles and solved couplings are kept, so that a killed run continues there.
    memory : float, optional
        Bytes that tiles may take without a folder; by default what the machine has left.
    rng : int or Generator
        Of landmarks and random vectors.
    progress : bool
        Show bars.
    client : distributed.Client, optional
        Of a Dask cluster whose workers hold the tiles.

    Examples
    --------
    >>> from tlnb.theory.large import LargeOptions
    >>> LargeOptions(tolerance=1e-3, n_landmarks=500, folder="tiles").n_probes
    32
    """

    tolerance: float = 5e-3
    n_landmarks: int | None = None
    n_probes: int = 32
    most_probes: int = 512
    tile: int = 2000
    columns: int = 512
    screen: int = 3000
    finalists: int = 3
    folder: str | Path | None = None
    memory: float | None = None
    rng: int | np.random.Generator | None = 0
    progress: bool = False
    client: Client | None = None

    def __post_init__(self) -> None:
        check_positive("tolerance", self.tolerance)
        for name in ("n_probes", "most_probes"):
            check_count(name, getattr(self, name), FEWEST)
        for name in ("tile", "columns", "screen", "finalists"):
            check_count(name, getattr(self, name))
        if self.n_landmarks is not None:
            check_count("n_landmarks", self.n_landmarks)
        check_rng("rng", self.rng)


class _AsTheyAre:
    """Stands where a dense source has its eigenbasis: nothing is rotated."""

    def projections(self, B: Array) -> Array:
        return B


@dataclass(frozen=True, eq=False)
class LargeKernel(NetworkKernel):
    """A source's kernel that is never factorised; its parts are made when first needed."""

    options: LargeOptions = field(default_factory=LargeOptions)

    @property
    def factor(self) -> Eigenbasis:
        """No factor: kernels with other inputs are left unrotated."""
        return _AsTheyAre()  # type: ignore[return-value]

    @cached_property
    def tiles(self) -> TiledKernel:
        """K (P, P)."""
        o = self.options
        if o.client is not None:
            given = o.client, self.X, self.activation, self.variance
            return ClusterKernel.on(*given, tile=o.tile, folder=o.folder)
        memory = o.memory
        if memory is None:
            # The low rank in both precisions, and the vectors of the solver.
            beside = len(self.X) * (20 * self.n_landmarks + 8 * 9 * o.columns)
            memory = max(available() - beside, 1.0)
        return TiledKernel.of(
            self.X,
            self.activation,
            self.variance,
            tile=o.tile,
            folder=o.folder,
            memory=memory,
            progress=o.progress,
        )

    @cached_property
    def low_rank(self) -> LowRank:
        """K by some of its columns."""
        given = self.X, self.activation, self.variance
        return LowRank.of(*given, self.n_landmarks, self._seed)

    @property
    def n_landmarks(self) -> int:
        """Columns that the low rank is made of."""
        P = len(self.X)
        return self.options.n_landmarks or min(2000, max(min(P, 100), P // 4))

    @cached_property
    def moments(self) -> Moments:
        """What is known exactly of K, and of K in the directions of the low rank."""
        return Moments.of(self.tiles, self.low_rank)

    def probes(self, n: int) -> Array:
        """Random signs (P, n); more of them begin with the same ones."""
        rng = check_rng("rng", self._seed, "probes")
        parts = [signs(len(self.X), FEWEST, rng) for _ in range(-(-n // FEWEST))]
        return np.concatenate(parts, axis=1)[:, :n]

    def few(self, n: int) -> NDArray[np.intp]:
        """Numbers of at most ``n`` examples drawn at random, ascending."""
        rng = check_rng("rng", self._seed, "few")
        return np.sort(rng.permutation(len(self.X))[:n])

    @cached_property
    def _seed(self) -> int:
        return check_seed("rng", check_rng("rng", self.options.rng, "large"))
