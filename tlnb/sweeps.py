"""Parameter sweeps: a function at every point of a grid, in parallel, on disk as it goes.

A sweep over ``{"width": [40, 160], "coupling": [0, 1]}`` calls ``function(width=40, coupling=0)``
and so on, each point in one process with one BLAS thread and with a seed of its own,

    seed of a point = SeedSequence(seed of the sweep, spawn_key = hash of the point's parameters),

so that a number depends neither on the order, nor on the workers, nor on the rest of the grid.
A worker writes its point to the directory ``<path>.points`` before it begins another: a sweep that
was killed continues from there and has lost the points in flight only. Every file is netCDF
followed by its SHA-256 digest and carries a fingerprint (function and its source, parameters, seed,
version of tlnb); one that is truncated, corrupted or of another sweep is never used. Once all
points succeeded they stand in the one file ``path``, and their directory is removed.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import os
import platform
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import scipy
import xarray as xr
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import tlnb
from tlnb.validation import check_choice, check_count

_VERSIONS = {module.__name__: module.__version__ for module in (np, scipy, tlnb)}
_VERSIONS["python"] = platform.python_version()


class _Point(NamedTuple):
    parameters: dict[str, Any]
    arguments: dict[str, Any]
    fingerprint: str
    file: Path


def run_grid(
    function: Callable[..., Mapping[str, Any] | xr.Dataset],
    grid: Mapping[str, Sequence],
    *,
    path: str | os.PathLike,
    seed: int,
    fixed: Mapping[str, Any] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    workers: int | None = None,
    backend: str = "loky",
    progress: bool = True,
    command: str | None = None,
    recompute: bool = False,
) -> xr.Dataset:
    """Evaluate ``function`` at every point of ``grid`` and store the results in ``path``.

    Parameters
    ----------
    function
        Defined at the top level of a module. Called as ``function(**point, **fixed)``, with
        ``seed=`` (an int) if it takes one; returns real arrays by name, or a Dataset (whose
        attributes are not kept), of the same names, shapes and coordinates at every point.
    grid
        Distinct numbers, strings or booleans by parameter; with one float, a list is all floats.
    path
        The netCDF file to write. Under Dask every worker must see its directory by this name.
    seed
        An integer >= 0; what a point receives is `point_seed`.
    fixed
        Further arguments: numbers, strings, None, arrays, and lists or dicts of these.
    dims
        Names of the dimensions of returned arrays, by array; else ``name_0``, ``name_1``, ...
    workers
        Processes, by default and at most one for each core; Dask's cluster has its own number.
    backend
        "loky": processes of this machine. "dask": the workers, of one thread each, of the cluster
        to which a `distributed.Client` was made. "sequential": this process.
    command
        Noted in the file as the command that made it; by default this call.
    recompute
        Compute again what ``path`` holds already (but continue if that was interrupted).

    Returns
    -------
    xarray.Dataset over the grid, then each array's own dimensions, with ``failure``: the error that
    a point raised, else "". A failed point holds NaN and is tried again at the next start.

    Raises
    ------
    TypeError, ValueError
        For arguments other than these.
    OSError
        If ``path`` or a point cannot be written.
    RuntimeError
        If every point fails.
    """
    axes, fixed, dims = _check_grid(grid), dict(fixed or {}), dict(dims or {})
    seed = check_count("seed", seed, least=0)
    takes_seed = _check_function(function, axes, fixed)
    n_jobs = _check_workers(backend, workers)
    path = Path(path).absolute()
    folder = path.with_name(path.name + ".points")
    name = f"{function.__module__}.{function.__qualname__}"
    made_from = [name, _source(function), fixed, dims, seed, tlnb.__version__]
    whole = _fingerprint(made_from, axes)
    points = []
    for values in product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        arguments = point | fixed | ({"seed": point_seed(seed, point)} if takes_seed else {})
        fingerprint = _fingerprint(made_from, point)
        points.append(_Point(point, arguments, fingerprint, folder / f"{fingerprint[:24]}.nc"))
    if not (recompute or any(point.file.exists() for point in points)):
        stored = _read_or_warn(path, whole)
        if stored is not None and (stored["failure"] == "").all():
            return stored
    try:
        if path.is_dir():
            raise IsADirectoryError("a directory")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"path must be a file that can be written, got {path}: {error}") from None
    if foreign := set(folder.glob("*.nc")) - {point.file for point in points}:
        warnings.warn(f"{folder}: {len(foreign)} points of another sweep, not used", stacklevel=2)

    missing = [i for i, p in enumerate(points) if _read_or_warn(p.file, p.fingerprint) is None]
    parent = os.getpid() if backend == "loky" and n_jobs > 1 else None
    tasks = [joblib.delayed(_compute)(i, function, points[i], dims, parent) for i in missing]
    failures = [""] * len(points)
    with joblib.parallel_config(backend=backend, n_jobs=n_jobs):
        finished = joblib.Parallel(batch_size=1, return_as="generator_unordered")(tasks)
        bar = {"total": len(points), "initial": len(points) - len(missing), "unit": "point"}
        for number, failure in tqdm(finished, desc=path.name, disable=not progress, **bar):
            failures[number] = failure

    dataset = _merge(axes, points, failures)
    call = f"tlnb.sweeps.run_grid({name}, ..., path={path.name!r}, seed={seed})"
    dataset.attrs |= {"function": name, "fixed": _json(fixed), "seed": str(seed)}
    dataset.attrs |= {"command": command or call, "fingerprint": whole}
    _write(dataset, path, folder)
    if (dataset["failure"] == "").all():
        for file in [*(point.file for point in points), *folder.glob(".*.tmp")]:
            file.unlink(missing_ok=True)
        with suppress(OSError):  # points of another sweep stay
            folder.rmdir()
    return load(path)


def load(path: str | os.PathLike) -> xr.Dataset:
    """Read a file that `run_grid` wrote; warn of failed points.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none, or if it is truncated, corrupted, or not a whole sweep.
    """
    dataset = _read(Path(path))
    if "failure" not in dataset:
        raise ValueError(f"path must be a whole sweep, got one point of it: {path}")
    if failed := [text for text in dataset["failure"].values.ravel() if text]:
        warnings.warn(f"{path}: {len(failed)} points failed, first {failed[0]}", stacklevel=2)
    return dataset


def point_seed(seed: int, point: Mapping[str, Any]) -> int:
    """Return the 64-bit seed of the point with these parameters in a sweep of this seed."""
    plain = {key: value if isinstance(value, (str, bool, np.bool_)) else float(value) + 0.0
             for key, value in point.items()}  # fmt: skip
    spawn_key = np.frombuffer(bytes.fromhex(_fingerprint(plain)), dtype="<u4").tolist()
    return int(np.random.SeedSequence(seed, spawn_key=spawn_key).generate_state(1, np.uint64)[0])


def _check_grid(grid: Mapping[str, Sequence]) -> dict[str, list]:
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError(f"grid must map at least one parameter to its values, got {grid!r}")
    axes = {}
    for name, given in grid.items():
        allowed = f"grid[{name!r}] must hold distinct numbers, strings or booleans, got {given!r}"
        if isinstance(given, str) or not isinstance(given, (Sequence, np.ndarray)):
            raise TypeError(allowed)
        values = [value.item() if isinstance(value, np.generic) else value for value in given]
        types = {type(value) for value in values}
        if not (types <= {int, float} or types in ({str}, {bool})):
            raise TypeError(allowed)
        if not values or len(set(values)) < len(values) or any(v != v for v in values):
            raise ValueError(allowed)
        axes[name] = [float(value) for value in values] if float in types else values
    return axes


def _check_function(function: Callable, axes: Mapping[str, list], fixed: dict[str, Any]) -> bool:
    """Return whether the function takes a seed."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for part in getattr(function, "__qualname__", "-").split("."):
        found = getattr(found, part, None)
    if found is not function or not callable(function):
        rule = "function must be defined at the top level of a module (no lambda, nothing nested)"
        raise TypeError(f"{rule}, got {function!r}")
    given = [*axes, *fixed]
    if len({*given, "seed", "failure"}) < len(given) + 2:
        raise ValueError(f"grid and fixed must name different parameters, no seed, got {given}")
    signature = inspect.signature(function)
    takes_seed = "seed" in signature.parameters
    try:
        signature.bind(**dict.fromkeys([*given, "seed"] if takes_seed else given))
    except TypeError as error:
        raise TypeError(f"grid and fixed must give the arguments of function: {error}") from None
    return takes_seed


