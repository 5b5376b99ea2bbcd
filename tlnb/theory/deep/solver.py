"""`solve` for one choice of couplings, `coupling_sweep` for many, without a problem to prepare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from tlnb.data.task import Task
from tlnb.priors import PriorOptions
from tlnb.theory.deep.one_task import check_widths
from tlnb.theory.deep.problem import DeepTransferProblem
from tlnb.theory.deep.solution import DeepTransferSolution

if TYPE_CHECKING:
    from xarray import Dataset


def solve(
    source: Task,
    target: Task,
    *,
    widths: Sequence[float],
    couplings: float | Sequence[float],
    weight_precisions: Sequence[float] | None = None,
    source_weight_precisions: Sequence[float] | None = None,
    **priors: Unpack[PriorOptions],
) -> DeepTransferSolution:
    """The Franz-Parisi saddle point of a deep target coupled to a deep source.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0), (P_t, N0) and their labels.
    widths : sequence of L floats
        (N_1, ..., N_L) ≥ 1 of both networks, from the input up. A layer of infinite width only
        maps kernels; with all of them infinite no label of the source reaches the target.
    couplings : float or sequence of L floats
        γ ≥ 0 of every layer, or of each layer from the input up; ``numpy.inf`` freezes a layer at
        the source's weights, 0 leaves it untied.
    weight_precisions, source_weight_precisions : sequence of L floats, optional
        λ0 of each hidden layer, where they differ; the source's are the target's unless given.
    **priors
        activation, temperature, weight_precision, readout_precision or richness (λ1/N_L), the same
        with ``source_`` in front, coupling_scheme: see `Priors`.

    Notes
    -----
    Exact at leading order for linear networks; for others the rescaling of nested kernels layer by
    layer is an ansatz, whose corrections grow with depth (chapter 10). For activations that are
    not odd it has no solution at small couplings of more than one hidden layer: a
    `ConvergenceError`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed, activations without a kernel at some layer, and
        kernels singular at this temperature.
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
    >>> from tlnb.theory.deep import solve
    >>> X = np.random.default_rng(0).standard_normal((50, 10))
    >>> source, target = Task(X[:40], X[:40, 0]), Task(X[40:], X[40:, 0])
    >>> solution = solve(source, target, widths=(20, 40), couplings=1.0, temperature=0.1)
    >>> solution.overlaps.shape, bool(0 < solution.Q_st < solution.Q_s)
    ((2, 4), True)
    """
    widths = check_widths(widths)
    problem = DeepTransferProblem(
        source,
        target,
        depth=len(widths),
        weight_precisions=weight_precisions,
        source_weight_precisions=source_weight_precisions,
        **priors,
    )
    return problem.solve(widths=widths, couplings=couplings)


def coupling_sweep(
    source: Task,
    target: Task,
    test: Task,
    *,
    widths: Sequence[float],
    couplings: Sequence[float | Sequence[float]],
    baseline: str | None = None,
    weight_precisions: Sequence[float] | None = None,
    source_weight_precisions: Sequence[float] | None = None,
    **priors: Unpack[PriorOptions],
) -> Dataset:
    """The transfer curve of two data sets for one deep network: theory over couplings.

    The source's kernel is decomposed once.

    Parameters
    ----------
    source, target, test : Task
        ``test`` holds the inputs and labels of the target task that errors are averaged over.
    widths : sequence of L floats
        (N_1, ..., N_L), see `solve`.
    couplings : sequence
        Each entry a number for all layers, or a tuple (γ_1, ..., γ_L).
    baseline : {None, "scratch", "matched-prior"}
        Instead of transfer, the same networks trained on the target alone: with their own prior
        ("scratch"), or with the prior variances c_t(γ_l) that the couplings leave to the weights of
        each layer ("matched-prior"), which tells regularisation from transfer.
    weight_precisions, source_weight_precisions, **priors
        As in `solve`.

    Returns
    -------
    xarray.Dataset over (coupling)
        Q_s, Q_t, Q_st, Q_tt, train_error, squared_bias, total_variance, source_variance,
        test_error, classification_error, log_evidence, residual, and A_s, A_st, A_t, A_tt over
        (coupling, layer). The coordinate ``coupling`` is γ where all entries are numbers, otherwise
        their position; ``layer_coupling`` (coupling, layer) always tells.

    Raises
    ------
    ValueError, TypeError, ConvergenceError
        As `solve` does.

    Examples
    --------
    Both layers tied, and the first one alone:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.deep import coupling_sweep
    >>> X = np.random.default_rng(0).standard_normal((80, 10))
    >>> source, target, test = (Task(X[p], X[p, 0]) for p in np.split(np.arange(80), [40, 50]))
    >>> curve = coupling_sweep(
    ...     source, target, test, widths=(20, 20), couplings=[(1.0, 1.0), (np.inf, 0.0)]
    ... )
    >>> dict(curve.sizes)
    {'coupling': 2, 'layer': 2}
    """
    widths = check_widths(widths)
    problem = DeepTransferProblem(
        source,
        target,
        depth=len(widths),
        weight_precisions=weight_precisions,
        source_weight_precisions=source_weight_precisions,
        **priors,
    )
    return problem.sweep(test, widths=widths, couplings=couplings, baseline=baseline)
