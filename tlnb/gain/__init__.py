r"""Measure whether a source task helps a target task, and whether the gain is transfer.

Temperature T, richness λ1/N1 and coupling γ are chosen together, as the candidate of least
leave-one-out Gibbs error: from training labels alone, in closed form, no test label enters. Three
opponents trained on the same target examples alone make the same choice over the same candidates:

1. scratch: the same width, no source;
2. matched prior: the same width from scratch with the prior variance that a coupling leaves,
   λ0 = 1/c_t(γ), γ being chosen too, which does as well if a coupling merely regularises;
3. best width: of a list of widths, infinity included, which is chosen too.

What is compared, and when a difference counts, stands in `tlnb.gain.verdict`. Why leave-one-out and
not the evidence: chapter 08. How often the verdict is that of trained networks: chapter 09.

Of a source above 12,000 examples temperatures and richness are screened on 3,000 of them, and the
best three points solved for with all; what is said of the screening is how far that can be trusted
(`tlnb.theory.large.screening`), and the solver's errors are part of the gains' standard errors.
"""

from __future__ import annotations

from tlnb._renamed import renamed_names
from tlnb.gain.tool import COUPLINGS, RICHNESS, TEMPERATURES, WIDTHS, TransferGain, transfer_gain

__all__ = ["COUPLINGS", "RICHNESS", "TEMPERATURES", "WIDTHS", "TransferGain", "transfer_gain"]

__getattr__ = renamed_names(__name__)
