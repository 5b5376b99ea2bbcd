"""Networks drawn from their posteriors, with what is needed to judge the draws."""

from tlnb._renamed import renamed_names
from tlnb.sampling.bridge import networks
from tlnb.sampling.deep import sample_deep_posterior, sample_deep_transfer
from tlnb.sampling.diagnostics import summary
from tlnb.sampling.outputs import sample_outputs, sample_outputs_transfer
from tlnb.sampling.posterior import sample_posterior
from tlnb.sampling.transfer import sample_transfer

__all__ = [
    "networks",
    "sample_deep_posterior",
    "sample_deep_transfer",
    "sample_outputs",
    "sample_outputs_transfer",
    "sample_posterior",
    "sample_transfer",
    "summary",
]

__getattr__ = renamed_names(__name__)
