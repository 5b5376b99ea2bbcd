"""The package's shape: arrows one way, no circle, modules that can be read in one go."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "tlnb").rglob("*.py")
}
# Each may import what stands above it here, and its own folder.
LAYERS = [
    {"_renamed", "errors", "validation", "chunking"},
    {"symbolic"},
    {"kernels"},
    {"priors"},
    {"data"},
    {"networks"},
    {"sampling"},
    {"theory", "scores", "symbolic_deep"},
    {"estimators", "sweeps", "plotting"},
    {"classifiers"},
    {"gain"},
    {"cli"},
]
LONGEST = 400  # lines
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _imports(name: str) -> set[str]:
    """Modules of tlnb that a module imports, when loaded, when called or for its types."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {each if each in MODULES else node.module for each in names}
    return found & set(MODULES) - {name}


IMPORTS = {name: _imports(name) for name in MODULES}


def _reached(name: str, seen: set[str]) -> set[str]:
    for imported in IMPORTS[name] - seen:
        seen.add(imported)
        _reached(imported, seen)
    return seen


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_module_is_long(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf8").splitlines()) <= LONGEST


def test_imports_make_no_circle() -> None:
    assert not [name for name in MODULES if name in _reached(name, set())]


def test_arrows_go_one_way() -> None:
    folders = {name.split(".")[1] for name in MODULES if "." in name}
    assert folders == set(LEVEL), "every folder and module has its place in LAYERS"
    against = [
        f"{name} imports {imported}"
        for name in MODULES
        if "." in name
        for imported in IMPORTS[name]
        if "." in imported
        and name.split(".")[1] != imported.split(".")[1]
        and LEVEL[imported.split(".")[1]] >= LEVEL[name.split(".")[1]]
    ]
    assert not against


def test_theory_never_imports_simulation() -> None:
    """But for the Markov chain itself and what pushes it, which know of no network."""
    chain = {f"tlnb.sampling.{name}" for name in ("hmc", "adaptation", "stand_ins")}
    for name in MODULES:
        if name.startswith("tlnb.theory"):
            simulation = {
                each for each in IMPORTS[name] if each.startswith(("tlnb.networks", "tlnb.sampl"))
            }
            assert simulation <= chain, name
    for name in chain:
        assert not _reached(name, set()) & {"tlnb.sampling.likelihood", "tlnb.networks.two_layer"}


def _formulas() -> list[tuple[str, str, str]]:
    """Rows of the table in CONTRIBUTING: chapter, module, name."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")
    row = re.compile(r"^\| (\d\d) \| .+ \| `(tlnb[\w.]+)` \| `([\w.]+)` \|$", re.MULTILINE)
    return row.findall(text)


def test_table_of_formulas_covers_the_chapters() -> None:
    chapters = {path.stem[:2] for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")}
    assert {chapter for chapter, _, _ in _formulas()} >= chapters


@pytest.mark.parametrize(("chapter", "module", "name"), _formulas())
def test_formula_stands_where_the_table_says(chapter: Any, module: Any, name: str) -> None:
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found) or isinstance(found, property)
    home = getattr(found, "__module__", module)
    assert home == module, f"`{name}` is defined in {home}"
