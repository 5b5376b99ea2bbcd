r"""The networks' priors and what a coupling to a source does to them.

The hidden weights of a target are tied to those of a quenched source network by an elastic factor
exp(-γ ‖w - w_s‖²/2). Given w_s the target's prior is N(b w_s, 1/(λ0t + γ)) with
b = γ/(λ0t + γ), so that per component

    c_s = 1/λ0s,   c_st = b c_s,   c_tt = b² c_s,   c_t = 1/(λ0t + γ) + c_tt.

γ = 0 is training from scratch, γ = ∞ frozen source features. Source: Ingrosso et al. (2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlnb.activations import Activation, get_activation
from tlnb.kernels import WeightCovariances
from tlnb.validation import check_choice, check_nonnegative, check_positive

SCHEMES = ("elastic", "variance-preserving")


def weight_covariances(
    coupling: float,
    *,
    source_weight_precision: float = 1.0,
    target_weight_precision: float = 1.0,
    scheme: str = "elastic",
) -> WeightCovariances:
    """Covariances per component of the hidden weights of a source and of targets coupled to it.

    Parameters
    ----------
    coupling : float
        γ ≥ 0, ``numpy.inf`` included.
    source_weight_precision, target_weight_precision : float
        λ0s and λ0t, > 0.
    scheme : {"elastic", "variance-preserving"}
        Elastic keeps λ0t fixed, so that c_t shrinks in between. Variance-preserving is the control
        that separates transfer from regularisation: λ0t(γ) is chosen so that c_t = c_s at every
        coupling, λ0t + γ = (λ0s + sqrt(λ0s² + 4γ²))/2, whatever ``target_weight_precision`` is.
    """
    coupling = check_nonnegative("coupling", coupling, allow_infinite=True)
    c_s = 1 / check_positive("source_weight_precision", source_weight_precision)
    precision = check_positive("target_weight_precision", target_weight_precision)
    check_choice("scheme", scheme, SCHEMES)
    if np.isinf(coupling):
        return WeightCovariances(c_s, c_s, c_s, c_s)
    if scheme == "variance-preserving":
        root = np.hypot(1 / c_s, 2 * coupling)
        precision = 0.5 / c_s * (1 + 1 / c_s / (root + 2 * coupling))
    b = coupling / (precision + coupling)
    return WeightCovariances(c_s, b * c_s, 1 / (precision + coupling) + b**2 * c_s, b**2 * c_s)


@dataclass(frozen=True)
class Priors:
    """The networks' activation and priors, and how the coupling acts.

    Parameters
    ----------
    activation : str, Activation or callable
    temperature, weight_precision, readout_precision : float
        T, λ0 and λ1 of the target, all > 0.
    source_temperature, source_weight_precision, source_readout_precision : float, optional
        Those of the source; None: as the target's.
    coupling_scheme : {"elastic", "variance-preserving"}
        See `weight_covariances`.

    Raises
    ------
    ValueError, TypeError
        For an unknown activation or scheme and numbers that are not > 0.
    """

    activation: str | Activation = "erf"
    temperature: float = 0.01
    weight_precision: float = 1.0
    readout_precision: float = 1.0
    source_temperature: float | None = None
    source_weight_precision: float | None = None
    source_readout_precision: float | None = None
    coupling_scheme: str = "elastic"

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", get_activation(self.activation))
        check_choice("coupling_scheme", self.coupling_scheme, SCHEMES)
        for name in ("temperature", "weight_precision", "readout_precision"):
            own = check_positive(name, getattr(self, name))
            of_source = getattr(self, f"source_{name}")
            if of_source is not None:
                check_positive(f"source_{name}", of_source)
            object.__setattr__(self, name, own)
            object.__setattr__(self, f"source_{name}", own if of_source is None else of_source)
