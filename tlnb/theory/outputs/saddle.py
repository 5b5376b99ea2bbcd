r"""The minimum of least action over positive definite matrices Q.

Newton's method on the manifold Q^(1/2) exp(X) Q^(1/2): no step leaves it, and for C = 1 it is that
of ln Q. The action can have several minima. The search starts from those of the outputs one by one,
in the basis of outputs that is stationary to first order (that of yᵀK(T + K)⁻²y), in every
combination up to a number, and from those of one factor for all outputs. Wherever it comes to rest
the curvature is checked: a saddle point is left along its steepest way down.
"""

from __future__ import annotations

from itertools import islice, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from tlnb.errors import CompetingSaddlesWarning, ConvergenceError, warn_caller
from tlnb.theory.one_task.saddle import saddle_points
from tlnb.theory.outputs.action import action_in_basis, expand, gradient, symmetric

Array = NDArray[np.float64]
TOLERANCE = 1e-9  # on the undamped residual, relative to the largest eigenvalue of Q if above 1
STARTS = 8  # combinations of single outputs' minima that are tried
STEPS = 200


class LeastAction(NamedTuple):
    """The minimum of least action: Q = R diag(q) Rᵀ.

    ``residual`` is the largest entry of the undamped gradient; ``competing`` holds (Q, action) of
    the other minima that the search met, lowest action first.
    """

    q: Array
    R: Array
    action: float
    residual: float
    iterations: int
    competing: tuple[tuple[Array, float], ...] = ()

    @property
    def Q(self) -> Array:
        """The matrix (C, C)."""
        return (self.R * self.q) @ self.R.T


def least_action(
    eigenvalues: Array, projections: Array, *, width: float, temperature: float
) -> LeastAction:
    """Search from every start and choose.

    Parameters
    ----------
    eigenvalues, projections : arrays of shape (P,) and (P, C)
        e_k ≥ 0 of the kernel and Uᵀy.
    width, temperature : float
        N1, finite or infinite (Q = 1), and T > 0.

    Raises
    ------
    ConvergenceError
        If no start leads to a minimum with a residual below the tolerance.

    Warns
    -----
    CompetingSaddlesWarning
        If the search met further minima.

    Examples
    --------
    Two outputs that are one and the same pull on the same readouts:

    >>> import numpy as np
    >>> from tlnb.theory.outputs import least_action
    >>> found = least_action(np.array([1.0]), np.array([[3.0, 3.0]]), width=20, temperature=0.1)
    >>> found.Q.round(1)
    array([[1.2, 0.3],
           [0.3, 1.2]])
    """
    C = projections.shape[1]
    given = {"width": width, "temperature": temperature}
    if np.isinf(width):
        one = np.ones(C)
        action = action_in_basis(one, eigenvalues, projections, **given)
        return LeastAction(one, np.eye(C), action, 0.0, 0)
    found: list[LeastAction] = []
    worst = np.inf
    for q, R in _starts(eigenvalues, projections, **given):
        end = descend(q, R, eigenvalues, projections, **given)
        worst = min(worst, end.residual)
        if end.residual <= TOLERANCE * max(1.0, end.q.max()) and not _known(end, found):
            found.append(end)
    if not found:
        raise ConvergenceError(
            f"no saddle point at width={width:g}, temperature={temperature:g}, {C} outputs: "
            f"residual {worst:.1e}, allowed {TOLERANCE:.0e}; try a higher temperature or scaled "
            "labels"
        )
    best, *others = sorted(found, key=lambda end: end.action)
    if others:
        listed = ", ".join(f"Tr Q = {o.q.sum():.4g} (action {o.action:.4g})" for o in others)
        warn_caller(
            f"the action at width={width:g} has further minima: {listed}; taken is "
            f"Tr Q = {best.q.sum():.4g} (action {best.action:.4g})",
            CompetingSaddlesWarning,
        )
    return best._replace(competing=tuple((other.Q, other.action) for other in others))


