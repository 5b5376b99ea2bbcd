"""Activations: closed forms against limits and direct integrals, bad input."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tlnb.activations import get_activation

NAMES = ("linear", "erf", "relu", "tanh", "gelu")


@pytest.mark.parametrize("name", NAMES)
def test_derivative_is_the_limit_of_difference_quotients(name):
    activation, z, h = get_activation(name), np.linspace(-3, 3, 14), 1e-5
    quotient = (activation(z + h) - activation(z - h)) / (2 * h)
    assert_allclose(activation.derivative(z), quotient, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_named_activations_pickle_and_hash(name):
    activation = get_activation(name)
    assert pickle.loads(pickle.dumps(activation)) == activation
    assert hash(activation) == hash(get_activation(name))
    assert repr(activation) == f"Activation({name!r})"
