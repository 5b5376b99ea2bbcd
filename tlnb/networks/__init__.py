"""Two-layer networks trained on data, and what of a source they hand on to a target."""

from tlnb._renamed import renamed_names
from tlnb.networks.protocols import Protocol, compare_protocols
from tlnb.networks.training import TrainedNetwork, train_readout, train_two_layer
from tlnb.networks.transfer import Mode, train_mode, train_transfer
from tlnb.networks.two_layer import TwoLayerNetwork

__all__ = [
    "Mode",
    "Protocol",
    "TrainedNetwork",
    "TwoLayerNetwork",
    "compare_protocols",
    "train_mode",
    "train_readout",
    "train_transfer",
    "train_two_layer",
]
__getattr__ = renamed_names(__name__)
