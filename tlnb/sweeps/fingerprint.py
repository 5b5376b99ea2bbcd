"""What a number depends on, as a hash: parameters, and the code that computes it."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import marshal
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

import tlnb

_DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef


def fingerprint(*parts: Any) -> str:
    """Hash of parameters: numbers, strings, None, arrays, lists and dicts of these."""
    return hashlib.sha256(as_json(parts).encode()).hexdigest()


def as_json(value: Any) -> str:
    """One text for equal parameters; an array stands there as its hash."""
    return json.dumps(value, sort_keys=True, default=_encode)


def _encode(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"dtype": value.dtype.str, "shape": value.shape, "sha256": digest}
    raise TypeError(f"fixed must hold numbers, strings, None, arrays, lists, dicts, got {value!r}")


@cache
def code_fingerprint(function: Callable[..., Any]) -> str:
    """Hash of the code that ``function`` runs: its module, what that imports beside it, and tlnb.

    Beside it are modules that are neither of the standard library nor installed; they are followed
    through all that they import. Comments, docstrings and formatting do not matter. In a notebook,
    where a module is no file, the function counts with the functions and constants that it names.
    A process asks once: what it imported stays, whatever happens to the files.
    """
    module = sys.modules[function.__module__]
    if getattr(module, "__file__", None) is None:
        own = _named_by(function, module)
    else:
        own = {name: _digest(path) for name, path in _local_modules(module).items()}
    return fingerprint(_package() | own)


@cache
def worker_fingerprint(function: Callable[..., Any]) -> str:
    """Hash of the code that a worker has to import, to hold against that of the sweep.

    That is all of `code_fingerprint`, but a function of a script or notebook travels by value, and
    ``__main__`` is another module in the worker: there it is tlnb alone.
    """
    return (
        fingerprint(_package()) if function.__module__ == "__main__" else code_fingerprint(function)
    )


def _package() -> dict[str, str]:
    package = Path(tlnb.__file__).parent
    return {f"tlnb/{p.relative_to(package).as_posix()}": _digest(p) for p in _sources(package)}


def _sources(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


@cache
def _digest(path: Path) -> str:
    """Hash of the statements of a file."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _local_modules(first: ModuleType) -> dict[str, Path]:
    """Files of ``first`` and of the modules beside it that it imports, at any depth."""
    found = {first.__name__: Path(first.__file__ or "").resolve()}
    package = {first.__name__: first.__package__ or ""}
    unread = [first.__name__]
    while unread:
        name = unread.pop()
        for imported in _imports(found[name], package[name]):
            path = None if imported in found else _local_file(imported)
            if path is not None:
                found[imported] = path
                is_package = path.name == "__init__.py"
                package[imported] = imported if is_package else imported.rpartition(".")[0]
                unread.append(imported)
    return found


def _imports(path: Path, package: str) -> Iterator[str]:
    """Modules that a file may import, those inside functions among them."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            names = [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


def _local_file(name: str) -> Path | None:
    """The source of a module that is neither tlnb's, the standard library's, nor installed."""
    top = name.partition(".")[0]
    if top == "tlnb" or top in sys.stdlib_module_names:
        return None
    try:
        spec = find_spec(name)
    except (ImportError, AttributeError, ValueError):  # a name, not a module
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin).resolve()
    folders = [Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "purelib", "platlib")]
    return None if any(path.is_relative_to(folder) for folder in folders) else path


def _named_by(function: Callable[..., Any], module: ModuleType) -> dict[str, str]:
    """Source of a function, and of all that it names in its module, at any depth."""
    found: dict[str, str] = {}
    unread: dict[str, Any] = {function.__qualname__: function}
    while unread:
        name, value = unread.popitem()
        if inspect.isfunction(value) or inspect.isclass(value):
            if value.__module__ != module.__name__:
                continue
            methods = vars(value).values() if inspect.isclass(value) else [value]
            functions = [each for each in methods if inspect.isfunction(each)]
            found[name] = "\n".join(map(_source, functions))
            for each in functions:
                names = set(_names(each.__code__)) & set(vars(module)) - set(found)
                unread |= {name: getattr(module, name) for name in names}
        elif not inspect.ismodule(value):
            try:
                found[name] = as_json(value)
            except TypeError:
                found[name] = type(value).__qualname__
    return found


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _source(function: FunctionType) -> str:
    try:
        return inspect.getsource(function)
    except OSError:
        return marshal.dumps(function.__code__).hex()
