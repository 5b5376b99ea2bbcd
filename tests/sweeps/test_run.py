"""Sweeps give one result, whatever kills, corrupts, distributes or reorders them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import joblib
import numpy as np
import psutil
import pytest
import xarray as xr
from threadpoolctl import threadpool_info
from xarray import Dataset

from tlnb import __version__, sweeps
from tlnb.sweeps import points, run, storage

GRID: dict[str, Any] = {"width": [10, 20, 40], "scheme": ["a", "b"], "coupling": [0, 0.5, np.inf]}
ROOT = Path(__file__).resolve().parents[2]
LONG = {**GRID, "coupling": [*range(6)]}
SMALL: dict[str, Any] = {"width": [1, 2, 3]}


def draws(
    width: float, scheme: str, coupling: float, *, n: int = 4, seed: int, delay: float = 0.0
) -> dict[str, Any]:
    """Random numbers, a matrix product (whose last bits depend on BLAS threads), a flag."""
    time.sleep(delay)
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(60, 60)) * width
    return {
        "draw": rng.normal(size=n) + min(coupling, 1e3),
        "product": matrix @ matrix,
        "flag": scheme == "a",
    }


def labelled(width: float, *, seed: int) -> Dataset:
    x = np.linspace(0.0, 1.0, 3)
    data = {"curve": ("x", width * x), "seed": ((), float(seed)), "count": ("x", np.arange(3))}
    return xr.Dataset(data, coords={"x": x, "kind": ("x", ["p", "q", "r"])}, attrs={"lost": 1})


def fragile(width: float, *, broken: Any, level: float = 0.0) -> dict[str, Any]:
    """Fail at width 2 while the file ``broken`` exists; note each call in a file beside."""
    with open(f"{broken}.calls", "a", encoding="utf8") as calls:
        calls.write(f"{width} ")
    if width == 2 and Path(broken).exists():
        raise ArithmeticError("no convergence here")
    return {"square": width**2, "half": width / 2}


def noted(width: float, *, calls: Any) -> dict[str, Any]:
    """Note each call in a file, and take a while."""
    with open(calls, "a", encoding="utf8") as file:
        file.write(f"{width} ")
    time.sleep(1.0)
    return {"square": width**2}


def uneven(width: float) -> dict[str, Any]:
    return {"values": np.zeros(2 if width == 2 else 3)}


def nothing(width: float) -> dict[str, Any]:
    return {}


def text(width: float) -> dict[str, Any]:
    return {"values": np.array(["x"])}


def clash(width: float) -> dict[str, Any]:
    return {"width": 1.0}


def always(width: float) -> None:
    raise ValueError(f"never at {width}")


def threads(width: float) -> dict[str, Any]:
    time.sleep(0.1)
    pools = [pool["num_threads"] for pool in threadpool_info()]
    return {"blas": max(pools), "process": os.getpid()}


def sweep(path: Path, function: Callable = draws, grid: Any = GRID, **options: Any) -> Dataset:
    return sweeps.run_grid(function, grid, path=path, **{"seed": 7, "progress": False, **options})


def bits(dataset: xr.Dataset) -> dict[Any, bytes | list]:
    return {
        name: variable.values.tolist()
        if variable.dtype.kind in "OUT"
        else variable.dtype.str.encode() + variable.values.tobytes()
        for name, variable in dataset.variables.items()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return sweep(tmp_path_factory.mktemp("sweep") / "whole.nc", workers=1)


def test_dataset_is_over_the_grid(undisturbed: Dataset) -> None:
    assert undisturbed["draw"].dims == ("width", "scheme", "coupling", "draw_0")
    assert (undisturbed["flag"] == (undisturbed["scheme"] == "a")).all()
    for point in ({"width": 20, "scheme": "b", "coupling": 0.5},
                  {"width": 10, "scheme": "a", "coupling": np.inf}):  # fmt: skip
        expected = draws(**point, seed=sweeps.point_seed(7, point))
        np.testing.assert_array_equal(undisturbed["draw"].sel(point), expected["draw"])
    assert (undisturbed["failure"] == "").all()


def test_attributes_say_what_made_it(tmp_path: Path, undisturbed: Dataset) -> None:
    attrs = undisturbed.attrs
    assert attrs["function"].endswith("test_run.draws") and attrs["seed"] == "7"
    assert attrs["tlnb"] == __version__ and attrs["numpy"] == np.__version__
    assert "run_grid" in attrs["command"] and str(tmp_path) not in str(attrs)
    made = sweep(tmp_path / "a.nc", labelled, SMALL, command="python results/a.py", workers=1)
    assert made.attrs["command"] == "python results/a.py"
    options: dict[str, Any] = {
        "fixed": {"broken": str(tmp_path / "no"), "level": np.ones(3)},
        "workers": 1,
    }
    made = sweep(tmp_path / "b.nc", fragile, SMALL, **options)
    noted = json.loads(made.attrs["fixed"])
    assert noted["broken"] == str(tmp_path / "no") and noted["level"]["shape"] == [3]


def test_result_is_netcdf_for_any_reader(tmp_path: Path, undisturbed: Dataset) -> None:
    sweep(tmp_path / "a.nc", labelled, SMALL, workers=1)
    with h5py.File(tmp_path / "a.nc") as file:
        np.testing.assert_array_equal(file["curve"][2], [0.0, 1.5, 3.0])
    assert [file.name for file in tmp_path.iterdir()] == ["a.nc"]


def test_labelled_results_keep_their_coordinates(tmp_path: Path) -> None:
    made = sweep(tmp_path / "a.nc", labelled, SMALL, workers=1)
    assert made["curve"].dims == ("width", "x") and made["kind"].values.tolist() == ["p", "q", "r"]
    assert made["count"].dtype == np.int64 and "lost" not in made.attrs
    assert len(set(made["seed"].values)) == 3


def test_dimensions_can_be_named(tmp_path: Path) -> None:
    made = sweep(tmp_path / "a.nc", dims={"draw": ["replica"]}, fixed={"n": 2}, workers=1)
    assert made["draw"].dims[-1] == "replica" and made.sizes["replica"] == 2


def test_two_workers_give_the_same_bits(tmp_path: Path, undisturbed: Dataset) -> None:
    assert bits(sweep(tmp_path / "a.nc", workers=2)) == bits(undisturbed)


@pytest.fixture
def client() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(host="127.0.0.1", **options) as cluster, Client(cluster) as client:
        yield client


def test_dask_cluster_gives_the_same_bits(
    tmp_path: Path, undisturbed: Dataset, client: Any
) -> None:
    assert bits(sweep(tmp_path / "a.nc", backend="dask")) == bits(undisturbed)
    made = sweep(tmp_path / "b.nc", threads, {"width": list(range(1, 13))}, backend="dask")
    assert (made["blas"] == 1).all()
    processes = set(made["process"].values.tolist())
    assert len(processes) == 2 and os.getpid() not in processes


def test_dask_workers_of_several_threads_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = SimpleNamespace(nthreads=lambda: {"tcp://127.0.0.1:1": 2})
    monkeypatch.setattr("distributed.get_client", lambda: client)
    with pytest.raises(ValueError, match="one thread each"):
        sweep(tmp_path / "a.nc", labelled, SMALL, backend="dask")


def test_seeds_belong_to_parameters_not_to_places(tmp_path: Path, undisturbed: Dataset) -> None:
    part = {"coupling": [0.5], "scheme": ["b"], "width": [40.0]}
    alone = sweep(tmp_path / "a.nc", grid=part, workers=1)
    np.testing.assert_array_equal(
        alone["draw"].values.ravel(), undisturbed["draw"].sel({k: v[0] for k, v in part.items()})
    )
    places = [{"a": a, "b": b} for a in "xy" for b in range(5)]
    assert len({sweeps.point_seed(seed, place) for seed in range(3) for place in places}) == 30
    assert sweeps.point_seed(0, {"a": 1, "b": 0}) == sweeps.point_seed(0, {"b": -0.0, "a": 1.0})


def test_blas_threads_times_workers_stay_within_the_cores(tmp_path: Path) -> None:
    made = sweep(tmp_path / "a.nc", threads, SMALL, workers=100)
    assert (made["blas"] == 1).all()
    assert len(set(made["process"].values.tolist())) <= joblib.cpu_count()
    assert (sweep(tmp_path / "b.nc", threads, SMALL, workers=1)["blas"] == 1).all()


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.sweeps.test_run import LONG, sweep
sweep(sys.argv[2], grid=LONG, fixed={"delay": 0.05}, workers=2)
"""


