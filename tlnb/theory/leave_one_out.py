r"""Leave-one-out in closed form: what a network would say of an example it had not seen.

With the order parameters held, leaving out training example μ needs no refit. A target around one
of its sources has outputs g + h with g ~ N(Q_st u, E) shared by all targets of that source and h of
covariance Δ - T its own; with W = Δ⁻¹ and r = y - Q_st u, the Schur complement of μ gives

    residual         y_μ - f_{-μ}(x_μ) = (W r)_μ / W_μμ
    source variance  (W E W)_μμ / W_μμ²
    total variance   1/W_μμ - T + (W E W)_μμ / W_μμ²
    test error       residual² + total variance.

One task has W = (T + Q K)⁻¹, r = y and E = 0. The mean over μ estimates the test error from the
training labels alone, for every coupling, temperature, precision and width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class LeaveOneOut(NamedTuple):
    """What is expected of each training example by a network trained on the others.

    Every field is an array of shape (P_t,).

    Attributes
    ----------
    residual : y_μ - ⟨f_{-μ}(x_μ)⟩.
    source_variance : the part of the total variance that is spread between quenched sources.
    total_variance : of the output, without the noise T.
    test_error : Gibbs error ⟨(y_μ - f_{-μ}(x_μ))²⟩ = residual² + total variance.
    """

    residual: Array
    source_variance: Array
    total_variance: Array
    test_error: Array


def leave_one_out(
    solved: Array,
    inverse_diagonal: Array,
    spread: Array | float,
    temperature: float,
    readout_precision: float = 1.0,
) -> LeaveOneOut:
    """The closed form, from what the solver has.

    Parameters
    ----------
    solved, inverse_diagonal, spread : arrays of shape (P_t,)
        W r and the diagonals of W and of W E W, in units of the readouts' prior.
    temperature, readout_precision : float
        T in the same units, and the λ1 that turns outputs back into those of the labels.

    Examples
    --------
    A Gaussian process of kernel K and noise T, against a refit without the first example:

    >>> import numpy as np
    >>> from tlnb.theory.leave_one_out import leave_one_out
    >>> A, y, T = np.random.default_rng(0).standard_normal((5, 9)), np.arange(5.0), 0.1
    >>> K = A @ A.T
    >>> W = np.linalg.inv(K + T * np.eye(5))
    >>> refit = K[0, 1:] @ np.linalg.solve(K[1:, 1:] + T * np.eye(4), y[1:])
    >>> left_out = leave_one_out(W @ y, np.diagonal(W), 0.0, T)
    >>> bool(np.isclose(left_out.residual[0], y[0] - refit))
    True
    """
    residual = solved / inverse_diagonal / np.sqrt(readout_precision)
    source = np.maximum(spread / inverse_diagonal**2, 0.0) / readout_precision
    own = np.maximum(1 / inverse_diagonal - temperature, 0.0) / readout_precision
    source = np.broadcast_to(source, residual.shape)
    return LeaveOneOut(residual, source, own + source, residual**2 + own + source)
