"""A fingerprint changes with whatever could change a number, and with nothing else."""

from __future__ import annotations

import importlib
import linecache
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlnb import sweeps
from tlnb.sweeps import fingerprint
from tlnb.sweeps.fingerprint import as_json, code_fingerprint

FILES = {
    "study/__init__.py": "",
    "study/point.py": """
from study import settings
from study.helpers import double

def point(width):
    from .late import offset
    return {"x": double(width) * settings.SCALE + offset()}
""",
    "study/settings.py": "SCALE = 3.0\n",
    "study/helpers.py": """
import numpy as np

def double(x):
    return 2 * x
""",
    "study/late.py": "import beside\n\ndef offset():\n    return beside.OFFSET\n",
    "beside.py": "OFFSET = 1.0\n",
    "study/unrelated.py": "X = 1\n",
}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A folder of modules on the path; call it to get the point function as of now."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf8")
    monkeypatch.syspath_prepend(tmp_path)
    # Compiled files are told apart by size and second: a change within one would not be seen.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] in ("study", "beside")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        fingerprint._digest.cache_clear()

    def point() -> Any:
        forget()
        return importlib.import_module("study.point").point

    point.folder = tmp_path  # type: ignore[attr-defined]
    yield point
    forget()


def change(study: Any, name: str, old: str, new: str) -> None:
    path = study.folder / name
    text = path.read_text(encoding="utf8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf8")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("study/point.py", "double(width) *", "double(width) /"),
        ("study/helpers.py", "2 * x", "3 * x"),
        ("study/settings.py", "3.0", "3.1"),
        ("study/late.py", "beside.OFFSET", "-beside.OFFSET"),
        ("beside.py", "1.0", "2.0"),
    ],
    ids=["function", "helper", "constant", "imported when called", "module of another folder"],
)
def test_code_that_the_function_reaches_counts(study: Any, name: str, old: str, new: str) -> None:
    before = code_fingerprint(study())
    assert code_fingerprint(study()) == before
    change(study, name, old, new)
    assert code_fingerprint(study()) != before
    change(study, name, new, old)
    assert code_fingerprint(study()) == before


def test_comments_docstrings_layout_and_other_modules_do_not_count(study: Any) -> None:
    before = code_fingerprint(study())
    change(study, "study/unrelated.py", "1", "2")
    change(study, "study/helpers.py", "return 2 * x", "return (2\n        * x)  # twice")
    change(study, "study/helpers.py", "def double(x):", 'def double(x):\n    """Twice x."""')
    change(study, "study/settings.py", "SCALE", '"""Settings."""\n\nSCALE')
    assert code_fingerprint(study()) == before


def test_the_package_counts(study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_fingerprint(study())
    other = tmp_path / "other.py"
    other.write_text("X = 1\n", encoding="utf8")
    sources = fingerprint._sources
    monkeypatch.setattr(fingerprint, "_sources", lambda package: [*sources(package)[:-1]])
    assert code_fingerprint(study()) != before


def test_installed_and_standard_modules_are_not_followed(study: Any) -> None:
    module = sys.modules[study().__module__]
    assert sorted(fingerprint._local_modules(module)) == [
        "beside", "study", "study.helpers", "study.late", "study.point", "study.settings"
    ]  # fmt: skip


def test_resumed_sweep_computes_points_of_other_code_again(study: Any) -> None:
    """The defect: a helper is changed between a kill and the next start."""
    path = study.folder / "a.nc"
    settings: dict[str, Any] = {"path": path, "seed": 0, "workers": 1, "progress": False}
    first = sweeps.run_grid(study(), {"width": [1, 2]}, **settings)
    change(study, "study/helpers.py", "2 * x", "4 * x")
    with pytest.warns(UserWarning, match="version of the code: computing it again"):
        second = sweeps.run_grid(study(), {"width": [1, 2]}, **settings)
    np.testing.assert_array_equal(first["x"], [7, 13])
    np.testing.assert_array_equal(second["x"], [13, 25])


def cell(module: types.ModuleType, source: str) -> None:
    """Run a cell of a notebook: code that is in no file."""
    name = f"<cell {source!r}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), vars(module))


@pytest.mark.parametrize(
    "new",
    [
        "SCALE = 4.0",
        "def double(x):\n    return x + x + 0",
        "class Shift:\n    def __call__(self, x):\n        return x + 2",
    ],
)
def test_in_a_notebook_what_the_function_names_counts(
    monkeypatch: pytest.MonkeyPatch, new: str
) -> None:
    notebook = types.ModuleType("a_notebook")
    monkeypatch.setitem(sys.modules, "a_notebook", notebook)
    cells = [
        "SCALE = 3.0",
        "def double(x):\n    return 2 * x",
        "class Shift:\n    def __call__(self, x):\n        return x + 1",
        "def point(width):\n    return [Shift()(double(w) * SCALE) for w in range(width)]",
    ]
    for source in cells:
        cell(notebook, source)
    before = fingerprint._named_by(notebook.point, notebook)
    cell(notebook, "UNUSED = 1")
    assert fingerprint._named_by(notebook.point, notebook) == before
    cell(notebook, new)
    assert fingerprint._named_by(notebook.point, notebook) != before
    assert code_fingerprint(notebook.point)


def test_parameters_of_equal_value_are_one_text() -> None:
    assert as_json({"b": np.float64(1.5), "a": 1}) == as_json({"a": 1, "b": 1.5})
    assert as_json(np.arange(3)) != as_json(np.arange(3.0))
    with pytest.raises(TypeError, match="fixed must hold numbers"):
        as_json(object())


def test_two_processes_find_the_same(study: Any) -> None:
    code = "import sys; sys.path[:0] = sys.argv[1:]\n"
    code += "from study.point import point; from tlnb.sweeps.fingerprint import code_fingerprint\n"
    code += "print(code_fingerprint(point))"
    root = str(fingerprint.Path(fingerprint.tlnb.__file__).parent.parent)
    command = [sys.executable, "-c", code, str(study.folder), root]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == code_fingerprint(study())


SCRIPT = """
from tlnb.sweeps import run_grid

SCALE = 2

def point(x):
    return {"twice": SCALE * x}

if __name__ == "__main__":
    grid = {"x": [1, 2, 3]}
    found = run_grid(point, grid, path="a.nc", seed=0, workers=2, progress=False)
    print(found["twice"].values.tolist())
"""


@pytest.mark.parametrize("as_file", [True, False], ids=["script", "notebook"])
def test_function_of_a_script_or_notebook_runs_in_workers(tmp_path: Path, as_file: bool) -> None:
    """In a worker ``__main__`` is another module: its function came by value."""
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf8")
    run = [sys.executable, "script.py"] if as_file else [sys.executable, "-c", SCRIPT]
    told = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.stdout == "[2, 4, 6]\n", told.stderr
