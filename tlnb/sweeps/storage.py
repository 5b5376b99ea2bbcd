"""Files of a sweep: written whole or not at all, read only if unharmed, by one run at a time."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import xarray as xr

from tlnb.errors import warn_caller


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read a file that `run_grid` wrote; warn of failed points.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none, or if it is truncated, corrupted, or not a whole sweep.
    """
    dataset = read(Path(path))
    if "failure" not in dataset:
        raise ValueError(f"path must be a whole sweep, got one point of it: {path}")
    if failed := [text for text in dataset["failure"].values.ravel() if text]:
        warn_caller(f"{path}: {len(failed)} points failed, first {failed[0]}")
    return dataset


def write(dataset: xr.Dataset, path: Path, folder: Path) -> None:
    """Write netCDF and its digest in ``folder``, then move them into place."""
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


def read(path: Path, fingerprint: str | None = None) -> xr.Dataset:
    """Read a file and hold it against its digest and, if given, the fingerprint."""
    stored = path.read_bytes()
    content, digest = stored[:-32], stored[-32:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path} is truncated, corrupted or not written by tlnb.sweeps")
    dataset = xr.load_dataset(io.BytesIO(content), engine="h5netcdf")
    if fingerprint is not None and dataset.attrs["fingerprint"] != fingerprint:
        raise ValueError(f"{path} is of another function, parameters, seed or version of the code")
    return dataset


def read_or_warn(path: Path, fingerprint: str) -> xr.Dataset | None:
    """Read a file; None if there is none, with a warning if it cannot be used."""
    if path.is_file():
        try:
            return read(path, fingerprint)
        except ValueError as error:
            warn_caller(f"{error}: computing it again")
    return None


@contextmanager
def only_run(path: Path) -> Iterator[bool]:
    """Hold what only one run can hold for ``path``; wait for it. Whether that took waiting.

    The system takes the lock back from a process that dies.
    """
    beside = path.with_name(f".{path.name}.lock")
    waited = False
    while True:
        file = open(beside, "ab")
        if not _lock(file, wait=False):
            warn_caller(f"{path}: another run is at it, waiting for its end")
            waited = True
            _lock(file, wait=True)
        # The run before removed its file: that one is free for all, and nobody's.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(beside)):
                break
        file.close()
    try:
        yield waited
    finally:
        with suppress(OSError):  # Windows removes no open file
            beside.unlink()
        file.close()


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Whether the file is now this process's alone."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:  # LK_LOCK gives up after ten seconds
            return wait and _lock(file, wait=True)
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
