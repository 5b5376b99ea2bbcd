"""Old names, which go on working for one version and say what to write instead.

`MODULES` maps modules that moved; a finder imports the new one in their place. `NAMES` maps names
within a module, for which the module says ``__getattr__ = renamed_names(__name__)``. Both warn
with a `DeprecationWarning` that points at the caller. What has no successor under another name
stands in `GONE`: asking for it is an error that says what serves instead.
"""

from __future__ import annotations

import dis
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any, TypeVar, cast

# Where a module stood: where it stands.
MODULES: dict[str, str] = {
    "tlnb.activations": "tlnb.kernels.activations",
    "tlnb.gaussian_quadrature": "tlnb.kernels.quadrature",
    "tlnb.simulation": "tlnb.sampling",
    "tlnb.simulation.diagnostics": "tlnb.sampling.diagnostics",
    "tlnb.simulation.hmc": "tlnb.sampling.hmc",
    "tlnb.simulation.network": "tlnb.sampling.likelihood",
    "tlnb.simulation.sampling": "tlnb.sampling",
    "tlnb.simulation.two_layer": "tlnb.networks",
    "tlnb.theory.coupled": "tlnb.theory.transfer",
    "tlnb.theory.equivalence": "tlnb.theory.readout.equivalence",
    "tlnb.theory.franz_parisi": "tlnb.theory.transfer",
    "tlnb.theory.linear": "tlnb.theory.exact.linear",
    "tlnb.theory.proportional": "tlnb.theory.one_task",
}
# In which module, what a name was: the module and the name it has now.
NAMES: dict[str, dict[str, tuple[str, str]]] = {
    "tlnb.kernels": {
        "Block": ("tlnb.kernels", "InnerProducts"),
        "WeightCovariances": ("tlnb.priors", "WeightCovariances"),
        "diagonal": ("tlnb.kernels", "dual_diagonal"),
    },
    "tlnb.gain": {
        "LARGEST_LABEL": ("tlnb.gain.tool", "LARGEST_LABEL"),
        "LEAST_EXAMPLES": ("tlnb.gain.tool", "LEAST_EXAMPLES"),
    },
    "tlnb.kernels.quadrature": {
        "kernel": ("tlnb.kernels.quadrature", "dual"),
        "kernel_diagonal": ("tlnb.kernels.quadrature", "dual_diagonal"),
    },
    "tlnb.networks": {
        "DIVERGED": ("tlnb.networks.training", "DIVERGED"),
        "LOSSES": ("tlnb.networks.losses", "LOSSES"),
        "Objective": ("tlnb.networks.training", "Objective"),
        "PROTOCOLS": ("tlnb.networks.protocols", "PROTOCOLS"),
        "TRAINING": ("tlnb.networks.protocols", "TRAINING"),
    },
    "tlnb.sampling": {
        "EXTRA": ("tlnb.sampling.records", "EXTRA"),
        "FARTHEST": ("tlnb.sampling.chains", "FARTHEST"),
        "SAMPLERS": ("tlnb.sampling.posterior", "SAMPLERS"),
    },
    "tlnb.sampling.hmc": {
        "StepSize": ("tlnb.sampling.adaptation", "StepSize"),
        "TARGET_ACCEPTANCE": ("tlnb.sampling.adaptation", "TARGET_ACCEPTANCE"),
        "exchange": ("tlnb.sampling.tempering", "exchange"),
        "start": ("tlnb.sampling.hmc", "init"),
    },
    "tlnb.sampling.likelihood": {
        "Network": ("tlnb.sampling.likelihood", "NetworkLikelihood"),
    },
    "tlnb.theory.glm": {
        "OPTIMAL_BOUNDS": ("tlnb.theory.readout.optimum", "BOUNDS"),
        "TOLERANCE": ("tlnb.theory.readout.iteration", "TOLERANCE"),
    },
    "tlnb.theory.one_task": {
        "TOLERANCE": ("tlnb.theory.one_task.saddle", "TOLERANCE"),
    },
    "tlnb.theory.prediction": {
        "chunks": ("tlnb.chunking", "chunks"),
    },
    "tlnb.theory.transfer": {
        "BASELINES": ("tlnb.theory.transfer.curve", "BASELINES"),
        "Blocks": ("tlnb.theory.transfer", "KernelBlocks"),
        "CACHE": ("tlnb.theory.transfer.kernels", "CACHE"),
        "CoupledTasks": ("tlnb.theory.transfer", "TransferProblem"),
        "Expansion": ("tlnb.theory.transfer.action", "Expansion"),
        "TOLERANCE": ("tlnb.theory.newton", "TOLERANCE"),
        "TestKernels": ("tlnb.theory.transfer.kernels", "TestKernels"),
        "TrainKernels": ("tlnb.theory.transfer.kernels", "TrainKernels"),
        "explicit_Q_st": ("tlnb.theory.transfer.action", "explicit_Q_st"),
        "solution": ("tlnb.theory.transfer.solver", "_solution"),
        "sweep": ("tlnb.theory.transfer.solver", "_sweep"),
    },
}
# Of a module, a class or a function: what it had until version 0.1, and what serves instead.
GONE: dict[str, dict[str, str]] = {
    "tlnb.cli": {"NPZ": "tlnb.data.tables, which reads files"},
    "tlnb.gain": {
        "PRIORS": "keywords of tlnb.gain.transfer_gain",
        "TRAIN_SHARE": "nothing: choices are made by leave-one-out",
    },
    "tlnb.kernels.quadrature": {"row_chunks": "tlnb.chunking.chunks"},
    "tlnb.theory.one_task": {
        "NetworkProcess": "tlnb.theory.one_task.kernel.NetworkKernel",
        "Spectrum": "tlnb.theory.factors.Eigenbasis",
        "at_width": "tlnb.theory.one_task.OneTaskProblem.solve",
        "check_resolution": "tlnb.theory.factors.Eigenbasis.check_resolution",
        "sweep": "tlnb.theory.one_task.OneTaskProblem.sweep",
    },
    "TransferGain": {
        "chosen_error": "its test_error",
        "comparisons": "its table opponents",
        "fixed_test": "its n_test",
        "scratch": "the row 'scratch' of its table opponents",
    },
    "TransferProblem": {
        "alone_spectrum": "its alone(coupling).kernel.factor",
        "source_noise": "its source_problem.kernel.factor.noise",
        "test_blocks": "its kernels.products",
        "test_kernels": "its kernels.test",
    },
    "transfer_gain": {
        "priors": "its keywords: temperatures, richness or readout_precisions, and those of Priors",
        "splits": "nothing: choices are made by leave-one-out",
    },
}


