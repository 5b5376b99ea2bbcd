"""tlnb: transfer learning in the proportional limit, derived, computed and simulated.

The names below load their modules when first used, so that ``import tlnb`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tlnb import _renamed

__version__ = "0.2.0"

_HOMES = {
    "Task": "tlnb.data.task",
    "Activation": "tlnb.kernels",
    "CorrelatedHiddenManifold": "tlnb.data.manifold",
    "ConvergenceError": "tlnb.errors",
    "RenormalizedGPRegressor": "tlnb.estimators",
    "TransferGPRegressor": "tlnb.estimators",
    "RenormalizedGPClassifier": "tlnb.classifiers",
    "TransferGPClassifier": "tlnb.classifiers",
    "width_sweep": "tlnb.theory.one_task",
    "coupling_sweep": "tlnb.theory.transfer",
}
__all__ = [*_HOMES, "__version__"]

_renamed.install()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tlnb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
