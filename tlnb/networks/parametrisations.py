r"""What a weight decay means: (T, λ0, λ1) of the theory for networks as people write them.

The theory writes a network as f(x) = N1^(-1/2) Σ_i v_i σ(w_i·x/sqrt(N0)), weights of order one, and
its posterior at temperature T is largest where ½ Σ_μ (y_μ - f)² + (Tλ0/2)‖w‖² + (Tλ1/2)‖v‖² is
least. Others put the powers of N0 and N1 elsewhere,

    f(x) = Σ_i a_i σ(u_i·x · N0^-p) N1^-q,   u = w N0^(p - 1/2),   a = v N1^(q - 1/2),

    ============  ===  ===  =================================================================
    name           p    q   where
    ============  ===  ===  =================================================================
    "ntk"         1/2  1/2  the theory, and neural tangent kernels (Jacot et al. 2018)
    "standard"     0    0   torch.nn.Linear and most code
    "mean-field"  1/2   1   mean-field limits (Mei et al. 2018); with two layers also muP
    ============  ===  ===  =================================================================

and decay those weights: their objective is C Σ_μ (y_μ - f)² + (ω/2)(‖u‖² + ‖a‖²). Divided by 2C it
is the theory's with

    Tλ0 = ω N0^(2p-1)/(2C),   Tλ1 = ω N1^(2q-1)/(2C).

A weight decay gives the products Tλ0 and Tλ1 and not the temperature, which is the size of the
noise that training leaves: networks trained to the bottom are the limit T → 0 at fixed products.
What is fixed with them is λ1/λ0 = N1^(2q-1) N0^(1-2p), the richness λ1/N1 at λ0 = 1: mean-field
networks have richness 1, those of the tangent kernel 1/N1, the standard ones N0/N1². AdamW's
decoupled decay is no penalty of an objective and has no such mapping.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tlnb.validation import check_choice, check_count, check_positive

if TYPE_CHECKING:
    from pandas import DataFrame

Array = NDArray[np.float64]


class Parametrisation(NamedTuple):
    """Powers p and q in f = Σ_i a_i σ(u_i·x · N0^-p) N1^-q."""

    input_power: float
    output_power: float

    def hidden_scale(self, n_features: int) -> float:
        """u/w = N0^(p - 1/2)."""
        return float(n_features) ** (self.input_power - 0.5)

    def readout_scale(self, width: int) -> float:
        """a/v = N1^(q - 1/2)."""
        return float(width) ** (self.output_power - 0.5)


PARAMETRISATIONS = {
    "ntk": Parametrisation(0.5, 0.5),
    "standard": Parametrisation(0.0, 0.0),
    "mean-field": Parametrisation(0.5, 1.0),
}
LOSSES = ("half-sum", "sum", "half-mean", "mean")


class Point(NamedTuple):
    """A point of the theory: keywords of its priors, and λ1/N1."""

    temperature: float
    weight_precision: float
    readout_precision: float
    richness: float


class Decays(NamedTuple):
    """Weight decays of the hidden layer and of the readout."""

    hidden: float
    readout: float


def theory_point(
    weight_decay: float | tuple[float, float],
    *,
    parametrisation: str = "standard",
    loss: str = "mean",
    width: int,
    n_features: int,
    n_examples: int,
    temperature: float | None = None,
) -> Point:
    """The point of the theory that a weight decay means.

    Parameters
    ----------
    weight_decay : float or pair of float
        ω in (ω/2)‖weights‖², as SGD and L-BFGS take it; a pair: of hidden layer and readout.
    parametrisation : {"ntk", "standard", "mean-field"}
        How the network is written.
    loss : {"half-sum", "sum", "half-mean", "mean"}
        ½Σ(y - f)², Σ(y - f)², or these over the number of examples; "mean" is torch.nn.MSELoss.
    width, n_features, n_examples : int
        N1, N0 and P.
    temperature : float, optional
        T, the size of the noise left in training; None: that at which λ0 = 1.

    Returns
    -------
    Point

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.

    Examples
    --------
    >>> point = theory_point(
    ...     0.01, parametrisation="mean-field", loss="half-sum", width=100, n_features=196,
    ...     n_examples=60, temperature=0.001,
    ... )
    >>> point.weight_precision, round(point.readout_precision), round(point.richness)
    (10.0, 1000, 10)
    """
    written = PARAMETRISATIONS[check_choice("parametrisation", parametrisation, PARAMETRISATIONS)]
    pair = weight_decay if isinstance(weight_decay, tuple) else (weight_decay, weight_decay)
    if len(pair) != 2:
        raise ValueError(f"weight_decay must be a number or two, got {weight_decay!r}")
    hidden, readout = (check_positive("weight_decay", value) for value in pair)
    width, n_features = check_count("width", width), check_count("n_features", n_features)
    twice = _twice_coefficient(loss, n_examples)
    hidden *= written.hidden_scale(n_features) ** 2 / twice
    readout *= written.readout_scale(width) ** 2 / twice
    T = hidden if temperature is None else check_positive("temperature", temperature)
    return Point(T, hidden / T, readout / T, readout / T / width)


def weight_decays(
    temperature: float,
    weight_precision: float = 1.0,
    readout_precision: float = 1.0,
    *,
    parametrisation: str = "standard",
    loss: str = "mean",
    width: int,
    n_features: int,
    n_examples: int,
) -> Decays:
    """The weight decays that a point of the theory means: the inverse of `theory_point`.

    Parameters
    ----------
    temperature, weight_precision, readout_precision : float
        T, λ0 and λ1.
    parametrisation, loss, width, n_features, n_examples
        As in `theory_point`.

    Returns
    -------
    Decays
        Two numbers, equal only where λ1/λ0 is that of the parametrisation: give each to the
        parameters of its layer.

    Examples
    --------
    >>> from tlnb.networks.parametrisations import theory_point, weight_decays
    >>> sizes = {"width": 100, "n_features": 50, "n_examples": 200}
    >>> decays = weight_decays(0.1, 1.0, 2.0, **sizes)
    >>> point = theory_point(tuple(decays), temperature=0.1, **sizes)
    >>> round(point.weight_precision, 9), round(point.readout_precision, 9)
    (1.0, 2.0)
    """
    written = PARAMETRISATIONS[check_choice("parametrisation", parametrisation, PARAMETRISATIONS)]
    T = check_positive("temperature", temperature)
    width, n_features = check_count("width", width), check_count("n_features", n_features)
    twice = _twice_coefficient(loss, n_examples)
    λ0 = check_positive("weight_precision", weight_precision)
    λ1 = check_positive("readout_precision", readout_precision)
    return Decays(
        T * λ0 * twice / written.hidden_scale(n_features) ** 2,
        T * λ1 * twice / written.readout_scale(width) ** 2,
    )


def decay_table(
    weight_decay: float, *, width: int, n_features: int, n_examples: int, loss: str = "mean"
) -> DataFrame:
    """What one weight decay means in every parametrisation.

    Returns
    -------
    pandas.DataFrame
        A row for each parametrisation: Tλ0, Tλ1, and the richness λ1/N1 at λ0 = 1.

    Examples
    --------
    The same decay is nearer to lazy or to rich learning, as the network is written:

    >>> from tlnb.networks.parametrisations import decay_table
    >>> decay_table(1e-3, width=100, n_features=50, n_examples=200).richness.round(3).tolist()
    [0.01, 0.005, 1.0]
    """
    import pandas as pd

    rows = {}
    for name in PARAMETRISATIONS:
        point = theory_point(
            weight_decay, parametrisation=name, loss=loss, width=width, n_features=n_features,
            n_examples=n_examples,
        )  # fmt: skip
        rows[name] = {
            "Tλ0": point.temperature,
            "Tλ1": point.temperature * point.readout_precision,
            "richness": point.richness,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _twice_coefficient(loss: str, n_examples: int) -> float:
    """2C where the loss is C Σ(y - f)²."""
    P = check_count("n_examples", n_examples)
    check_choice("loss", loss, LOSSES)
    return {"half-sum": 1.0, "sum": 2.0, "half-mean": 1.0 / P, "mean": 2.0 / P}[loss]