def _gone(owner: str, name: str) -> str:
    return f"{owner}.{name} is gone since version 0.2; instead: {GONE[owner][name]}"


def _imports(frame: FrameType) -> bool:
    """Whether a frame is at ``from ... import ...``, which hides what an AttributeError says."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] == "IMPORT_FROM"


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


def renamed(old: str, new: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator of a function that stands under its old name: calling it warns."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def warning(*args: Any, **kwargs: Any) -> Any:
            _warn(old, new, stacklevel=2)
            return function(*args, **kwargs)

        return warning

    return decorate


def install() -> None:
    """Make the old names of modules importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def renamed_names(module: str) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that knows the names which `NAMES` and `GONE` list for it."""

    def __getattr__(name: str) -> Any:
        if name in GONE.get(module, {}):
            error = ImportError if _imports(sys._getframe(1)) else AttributeError
            raise error(_gone(module, name))
        if name not in NAMES.get(module, {}):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, new = NAMES[module][name]
        if not new.startswith("_"):  # else calling it says what to write instead
            _warn(f"{module}.{name}", f"{home}.{new}", stacklevel=2)
        return getattr(import_module(home), new)

    return __getattr__


C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])


def gone_attributes(cls: C) -> C:
    """Let objects of a class say of what `GONE` lists for it that it is gone."""

    def __getattr__(self: object, name: str) -> Any:
        if name in GONE[cls.__name__]:
            raise AttributeError(_gone(cls.__name__, name))
        return object.__getattribute__(self, name)  # raises as if this function were not there

    cls.__getattr__ = __getattr__  # type: ignore[attr-defined]
    return cls


def renamed_arguments(**names: str) -> Callable[[F], F]:
    """Let a function be called by the old names of its keywords: ``old="new"``, with a warning.

    Keywords that `GONE` lists for it are refused.
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs.keys() & GONE.get(function.__name__, {}).keys():
                raise TypeError(_gone(function.__name__, name))
            for old in names.keys() & kwargs.keys():
                new = names[old]
                if new in kwargs:
                    raise TypeError(f"{function.__name__} got {old} and {new}, which are the same")
                _warn(f"argument {old} of {function.__name__}", new, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return cast(F, call)

    return decorate
