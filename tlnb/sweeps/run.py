"""`run_grid`: the points that are missing are computed, then all stand in one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import product
from pathlib import Path
from typing import Any

import joblib
import xarray as xr
from tqdm import tqdm

import tlnb
from tlnb.errors import warn_caller
from tlnb.sweeps.fingerprint import as_json, code_fingerprint, fingerprint, worker_fingerprint
from tlnb.sweeps.grid import check_function, check_grid, check_workers, point_seed
from tlnb.sweeps.points import Point, compute, merge
from tlnb.sweeps.storage import load, only_run, read_or_warn, write
from tlnb.validation import check_count


def run_grid(
    function: Callable[..., Mapping[str, Any] | xr.Dataset],
    grid: Mapping[str, Sequence[Any]],
    *,
    path: str | os.PathLike[str],
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
    axes, fixed, dims = check_grid(grid), dict(fixed or {}), dict(dims or {})
    seed = check_count("seed", seed, least=0)
    takes_seed = check_function(function, axes, fixed)
    n_jobs = check_workers(backend, workers)
    path = Path(path).absolute()
    folder = path.with_name(path.name + ".points")
    name, code = f"{function.__module__}.{function.__qualname__}", code_fingerprint(function)
    made_from = [name, code, fixed, dims, seed, tlnb.__version__]
    whole = fingerprint(made_from, axes)
    in_worker, points = worker_fingerprint(function), []
    for values in product(*axes.values()):
        place = dict(zip(axes, values, strict=True))
        arguments = place | fixed | ({"seed": point_seed(seed, place)} if takes_seed else {})
        of_point = fingerprint(made_from, place)
        points.append(Point(place, arguments, of_point, in_worker, folder / f"{of_point[:24]}.nc"))

    def stored(anew: bool) -> xr.Dataset | None:
        if anew or any(point.file.exists() for point in points):
            return None
        found = read_or_warn(path, whole)
        return found if found is not None and (found["failure"] == "").all() else None

    if (found := stored(anew=recompute)) is not None:
        return found
    try:
        if path.is_dir():
            raise IsADirectoryError("a directory")
        path.parent.mkdir(parents=True, exist_ok=True)
        alone = ExitStack()
        waited = alone.enter_context(only_run(path))
    except OSError as error:
        raise type(error)(f"path must be a file that can be written, got {path}: {error}") from None
    with alone:
        if (found := stored(anew=recompute and not waited)) is not None:
            return found
        folder.mkdir(exist_ok=True)
        if foreign := set(folder.glob("*.nc")) - {point.file for point in points}:
            warn_caller(f"{folder}: {len(foreign)} points of another sweep, not used")
        failures = _compute_missing(function, points, dims, backend, n_jobs, progress, path.name)
        dataset = merge(axes, points, failures)
        call = f"tlnb.sweeps.run_grid({name}, ..., path={path.name!r}, seed={seed})"
        dataset.attrs |= {"function": name, "fixed": as_json(fixed), "seed": str(seed)}
        dataset.attrs |= {"command": command or call, "fingerprint": whole}
        write(dataset, path, folder)
        if (dataset["failure"] == "").all():
            for file in [*(point.file for point in points), *folder.glob(".*.tmp")]:
                file.unlink(missing_ok=True)
            with suppress(OSError):  # points of another sweep stay
                folder.rmdir()
    return load(path)


def _compute_missing(
    function: Callable[..., Any],
    points: list[Point],
    dims: Mapping[str, Sequence[str]],
    backend: str,
    n_jobs: int,
    progress: bool,
    title: str,
) -> list[str]:
    """Compute the points whose files are not there; return the error of each, "" for none."""
    missing = [i for i, p in enumerate(points) if read_or_warn(p.file, p.fingerprint) is None]
    parent = os.getpid() if backend == "loky" and n_jobs > 1 else None
    tasks = [joblib.delayed(compute)(i, function, points[i], dims, parent) for i in missing]
    failures = [""] * len(points)
    with joblib.parallel_config(backend=backend, n_jobs=n_jobs):
        finished = joblib.Parallel(batch_size=1, return_as="generator_unordered")(tasks)
        bar = {"total": len(points), "initial": len(points) - len(missing), "unit": "point"}
        for number, failure in tqdm(finished, desc=title, disable=not progress, **bar):
            failures[number] = failure
    return failures
