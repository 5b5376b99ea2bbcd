"""Readouts fitted to hidden manifolds, beside the replica theory: makes results/12_*.nc.

A draw is a manifold, a random first layer and a training set that grows with the sample ratio; the
theory is that of the draw's own analytic covariances.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xarray import Dataset

from experiments.sweep import Sweep
from tlnb import Task
from tlnb.data.manifold import CorrelatedHiddenManifold
from tlnb.networks import TwoLayerNetwork, train_readout
from tlnb.theory.glm import learning_curve, solve
from tlnb.theory.readout.equivalence import analytic_covariates

RATIOS = [0.5, 1.0, 2.0, 4.0, 8.0]
LOSSES = {"loss": ["square", "logistic", "hinge"], "regularization": [0.1]}
DRAWS = {36: 240, 75: 240, 150: 60, 300: 30}
WIDTHS = [30, 60, 90, 120, 150, 200, 250, 300, 350, 450, 600]
DESCENT = {"draw": list(range(12)), "loss": ["square", "logistic"], "tuned": [False, True]}


def instance(
    n_features: int, draw: int
) -> tuple[CorrelatedHiddenManifold, TwoLayerNetwork, np.random.Generator]:
    """Manifold with N0 = 2K and D = 4K/3, a random first layer, and what the examples come from."""
    rng = np.random.default_rng([12, n_features, draw])
    manifold = CorrelatedHiddenManifold(
        2 * n_features, 4 * n_features // 3, random_state=int(rng.integers(2**31))
    )
    return manifold, TwoLayerNetwork.random(n_features, 2 * n_features, rng=rng), rng


def fits(
    n_features: int, draw: int, loss: str, regularization: float, ratios: list, n_test: int
) -> Dataset:
    """Test error, training loss and ‖a‖²/K against the sample ratio, fitted and in theory."""
    manifold, network, rng = instance(n_features, draw)
    test = manifold.sample_target(n_test, rng)
    whole = manifold.sample_target(round(max(ratios) * n_features), rng)
    rows = []
    for ratio in ratios:
        n = round(ratio * n_features)
        train = Task(whole.X[:n], whole.y[:n])
        fitted = train_readout(network, train, regularization=regularization, loss=loss)
        norm = fitted.readout @ fitted.readout / n_features
        rows.append([fitted.error(test), fitted.loss(train, loss), norm])
    theory = learning_curve(
        analytic_covariates(manifold, network.first_layer),
        sample_ratios=ratios, regularization=regularization, loss=loss,
    )[["test_error", "train_loss", "norm"]]  # fmt: skip
    columns = zip(theory.data_vars, np.array(rows).T, strict=True)
    return theory.assign({f"fitted_{name}": ("sample_ratio", x) for name, x in columns})


def noisy_manifold(
    widths: Sequence[int],
) -> tuple[CorrelatedHiddenManifold, dict[int, TwoLayerNetwork]]:
    """A manifold of D = 100 with label noise, and random first layers that extend each other."""
    manifold = CorrelatedHiddenManifold(300, 100, label_noise=0.5, random_state=12)
    W = np.random.default_rng(12).standard_normal((max(widths), 300))
    return manifold, {width: TwoLayerNetwork(W[:width]) for width in widths}


def descent(
    draw: int, loss: str, tuned: bool, widths: list, n_examples: int, n_test: int, weak: float
) -> Dataset:
    """Test error against the number of features at one training set, fitted and in theory.

    Tuned: at the regularisation that is the best in theory.
    """
    manifold, networks = noisy_manifold(widths)
    rng = np.random.default_rng([12, draw])
    train, test = manifold.sample_target(n_examples, rng), manifold.sample_target(n_test, rng)
    rows = []
    for width, network in networks.items():
        theory = solve(
            analytic_covariates(manifold, network.first_layer), loss=loss,
            sample_ratio=n_examples / width, regularization="optimal" if tuned else weak,
        )  # fmt: skip
        penalty = {"regularization": theory.regularization, "loss": loss}
        fitted = train_readout(network, train, **penalty)
        rows.append([theory.test_error, theory.regularization, fitted.error(test)])
    columns = zip(("test_error", "optimum", "fitted_test_error"), np.array(rows).T, strict=True)
    return Dataset({name: ("width", x) for name, x in columns}, coords={"width": widths})


def of_fits(n_features: int, draws: int) -> Sweep:
    """Fits at every loss, for as many draws."""
    grid = {"n_features": [n_features], "draw": list(range(draws))} | LOSSES
    return Sweep(fits, grid, seed=12, fixed={"ratios": RATIOS, "n_test": 10_000})


ONE_TRAINING_SET = {"widths": WIDTHS, "n_examples": 300, "n_test": 5000, "weak": 1e-4}
SWEEPS = {str(n_features): of_fits(n_features, draws) for n_features, draws in DRAWS.items()}
SWEEPS |= {"descent": Sweep(descent, DESCENT, seed=12, fixed=ONE_TRAINING_SET)}