def _check_workers(backend: str, workers: int | None) -> int:
    if check_choice("backend", backend, ("loky", "dask", "sequential")) != "dask":
        cores = joblib.cpu_count()
        most = cores if workers is None else min(check_count("workers", workers), cores)
        return most if backend == "loky" else 1
    if workers is not None:
        raise ValueError(f"workers must be None with backend='dask', got {workers!r}")
    try:
        from distributed import get_client

        threads = get_client().nthreads()
    except (ImportError, ValueError) as error:
        hint = "backend='dask' needs a distributed.Client (and: pip install 'tlnb[cluster]')"
        raise type(error)(hint) from error
    # The limit on BLAS threads is one of a process: points in two threads of it would undo it.
    if set(threads.values()) != {1}:
        raise ValueError(f"backend='dask' needs workers of one thread each, got {dict(threads)}")
    return -1


def _compute(number: int, function: Callable, point: _Point, dims: Mapping, parent: int | None):
    """Compute one point and write it; return its number and its error, "" if there was none."""
    if parent is not None:
        _leave_with(parent)
    try:
        with threadpool_limits(limits=1):
            dataset = _as_dataset(function(**point.arguments), dims, {*point.parameters, "failure"})
    except Exception as error:
        return number, f"{type(error).__name__}: {error}"
    parameters = _json(point.parameters)
    dataset.attrs = {"fingerprint": point.fingerprint, "parameters": parameters, **_VERSIONS}
    _write(dataset, point.file, point.file.parent)
    return number, ""