def test_killed_sweep_continues_to_the_same_bits(tmp_path: Path) -> None:
    calm = sweep(tmp_path / "calm.nc", grid=LONG, workers=1)
    path, folder = tmp_path / "killed.nc", tmp_path / "killed.nc.points"
    command = [sys.executable, "-c", SCRIPT, str(ROOT), str(path)]
    rng = random.Random()
    for _ in range(3):
        before = set(folder.glob("*.nc"))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        goal = len(before) + rng.randint(1, 4)
        while len(list(folder.glob("*.nc"))) < goal and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.05))
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        killed = set(folder.glob("*.nc"))
        assert process.returncode == -signal.SIGKILL and not path.exists()
        _, orphans = psutil.wait_procs(workers, timeout=20)
        assert len(workers) >= 2 and not orphans
        finished = set(folder.glob("*.nc"))
        assert before <= killed <= finished, "a finished point was lost"
        assert all(storage.read(file).attrs["fingerprint"] for file in finished)
    damaged, cut, *_ = finished
    content = bytearray(damaged.read_bytes())
    content[rng.randrange(len(content))] ^= 1
    damaged.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[: -rng.randint(1, 1000)])
    with pytest.warns(UserWarning, match="truncated, corrupted") as caught:
        disturbed = sweep(path, grid=LONG, fixed={"delay": 0.05}, workers=2)
    assert len(caught) == 2 and bits(disturbed) == bits(calm)
    assert not folder.exists()


