"""Choosing a coupling from the training data alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from tlnb._renamed import renamed_arguments
from tlnb.priors import Priors
from tlnb.validation import check_choice, check_nonnegative


class LeftOut(Protocol):
    """What is expected of each training example by a network that has not seen it."""

    @property
    def test_error(self) -> NDArray[np.float64]:
        """Gibbs errors, an entry for every example and output."""
        ...


class Prepared(Protocol):
    """Two coupled tasks, of one output or several, whose coupling is to be chosen."""

    @property
    def priors(self) -> Priors:
        """Of both networks."""
        ...

    def log_evidence(self, width: float, coupling: float) -> float:
        """The target's average log evidence."""
        ...

    def leave_one_out(self, width: float, coupling: float) -> LeftOut:
        """Leave-one-out errors at a number for the coupling."""
        ...


def check_coupling(coupling: float | str, name: str = "coupling") -> float | str:
    """Return a coupling γ ≥ 0, infinity allowed, or the criterion that chooses it.

    Examples
    --------
    >>> from tlnb.theory.transfer import check_coupling
    >>> check_coupling(3), check_coupling("evidence")
    (3.0, 'evidence')
    """
    if isinstance(coupling, str):
        return check_choice(name, coupling, CRITERIA)
    return check_nonnegative(name, coupling, allow_infinite=True)


@renamed_arguments(tasks="problem")
def evidence_coupling(problem: Prepared, width: float) -> float:
    """The coupling of largest average log evidence, over 0 ≤ γ ≤ ∞.

    Examples
    --------
    A source that learnt the same, at a temperature at which labels are not taken for exact:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.transfer import TransferProblem, evidence_coupling
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> source, target = Task(X[:36], X[:36, 0]), Task(X[36:], X[36:, 0])
    >>> problem = TransferProblem(source, target, temperature=0.5)
    >>> bool(evidence_coupling(problem, 20) > 1)
    True
    """
    return _least(problem, lambda coupling: -problem.log_evidence(width, coupling))


def leave_one_out_coupling(problem: Prepared, width: float) -> float:
    """The coupling of least leave-one-out Gibbs error, over 0 ≤ γ ≤ ∞."""
    return _least(problem, lambda g: float(problem.leave_one_out(width, g).test_error.mean()))


CRITERIA = {"evidence": evidence_coupling, "leave-one-out": leave_one_out_coupling}


def _least(problem: Prepared, loss: Callable[[float], float]) -> float:
    """Where a loss is least: a scan, refined between the neighbours of the best point.

    The scan goes in half decades around the target's weight precision, both ends included. No test
    label is used.
    """
    grid = problem.priors.weight_precision * 10.0 ** np.arange(-2, 4.5, 0.5)
    couplings = [0.0, *grid.tolist(), np.inf]
    losses = [loss(coupling) for coupling in couplings]
    best = int(np.argmin(losses))
    if best in (0, len(couplings) - 1):
        return couplings[best]
    inside = slice(max(best - 1, 1), min(best + 1, len(couplings) - 2) + 1)
    refined = minimize_scalar(
        lambda t: loss(float(np.exp(t))),
        bounds=np.log([couplings[inside][0], couplings[inside][-1]]),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(refined.x)) if refined.fun < losses[best] else couplings[best]
