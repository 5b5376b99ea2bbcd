"""The law of a hidden unit kept whole, where the scalar theory keeps one number of it."""

from tlnb.theory.unit_law.one_task import solve
from tlnb.theory.unit_law.solution import Estimate, UnitLawSolution
from tlnb.theory.unit_law.transfer import TransferLawProblem, solve_transfer
from tlnb.theory.unit_law.transfer_solution import TransferLawSolution

__all__ = [
    "Estimate",
    "TransferLawProblem",
    "TransferLawSolution",
    "UnitLawSolution",
    "solve",
    "solve_transfer",
]
