"""The law of a hidden unit kept whole, where the scalar theory keeps one number of it."""

from tlnb.theory.unit_law.one_task import solve
from tlnb.theory.unit_law.solution import Estimate, UnitLawSolution

__all__ = ["Estimate", "UnitLawSolution", "solve"]
