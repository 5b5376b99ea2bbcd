"""The branch of physical saddle points of one hidden layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tlnb.theory import branch
from tlnb.theory.transfer.action import KernelBlocks
from tlnb.theory.transfer.saddle import Overlaps, newton

Array = NDArray[np.float64]


class Branch(branch.Branch[KernelBlocks, Overlaps]):
    """The saddle points at one width, from (Q_t of scratch, 0): see `tlnb.theory.branch`.

    Parameters
    ----------
    blocks_at : callable
        The `KernelBlocks` at a finite coupling > 0.
    scratch_Q : float
        The order parameter of the target trained alone, at zero coupling.
    scale : float
        A coupling of the size of the target's weight precision.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.transfer import Branch, TransferProblem
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> source, target = Task(X[:30], X[:30, 0]), Task(X[30:], X[30:, 0])
    >>> problem = TransferProblem(source, target, temperature=0.1)
    >>> branch = Branch(lambda g: problem.blocks(20, g), problem.alone().saddle(20).Q, scale=1.0)
    >>> branch.at(0.1).Q_st < branch.at(1.0).Q_st
    True
    >>> bool(np.isclose(branch.at(1.0).Q_st, problem.saddle(20, 1.0).Q_st))
    True
    """

    def __init__(
        self, blocks_at: Callable[[float], KernelBlocks], scratch_Q: float, scale: float
    ) -> None:
        scratch = np.array([np.log(scratch_Q), 0.0])
        advice = "try a larger width, a higher temperature or smaller labels"
        super().__init__(blocks_at, _near, scratch, scale, advice)


def _near(coordinates: Array, blocks: KernelBlocks) -> Overlaps:
    return newton(float(np.exp(coordinates[0])), float(coordinates[1]), blocks)