TWO_RUNS = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.sweeps.test_run import noted, sweep
made = sweep(sys.argv[2], noted, {"width": [1, 2, 3, 4]}, fixed={"calls": sys.argv[3]},
             workers=1, recompute=True)
assert (made["square"] == [1, 4, 9, 16]).all()
"""


def test_two_runs_at_a_time_compute_every_point_once(tmp_path: Path) -> None:
    """The second waits and takes what the first has made; then nothing but the file is left."""
    calls = tmp_path / "calls"
    command = [sys.executable, "-c", TWO_RUNS, str(ROOT), str(tmp_path / "a.nc"), str(calls)]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert sum("another run is at it" in text for text in said) == 1
    assert not any("tlnb/sweeps" in text or "contextlib" in text for text in said)
    assert sorted(calls.read_text().split()) == ["1", "2", "3", "4"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.nc", "calls"]


def test_lock_of_a_run_that_died_is_free(tmp_path: Path) -> None:
    code = "import os, sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
    code += "from tlnb.sweeps.storage import only_run\n"
    code += "with only_run(pathlib.Path(sys.argv[2])): os._exit(3)"
    command = [sys.executable, "-c", code, str(ROOT), str(tmp_path / "a.nc")]
    assert subprocess.run(command).returncode == 3
    assert [file.name for file in tmp_path.iterdir()] == [".a.nc.lock"]
    with storage.only_run(tmp_path / "a.nc") as waited:
        assert not waited
    assert not list(tmp_path.iterdir())


def test_point_of_changed_code_is_not_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker does that imported the code after it was edited."""
    monkeypatch.setattr(points, "worker_fingerprint", lambda function: "other")
    with pytest.raises(RuntimeError, match="code was changed after the sweep began"):
        sweep(tmp_path / "a.nc", labelled, SMALL, workers=1)


