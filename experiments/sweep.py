"""The one form of an experiment: a function, the grid it runs over, and its seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import xarray as xr

from tlnb.sweeps import run_grid

RESULTS = Path(__file__).resolve().parent.parent / "results"


@dataclass(frozen=True)
class Sweep:
    """A stored result: arguments of `tlnb.sweeps.run_grid`, declared by a chapter.

    Parameters
    ----------
    function
        Defined at the top level of the chapter's module; takes a point of the grid and ``fixed``,
        and ``seed=`` if it draws random numbers.
    grid
        Values by parameter.
    seed
        Of the sweep; every point receives one of its own.
    fixed
        Further arguments, the same at every point.
    dims
        Names of the dimensions of returned arrays, by array.
    """

    function: Callable[..., Mapping[str, Any] | xr.Dataset]
    grid: Mapping[str, Sequence]
    seed: int
    fixed: Mapping[str, Any] = field(default_factory=dict)
    dims: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def run(self, path: Path, *, command: str, workers: int | None = None) -> xr.Dataset:
        """Compute every point again; if that was interrupted, the points that are missing."""
        return run_grid(
            self.function,
            self.grid,
            path=path,
            seed=self.seed,
            fixed=self.fixed,
            dims=self.dims,
            workers=workers,
            command=command,
            recompute=True,
        )


def chapters() -> list[str]:
    """Two digits for each chapter that stores results, in order."""
    return sorted(path.stem[-2:] for path in Path(__file__).parent.glob("chapter_[0-9][0-9].py"))


def sweeps_of(chapter: str) -> dict[str, Sweep]:
    """Sweeps of a chapter by name."""
    return import_module(f"experiments.chapter_{chapter}").SWEEPS


def path_of(chapter: str, name: str) -> Path:
    """The file that a sweep is stored in."""
    return RESULTS / f"{chapter}_{name}.nc"
