"""Points of a sweep: what each is, how a worker computes it, and all of them as one Dataset."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
import xarray as xr
from threadpoolctl import threadpool_limits

import tlnb
from tlnb.sweeps.fingerprint import as_json, worker_fingerprint
from tlnb.sweeps.storage import read, write

VERSIONS = {module.__name__: module.__version__ for module in (np, scipy, tlnb)}
VERSIONS["python"] = platform.python_version()


class Point(NamedTuple):
    """A point: its place in the grid, all arguments, the code it needs, and its file."""

    parameters: dict[str, Any]
    arguments: dict[str, Any]
    fingerprint: str
    code: str
    file: Path


def compute(
    number: int,
    function: Callable[..., Any],
    point: Point,
    dims: Mapping[str, Sequence[str]],
    parent: int | None,
) -> tuple[int, str]:
    """Compute one point and write it; return its number and its error, "" if there was none."""
    if parent is not None:
        _leave_with(parent)
    try:
        if worker_fingerprint(function) != point.code:
            raise RuntimeError("the code was changed after the sweep began: start it again")
        with threadpool_limits(limits=1):
            dataset = _as_dataset(function(**point.arguments), dims, {*point.parameters, "failure"})
    except Exception as error:
        return number, f"{type(error).__name__}: {error}"
    parameters = as_json(point.parameters)
    dataset.attrs = {"fingerprint": point.fingerprint, "parameters": parameters, **VERSIONS}
    write(dataset, point.file, point.file.parent)
    return number, ""


@cache
def _leave_with(parent: int) -> None:
    """End this worker when the sweep is killed: its queue belongs to the next start."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _as_dataset(result: Any, dims: Mapping[str, Any], taken: set[str]) -> xr.Dataset:
    if not isinstance(result, (Mapping, xr.Dataset)) or not result:
        raise TypeError(f"function must return named arrays or a Dataset, got {result!r}")
    if not isinstance(result, xr.Dataset):
        data = {name: np.asarray(value) for name, value in result.items()}
        own = {name: [f"{name}_{i}" for i in range(array.ndim)] for name, array in data.items()}
        result = xr.Dataset({name: (dims.get(name, own[name]), data[name]) for name in data})
    if used := {*result.variables, *result.dims} & taken:
        raise ValueError(f"function must return names other than the grid's, got {used}")
    for name, variable in result.data_vars.items():
        if variable.dtype.kind not in "biuf":
            raise TypeError(f"function must return real arrays, got {name!r} of {variable.dtype}")
    return result.copy()


def merge(axes: dict[str, list[Any]], points: list[Point], failures: list[str]) -> xr.Dataset:
    """Return the points as one Dataset; one that is unlike the first joins the failures."""
    whole = {i: read(points[i].file, points[i].fingerprint)
             for i, failure in enumerate(failures) if not failure}  # fmt: skip
    if not whole:
        raise RuntimeError(f"every point of the sweep failed, the first with {failures[0]}")
    first = next(iter(whole.values()))
    for i in [i for i, result in whole.items() if _layout(result) != _layout(first)]:
        failures[i] = f"ValueError: its layout {_layout(whole.pop(i))} is not {_layout(first)}"
        points[i].file.unlink()
    shape = tuple(len(values) for values in axes.values())
    data: dict[Hashable, Any] = {"failure": (tuple(axes), np.array(failures).reshape(shape))}
    for name, array in first.data_vars.items():
        nan = np.full(array.shape, np.nan)
        stack = np.stack([whole[i][name].values if i in whole else nan for i in range(len(points))])
        data[name] = ((*axes, *array.dims), stack.reshape(shape + array.shape))
    versions = {key: ", ".join(sorted({result.attrs[key] for result in whole.values()}))
                for key in VERSIONS}  # fmt: skip
    return xr.Dataset(data, coords={**axes, **first.coords}, attrs=versions)


def _layout(dataset: xr.Dataset) -> str:
    arrays = {name: array.sizes for name, array in dataset.data_vars.items()}
    return f"{arrays} { ({name: c.values.tolist() for name, c in dataset.coords.items()}) }"