def test_failing_point_is_recorded_then_tried_again(tmp_path: Path) -> None:
    path, broken = tmp_path / "a.nc", tmp_path / "broken"
    broken.touch()
    options: dict[str, Any] = {
        "function": fragile,
        "grid": SMALL,
        "fixed": {"broken": str(broken)},
        "workers": 1,
    }
    with pytest.warns(UserWarning, match="1 points failed.*no convergence here"):
        made = sweep(path, **options)
    assert made["failure"].values.tolist() == ["", "ArithmeticError: no convergence here", ""]
    np.testing.assert_array_equal(made["square"], [1.0, np.nan, 9.0])
    with pytest.warns(UserWarning, match="1 points failed"):
        sweeps.load(path)
    broken.unlink()
    made = sweep(path, **options)
    np.testing.assert_array_equal(made["square"], [1, 4, 9])
    assert made["square"].dtype == np.int64 and (made["failure"] == "").all()
    calls = Path(f"{broken}.calls")
    assert calls.read_text().split() == ["1", "2", "3", "2"]
    sweep(path, **options)
    assert len(calls.read_text().split()) == 4, "a complete file is not computed again"
    assert [file.name for file in tmp_path.glob("a.nc*")] == ["a.nc"]
    sweep(path, **options, recompute=True)
    assert len(calls.read_text().split()) == 7


def test_point_unlike_the_others_is_a_failure(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="layout") as caught:
        made = sweep(tmp_path / "a.nc", uneven, SMALL, workers=1)
    assert {warning.filename for warning in caught} == {__file__}
    np.testing.assert_array_equal(np.isnan(made["values"]).all("values_0"), [False, True, False])
    assert len(list((tmp_path / "a.nc.points").iterdir())) == 2, "to be tried again"


@pytest.mark.parametrize(
    ("function", "words"),
    [(always, "never at 1"), (nothing, "named arrays"), (text, "real"), (clash, "names other")],
)
def test_sweep_without_one_result_says_why(tmp_path: Path, function: Callable, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        sweep(tmp_path / "a.nc", function, SMALL, workers=1)
    assert not (tmp_path / "a.nc").exists()


def _interrupt(path: Path, **options: Any) -> list[Any]:
    """Leave the points of a sweep as a kill before the last step does."""
    whole = run.merge
    try:
        run.merge = None  # type: ignore[assignment]
        with pytest.raises(TypeError):
            sweep(path, **options, workers=1)
    finally:
        run.merge = whole
    return sorted(path.with_name(path.name + ".points").glob("*.nc"))


def test_point_of_another_place_is_not_used(tmp_path: Path, undisturbed: Dataset) -> None:
    path, grid = tmp_path / "a.nc", {**GRID, "width": [20], "scheme": ["a"]}
    first, second, _ = _interrupt(path, grid=grid)
    first.write_bytes(second.read_bytes())
    with pytest.warns(UserWarning, match="another function, parameters, seed or version of"):
        made = sweep(path, grid=grid, workers=1)
    assert bits(made) == bits(undisturbed.sel(width=[20], scheme=["a"]))


@pytest.mark.parametrize("other", [{"seed": 8}, {"fixed": {"n": 4}}, {"fixed": {"delay": 1e-4}}])
def test_points_of_another_sweep_are_not_used(
    tmp_path: Path, undisturbed: Dataset, other: dict[str, Any]
) -> None:
    path = tmp_path / "a.nc"
    grid = {**GRID, "width": [20], "scheme": ["a"]}
    foreign = _interrupt(path, grid=grid, **other)
    with pytest.warns(UserWarning, match="3 points of another sweep") as caught:
        made = sweep(path, grid=grid, workers=1)
    assert {warning.filename for warning in caught} == {__file__}
    assert bits(made) == bits(undisturbed.sel(width=[20], scheme=["a"]))
    assert all(file.exists() for file in foreign)


def test_result_of_another_sweep_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    sweep(path, labelled, SMALL, workers=1)
    with pytest.warns(UserWarning, match="another function.*again") as caught:
        made = sweep(path, labelled, {"width": [1, 2]}, workers=1)
    assert {warning.filename for warning in caught} == {__file__}
    assert made.sizes["width"] == 2


def test_points_of_a_smaller_grid_are_used(tmp_path: Path) -> None:
    path, calls = tmp_path / "a.nc", tmp_path / "b.calls"
    options: dict[str, Any] = {"function": fragile, "fixed": {"broken": str(tmp_path / "b")}}
    _interrupt(path, grid=SMALL, **options)
    made = sweep(path, grid={"width": [4, 3, 2, 1]}, workers=1, **options)
    assert calls.read_text().split() == ["1", "2", "3", "4"]
    np.testing.assert_array_equal(made["square"], [16, 9, 4, 1])


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-1], lambda c: b"\0" + c[1:],
                                    lambda c: b"netCDF? " * 99, lambda c: c + b"\n"])  # fmt: skip
