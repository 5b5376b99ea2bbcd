"""Arguments of a sweep: checked before anything is computed; and the seed of a point."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import joblib
import numpy as np

from tlnb.sweeps.fingerprint import fingerprint
from tlnb.validation import check_choice, check_count


def point_seed(seed: int, point: Mapping[str, Any]) -> int:
    """Return the 64-bit seed of the point with these parameters in a sweep of this seed.

    Examples
    --------
    A point keeps its seed when the grid around it grows:

    >>> from tlnb.sweeps import point_seed
    >>> point_seed(4, {"width": 10, "draw": 0}) == point_seed(4, {"draw": 0, "width": 10})
    True
    >>> point_seed(4, {"width": 10, "draw": 0}) == point_seed(4, {"width": 10, "draw": 1})
    False
    """
    plain = {key: value if isinstance(value, (str, bool, np.bool_)) else float(value) + 0.0
             for key, value in point.items()}  # fmt: skip
    spawn_key = np.frombuffer(bytes.fromhex(fingerprint(plain)), dtype="<u4").tolist()
    return int(np.random.SeedSequence(seed, spawn_key=spawn_key).generate_state(1, np.uint64)[0])


def check_grid(grid: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Return the values by parameter, as plain numbers, strings or booleans of one kind each."""
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


def check_function(
    function: Callable[..., Any], axes: Mapping[str, list[Any]], fixed: dict[str, Any]
) -> bool:
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


def check_workers(backend: str, workers: int | None) -> int:
    """Return the number of processes that joblib is asked for."""
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
