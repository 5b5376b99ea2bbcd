"""Several outputs that share the hidden layer: Q is a matrix."""

from tlnb.theory.outputs.action import effective_action, expand
from tlnb.theory.outputs.prediction import OutputsLeaveOneOut, OutputsPrediction, votes
from tlnb.theory.outputs.problem import OVERLAPS, OutputsProblem, solve, width_sweep
from tlnb.theory.outputs.saddle import LeastAction, least_action
from tlnb.theory.outputs.solution import OutputsSolution
from tlnb.theory.outputs.transfer import (
    OutputsTransferProblem,
    OutputsTransferSolution,
    solve_transfer,
)

__all__ = [
    "OVERLAPS",
    "LeastAction",
    "OutputsLeaveOneOut",
    "OutputsPrediction",
    "OutputsProblem",
    "OutputsSolution",
    "OutputsTransferProblem",
    "OutputsTransferSolution",
    "effective_action",
    "expand",
    "least_action",
    "solve",
    "solve_transfer",
    "votes",
    "width_sweep",
]
