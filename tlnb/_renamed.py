"""Old names, which go on working for one version and say what to write instead.

`MODULES` maps modules that moved; a finder imports the new one in their place. `NAMES` maps names
within a module, for which the module says ``__getattr__ = renamed_names(__name__)``. Both warn
with a `DeprecationWarning` that points at the caller.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Where a module stood: where it stands.
MODULES: dict[str, str] = {}
# In which module, what a name was: the module and the name it has now.
NAMES: dict[str, dict[str, tuple[str, str]]] = {}


def _warn(old: str, new: str, stacklevel: int) -> None:
    warnings.warn(
        f"{old} is now {new}; the old name goes with the next version",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


class _Loader(Loader):
    """Puts the module of today where the old name is looked up."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(MODULES[module.__name__])


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        _warn(fullname, MODULES[fullname], stacklevel=2)
        return ModuleSpec(fullname, _Loader())


def install() -> None:
    """Make the old names of modules importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def renamed_names(module: str) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that knows the names which `NAMES` lists for it."""

    def __getattr__(name: str) -> Any:
        if name not in NAMES.get(module, {}):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, new = NAMES[module][name]
        _warn(f"{module}.{name}", f"{home}.{new}", stacklevel=2)
        return getattr(import_module(home), new)

    return __getattr__
