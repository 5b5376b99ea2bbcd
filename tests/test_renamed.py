"""Old names lead to the new things and say so."""

from __future__ import annotations

import importlib
import json
import pickle
import pkgutil
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.instances import deterministic
from tlnb import _renamed, errors
from tlnb.gain import TransferGain, transfer_gain
from tlnb.kernels import InnerProducts, get_activation
from tlnb.theory.transfer import TransferProblem


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that stood elsewhere, and a name that it had."""
    monkeypatch.setitem(_renamed.MODULES, "tlnb.formerly", "tlnb.errors")
    monkeypatch.setitem(
        _renamed.NAMES, "tlnb.errors", {"Failure": ("tlnb.errors", "ConvergenceError")}
    )
    yield
    sys.modules.pop("tlnb.formerly", None)
    vars(sys.modules["tlnb"]).pop("formerly", None)


def test_a_module_that_moved_is_the_one_of_today(moved: None) -> None:
    spec = errors.__spec__
    with pytest.warns(DeprecationWarning, match=r"tlnb\.formerly is now tlnb\.errors") as caught:
        from tlnb import formerly
    assert formerly is errors and formerly.__spec__ is spec
    assert [warning.filename for warning in caught] == [__file__]


def test_a_name_that_moved_is_the_one_of_today(moved: None) -> None:
    with pytest.warns(DeprecationWarning, match=r"tlnb\.errors\.Failure is now") as caught:
        found = _renamed.renamed_names("tlnb.errors")("Failure")
    assert found is errors.ConvergenceError
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.raises(AttributeError, match=r"'tlnb\.errors' has no attribute 'nothing'"):
        _renamed.renamed_names("tlnb.errors")("nothing")


def test_every_old_name_leads_somewhere() -> None:
    for old, new in _renamed.MODULES.items():
        with pytest.warns(DeprecationWarning, match="is now"):
            assert importlib.import_module(old) is importlib.import_module(new)
        sys.modules.pop(old)
    for module, names in _renamed.NAMES.items():
        for name, (home, new) in names.items():
            # Private ones warn when they are called.
            silent = new.startswith("_")
            with nullcontext() if silent else pytest.warns(DeprecationWarning, match="is now"):
                old = getattr(importlib.import_module(module), name)
            assert old is getattr(importlib.import_module(home), new)


def test_an_argument_that_was_renamed_is_taken_and_said() -> None:
    @_renamed.renamed_arguments(seed="rng")
    def f(x: int, *, rng: int = 0, **_: int) -> int:
        """Add."""
        return x + rng

    with pytest.warns(DeprecationWarning, match="argument seed of f is now rng") as caught:
        assert f(1, seed=2) == 3
    assert [warning.filename for warning in caught] == [__file__]
    assert f(1, rng=3) == 4 and f.__doc__ == "Add."
    with pytest.raises(TypeError, match="f got seed and rng, which are the same"):
        f(1, seed=1, rng=2)


def _upgrade_notes() -> str:
    changelog = (Path(_renamed.__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf8")
    return changelog.split("### Upgrade notes")[1].split("\n## ")[0]


def _gone_in_the_notes() -> str:
    return _upgrade_notes().split("Gone, with")[1].split("Kernel blocks")[0]


@pytest.mark.filterwarnings("ignore:.*the old name goes:DeprecationWarning")
def test_every_name_of_version_0_1_is_there_or_says_that_it_is_gone() -> None:
    names = json.loads(Path(__file__).with_name("names_0_1.json").read_text(encoding="utf8"))
    # An attribute today, of every problem but not of the class.
    assert names["tlnb.theory.coupled"].count("CoupledTasks.kernels") == 1
    names["tlnb.theory.coupled"].remove("CoupledTasks.kernels")
    silent, unsaid = [], []
    for module, listed in names.items():
        for name in listed:
            found = importlib.import_module(module)
            try:
                for part in name.split("."):
                    of_class = isinstance(found, type) and not hasattr(found, part)
                    found = getattr(object.__new__(found) if of_class else found, part)
            except AttributeError as error:
                if "is gone since version 0.2; instead: " not in str(error):
                    silent.append(f"{module}.{name}")
                if not re.search(rf"\b{name.split('.')[-1]}\b", _gone_in_the_notes()):
                    unsaid.append(f"{module}.{name}")
    assert not silent and not unsaid


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (owner, name)
        for owner, names in _renamed.GONE.items()
        if owner.startswith("tlnb.")
        for name in names
    ],
)
def test_what_is_gone_says_so_however_it_is_asked_for(module: Any, name: str) -> None:
    said = rf"^{re.escape(module)}\.{name} is gone since version 0\.2; instead: ."
    assert not hasattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError, match=said):
        getattr(importlib.import_module(module), name)
    with pytest.raises(ImportError, match=said):
        exec(f"from {module} import {name}", {})


def test_attributes_and_arguments_that_are_gone_say_so() -> None:
    source, target, _ = deterministic()
    problem = TransferProblem(source, target, temperature=0.1)
    for cls, found in ((TransferProblem, problem), (TransferGain, object.__new__(TransferGain))):
        for name in _renamed.GONE[cls.__name__]:
            with pytest.raises(AttributeError, match=rf"{cls.__name__}\.{name} is gone since"):
                getattr(found, name)
        with pytest.raises(AttributeError, match=f"'{cls.__name__}' object has no attribute 'ab'"):
            _ = found.ab
    assert pickle.loads(pickle.dumps(problem)).priors == problem.priors
    for name in _renamed.GONE["transfer_gain"]:
        with pytest.raises(TypeError, match=rf"transfer_gain\.{name} is gone since version 0\.2"):
            transfer_gain(source, target, **{name: None})


def test_what_serves_instead_is_there_and_the_notes_name_what_is_gone() -> None:
    for names in _renamed.GONE.values():
        for name, instead in names.items():
            assert re.search(rf"\b{name}\b", _gone_in_the_notes())
            for dotted in re.findall(r"\btlnb[\w.]+\w", instead):
                assert pkgutil.resolve_name(dotted)


def test_old_methods_warn() -> None:
    products = InnerProducts.of(np.eye(2))
    with pytest.warns(DeprecationWarning, match=r"Block\.kernel is now InnerProducts\.dual"):
        products.kernel(get_activation("linear"), 1.0, 1.0, 1.0, 1.0)
    source, target, _ = deterministic()
    problem = TransferProblem(source, target, temperature=0.1)
    with pytest.warns(DeprecationWarning, match=r"overlaps is now TransferProblem\.saddle"):
        assert problem.overlaps(20, 1.0) is problem.saddle(20, 1.0)


def test_upgrade_notes_name_everything_that_was_renamed() -> None:
    notes = _upgrade_notes()
    for module in _renamed.MODULES:
        assert module in notes
    for names in _renamed.NAMES.values():
        assert [name for name in names if name not in notes] == []
