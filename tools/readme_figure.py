"""Draw the figure of README.md, book/figures/transfer.png: a gain on real images.

Is a digit of MNIST below 5? Theory and trained networks against the coupling, from the stored
result that `python -m experiments 09 headline` makes: for a source that asks the same, and for one
that asks whether the digit is even. To draw it anew: python -m tools.readme_figure
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from experiments.chapter_09 import HEADLINE, TRAINED_AT
from experiments.left_out import VERDICTS
from experiments.sweep import path_of
from tlnb import plotting, sweeps

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("source asks the same", "source asks: even or odd?")


def main() -> None:
    """Draw both panels."""
    plotting.use_style()
    stored = sweeps.load(path_of("09", "headline"))
    figure, axes = plt.subplots(1, 2, figsize=(8.0, 3.6), sharey=True)
    at = dict(zip(HEADLINE, plotting.coupling_positions(HEADLINE), strict=True))
    for question, (ax, name) in enumerate(zip(axes, SOURCES, strict=True)):
        drawn = stored.isel(question=question)
        x = plotting.coupling_axis(ax, HEADLINE)
        ax.plot(x, drawn.on_test_test_error, label="theory")
        scratch = float(drawn.on_test_test_error[0])
        ax.axhline(scratch, color="0.55", ls="--", lw=1.2, label="from scratch, theory")
        places = np.array([at[g] for g in TRAINED_AT])
        starts = np.linspace(-0.12, 0.12, drawn.sizes["start"])
        ax.plot(
            (places[:, None] + starts).ravel(), drawn.trained_squared.values.ravel(), "o",
            color=plotting.COLORS["vermillion"], mfc="none", ms=4.5, label="trained networks",
        )  # fmt: skip
        for g, where in ((0.0, -1), (np.inf, 1)):
            row = TRAINED_AT.index(g)
            errors = drawn.trained_squared[row].values
            y = errors.max() if where > 0 else errors.min()
            ax.annotate(
                f"{float(drawn.trained_wrong[row].mean()):.0%} wrong", (at[g], y), (0, 8 * where),
                textcoords="offset points", ha="left" if g == 0 else "right",
                va="bottom" if where > 0 else "top",
            )  # fmt: skip
        verdict = VERDICTS[int(drawn.verdict)]
        gain, error = float(drawn.gain), float(drawn.standard_error)
        chosen = float(drawn.chosen)
        ax.set_title(f"{name}\n{verdict}, at γ = {chosen:g}: gain {gain:.2f} ± {error:.2f}")
        ax.set_xlabel(r"coupling $\gamma$  (0: scratch, $\infty$: frozen)")
    axes[0].set_ylabel("test error")
    axes[0].set_ylim(0.3, 0.85)
    axes[0].legend(fontsize="small", loc="lower left")
    figure.savefig(ROOT / "book" / "figures" / "transfer.png", dpi=120)


if __name__ == "__main__":
    main()
