"""The trained networks of chapter 13: makes results/13_*.nc.

A point is one draw of a pair of hidden manifolds: a source network, trained and tuned on source
data, then the four protocols on the target at several numbers of examples, and the theory of its
features.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from experiments.sweep import Sweep
from tlnb import CorrelatedHiddenManifold, Task
from tlnb.networks import (
    TwoLayerNetwork,
    compare_protocols,
    train_readout,
    train_two_layer,
)
from tlnb.networks.protocols import PROTOCOLS
from tlnb.theory import glm
from tlnb.theory.readout.equivalence import (
    analytic_covariates,
    covariance_error,
    measured_covariates,
)

WIDTH, N0, D, N_SOURCE = 150, 300, 200, 3000
EXAMPLES = [75, 150, 300, 600, 1200]
SAMPLE_RATIOS = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
SOURCE_REGULARIZATIONS = (0.1, 0.3, 1.0)
REGULARIZATION = 0.1  # the fixed one
TUNING = {
    "regularizations": [0.2, 0.5, 1.0],
    "readout_regularizations": np.geomspace(1e-5, 10, 13).tolist(),
    "patience": 30,
}
WAYS = {  # to train a source: regularisation, early stopping
    "random": None,
    "stopped, 0.1": (0.1, True),
    "stopped, 1": (1.0, True),
    "to the end, 0.01": (0.01, False),
}


def pair(draw: int, overlap: float) -> CorrelatedHiddenManifold:
    """The manifolds of a draw; the source's does not depend on the overlap."""
    return CorrelatedHiddenManifold(N0, D, teacher_overlap=overlap, random_state=draw)


@cache
def source_networks(draw: int) -> list[TwoLayerNetwork]:
    """Networks trained on the source, stopped early, the best on validation data first."""
    manifold = pair(draw, 1.0)
    task, held_out = (
        manifold.sample_source(N_SOURCE, [draw, 1]),
        manifold.sample_source(1000, [draw, 2]),
    )
    networks = [
        train_two_layer(
            task, width=WIDTH, regularization=penalty, validation=held_out, patience=30, rng=draw
        ).network
        for penalty in SOURCE_REGULARIZATIONS
    ]
    return sorted(networks, key=lambda network: network.error(held_out))


def protocols_point(overlap: float, draw: int, examples: list[int], tuning: dict) -> dict:
    """Test errors of the protocols, tuned and at a fixed λ, and TF and RF in theory."""
    manifold, source = pair(draw, overlap), source_networks(draw)[0]
    pool, held_out = (
        manifold.sample_target(n, [draw, k]) for n, k in ((max(examples), 3), (1000, 4))
    )
    test = manifold.sample_target(10_000, [draw, 5])
    shape = len(examples), len(PROTOCOLS)
    found = {name: np.full(shape, np.nan) for name in ("tuned", "regularization", "fixed")}
    for i, n in enumerate(examples):
        target = Task(pool.X[:n], pool.y[:n])
        compared = compare_protocols(source, target, held_out, rng=draw, **tuning)
        for j, protocol in enumerate(compared.values()):
            found["tuned"][i, j] = protocol.network.error(test)
            found["regularization"][i, j] = protocol.regularization
        for j in (0, 1):
            network = compared[PROTOCOLS[j]].network
            fitted = train_readout(network, target, regularization=REGULARIZATION)
            found["fixed"][i, j] = fitted.error(test)
    layers = source, compared["RF"].network
    said = {name: np.empty((2, len(SAMPLE_RATIOS))) for name in ("fixed_theory", "tuned_theory")}
    said["tuned_theory_regularization"] = np.empty((2, len(SAMPLE_RATIOS)))
    for j, network in enumerate(layers):
        covariates = analytic_covariates(manifold, network.first_layer)
        for i, ratio in enumerate(SAMPLE_RATIOS):
            at = {"covariates": covariates, "sample_ratio": ratio}
            best = glm.solve(**at, regularization="optimal")
            said["fixed_theory"][j, i] = glm.solve(**at, regularization=REGULARIZATION).test_error
            said["tuned_theory"][j, i] = best.test_error
            said["tuned_theory_regularization"][j, i] = best.regularization
    level = source.error(manifold.sample_source(10_000, [draw, 6]))
    return found | said | {"source_error": level}