def descend(
    q: Array, R: Array, eigenvalues: Array, projections: Array, *, width: float, temperature: float
) -> LeastAction:
    """Newton's method from Q = R diag(q) Rᵀ down to a minimum; the caller judges the residual."""
    given = {"width": width, "temperature": temperature}
    basis = symmetric(len(q))
    z = projections @ R
    action = action_in_basis(q, eigenvalues, z, **given)
    step, residual = 0, np.inf
    for step in range(STEPS):  # noqa: B007
        point = expand(q, eigenvalues, z, **given)
        residual = np.abs(point.gradient).max()
        bends, ways = np.linalg.eigh(point.hessian)
        slopes = ways.T @ np.einsum("nab,ab->n", basis, point.gradient)
        resting = residual <= 1e-13 * max(1.0, q.max())
        if resting and bends[0] > 0:
            break
        if residual <= TOLERANCE and bends[0] < -1e-9:
            # At rest where the action bends down: leave along that way.
            change = 0.1 * ways[:, 0]
        else:
            change = -ways @ (slopes / np.maximum(np.abs(bends), 1e-6 * np.abs(bends).max()))
        X = np.einsum("n,nab->ab", change, basis)
        X *= min(1.0, 1.0 / max(np.abs(X).max(), 1e-300))
        moved = None
        for halving in 0.5 ** np.arange(1 if residual < TOLERANCE else 30):
            trial_q, trial_R = _moved(q, R, halving * X)
            trial_z = projections @ trial_R
            trial = action_in_basis(trial_q, eigenvalues, trial_z, **given)
            # Below the tolerance the action is flat to rounding, and the residual decides.
            ahead = np.abs(gradient(trial_q, eigenvalues, trial_z, **given)).max()
            lower = trial < action - 1e-13 * abs(action)
            if lower or (trial <= action + 1e-11 * abs(action) and ahead < residual):
                moved = trial_q, trial_R, trial_z, trial
                break
        if moved is None:
            break
        q, R, z, action = moved
    residual = float(np.abs(gradient(q, eigenvalues, z, **given)).max())
    return LeastAction(q, R, action, residual, step)


def _moved(q: Array, R: Array, X: Array) -> tuple[Array, Array]:
    """Eigenvalues and eigenvectors of Q^(1/2) exp(X) Q^(1/2), X in the eigenbasis of Q."""
    root = np.sqrt(q)
    new, ways = np.linalg.eigh(root[:, None] * expm(X) * root)
    return np.maximum(new, np.finfo(float).tiny), R @ ways


def _starts(
    eigenvalues: Array, projections: Array, *, width: float, temperature: float
) -> list[tuple[Array, Array]]:
    """Eigenvalues and eigenvectors of Q to start from."""
    C = projections.shape[1]
    given = {"width": width, "temperature": temperature}
    if C == 1:
        R = np.eye(1)
    else:
        weighted = projections * (np.sqrt(eigenvalues) / (temperature + eigenvalues))[:, None]
        R = np.linalg.eigh(weighted.T @ weighted)[1]
    z2 = (projections @ R) ** 2
    minima = [_minima(eigenvalues, column, **given) for column in z2.T]
    starts = [(np.array(each), R) for each in islice(product(*minima), STARTS)]
    if C > 1:
        shared = _minima(eigenvalues, z2.mean(1), **given)
        starts += [(np.full(C, each), R) for each in shared]
    return starts


def _minima(e: Array, squared: Array, *, width: float, temperature: float) -> list[float]:
    """Minima of one output's action, lowest action first."""
    roots = saddle_points(e, squared, width=width, temperature=temperature)
    order = np.argsort(roots.action[roots.minimum], kind="stable")
    return roots.Q[roots.minimum][order].tolist()


def _known(end: LeastAction, found: list[LeastAction]) -> bool:
    return any(np.abs(end.Q - other.Q).max() <= 1e-5 * max(1.0, end.q.max()) for other in found)
