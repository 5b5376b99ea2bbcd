"""Draw the figure of README.md, book/figures/transfer.png: the transfer curve of real digits.

The target task, is a digit below 5, has 20 images. The source task, 400 other images, asks the same
(left) or whether the digit is even (right). Mean over ten draws of all images; bands are standard
errors of the change from no coupling, draw by draw. To draw it anew:
python tools/readme_figure.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib import pyplot as plt

from tlnb import coupling_sweep, plotting
from tlnb.data.images import digits, transfer_tasks

LOW = "0,1,2,3,4|5,6,7,8,9"
SOURCES = {"source asks the same": LOW, "source asks: even or odd?": "0,2,4,6,8|1,3,5,7,9"}
WIDTHS = (50, 200, 1000, np.inf)
COUPLINGS = [0.0, *np.geomspace(0.01, 1000, 11), np.inf]


def curves(source: str, draws: int = 10) -> xr.Dataset:
    """Return the transfer curves from ``source``, one for each draw of the images."""
    images = digits()
    sweeps = []
    for seed in range(draws):
        tasks = transfer_tasks(
            images, source, LOW, n_source=400, n_target=20, n_test=200, seed=seed
        )
        sweeps.append(
            coupling_sweep(
                tasks.source,
                tasks.target,
                tasks.test,
                widths=WIDTHS,
                couplings=COUPLINGS,
                temperature=0.01,
            )
        )
    return xr.concat(sweeps, "draw")


def main() -> None:
    """Draw both panels."""
    plotting.use_style()
    figure, axes = plt.subplots(1, 2, figsize=(8.0, 3.4), sharey=True)
    for ax, (name, source) in zip(axes, SOURCES.items(), strict=True):
        drawn = curves(source)
        mean = drawn.mean("draw")
        plotting.plot_coupling_curves(mean, ax=ax, legend=ax is axes[0])
        change = drawn.test_error - drawn.test_error.sel(coupling=0)
        error = change.std("draw", ddof=1) / np.sqrt(drawn.sizes["draw"])
        x = plotting.coupling_positions(COUPLINGS)
        for line, width in zip(ax.get_lines()[-len(WIDTHS) :], WIDTHS, strict=True):
            low, high = (mean.test_error + sign * error for sign in (-1, 1))
            band = low.sel(width=width), high.sel(width=width)
            ax.fill_between(x, *band, color=line.get_color(), alpha=0.2, linewidth=0)
        ax.set_title(name)
    axes[1].set_ylabel("")
    path = Path(__file__).resolve().parent.parent / "book" / "figures" / "transfer.png"
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
