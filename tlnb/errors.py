"""What tlnb raises and warns of, beyond Python's own exceptions."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

# Of no caller: this package, and what enters and leaves its contexts.
_PASSED = str(Path(__file__).parent / "_")[:-1], contextlib.__file__


class ConvergenceError(RuntimeError):
    """A solver found no acceptable solution; the message names the residual and what to try."""


class QuadratureWarning(UserWarning):
    """A Gaussian integral carries an estimated error above the stated tolerance."""


class CompetingSaddlesWarning(UserWarning):
    """The effective action has further minima beside the one that was returned."""


class SamplingError(RuntimeError):
    """A chain met a density that is not finite; ``state`` holds the last finite positions."""

    def __init__(self, message: str, state: object) -> None:
        super().__init__(message)
        self.state = state


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around an import: if the library is not installed, say which extra of tlnb brings it.

    Examples
    --------
    >>> with needs("plot"):
    ...     import matplotlib
    """
    try:
        yield
    except ModuleNotFoundError as error:
        hint = f"{error.name} is not installed; pip install 'tlnb[{extra}]' brings it"
        raise ModuleNotFoundError(hint, name=error.name) from error


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn in the name of the line outside this package that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PASSED):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
