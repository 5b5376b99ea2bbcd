"""One task in the proportional limit: effective action, saddle point, predictor."""

from tlnb._renamed import renamed_names
from tlnb.theory.one_task.action import effective_action, stationarity
from tlnb.theory.one_task.problem import AVERAGED, OneTaskProblem, solve, width_sweep
from tlnb.theory.one_task.saddle import LeastAction, SaddlePoints, least_action, saddle_points
from tlnb.theory.one_task.solution import ProportionalSolution

__all__ = [
    "AVERAGED",
    "LeastAction",
    "OneTaskProblem",
    "ProportionalSolution",
    "SaddlePoints",
    "effective_action",
    "least_action",
    "saddle_points",
    "solve",
    "stationarity",
    "width_sweep",
]

__getattr__ = renamed_names(__name__)
