"""The book's figure style and its recurring figure: a quantity against the coupling 0 ... ∞.

Couplings live on a closed axis. A finite coupling γ > 0 stands at log10 γ; γ = 0 (training from
scratch) and γ = ∞ (frozen source features) stand one step outside the finite ones, at the ends.
"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.errors import needs
from tlnb.validation import check_choice

with needs("plot"):
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes

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

_CYCLE = [color for name, color in COLORS.items() if name != "yellow"]  # faint on white
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LABELS = {"Q_st": "$Q_{st}$", "Q_tt": "$Q_{tt'}$", "train_error": "training error"}


def use_style() -> None:
    """Set matplotlib's defaults for the book's figures.

    White, opaque background (readable in light and dark mode), text of 10 pt and more at the
    book's width of 6.4 inches, the colours of :data:`COLORS`, no upper and right spines.
    """
    mpl.rc("figure", figsize=(6.4, 3.8), dpi=110, facecolor="white")
    mpl.rc("figure.constrained_layout", use=True)
    mpl.rc("axes", facecolor="white", prop_cycle=cycler(color=_CYCLE), titlesize="medium")
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("font", size=11.0)
    mpl.rc("legend", frameon=False)
    mpl.rc("lines", linewidth=1.8, markersize=5.0)
    mpl.rc("errorbar", capsize=2.5)
    mpl.rc("image", cmap="cividis")


def coupling_positions(couplings: ArrayLike) -> NDArray[np.float64]:
    """Return where couplings stand on the axis: finite ones at log10 γ, 0 and ∞ a decade outside.

    ValueError if a coupling is negative or NaN, or there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.plotting import coupling_positions
    >>> coupling_positions([0, 0.1, 1, 10, np.inf])
    array([-2., -1.,  0.,  1.,  2.])
    """
    γ = np.asarray(couplings, dtype=np.float64)
    if γ.size == 0 or not (γ >= 0).all():
        raise ValueError(f"couplings must be one or more numbers from 0 to infinity, got {γ}")
    finite = (γ > 0) & np.isfinite(γ)
    logs = np.log10(γ[finite]) if finite.any() else np.zeros(1)
    positions = np.where(γ == 0, logs.min() - 1, logs.max() + 1)
    positions[finite] = logs[: finite.sum()]
    return positions


def coupling_axis(ax: Axes, couplings: ArrayLike) -> NDArray[np.float64]:
    """Make the x axis of ``ax`` one for couplings from 0 to infinity; return their positions.

    Whole decades carry labels, as do the ends "0" and "∞" where they occur; dotted lines set the
    ends apart. Errors as of :func:`coupling_positions`.
    """
    γ, positions = np.asarray(couplings, dtype=np.float64), coupling_positions(couplings)
    finite = positions[(γ > 0) & np.isfinite(γ)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    decades = np.arange(np.ceil(low), np.floor(high) + 1)
    decades = decades[:: int(np.ceil(len(decades) / 7)) or 1]
    ticks = [(k, f"$10^{{{int(k)}}}$") for k in decades]
    for there, edge, step, label in ((γ == 0, low, -1, "0"), (np.isinf(γ), high, 1, "∞")):
        if there.any():
            ticks.append((edge + step, label))
            ax.axvline(edge + step / 2, color="0.8", linestyle=":", linewidth=1.0, zorder=0)
    ax.set_xticks(*zip(*sorted(ticks), strict=True))
    ax.set_xlabel(r"coupling $\gamma$")
    return positions


def width_label(width: float) -> str:
    """Return ``"$N_1 = 50$"``, or with ∞ for infinite width.

    Examples
    --------
    >>> from tlnb.plotting import width_label
    >>> width_label(50)
    '$N_1 = 50$'
    """
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
    dataset, baseline : xarray.Dataset over (width, coupling)
        As :func:`tlnb.theory.transfer.coupling_sweep` returns them. The baseline is a control,
        drawn thin in the same colours, and called ``baseline_label`` in the legend.
    quantity : str
        A variable of the dataset; ValueError if it is none.
    ax : matplotlib Axes, optional
        Where to draw; a new figure otherwise.
    """
    check_choice("quantity", quantity, [str(name) for name in dataset.data_vars])
    if ax is None:
        ax = plt.subplots()[1]
    positions = coupling_axis(ax, dataset.coupling.values)
    thin: dict[str, Any] = {"linestyle": (0, (1, 1)), "linewidth": 1.0}
    styles = zip(cycle(_CYCLE), cycle(_LINES), cycle(_MARKERS), strict=False)
    for width, (color, line, marker) in zip(dataset.width.values, styles, strict=False):
        errors = dataset[quantity].sel(width=width).values
        label = width_label(width)
        ax.plot(positions, errors, color=color, linestyle=line, marker=marker, label=label)
        if baseline is not None:
            curve = baseline[quantity].sel(width=width, coupling=dataset.coupling)
            ax.plot(positions, curve.values, color=color, **thin)
    if baseline is not None and baseline_label:
        ax.plot([], [], color="0.4", label=baseline_label, **thin)
    default = f"${quantity}$" if quantity.startswith("Q") else quantity.replace("_", " ")
    ax.set_ylabel(_LABELS.get(quantity, default))
    if legend:
        ax.legend()
    return ax
