"""Sources of real size: kernels as tiles, iterative solutions, traces with their errors."""

from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.large.problem import LargeTransferProblem, transfer_problem
from tlnb.theory.large.source import EstimatedSaddle, source_saddle

__all__ = [
    "EstimatedSaddle",
    "LargeOptions",
    "LargeTransferProblem",
    "source_saddle",
    "transfer_problem",
]
