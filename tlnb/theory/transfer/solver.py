"""`solve` for one width and coupling, `coupling_sweep` for many, without a problem to prepare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tlnb._renamed import renamed
from tlnb.data.task import Task
from tlnb.priors import PriorOptions, Priors, check_options
from tlnb.theory.transfer.predictor import TransferSolution
from tlnb.theory.transfer.problem import TransferProblem
from tlnb.validation import check_choice

if TYPE_CHECKING:
    from xarray import Dataset

    from tlnb.theory.large.kernel import LargeOptions

Array = NDArray[np.float64]
THEORIES = ("scalar", "unit-law")


def solve(
    source: Task,
    target: Task,
    *,
    width: float,
    coupling: float | str,
    solver: str = "auto",
    options: LargeOptions | None = None,
    **priors: Unpack[PriorOptions],
) -> TransferSolution:
    """The Franz-Parisi saddle point of a target coupled to a source.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0), (P_t, N0) and their labels.
    width : float
        N1 ≥ 1 of both networks. At ``numpy.inf`` no label of the source reaches the target; the
        coupled prior is all that is left.
    coupling : float, "leave-one-out" or "evidence"
        γ from 0, the target alone, to ``numpy.inf``, frozen source features. "leave-one-out" takes
        the coupling of least leave-one-out Gibbs error, which estimates the test error well;
        "evidence" the one of largest log evidence. At low temperature that is often 0 even where a
        coupling helps: labels of ±1 then count as exact, and stiff features pay for each of them.
    solver, options
        As in `coupling_sweep`.
    **priors
        activation, temperature, weight_precision, readout_precision or richness, the same with
        ``source_`` in front, coupling_scheme: see `tlnb.priors.Priors`.

    Notes
    -----
    At γ = 0 the target does not know the source, and the solution is that of one task, with
    Q_st = Q_tt = 0. For activations that are not odd the action's own limit γ → 0 keeps overlaps of
    order 1/N1, because independent networks share a mean output.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed, and kernels singular at this temperature.
    ConvergenceError
        If no physical saddle point with a small residual was reached.

    Warns
    -----
    CompetingSaddlesWarning
        If the action of the source or of the target alone has further minima.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.transfer import solve
    >>> X = np.random.default_rng(0).standard_normal((50, 10))
    >>> source, target = Task(X[:40], X[:40, 0]), Task(X[40:], X[40:, 0])
    >>> solution = solve(source, target, width=20, coupling=1.0, temperature=0.1)
    >>> print(f"{solution.Q_st:.3f}")
    0.367
    """
    from tlnb.theory.large.problem import transfer_problem

    problem = transfer_problem(source, target, Priors.of("solve", priors), solver, options)
    return problem.solve(width=width, coupling=coupling)


def coupling_sweep(
    source: Task,
    target: Task,
    test: Task,
    *,
    widths: Sequence[float],
    couplings: Sequence[float],
    baseline: str | None = None,
    theory: str = "scalar",
    rng: int | np.random.Generator | None = 0,
    solver: str = "auto",
    options: LargeOptions | None = None,
    **priors: Unpack[PriorOptions],
) -> Dataset:
    """The transfer curve of two data sets: theory over widths and couplings.

    The source's kernel is decomposed once for all of them, or, above 12,000 examples, solved with
    iteratively.

    Parameters
    ----------
    source, target, test : Task
        ``test`` holds the inputs and labels of the target task that errors are averaged over.
    widths, couplings : sequences of float
        N1 ≥ 1 and γ ≥ 0, ``numpy.inf`` allowed in both, in any order.
    baseline : {None, "scratch", "matched-prior"}
        Instead of transfer, the same networks trained on the target alone: with their own prior
        ("scratch"), or with the prior variance c_t(γ) that the coupling leaves them
        ("matched-prior"), which tells regularisation from transfer.
    theory : {"scalar", "unit-law"}
        Four overlaps and the prior's kernels, or the whole law of a hidden unit by particles
        (`tlnb.theory.unit_law`), which takes a few seconds a point, finite widths and no
        baseline, and adds Monte Carlo errors as ``*_mcse``.
    rng : int or Generator
        Of the particles.
    solver : {"auto", "dense", "iterative"}
        How the source's kernel is dealt with; "auto" takes the iterative solver above 12,000
        source examples. It adds an error to every number, as ``Q_s_error``, ``test_error_error``
        and so on, and raises ConvergenceError where one is above its tolerance.
    options : tlnb.theory.large.LargeOptions, optional
        For the iterative solver: tolerance, landmarks, a folder to continue from, progress.
    **priors
        As in `solve`: activation, temperature, precisions, coupling_scheme; see
        `tlnb.priors.Priors`. With ``richness`` the readout precision grows with the width.

    Returns
    -------
    xarray.Dataset over (width, coupling)
        Q_s, Q_t, Q_st, Q_tt, train_error, squared_bias, total_variance, source_variance,
        test_error, classification_error, log_evidence, residual; errors and variances are means
        over the test points.

    Raises
    ------
    ValueError, TypeError, ConvergenceError
        As `solve` does.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task, coupling_sweep
    >>> X = np.random.default_rng(0).standard_normal((80, 10))
    >>> source, target, test = (Task(X[p], X[p, 0]) for p in np.split(np.arange(80), [40, 50]))
    >>> curve = coupling_sweep(source, target, test, widths=[20], couplings=[0, 1, np.inf])
    >>> curve.test_error.values.round(2)
    array([[0.33, 0.24, 0.23]])
    """
    check_options("coupling_sweep", priors, PriorOptions)
    check_choice("theory", theory, THEORIES)
    if theory == "unit-law":
        from tlnb.theory.unit_law import TransferLawProblem

        if baseline is not None:
            raise ValueError(f"baseline must be None with theory='unit-law', got {baseline!r}")
        law = TransferLawProblem(source, target, rng=rng, **priors)
        return law.sweep(test, widths=widths, couplings=couplings)
    from tlnb.theory.large.problem import transfer_problem

    own = Priors.of("coupling_sweep", priors)
    problem = transfer_problem(source, target, own, solver, options)
    return problem.sweep(test, widths=widths, couplings=couplings, baseline=baseline)


@renamed("tlnb.theory.transfer.solution", "TransferProblem.solve")
def _solution(problem: TransferProblem, width: float, coupling: float | str) -> TransferSolution:
    return problem.solve(width=width, coupling=coupling)


@renamed("tlnb.theory.transfer.sweep", "TransferProblem.sweep")
def _sweep(problem: TransferProblem, test: Task, **grid: Any) -> Dataset:
    return problem.sweep(test, **grid)
