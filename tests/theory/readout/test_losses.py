"""Proximal maps against a search for their minimum."""

from __future__ import annotations

import numpy as np
import pytest

from tests.theory.readout.instances import LOSSES, slow_proximal
from tlnb.theory.readout.losses import LEARNED, Loss, proximal


@pytest.mark.parametrize("loss", LOSSES)
def test_proximal_map_minimises(loss: Loss) -> None:
    for V in (1e-6, 0.3, 50.0, 1e7):
        a = np.concatenate([np.linspace(-1.2 * V - 5, 5 + V, 41), np.linspace(-3, 3, 21)])
        z = proximal(a, V, loss)
        expected = [slow_proximal(x, V, loss) for x in a]
        np.testing.assert_allclose(z, expected, rtol=1e-9, atol=1e-9)
        assert (np.diff(z[:41]) > -1e-9).all() and (np.diff((z - a)[:41]) < 1e-9).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("V", [0.2, 3.0])
def test_pull_slope_and_loss_are_those_of_the_proximal_map(loss: Loss, V: float) -> None:
    """f = (z - a)/V; its slope by differences, away from kinks; ℓ(z) from its definition."""
    a, h = np.linspace(-6, 6, 97) + 0.013, 1e-6
    learned = LEARNED[loss](a, V)
    np.testing.assert_allclose(learned.pull, (learned.z - a) / V, atol=1e-12)
    slope = (LEARNED[loss](a + h, V).pull - LEARNED[loss](a - h, V).pull) / (2 * h)
    np.testing.assert_allclose(learned.slope, slope, atol=1e-7)
    expected = {
        "logistic": np.log1p(np.exp(-learned.z)),
        "square": (1 - learned.z) ** 2 / 2,
        "hinge": np.maximum(0, 1 - learned.z),
    }[loss]
    np.testing.assert_allclose(learned.loss, expected, atol=1e-12)


def test_bad_margins_are_named() -> None:
    with pytest.raises(ValueError, match="V must be a number > 0"):
        proximal([0.0], 0.0, "logistic")
    with pytest.raises(ValueError, match="loss must be one of 'logistic'"):
        proximal([0.0], 1.0, "absolute")
