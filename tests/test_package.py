"""The package as users get it: the wheel, its imports and its names."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tlnb

ROOT = Path(__file__).resolve().parent.parent
TRANSFER = """
import numpy as np
from tlnb import Task, TransferGPRegressor
rng = np.random.default_rng(0)
X_s, X = rng.normal(size=(30, 5)), rng.normal(size=(10, 5))
source = Task(X_s, np.sign(X_s[:, 0]))
model = TransferGPRegressor(width=20, coupling=2.0, temperature=0.1)
model.fit(X, np.sign(X[:, 0]), source=source)
print(*model.predict(X[:3]).tolist())
"""


def _run(code: str, **options: Any) -> str:
    process = subprocess.run(
        [sys.executable, "-c", code], check=True, text=True, capture_output=True, **options
    )
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "tlnb", folder / "tlnb", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "-w", "dist", "."], cwd=folder, check=True)
    return next((folder / "dist").glob("tlnb-*.whl"))


def test_wheel_holds_every_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}
        assert "tlnb/py.typed" in archive.namelist()
    assert packed == {path.relative_to(ROOT).as_posix() for path in (ROOT / "tlnb").rglob("*.py")}


def test_wheel_states_lower_bounds_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = archive.read(name).decode("utf8")
    lines = metadata.splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist") and "extra" not in line]
    assert required and all(">=" in line and "<" not in line for line in required)
    extras = {line.split()[1] for line in lines if line.startswith("Provides-Extra")}
    assert {"plot", "symbolic", "sampling", "sweeps", "cluster", "book", "test", "all"} <= extras


def test_wheel_computes_a_transfer_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    where = "import tlnb; print(tlnb.__file__)"
    assert str(tmp_path) in _run(where, cwd=tmp_path, env=environment)
    printed = _run(TRANSFER, cwd=tmp_path, env=environment)
    np.testing.assert_allclose(
        np.array(printed.split(), dtype=float),
        np.array(_run(TRANSFER).split(), dtype=float),
        rtol=1e-12,
    )


def test_estimator_imports_no_heavy_library() -> None:
    loaded = _run("import sys; from tlnb import TransferGPRegressor; print(*sys.modules)").split()
    assert not {"matplotlib", "sympy", "xarray", "sklearn.datasets"} & set(loaded)


@pytest.mark.parametrize(
    ("missing", "extra", "code"),
    [
        ("matplotlib", "plot", "import tlnb.plotting"),
        ("sympy", "symbolic", "import tlnb.symbolic"),
        ("joblib", "sweeps", "import tlnb.sweeps"),
        ("h5netcdf", "sweeps", "import tlnb.sweeps"),
        (
            "arviz",
            "sampling",
            "import numpy as np; from tlnb.sampling.diagnostics import chain_statistics;"
            "chain_statistics(np.zeros((2, 10)))",
        ),
    ],
)
def test_missing_library_names_the_extra_that_brings_it(
    missing: str, extra: str, code: str
) -> None:
    command = [sys.executable, "-c", f"import sys; sys.modules[{missing!r}] = None\n{code}"]
    said = subprocess.run(command, text=True, capture_output=True).stderr.splitlines()[-1]
    assert missing in said and f"pip install 'tlnb[{extra}]'" in said


def test_top_level_is_small_and_loads() -> None:
    assert len(tlnb.__all__) <= 12
    assert all(getattr(tlnb, name) is not None for name in tlnb.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tlnb.nothing


def _modules() -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(tlnb.__path__, "tlnb."):
        yield importlib.import_module(info.name)


def test_every_public_name_has_a_docstring() -> None:
    missing = []
    for module in _modules():
        missing += [module.__name__] if not module.__doc__ else []
        for name, value in vars(module).items():
            mine = getattr(value, "__module__", None) == module.__name__
            if name.startswith("_") or not mine or not callable(value):
                continue
            missing += [f"{module.__name__}.{name}"] if not inspect.getdoc(value) else []
            if inspect.isclass(value):
                missing += [
                    f"{module.__name__}.{name}.{method}"
                    for method, function in vars(value).items()
                    if inspect.isfunction(function)
                    and not method.startswith("_")
                    and not inspect.getdoc(function)
                ]
    assert not missing


def test_functions_that_folders_hand_on_have_examples() -> None:
    """But for sweeps, whose function has to stand in a module: `experiments` shows them."""
    missing = [
        f"{module.__name__}.{name}"
        for module in _modules()
        if hasattr(module, "__path__")
        for name in getattr(module, "__all__", [])
        if inspect.isfunction(found := getattr(module, name)) and ">>>" not in (found.__doc__ or "")
    ]
    assert missing == ["tlnb.sweeps.load", "tlnb.sweeps.run_grid"]


def test_every_mutant_stands_once() -> None:
    for mutant in runpy.run_path(str(ROOT / "tools" / "mutants.py"))["MUTANTS"]:
        assert (ROOT / mutant.file).read_text(encoding="utf8").count(mutant.old) == 1, mutant.what


def _exists(name: str) -> bool:
    """Whether a dotted name is a module of today or something in one, without a warning."""
    parts = name.split(".")
    for depth in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:depth]))
        except ImportError:
            continue
        try:
            for part in parts[depth:]:
                found = getattr(found, part)
        except AttributeError:
            return False
        return True
    return False


def test_names_that_docstrings_and_pages_refer_to_exist() -> None:
    pages = [*(ROOT / "tlnb").rglob("*.py"), *(ROOT / "book").glob("*.md")]
    named = {
        (path.relative_to(ROOT).as_posix(), name)
        for path in pages
        if path.name != "_renamed.py"
        for name in re.findall(r"`(tlnb(?:\.\w+)+)`", path.read_text(encoding="utf8"))
    }
    assert not [each for each in sorted(named) if not _exists(each[1])]
