"""The book's figure style and its recurring figure: a quantity against the coupling 0 ... ∞.

Couplings live on a closed axis. A finite coupling γ > 0 stands at log10 γ; γ = 0 (training from
scratch) and γ = ∞ (frozen source features) stand one step outside the finite ones, at the ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from tlnb.validation import check_choice

if TYPE_CHECKING:
    import xarray as xr

COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#000000",
    "yellow": "#F0E442",
}
"""The colours of Okabe and Ito, told apart with any common colour vision, by name."""

_LABELS = {
    "Q_s": "$Q_s$",
    "Q_t": "$Q_t$",
    "Q_st": "$Q_{st}$",
    "Q_tt": "$Q_{tt'}$",
    "Q": "$Q$",
    "train_error": "training error",
}
_CYCLE = [color for name, color in COLORS.items() if name != "yellow"]  # faint on white
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def use_style() -> None:
    """Set matplotlib's defaults for the book's figures.

    White, opaque background (readable in light and dark mode), text of 10 pt and more at the
    book's width of 6.4 inches, the colours of :data:`COLORS`, no upper and right spines.
    """
    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.8),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.facecolor": "white",
            "axes.prop_cycle": cycler(color=_CYCLE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "font.size": 11.0,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "lines.markersize": 5.0,
            "errorbar.capsize": 2.5,
            "image.cmap": "cividis",
        }
    )


def coupling_positions(couplings: ArrayLike) -> NDArray[np.float64]:
    """Return where couplings stand on the axis, an array of the shape of ``couplings``.

    Finite ones at log10 γ; 0 and ∞ one unit (a decade) before the least and after the largest of
    them. With no finite coupling among them, 0 stands at -1 and ∞ at 1.

    Raises
    ------
    ValueError
        If a coupling is negative or NaN, or there is none.
    """
    γ = np.asarray(couplings, dtype=np.float64)
    if γ.size == 0 or not (γ >= 0).all():
        raise ValueError(f"couplings must be one or more numbers from 0 to infinity, got {γ}")
    low, high = _finite_range(γ)
    finite = (γ > 0) & np.isfinite(γ)
    logs = np.log10(γ, where=finite, out=np.zeros_like(γ))
    return np.where(finite, logs, np.where(γ == 0, low - 1.0, high + 1.0))


def coupling_axis(ax: Axes, couplings: ArrayLike, *, label: str = r"coupling $\gamma$") -> NDArray:
    """Make the x axis of ``ax`` one for couplings from 0 to infinity; return their positions.

    Whole decades carry labels, as do the ends "0" and "∞" where they occur; dotted lines set the
    ends apart from the logarithmic stretch between them.
    """
    γ = np.asarray(couplings, dtype=np.float64)
    positions = coupling_positions(γ)
    low, high = _finite_range(γ)
    decades = np.arange(np.ceil(low), np.floor(high) + 1)
    decades = decades[:: int(np.ceil(len(decades) / 7)) or 1]
    ticks = [(k, f"$10^{{{k:.0f}}}$") for k in decades]
    if (γ == 0).any():
        ticks.insert(0, (low - 1.0, "0"))
        ax.axvline(low - 0.5, color="0.8", linestyle=":", linewidth=1.0, zorder=0)
    if np.isinf(γ).any():
        ticks.append((high + 1.0, "∞"))
        ax.axvline(high + 0.5, color="0.8", linestyle=":", linewidth=1.0, zorder=0)
    ax.set_xticks(*zip(*ticks, strict=True))
    ax.set_xlabel(label)
    return positions


def width_label(width: float) -> str:
    """Return ``"$N_1 = 50$"``, or with ∞ for infinite width."""
    return r"$N_1 = \infty$" if np.isinf(width) else f"$N_1 = {width:g}$"


def plot_coupling_curves(
    dataset: xr.Dataset,
    quantity: str = "test_error",
    *,
    ax: Axes | None = None,
    baseline: xr.Dataset | None = None,
    baseline_label: str | None = None,
    legend: bool = True,
) -> Axes:
    """Draw one curve per width of ``dataset[quantity]`` against the coupling.

    Widths differ in colour, marker and line style, so that the curves are told apart in grey.

    Parameters
    ----------
    dataset : xarray.Dataset over (width, coupling)
        As :func:`tlnb.theory.transfer.coupling_sweep` returns it.
    quantity : str
        A variable of the dataset.
    ax : matplotlib Axes, optional
        Where to draw; a new figure otherwise.
    baseline : xarray.Dataset over (width, coupling), optional
        A control, drawn thin in the same colours without markers.
    baseline_label : str, optional
        What the legend says of the baseline.
    legend : bool
        Whether to draw one.

    Raises
    ------
    ValueError
        If ``quantity`` is no variable of the dataset.
    """
    check_choice("quantity", quantity, [str(name) for name in dataset.data_vars])
    if ax is None:
        ax = plt.subplots()[1]
    positions = coupling_axis(ax, dataset.coupling.values)
    for i, width in enumerate(dataset.width.values):
        color = _CYCLE[i % len(_CYCLE)]
        ax.plot(
            positions,
            dataset[quantity].sel(width=width).transpose("coupling").values,
            color=color,
            linestyle=_LINES[i % len(_LINES)],
            marker=_MARKERS[i % len(_MARKERS)],
            label=width_label(width),
        )
        if baseline is not None:
            ax.plot(
                positions,
                baseline[quantity].sel(width=width, coupling=dataset.coupling).values,
                color=color,
                linestyle=(0, (1, 1)),
                linewidth=1.0,
            )
    if baseline is not None and baseline_label:
        ax.plot([], [], color="0.4", linestyle=(0, (1, 1)), linewidth=1.0, label=baseline_label)
    ax.set_ylabel(_LABELS.get(quantity, quantity.replace("_", " ")))
    if legend:
        ax.legend()
    return ax


def _finite_range(couplings: NDArray[np.float64]) -> tuple[float, float]:
    """Return the least and largest log10 of the positive finite couplings, (0, 0) without any."""
    finite = couplings[(couplings > 0) & np.isfinite(couplings)]
    return (np.log10(finite.min()), np.log10(finite.max())) if finite.size else (0.0, 0.0)
