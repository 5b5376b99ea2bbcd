r"""The networks' priors and what a coupling to a source does to them.

The hidden weights of a target are tied to those of a quenched source network by an elastic factor
exp(-γ ‖w - w_s‖²/2). Given w_s the target's prior is N(b w_s, 1/(λ0t + γ)) with
b = γ/(λ0t + γ), so that per component

    c_s = 1/λ0s,   c_st = b c_s,   c_tt = b² c_s,   c_t = 1/(λ0t + γ) + c_tt.

γ = 0 is training from scratch, γ = ∞ frozen source features. Source: Ingrosso et al. (2025).

The readouts' prior decides how much of the fit the hidden layer has to do. `richness` is λ1/N1,
readout precision per hidden unit: λ1 = 1 at any width is the lazy end, with a richness of 1/N1;
a richness of order one is the mean-field scaling f = (1/N1) Σ v σ(h) with v of order one, the rich
end. Widths are comparable at fixed richness.

Weight decay λ_wd of a network trained on the loss ½ Σ (y - f)² corresponds to the precision
λ_wd/T of a posterior at temperature T, for hidden weights and readouts alike: trained networks are
the limit T → 0 at fixed λT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple, TypedDict

import numpy as np

from tlnb.kernels.activations import Activation, get_activation
from tlnb.validation import check_choice, check_nonnegative, check_positive, check_width

SCHEMES = ("elastic", "variance-preserving")


class WeightCovariances(NamedTuple):
    """Covariances per component of the hidden weights of a source and of targets around it.

    ``c_s`` source with itself, ``c_st`` source with target, ``c_t`` target with itself, ``c_tt``
    two target replicas drawn independently around the same source.
    """

    c_s: float
    c_st: float
    c_t: float
    c_tt: float


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

    Examples
    --------
    >>> from tlnb.priors import weight_covariances
    >>> weight_covariances(1.0)
    WeightCovariances(c_s=1.0, c_st=0.5, c_t=0.75, c_tt=0.25)
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


class OneTaskOptions(TypedDict, total=False):
    """The keywords by which priors of one network are given; see `Priors`."""

    activation: str | Activation | Callable[..., Any]
    temperature: float
    weight_precision: float
    readout_precision: float | None
    richness: float | None


class PriorOptions(OneTaskOptions, total=False):
    """The keywords by which priors of two coupled networks are given; see `Priors`."""

    source_temperature: float | None
    source_weight_precision: float | None
    source_readout_precision: float | None
    source_richness: float | None
    coupling_scheme: str


@dataclass(frozen=True, init=False)
class Priors:
    """The networks' activation and priors, and how the coupling acts.

    Parameters
    ----------
    activation : str, Activation or callable
    temperature, weight_precision, readout_precision : float
        T, λ0 and λ1 of the target, all > 0; by default 0.01, 1 and 1.
    richness : float, optional
        λ1/N1 instead of ``readout_precision``, which then grows with the width. Give one or the
        other; a ``readout_precision`` of 1, its default, counts as not given.
    source_temperature, source_weight_precision : float, optional
    source_readout_precision, source_richness : float, optional
        Those of the source; None: as the target's.
    coupling_scheme : {"elastic", "variance-preserving"}
        See `weight_covariances`.

    Raises
    ------
    ValueError, TypeError
        For an unknown activation or scheme, numbers that are not > 0, and a richness beside a
        readout precision.

    Examples
    --------
    >>> Priors(temperature=0.1).source_temperature
    0.1
    >>> Priors(richness=0.5).at_width(200).readout_precision
    100.0
    """

    activation: Activation
    temperature: float
    weight_precision: float
    readout_precision: float | None
    source_temperature: float
    source_weight_precision: float
    source_readout_precision: float | None
    coupling_scheme: str
    richness: float | None
    source_richness: float | None
    _given: dict[str, Any] = field(repr=False, compare=False)

    def __init__(
        self,
        activation: str | Activation | Callable[..., Any] = "erf",
        temperature: float = 0.01,
        weight_precision: float = 1.0,
        readout_precision: float | None = 1.0,
        source_temperature: float | None = None,
        source_weight_precision: float | None = None,
        source_readout_precision: float | None = None,
        coupling_scheme: str = "elastic",
        richness: float | None = None,
        source_richness: float | None = None,
    ) -> None:
        arguments = dict(locals())
        given = {name: arguments[name] for name in PriorOptions.__annotations__}
        own: dict[str, Any] = {
            "activation": get_activation(activation),
            "coupling_scheme": check_choice("coupling_scheme", coupling_scheme, SCHEMES),
        }
        for name in ("temperature", "weight_precision"):
            own[name] = own[f"source_{name}"] = check_positive(name, given[name])
            if given[f"source_{name}"] is not None:
                own[f"source_{name}"] = check_positive(f"source_{name}", given[f"source_{name}"])
        readouts = _readouts("", readout_precision, richness, (1.0, None))
        of_source = readouts
        if source_readout_precision is not None or source_richness is not None:
            of_source = _readouts("source_", source_readout_precision, source_richness)
        own["readout_precision"], own["richness"] = readouts
        own["source_readout_precision"], own["source_richness"] = of_source
        self.__dict__.update(own, _given=given)  # the fields are frozen

    @classmethod
    def of(cls, function: str, options: Mapping[str, Any]) -> Priors:
        """The priors that the keywords of ``function`` say, which errors name.

        Raises
        ------
        TypeError
            For a keyword that is none of `PriorOptions`.
        """
        check_options(function, options, PriorOptions)
        return cls(**options)

    def replace(self, **changes: Any) -> Priors:
        """These priors with some of them given anew.

        What was left to follow the target still follows it; a readout precision replaces a
        richness and the other way round.
        """
        check_options("Priors.replace", changes, PriorOptions)
        given = dict(self._given)
        for start in ("", "source_"):
            pair = f"{start}readout_precision", f"{start}richness"
            for one, other in (pair, pair[::-1]):
                if changes.get(one) is not None and other not in changes:
                    given[other] = None
        return Priors(**(given | changes))

    def of_source(self) -> Priors:
        """Those of the source, for which it is a task of its own."""
        return Priors(
            activation=self.activation,
            temperature=self.source_temperature,
            weight_precision=self.source_weight_precision,
            readout_precision=self.source_readout_precision,
            richness=self.source_richness,
        )

    def at_width(self, width: float) -> PriorsAtWidth:
        """The same priors with each richness turned into the readout precision at this width."""
        values = dict(self.__dict__)
        if self.richness is not None or self.source_richness is not None:
            changes: dict[str, float | None] = {}
            for start in ("", "source_"):
                richness = getattr(self, f"{start}richness")
                if richness is not None:
                    changes[f"{start}readout_precision"] = richness * _finite(width)
                    changes[f"{start}richness"] = None
            values = self.replace(**changes).__dict__
        found = object.__new__(PriorsAtWidth)
        found.__dict__.update(values)
        return found


class PriorsAtWidth(Priors):
    """Priors at one width, without a richness: both readout precisions are numbers."""

    readout_precision: float
    source_readout_precision: float

    def of_source(self) -> PriorsAtWidth:
        """Those of the source, for which it is a task of its own."""
        return super().of_source().at_width(1)

    def at_width(self, width: float) -> PriorsAtWidth:
        """These priors: nothing is left that a width would change."""
        return self


def _readouts(
    start: str, precision: float | None, richness: float | None, unsaid: tuple[Any, ...] = (None,)
) -> tuple[float | None, float | None]:
    """The pair (readout precision, richness), one of which is None."""
    if richness is None:
        given = 1.0 if precision is None else precision
        return check_positive(f"{start}readout_precision", given), None
    check_positive(f"{start}richness", richness)
    if precision not in unsaid:
        raise ValueError(
            f"{start}richness is {start}readout_precision / width: give one or the other, got "
            f"{start}richness={richness!r} and {start}readout_precision={precision!r}"
        )
    return None, float(richness)


def _finite(width: float) -> float:
    if np.isinf(check_width(width)):
        raise ValueError("width must be finite where a richness is given, got inf")
    return width


def check_options(function: str, given: Mapping[str, Any], options: type) -> None:
    """Raise a TypeError for names that are no keys of the TypedDict ``options``."""
    allowed = list(options.__annotations__)
    for name in given:
        if name not in allowed:
            close = get_close_matches(name, allowed, 1)
            meant = (
                f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(allowed)}"
            )
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{meant}")


def richness(readout_precision: float, width: float) -> float:
    """λ1/N1, the readout precision per hidden unit: 1/N1 is lazy, order one is rich.

    Examples
    --------
    >>> from tlnb.priors import richness
    >>> richness(1.0, width=200)
    0.005
    """
    return check_positive("readout_precision", readout_precision) / _finite(width)
