"""A kernel of many examples as float32 tiles of its upper triangle.

K (P, P) is needed only through products K B. It is symmetric, so that the tiles on and above the
diagonal say all: 2 P² bytes, in memory or in a folder that a killed run continues to fill. Entries
and products inside a tile are float32, sums over tiles float64; an entry is off by 6e-8 of itself,
the kernel's spectrum by less than about 6e-8 sqrt(P) times its largest entry.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from tlnb.chunking import chunks
from tlnb.errors import ConvergenceError
from tlnb.kernels import Activation, InnerProducts
from tlnb.validation import check_count, check_inputs, check_positive

Array = NDArray[np.float64]
Tile = NDArray[np.float32]
ROUNDING = float(np.finfo(np.float32).eps) / 2


class ResolutionError(ConvergenceError, ValueError):
    """The temperature is too low for kernels of float32."""


@dataclass(frozen=True, eq=False)
class TiledKernel:
    """K by its tiles K[parts[i], parts[j]], i ≤ j."""

    tiles: Mapping[tuple[int, int], Tile]
    parts: list[slice]

    @classmethod
    def of(
        cls,
        X: ArrayLike,
        activation: Activation,
        variance: float,
        *,
        tile: int = 2000,
        folder: str | Path | None = None,
        memory: float | None = None,
        progress: bool = False,
    ) -> TiledKernel:
        """The kernel of inputs ``X`` (P, N0), for hidden weights of that variance.

        Parameters
        ----------
        tile : int
            Rows and columns of a tile; four float64 matrices of that size are held while building.
        folder : path, optional
            Where tiles are kept as files, each written whole or not at all and mapped into memory
            as it is read. Those that are there already are not made again.
        memory : float, optional
            Bytes that may be used without a folder; by default what the machine has left.
        progress : bool
            Show a bar.

        Raises
        ------
        MemoryError
            If the tiles do not fit and no folder is given.
        ValueError, TypeError
            For inputs that are not finite, a variance ≤ 0, or a folder with another kernel's tiles.
        """
        X = check_inputs(X)
        variance = check_positive("variance", variance)
        parts = list(chunks(len(X), 1, check_count("tile", tile)))
        pairs = [(i, j) for i in range(len(parts)) for j in range(i, len(parts))]
        if folder is None:
            _check_memory(len(X), min(tile, len(X)), memory)
        store = store_for(X, activation, variance, tile, folder)
        tiles = {}
        for i, j in tqdm(pairs, desc="tiles of the kernel", disable=not progress, leave=False):
            other = None if i == j else X[parts[j]]
            tiles[i, j] = tile_of(X[parts[i]], other, activation, variance, store, (i, j))
        return cls(tiles, parts)

    @property
    def size(self) -> int:
        """P, the number of examples."""
        return self.parts[-1].stop

    @cached_property
    def diagonal(self) -> Array:
        """K_μμ, of shape (P,)."""
        parts = range(len(self.parts))
        return np.concatenate([np.diagonal(self.tiles[i, i]) for i in parts]).astype(np.float64)

    @cached_property
    def squared_norm(self) -> float:
        """Tr K², the sum of all squared entries."""
        return sum(
            (1 + (i != j)) * sum(float(np.vdot(row, row)) for row in tile)
            for (i, j), tile in self.tiles.items()
        )

    def product(self, B: Array) -> Array:
        """K B for B of shape (P, n)."""
        B32 = B.astype(np.float32)
        result = np.zeros(B.shape)
        for (i, j), tile in self.tiles.items():
            rows, columns = self.parts[i], self.parts[j]
            result[rows] += tile @ B32[columns]
            if i != j:
                result[columns] += tile.T @ B32[rows]
        return result

    def check_resolution(self, Q: float, temperature: float) -> None:
        """Raise where float32 entries are too coarse for this temperature."""
        rounding = 10 * Q * ROUNDING * np.sqrt(self.size) * float(self.diagonal.max())
        if temperature < rounding:
            raise ResolutionError(
                f"temperature must exceed {rounding:.1e} for float32 kernels at P = {self.size}, "
                f"got {temperature:.1e}: take a higher temperature or the dense solver"
            )


def tile_of(
    X: Array,
    Z: Array | None,
    activation: Activation,
    variance: float,
    store: Folder | None,
    pair: tuple[int, int],
) -> Tile:
    """The tile of inputs ``X`` with ``Z``, or with themselves, from the store if it is there."""
    if store is None or pair not in store:
        products = InnerProducts.of(X) if Z is None else InnerProducts.between(X, Z)
        tile = products.dual(activation, variance, variance, variance).astype(np.float32)
        if store is None:
            return tile
        store.put(pair, tile)
    return store.get(pair)


def store_for(
    X: Array, activation: Activation, variance: float, tile: int, folder: str | Path | None
) -> Folder | None:
    """The folder of this kernel's tiles, labelled as such, or None."""
    if folder is None:
        return None
    store = Folder(Path(folder))
    store.claim(_identity(X, activation, variance, tile))
    return store


@dataclass(frozen=True)
class Folder:
    """Tiles as files of a folder, each there whole or not at all."""

    folder: Path

    def claim(self, identity: dict[str, Any]) -> None:
        """Say which kernel the folder is for, or raise if it is for another one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        label = self.folder / "kernel.json"
        if label.exists():
            found = json.loads(label.read_text(encoding="utf8"))
            if found != identity:
                differs = [key for key in identity if found.get(key) != identity[key]]
                raise ValueError(
                    f"folder {str(self.folder)!r} holds tiles of another kernel: "
                    f"{', '.join(differs)} differ; give an empty folder"
                )
            return
        _write_whole(label, lambda file: file.write(json.dumps(identity).encode()))

    def _path(self, pair: tuple[int, int]) -> Path:
        return self.folder / f"tile_{pair[0]:03d}_{pair[1]:03d}.npy"

    def __contains__(self, pair: tuple[int, int]) -> bool:
        return self._path(pair).exists()

    def put(self, pair: tuple[int, int], tile: Tile) -> None:
        """Keep a tile."""
        _write_whole(self._path(pair), lambda file: np.save(file, tile))

    def get(self, pair: tuple[int, int]) -> Tile:
        """A tile that was kept, mapped into memory."""
        return np.load(self._path(pair), mmap_mode="r")


def _write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write beside, then rename: a killed run leaves no half file by that name."""
    beside = path.with_suffix(f".{os.getpid()}.part")
    with beside.open("wb") as file:
        write(file)
    beside.replace(path)


def _identity(X: Array, activation: Activation, variance: float, tile: int) -> dict[str, Any]:
    probe = np.linspace(-3.0, 3.0, 61)
    return {
        "inputs": hashlib.sha256(np.ascontiguousarray(X).tobytes()).hexdigest(),
        "examples": len(X),
        "activation": hashlib.sha256(activation(probe).tobytes()).hexdigest(),
        "variance": variance,
        "tile": tile,
    }


def _check_memory(n: int, tile: int, memory: float | None) -> None:
    needed = 2 * n * (n + tile) + 4 * 8 * tile**2
    allowed = available() if memory is None else check_positive("memory", memory)
    if needed > allowed:
        raise MemoryError(
            f"the kernel of {n} examples takes {needed / 1e9:.2g} GB as float32 tiles and "
            f"{allowed / 1e9:.2g} GB are left: give a folder to keep them in, or fewer examples"
        )


def available() -> float:
    """Bytes of memory that are left, as far as the system says."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf8").splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):
        return np.inf
