"""A kernel's tiles in the memory of a cluster: Dask workers hold them, vectors travel.

The same products as `tlnb.theory.large.tiles`, with each tile computed and kept on a worker, so
that P is limited by the memory of all workers together: 2 P² bytes. A product sends B to the tiles,
and the parts of K B back; the scheduler moves what is smaller, and that is not the tiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.chunking import chunks
from tlnb.errors import needs
from tlnb.kernels import Activation
from tlnb.theory.large.tiles import Tile, TiledKernel, store_for, tile_of
from tlnb.validation import check_count, check_inputs, check_positive

if TYPE_CHECKING:
    from distributed import Client, Future

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClusterKernel(TiledKernel):
    """K by its tiles on the workers of ``client``; ``tiles`` are futures of them."""

    tiles: Mapping[tuple[int, int], Any]
    client: Client

    @classmethod
    def on(
        cls,
        client: Client,
        X: ArrayLike,
        activation: Activation,
        variance: float,
        *,
        tile: int = 2000,
        folder: str | Path | None = None,
    ) -> ClusterKernel:
        """The kernel of inputs ``X`` (P, N0), made by the workers.

        Parameters
        ----------
        client : distributed.Client
            Of a cluster whose workers have this package.
        X, activation, variance, tile
            As of `TiledKernel.of`.
        folder : path, optional
            That all workers see, where tiles are kept for a run that continues.

        Raises
        ------
        ModuleNotFoundError
            Without ``distributed``; the extra ``cluster`` brings it.
        ValueError, TypeError
            As `TiledKernel.of` does.
        """
        with needs("cluster"):
            import distributed  # noqa: F401
        X = check_inputs(X)
        variance = check_positive("variance", variance)
        parts = list(chunks(len(X), 1, check_count("tile", tile)))
        store = store_for(X, activation, variance, tile, folder)
        inputs = client.scatter([X[part] for part in parts], hash=False)
        tiles: dict[tuple[int, int], Future[Any]] = {
            (i, j): client.submit(
                tile_of,
                inputs[i],
                None if i == j else inputs[j],
                activation,
                variance,
                store,
                (i, j),
                pure=False,
            )
            for i in range(len(parts))
            for j in range(i, len(parts))
        }
        client.gather([client.submit(len, each, pure=False) for each in tiles.values()])
        return cls(tiles, parts, client)

    def _of_tiles(self, function: Any, chosen: list[tuple[int, int]]) -> list[Any]:
        return self.client.gather(
            [self.client.submit(function, self.tiles[pair], pure=False) for pair in chosen]
        )

    @cached_property
    def diagonal(self) -> Array:
        """K_μμ, of shape (P,)."""
        own = [(i, i) for i in range(len(self.parts))]
        return np.concatenate(self._of_tiles(np.diagonal, own)).astype(np.float64)

    @cached_property
    def squared_norm(self) -> float:
        """Tr K², the sum of all squared entries."""
        pairs = list(self.tiles)
        norms = self._of_tiles(_squared, pairs)
        return sum((1 + (i != j)) * norm for (i, j), norm in zip(pairs, norms, strict=True))

    def product(self, B: Array) -> Array:
        """K B for B of shape (P, n)."""
        client, B32 = self.client, B.astype(np.float32)
        sent = client.scatter([B32[part] for part in self.parts], hash=False)
        into: list[list[Future[Any]]] = [[] for _ in self.parts]
        for (i, j), tile in self.tiles.items():
            into[i].append(client.submit(np.matmul, tile, sent[j], pure=False))
            if i != j:
                into[j].append(client.submit(_transposed, tile, sent[i], pure=False))
        sums = [client.submit(_sum, pieces, pure=False) for pieces in into]
        return np.concatenate(client.gather(sums))


def _transposed(tile: Tile, B: Tile) -> Tile:
    return tile.T @ B


def _sum(pieces: list[Tile]) -> Array:
    return np.sum(pieces, axis=0, dtype=np.float64)


def _squared(tile: Tile) -> float:
    return sum(float(np.vdot(row, row)) for row in tile)
