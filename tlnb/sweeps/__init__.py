"""Parameter sweeps: a function at every point of a grid, in parallel, on disk as it goes.

A sweep over ``{"width": [40, 160], "coupling": [0, 1]}`` calls ``function(width=40, coupling=0)``
and so on, each point in one process with one BLAS thread and with a seed of its own,

    seed of a point = SeedSequence(seed of the sweep, spawn_key = hash of the point's parameters),

so that a number depends neither on the order, nor on the workers, nor on the rest of the grid.
A worker writes its point to the directory ``<path>.points`` before it begins another: a sweep that
was killed continues from there and has lost the points in flight only. Every file is netCDF
followed by its SHA-256 digest and carries a fingerprint: parameters, seed, and the code that makes
the numbers, which is the function's module, the modules beside it that this one imports, and tlnb.
One that is truncated, corrupted, of another sweep or of other code is never used. Once all points
succeeded they stand in the one file ``path``, and their directory is removed. Of two runs of one
sweep at a time the second waits and then uses what the first has made.
"""

from tlnb.errors import needs

with needs("sweeps"):
    import h5netcdf  # noqa: F401  # the engine that xarray is told to use
    import joblib  # noqa: F401

from tlnb.sweeps.grid import point_seed
from tlnb.sweeps.run import run_grid
from tlnb.sweeps.storage import load

__all__ = ["load", "point_seed", "run_grid"]
