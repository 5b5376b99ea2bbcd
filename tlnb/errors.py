"""What tlnb raises and warns of, beyond Python's own exceptions."""

from __future__ import annotations


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
