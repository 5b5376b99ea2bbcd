"""The trained readout: overlaps at the fixed point, errors, losses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.theory.readout.fixed_point import Conjugates, ReplicaMap
from tlnb.theory.readout.iteration import find_fixed_point

Array = NDArray[np.float64]


class GLMSolution(NamedTuple):
    """The fixed point and what follows from it.

    Attributes
    ----------
    V, q, m : response of the student's field to a pull on it, its variance, and its covariance with
        the teacher's field.
    V_hat, q_hat, m_hat : their conjugates.
    regularization : λ, the given or the optimal one.
    test_error : probability of a wrong sign; the mean square error for linear labels.
    train_loss : ℓ, averaged over the training examples.
    train_error : test_error's counterpart on the training examples.
    norm : ‖a‖²/K.
    objective : what is minimised, for each example: train_loss + λ ‖a‖²/(2αK).
    residual : largest relative change of V, q, m under one undamped step of the map.
    iterations : evaluations of the map.
    converged : the residual is below 1e-9 and the overlaps are those of a Gaussian.
    """

    V: float
    q: float
    m: float
    V_hat: float
    q_hat: float
    m_hat: float
    regularization: float
    test_error: float
    train_loss: float
    train_error: float
    norm: float
    objective: float
    residual: float
    iterations: int
    converged: bool

    @property
    def conjugates(self) -> Conjugates:
        """V̂, q̂, m̂: where the search for a fixed point close by can start."""
        return Conjugates(self.V_hat, self.q_hat, self.m_hat)


@np.errstate(all="ignore")  # beyond floating point the residual says so
def solution_of(at: ReplicaMap, near: GLMSolution | None = None) -> GLMSolution:
    """The fixed point of this map, looked for from ``near``."""
    hats, evaluations = find_fixed_point(at, None if near is None else np.array(near.conjugates))
    overlaps, norm = at.overlaps(*hats), at.norm(*hats)
    test_error, train_error = at.errors(*overlaps)
    train_loss = at.train_loss(*overlaps)
    V_hat, q_hat, m_hat = hats.tolist()
    return GLMSolution(
        *overlaps,
        V_hat=V_hat,
        q_hat=q_hat,
        m_hat=m_hat,
        regularization=at.regularization,
        test_error=test_error,
        train_loss=train_loss,
        train_error=train_error,
        norm=norm,
        objective=train_loss + at.regularization * norm / (2 * at.sample_ratio),
        residual=at.residual(hats),
        iterations=evaluations,
        converged=True,
    )
