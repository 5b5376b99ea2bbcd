"""Quadrature over the student's field against integrals in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from tests.theory.readout.instances import LOSSES
from tlnb.theory.readout.losses import Loss
from tlnb.theory.readout.nodes import gaussian_nodes


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("V", "q"), [(1e-3, 1.0), (2.0, 0.1), (1e4, 1e3)])
def test_even_moments_are_those_of_the_normal_law(loss: Loss, V: float, q: float) -> None:
    xi, weights = gaussian_nodes(V, q, 1.0, loss)
    for power, moment in ((0, 1), (1, 0), (2, 1), (4, 3), (6, 15)):
        assert weights @ xi**power == pytest.approx(moment, abs=1e-11)


@pytest.mark.parametrize("steepness", [1.0, 1e3, 1e7])
def test_a_step_however_steep_is_resolved(steepness: float) -> None:
    """E[ξ Φ(kξ)] = k/sqrt(2π(1 + k²)), and E[Φ(kξ)²] through the angle of a bivariate normal."""
    xi, weights = gaussian_nodes(1.0, 1.0, steepness, "logistic")
    Z, k = ndtr(steepness * xi), steepness
    assert weights @ (xi * Z) == pytest.approx(k / np.sqrt(2 * np.pi * (1 + k**2)), rel=1e-12)
    angle = np.arctan(k**2 / np.sqrt(1 + 2 * k**2))
    assert weights @ Z**2 == pytest.approx(1 / 4 + angle / (2 * np.pi), rel=1e-12)


def test_kinks_of_the_hinge_are_panel_ends() -> None:
    V, q = 0.7, 2.0
    xi, weights = gaussian_nodes(V, q, 1.0, "hinge")
    a = np.sqrt(q) * xi
    pull = np.clip((1 - a) / V, 0, 1)
    low, high = (1 - V) / np.sqrt(q), 1 / np.sqrt(q)
    density = [np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) for x in (low, high)]
    between = (ndtr(high) - ndtr(low) - np.sqrt(q) * (density[0] - density[1])) / V
    assert weights @ pull == pytest.approx(ndtr(low) + between, rel=1e-13)
