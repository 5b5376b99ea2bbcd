"""Transfer between two tasks: the Franz-Parisi action, its saddle point, predictor and sweeps."""

from tlnb._renamed import renamed_names
from tlnb.priors import SCHEMES, Priors, weight_covariances
from tlnb.theory.transfer.action import KernelBlocks, delta, expand, franz_parisi_action
from tlnb.theory.transfer.branch import Branch
from tlnb.theory.transfer.candidates import Choice
from tlnb.theory.transfer.choice import check_coupling, evidence_coupling
from tlnb.theory.transfer.predictor import TransferSolution
from tlnb.theory.transfer.problem import TransferProblem
from tlnb.theory.transfer.saddle import Overlaps, frozen, newton
from tlnb.theory.transfer.solver import THEORIES, coupling_sweep, solve

__all__ = [
    "SCHEMES",
    "THEORIES",
    "Branch",
    "Choice",
    "KernelBlocks",
    "Overlaps",
    "Priors",
    "TransferProblem",
    "TransferSolution",
    "check_coupling",
    "coupling_sweep",
    "delta",
    "evidence_coupling",
    "expand",
    "franz_parisi_action",
    "frozen",
    "newton",
    "solve",
    "weight_covariances",
]

__getattr__ = renamed_names(__name__)