@cache
def _leave_with(parent: int) -> None:
    """End this worker when the sweep is killed: its queue belongs to the next start."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _as_dataset(result: Any, dims: Mapping, taken: set[str]) -> xr.Dataset:
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


def _merge(axes: dict[str, list], points: list[_Point], failures: list[str]) -> xr.Dataset:
    """Return the points as one Dataset; one that is unlike the first joins the failures."""
    whole = {i: _read(points[i].file, points[i].fingerprint)
             for i, failure in enumerate(failures) if not failure}  # fmt: skip
    if not whole:
        raise RuntimeError(f"every point of the sweep failed, the first with {failures[0]}")
    first = next(iter(whole.values()))
    for i in [i for i, result in whole.items() if _layout(result) != _layout(first)]:
        failures[i] = f"ValueError: its layout {_layout(whole.pop(i))} is not {_layout(first)}"
        points[i].file.unlink()
    shape = tuple(len(values) for values in axes.values())
    data = {"failure": (tuple(axes), np.array(failures).reshape(shape))}
    for name, array in first.data_vars.items():
        nan = np.full(array.shape, np.nan)
        stack = np.stack([whole[i][name].values if i in whole else nan for i in range(len(points))])
        data[name] = ((*axes, *array.dims), stack.reshape(shape + array.shape))
    versions = {key: ", ".join(sorted({result.attrs[key] for result in whole.values()}))
                for key in _VERSIONS}  # fmt: skip
    return xr.Dataset(data, coords={**axes, **first.coords}, attrs=versions)


def _layout(dataset: xr.Dataset) -> str:
    arrays = {name: array.sizes for name, array in dataset.data_vars.items()}
    return f"{arrays} { ({name: c.values.tolist() for name, c in dataset.coords.items()}) }"


def _write(dataset: xr.Dataset, path: Path, folder: Path) -> None:
    """Write netCDF and its digest beside, then move them into place: whole or not at all."""
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        dataset.to_netcdf(temporary, engine="h5netcdf")
        with open(temporary, "r+b") as file:
            file.write(hashlib.sha256(file.read()).digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(PermissionError):  # Windows opens no directories
        descriptor = os.open(path.parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _read(path: Path, fingerprint: str | None = None) -> xr.Dataset:
    stored = path.read_bytes()
    content, digest = stored[:-32], stored[-32:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path} is truncated, corrupted or not written by tlnb.sweeps")
    dataset = xr.load_dataset(io.BytesIO(content), engine="h5netcdf")
    if fingerprint is not None and dataset.attrs["fingerprint"] != fingerprint:
        raise ValueError(f"{path} is of another function, parameters, seed or version of tlnb")
    return dataset


def _read_or_warn(path: Path, fingerprint: str) -> xr.Dataset | None:
    if path.is_file():
        try:
            return _read(path, fingerprint)
        except ValueError as error:
            warnings.warn(f"{error}: computing it again", stacklevel=3)
    return None


def _source(function: Callable) -> str:
    with suppress(OSError, TypeError):
        return inspect.getsource(function)
    return ""


def _fingerprint(*parts: Any) -> str:
    return hashlib.sha256(_json(parts).encode()).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=_encode)


def _encode(value: Any) -> Any:
    """Return a numpy scalar as Python's, an array as its hash."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"dtype": value.dtype.str, "shape": value.shape, "sha256": digest}
    raise TypeError(f"fixed must hold numbers, strings, None, arrays, lists, dicts, got {value!r}")
