"""Simulations: networks drawn from their posteriors, with diagnostics."""

from tlnb.simulation.diagnostics import summary
from tlnb.simulation.sampling import sample_posterior, sample_transfer

__all__ = ["sample_posterior", "sample_transfer", "summary"]
