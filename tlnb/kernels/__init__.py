"""From inputs and weight covariances to kernels: activations, their Gaussian integrals, blocks."""

from tlnb._renamed import renamed_names
from tlnb.kernels.activations import Activation, get_activation
from tlnb.kernels.blocks import InnerProducts, dual_diagonal, gram, kernel, squared_norms

__all__ = [
    "Activation",
    "InnerProducts",
    "dual_diagonal",
    "get_activation",
    "gram",
    "kernel",
    "squared_norms",
]
__getattr__ = renamed_names(__name__)