def covariances_point(way: str, draw: int, ways: dict, examples: list[int]) -> dict:
    """Analytic against measured covariances of a first layer, and what follows for the readout."""
    manifold = pair(draw, 0.8)
    network = TwoLayerNetwork.random(WIDTH, N0, rng=draw)
    if ways[way] is not None:
        penalty, stopped = ways[way]
        held_out = manifold.sample_source(1000, [draw, 2]) if stopped else None
        network = train_two_layer(
            manifold.sample_source(N_SOURCE, [draw, 1]), width=WIDTH, regularization=penalty,
            validation=held_out, patience=30, rng=draw,
        ).network  # fmt: skip
    c = np.random.default_rng([draw, 7]).standard_normal((50_000, D))
    features, field = network.features(manifold.target.inputs(c)), manifold.target.field(c)
    measured = measured_covariates(features, field)
    halves = [measured_covariates(features[k::2], field[k::2]) for k in (0, 1)]
    analytic = analytic_covariates(manifold, network.first_layer)
    found = {}
    for name, error, scale in (
        ("error", covariance_error(analytic, measured), 1.0),
        ("floor", covariance_error(*halves), 0.5),
    ):
        found |= {
            f"{name}_feature": scale * error.feature,
            f"{name}_teacher": scale * error.teacher,
        }
    e = measured.eigenvalues
    found["directions"] = e.sum() ** 2 / (e**2).sum()
    found["singular_values"] = np.linalg.svd(network.first_layer / np.sqrt(N0), compute_uv=False)
    test = manifold.sample_target(20_000, [draw, 5])
    names = ("simulated", "angle_measured", "angle_analytic", "theory_measured", "theory_analytic")
    rows = {name: np.empty(len(examples)) for name in names}
    for i, n in enumerate(examples):
        fitted = [
            train_readout(
                network, manifold.sample_target(n, [draw, 8, n, k]), regularization=REGULARIZATION
            )
            for k in range(5)
        ]
        rows["simulated"][i] = np.mean([each.error(test) for each in fitted])
        for name, covariates in zip(COVARIATES, (measured, analytic), strict=True):
            angles = [angle(each.readout, covariates) for each in fitted]
            rows[f"angle_{name}"][i] = np.mean(angles)
            at = {"sample_ratio": n / WIDTH, "regularization": REGULARIZATION}
            rows[f"theory_{name}"][i] = glm.solve(covariates, **at).test_error
    return found | rows | {"source_error": network.error(manifold.sample_source(10_000, [draw, 6]))}


def angle(readout: np.ndarray, covariates: glm.GaussianCovariates) -> float:
    """The error of this readout if its field and the teacher's are a Gaussian pair."""
    variance = readout @ covariates.feature_covariance @ readout * covariates.teacher_variance
    return float(np.arccos(readout @ covariates.teacher_covariance / np.sqrt(variance)) / np.pi)


COVARIATES = ("measured", "analytic")
BY_EXAMPLES = ("tuned", "regularization", "fixed")
BY_RATIO = ("fixed_theory", "tuned_theory", "tuned_theory_regularization")
OVER = {name: ["examples", "protocol"] for name in BY_EXAMPLES}
OVER |= {name: ["features", "sample_ratio"] for name in BY_RATIO}
ROWS = {f"{kind}_{name}": ["examples"] for kind in ("angle", "theory") for name in COVARIATES}
ROWS["simulated"] = ["examples"]
SWEEPS = {
    "protocols": Sweep(
        protocols_point,
        {"overlap": [1.0, 0.8, 0.4], "draw": list(range(10))},
        seed=13,
        fixed={"examples": EXAMPLES, "tuning": TUNING},
        dims=OVER,
    ),
    "covariances": Sweep(
        covariances_point,
        {"way": list(WAYS), "draw": list(range(10))},
        seed=13,
        fixed={"ways": WAYS, "examples": [75, 300, 1200]},
        dims=ROWS,
    ),
}
