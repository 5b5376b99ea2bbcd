from __future__ import annotations

from collections.abc import Iterator

import matplotlib
from numpy.typing import ArrayLike
from xarray import Dataset

matplotlib.use("Agg")

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt

from tlnb import plotting


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with matplotlib.rc_context():
        plotting.use_style()
        yield
    plt.close("all")


@pytest.fixture
def sweep() -> Dataset:
    widths, couplings = [50.0, np.inf], [0.0, 0.1, 1.0, 10.0, np.inf]
    values = np.arange(10.0).reshape(2, 5)
    return xr.Dataset(
        {"test_error": (("width", "coupling"), values)},
        coords={"width": widths, "coupling": couplings},
    )


def positions(couplings: ArrayLike) -> np.ndarray:
    at = plotting.coupling_axis(plt.subplots()[1], couplings)
    np.testing.assert_array_equal(plotting.coupling_positions(couplings), at)
    return at


def test_positions_are_logarithmic_between_ends_one_decade_outside() -> None:
    np.testing.assert_allclose(positions([0, 0.01, 1, 100, np.inf]), [-3, -2, 0, 2, 3])
    np.testing.assert_allclose(positions([0, np.inf]), [-1, 1])
    np.testing.assert_allclose(positions([0]), [-1])


@pytest.mark.parametrize("couplings", [[], [-1.0], [np.nan, 1.0]])
def test_axis_refuses_what_is_no_coupling(couplings: list) -> None:
    with pytest.raises(ValueError, match="couplings must be"):
        positions(couplings)


def test_positions_keep_the_order_of_couplings() -> None:
    γ = np.concatenate([[0.0], np.geomspace(3e-4, 2e5, 30), [np.inf]])
    assert (np.diff(positions(γ)) > 0).all()


def test_axis_labels_its_ends_and_at_most_seven_decades() -> None:
    ax = plt.subplots()[1]
    at = plotting.coupling_axis(ax, np.r_[0.0, np.geomspace(1e-6, 1e6, 13), np.inf])
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    assert (labels[0], labels[-1]) == ("0", "∞")
    assert len(labels) <= 9
    assert (ax.get_xticks()[0], ax.get_xticks()[-1]) == (at[0], at[-1])


def test_width_label() -> None:
    assert plotting.width_label(50.0) == "$N_1 = 50$"
    assert plotting.width_label(np.inf) == r"$N_1 = \infty$"


def test_curves_are_the_datasets_in_any_order_of_dimensions(sweep: Dataset) -> None:
    for dataset in (sweep, sweep.transpose("coupling", "width")):
        ax = plotting.plot_coupling_curves(dataset, "test_error")
        for line, width in zip(ax.lines[-2:], sweep.width, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), sweep.test_error.sel(width=width))
        assert ax.get_xlabel() and ax.get_ylabel() == "test error"
        styles = {(line.get_color(), line.get_marker()) for line in ax.lines[-2:]}
        assert len(styles) == 2


def test_baseline_is_drawn_beside_the_curve_and_named(sweep: Dataset) -> None:
    ax = plotting.plot_coupling_curves(
        sweep, "test_error", baseline=sweep + 1, baseline_label="scratch"
    )
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == 5]
    np.testing.assert_array_equal(drawn[1], drawn[0] + 1)
    assert [text.get_text() for text in ax.get_legend().get_texts()][-1] == "scratch"


def test_unknown_quantity_is_named(sweep: Dataset) -> None:
    with pytest.raises(ValueError, match="quantity must be one of 'test_error', got 'loss'"):
        plotting.plot_coupling_curves(sweep, "loss")


def test_style_is_opaque_white_and_nowhere_below_ten_points() -> None:
    figure, ax = plt.subplots()
    ax.plot([1, 2], label="curve")
    ax.set(xlabel="x", ylabel="y", title="title")
    legend = ax.legend()
    assert figure.get_facecolor() == ax.get_facecolor() == (1, 1, 1, 1)
    texts = [ax.xaxis.label, ax.title, *ax.get_xticklabels(), *legend.get_texts()]
    assert min(text.get_fontsize() for text in texts) >= 10


def test_named_colours_are_valid_and_distinct() -> None:
    assert all(matplotlib.colors.is_color_like(color) for color in plotting.COLORS.values())
    assert len(set(plotting.COLORS.values())) == 8
