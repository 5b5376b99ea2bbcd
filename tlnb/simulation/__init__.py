"""Simulations: networks drawn from their posteriors, with diagnostics."""

from tlnb.simulation.sampling import sample_posterior, sample_transfer, summary

__all__ = ["sample_posterior", "sample_transfer", "summary"]
