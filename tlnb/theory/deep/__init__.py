"""Deep networks: L hidden layers of their own widths, coupled layer by layer."""

from tlnb.theory.deep.one_task import DeepOneTaskProblem, DeepSolution, solve_one_task
from tlnb.theory.deep.problem import DeepTransferProblem
from tlnb.theory.deep.solution import DeepTransferSolution
from tlnb.theory.deep.solver import coupling_sweep, solve

__all__ = [
    "DeepOneTaskProblem",
    "DeepSolution",
    "DeepTransferProblem",
    "DeepTransferSolution",
    "coupling_sweep",
    "solve",
    "solve_one_task",
]
