"""What tlnb raises and warns of, beyond Python's own exceptions."""

from __future__ import annotations


class ConvergenceError(RuntimeError):
    """A solver found no acceptable solution; the message names the residual and what to try."""


class QuadratureWarning(UserWarning):
    """A Gaussian integral carries an estimated error above the stated tolerance."""


class CompetingSaddlesWarning(UserWarning):
    """The effective action has further minima beside the one that was returned."""
