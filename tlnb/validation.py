"""Checks of arguments: each error names the argument, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _number(name: str, value: object, allowed: str) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (Real, np.number)):
        raise TypeError(f"{name} must be {allowed}, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be {allowed}, got a number beyond floating point") from None


def check_positive(name: str, value: object) -> float:
    """Return ``value`` as a float if it is finite and > 0."""
    number = _number(name, value, "a number > 0")
    if not 0 < number < np.inf:
        raise ValueError(f"{name} must be a number > 0, got {value!r}")
    return number


def check_nonnegative(name: str, value: object, *, allow_infinite: bool = False) -> float:
    """Return ``value`` as a float if it is >= 0 (and finite, unless allowed not to be)."""
    allowed = "a number >= 0" + (" or infinity" if allow_infinite else "")
    number = _number(name, value, allowed)
    if not number >= 0 or (np.isinf(number) and not allow_infinite):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def check_between(name: str, value: object, low: float, high: float) -> float:
    """Return ``value`` as a float if low <= value <= high."""
    allowed = f"a number from {low:g} to {high:g}"
    number = _number(name, value, allowed)
    if not low <= number <= high:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def check_width(value: object, name: str = "width") -> float:
    """Return the number of hidden units, at least 1, as a float; infinity is the Gaussian limit."""
    allowed = "a number >= 1 or infinity"
    number = _number(name, value, allowed)
    if not number >= 1:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def check_count(name: str, value: object, least: int = 1) -> int:
    """Return ``value`` if it is an integer of at least ``least``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer >= {least}, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value}")
    return int(value)


def check_couplings(couplings: float | Iterable[float], depth: int) -> tuple[float, ...]:
    """Return one γ ≥ 0 for each of ``depth`` layers, infinity allowed; a number is for all.

    Examples
    --------
    >>> from tlnb.validation import check_couplings
    >>> check_couplings(1, 3), check_couplings((0, float("inf")), 2)
    ((1.0, 1.0, 1.0), (0.0, inf))
    """
    each = couplings if isinstance(couplings, Iterable) else (couplings,) * depth
    checked = tuple(check_nonnegative("couplings", g, allow_infinite=True) for g in each)
    if len(checked) != depth:
        raise ValueError(
            f"couplings must be one number or one for each of {depth} hidden layers, got "
            f"{len(checked)}"
        )
    return checked


def check_choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of the allowed strings."""
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def check_inputs(
    X: ArrayLike, name: str = "X", n_features: int | None = None
) -> NDArray[np.float64]:
    """Return ``X`` as a finite float64 array of shape (P, N0), P >= 1 and N0 >= 1."""
    allowed = "a finite real array of shape (P, N0) with P >= 1 and N0 >= 1"
    array = _real_array(X, name, allowed)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must be {allowed}, got shape {array.shape}")
    _check_finite(array, name, allowed)
    if n_features is not None and array.shape[1] != n_features:
        raise ValueError(f"{name} must have N0 = {n_features} columns, got shape {array.shape}")
    return array


def check_labels(y: ArrayLike, n_examples: int, name: str = "y") -> NDArray[np.float64]:
    """Return ``y`` as a finite float64 array of shape (n_examples,)."""
    allowed = f"a finite real array of shape ({n_examples},)"
    array = _real_array(y, name, allowed)
    if array.shape != (n_examples,):
        raise ValueError(f"{name} must be {allowed}, got shape {array.shape}")
    _check_finite(array, name, allowed)
    return array


def check_outputs(y: ArrayLike, n_examples: int, name: str = "y") -> NDArray[np.float64]:
    """Return ``y`` as a finite float64 array of shape (n_examples, C), C >= 1 outputs."""
    allowed = f"a finite real array of shape ({n_examples}, C) with C >= 1"
    array = _real_array(y, name, allowed)
    if array.ndim != 2 or array.shape[0] != n_examples or array.shape[1] == 0:
        raise ValueError(f"{name} must be {allowed}, got shape {array.shape}")
    _check_finite(array, name, allowed)
    return array


def check_rng(
    name: str, value: int | np.random.Generator | None, purpose: str = ""
) -> np.random.Generator:
    """Return the Generator that ``value`` is or seeds; None seeds it with fresh entropy.

    An integer seeds one stream for each ``purpose``: two functions that are given the same integer
    and say what for share no random numbers.

    Examples
    --------
    >>> from tlnb.validation import check_rng
    >>> first, second = check_rng("rng", 0, "source"), check_rng("rng", 0, "target")
    >>> first.random() == second.random()
    False
    """
    try:
        if purpose and isinstance(value, Integral):
            key = tuple(purpose.encode())
            return np.random.default_rng(np.random.SeedSequence(int(value), spawn_key=key))
        return np.random.default_rng(value)
    except (TypeError, ValueError) as error:
        allowed = "an integer >= 0 or a Generator"
        raise type(error)(f"{name} must be {allowed}, got {value!r}") from None


def check_seed(name: str, value: object) -> int:
    """Return the seed that ``value`` is, or draw one from it if it is a Generator."""
    if isinstance(value, np.random.Generator):
        return int(value.integers(2**63))
    return check_count(name, value, least=0)


def read_only(values: ArrayLike) -> NDArray[Any]:
    """Return a copy of ``values`` that nobody can write to."""
    copy = np.array(values)
    copy.flags.writeable = False
    return copy


def _real_array(values: ArrayLike, name: str, allowed: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufO" or np.ma.isMaskedArray(values):
            raise TypeError(f"got {type(values).__name__} of {array.dtype}")
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be {allowed}: {error}") from error


def _check_finite(array: NDArray[np.float64], name: str, allowed: str) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"{name} must be {allowed}, got {array[where]} at index {where}")
