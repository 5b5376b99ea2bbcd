"""Deep networks: L hidden layers of their own widths, coupled layer by layer."""

from tlnb.theory.deep.one_task import DeepOneTaskProblem, DeepSolution, solve_one_task
from tlnb.theory.deep.problem import DeepTransferProblem, coupling_sweep, solve
from tlnb.theory.deep.solution import DeepTransferSolution

__all__ = [
    "DeepOneTaskProblem",
    "DeepSolution",
    "DeepTransferProblem",
    "DeepTransferSolution",
    "coupling_sweep",
    "solve",
    "solve_one_task",
]