def test_damaged_result_is_found(tmp_path: Path, damage: Callable) -> None:
    path = tmp_path / "a.nc"
    made = sweep(path, labelled, SMALL, workers=1)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="truncated, corrupted or not written"):
        sweeps.load(path)
    with pytest.warns(UserWarning, match="computing it again"):
        assert bits(sweep(path, labelled, SMALL, workers=1)) == bits(made)


def test_load_wants_a_whole_sweep(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sweeps.load(tmp_path / "none.nc")
    point, *_ = _interrupt(tmp_path / "a.nc", function=labelled, grid=SMALL)
    with pytest.raises(ValueError, match="one point of it"):
        sweeps.load(point)


def test_nothing_stored_is_a_pickle(tmp_path: Path) -> None:
    for file in _interrupt(tmp_path / "a.nc", function=labelled, grid=SMALL):
        assert file.read_bytes().startswith(b"\x89HDF")


def test_unwritable_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="path must be a file that can be written"):
        sweep(tmp_path / "file" / "a.nc")
    with pytest.raises(IsADirectoryError, match="path must be a file"):
        sweep(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        sweep(tmp_path / "a.nc", labelled, SMALL, workers=1)
    assert not list((tmp_path / "a.nc.points").iterdir())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"grid": {}}, ValueError, "grid must map at least one parameter"),
        ({"grid": [1, 2]}, ValueError, "grid must map"),
        ({"grid": {"width": []}}, ValueError, r"grid\['width'\]"),
        ({"grid": {"width": [1, 1.0]}}, ValueError, "distinct"),
        ({"grid": {"width": [1.0, np.nan]}}, ValueError, "distinct"),
        ({"grid": {"width": [[1, 2], [3, 4]]}}, TypeError, r"grid\['width'\]"),
        ({"grid": {"width": np.eye(2)}}, TypeError, r"grid\['width'\]"),
        ({"grid": {"width": [1, "a"]}}, TypeError, "numbers, strings or booleans"),
        ({"grid": {"width": 3}}, TypeError, r"grid\['width'\]"),
        ({"grid": {"width": "abc"}}, TypeError, r"grid\['width'\]"),
        ({"grid": {"depth": [1]}}, TypeError, "arguments of function"),
        ({"grid": {"width": [1], "seed": [1]}}, ValueError, "different parameters"),
        ({"fixed": {"width": 1}}, ValueError, "different parameters"),
        ({"fixed": {"unknown": 1}}, TypeError, "arguments of function"),
        ({"function": draws, "grid": GRID, "fixed": {"n": object()}}, TypeError, "fixed must hold"),
        ({"function": lambda width: {"a": width}}, TypeError, "top level of a module"),
        ({"function": 3}, TypeError, "top level of a module"),
        ({"workers": 0}, ValueError, "workers must be an integer >= 1, got 0"),
        ({"workers": 1.5}, TypeError, "workers must be"),
        ({"backend": "threads"}, ValueError, "backend must be one of"),
        ({"backend": "dask"}, ValueError, "distributed.Client"),
        ({"backend": "dask", "workers": 2}, ValueError, "workers must be None"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": None}, TypeError, "seed"),
    ],
)
def test_bad_arguments(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        sweep(tmp_path / "a.nc", **{"function": labelled, "grid": SMALL, **change})
    assert not list(tmp_path.iterdir())


def test_nested_function_is_refused(tmp_path: Path) -> None:
    def nested(width: float) -> dict[str, Any]:
        return {"a": width}

    with pytest.raises(TypeError, match="top level of a module"):
        sweep(tmp_path / "a.nc", nested, SMALL)


def test_progress_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(tmp_path / "a.nc", labelled, SMALL, workers=1, progress=True)
    assert "3/3" in capsys.readouterr().err


def test_quiet_sweep_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep(tmp_path / "a.nc", labelled, SMALL)
    assert capfd.readouterr() == ("", "")
