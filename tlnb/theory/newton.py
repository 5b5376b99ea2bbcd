"""Newton's method with a safeguard: a step is shortened until it brings the equations nearer."""

from __future__ import annotations

from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # on scaled, undamped residuals: what counts as solved
EXACT = 1e-12  # where there is nothing left to gain


class Linearised(Protocol):
    """n equations at one point of their n unknowns, and how to get to another point."""

    @property
    def equations(self) -> Array:
        """Left-hand sides of the equations, of shape (n,)."""
        ...

    @property
    def jacobian(self) -> Array:
        """Their derivatives in the unknowns, of shape (n, n)."""
        ...

    @property
    def residuals(self) -> Array:
        """The equations scaled so that they stay of order one, of shape (n,)."""
        ...

    @property
    def sizes(self) -> Array:
        """The longest step allowed in each unknown, of shape (n,)."""
        ...

    def moved(self, step: Array) -> Self:
        """The equations after a step (n,); LinAlgError where they are not defined."""
        ...


Point = TypeVar("Point", bound=Linearised)


def newton(at: Point, max_iterations: int = 50) -> tuple[Point, int]:
    """The point where the equations are solved as well as they can be, and the steps it took.

    It returns the best point whatever its residuals are: the caller judges them.
    """
    iterations = 0
    for iterations in range(1, max_iterations + 1):  # noqa: B007
        error = np.abs(at.residuals).max()
        if error < EXACT:
            break
        try:
            step = np.linalg.solve(at.jacobian, -at.equations)
        except LinAlgError:
            break
        step *= min(1.0, 1.0 / np.abs(step / at.sizes).max())
        # Below the tolerance a step that does not help is at the rounding level: no halving then.
        for halving in 0.5 ** np.arange(1 if error < TOLERANCE else 8):
            try:
                trial = at.moved(halving * step)
            except LinAlgError:
                continue
            if np.abs(trial.residuals).max() < error:
                at = trial
                break
        else:
            break
    return at, iterations
