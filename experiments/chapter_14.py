"""The phase diagrams of chapter 14: makes results/14_*.nc.

Theory: transferred and random features on several draws of the manifold, at the best
regularisation. Simulation: networks from scratch, and all four protocols at spots near the
borders.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from xarray import Dataset

from experiments.sweep import Sweep
from tlnb import Task
from tlnb.data.manifold import CorrelatedHiddenManifold
from tlnb.networks import (
    TrainedNetwork,
    TwoLayerNetwork,
    compare_protocols,
    train_two_layer,
)
from tlnb.theory.glm import GaussianCovariates, learning_curve
from tlnb.theory.readout.equivalence import analytic_covariates

N0, D = 200, 100
SOURCE = {"size": 2000, "width": 100, "penalty": 0.3}
KNOBS = ["teacher_overlap", "feature_overlap", "replaced_fraction", "target_latent_dim"]
UNIT = np.linspace(0, 1, 30).tolist()
VALUES = dict.fromkeys(KNOBS, UNIT) | {"target_latent_dim": list(range(20, 311, 10))}
SPOTS = {
    "teacher_overlap": [0.6, 0.7, 0.8, 0.9],
    "feature_overlap": [0.5, 0.65, 0.8, 0.95],
    "replaced_fraction": [0.0, 0.15, 0.3, 0.5],
    "target_latent_dim": [50, 100, 150, 250],
}
SPOT_RATIO = 2.0
UNRELATED = {"teacher_overlap": [0.0], "feature_overlap": [0.0], "replaced_fraction": [1.0]}
SAMPLE_RATIOS = np.geomspace(0.25, 8, 30).tolist()
READOUT_PENALTIES = tuple(10.0 ** np.arange(-4, 2.1, 0.5))
NETWORK_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)


def manifold(draw: int, **knob: float) -> CorrelatedHiddenManifold:
    """Its source is the same whatever the knob."""
    knob = {name: int(x) if name == "target_latent_dim" else x for name, x in knob.items()}
    return CorrelatedHiddenManifold(N0, D, random_state=draw, **knob)


@cache
def train_source(draw: int, size: int, width: int, penalty: float) -> TrainedNetwork:
    """A network trained on the first examples of the source, without early stopping."""
    examples = manifold(draw).sample_source(4000, [draw, 0])
    examples = Task(examples.X[:size], examples.y[:size])
    training = dict(width=width, epochs=200, tolerance=1e-3, rng=draw)
    return train_two_layer(examples, regularization=penalty, **training)


def first_layer(draw: int, features: str, size: int, width: int, penalty: float) -> np.ndarray:
    """Of transferred (TF) or of random (RF) features."""
    if features == "RF":
        return TwoLayerNetwork.random(width, N0, rng=[draw, 1]).first_layer
    return train_source(draw, size, width, penalty).network.first_layer


def reach(covariates: GaussianCovariates) -> float:
    """κ: the correlation of the teacher's field with the best readout."""
    e, t2 = covariates.eigenvalues, covariates.squared_projections
    seen = e > 1e-6 * e.mean()
    return float(np.sqrt((t2[seen] / e[seen]).sum() / covariates.teacher_variance))


def learning(draw: int, features: str, ratios: list[float], source: dict, **knob: float) -> Dataset:
    """Theory of a readout at the best regularisation, and the reach of its features."""
    covariates = analytic_covariates(manifold(draw, **knob), first_layer(draw, features, **source))
    options = dict(regularization="optimal", loss="square")
    curve = learning_curve(covariates, sample_ratios=ratios, **options)
    return curve[["test_error"]].assign(reach=reach(covariates))


def theory_point(
    draw: int, features: str, knob: str, place: int, values: dict, ratios: list, source: dict
) -> Dataset:
    """A column of a diagram."""
    value = values[knob][place]
    return learning(draw, features, ratios, source, **{knob: value}).assign(value=value)


def source_point(
    draw: int, way: str, place: int, ways: dict, overlaps: list, examples: list
) -> dict[str, np.ndarray]:
    """TF against the number of examples, for one way to train the source."""
    source = ways[way]
    ratios = [n / source["width"] for n in examples]
    of = learning(draw, "TF", ratios, source, teacher_overlap=overlaps[place])
    network = train_source(draw, **source).network
    test = manifold(draw).sample_source(10_000, [draw, 4])
    e = analytic_covariates(manifold(draw), network.first_layer, side="source").eigenvalues
    found = {"test_error": of.test_error.values, "reach": of.reach, "overlap": overlaps[place]}
    return found | {"directions": e.sum() ** 2 / (e**2).sum(), "source_error": network.error(test)}


def simulated(
    draw: int, protocols: list[str], examples: int, width: int = 100, **knob: float
) -> dict[str, float]:
    """Test errors, every protocol tuned on the same validation data."""
    pair = manifold(draw, **knob)
    source = TwoLayerNetwork.random(width, N0, rng=draw)  # 2L has its width only
    if {"TF", "fTF"} & set(protocols):
        source = train_source(draw, **SOURCE).network
    target, held_out, test = (
        pair.sample_target(n, [draw, 3, k]) for k, n in enumerate((examples, 1000, 10_000))
    )
    errors = {}
    for protocol in protocols:
        penalties = READOUT_PENALTIES if protocol in ("TF", "RF") else NETWORK_PENALTIES
        options = dict(loss="square", regularizations=penalties, rng=draw)
        found = compare_protocols(source, target, held_out, protocols=[protocol], **options)
        errors[protocol] = found[protocol].network.error(test)
    return errors


def spot_point(draw: int, knob: str, place: int, values: dict, ratio: float) -> dict[str, float]:
    """The four protocols simulated, and the theory of TF and RF on the same manifold."""
    value = values[knob][place]
    n = round(ratio * SOURCE["width"])
    found = simulated(draw, ["TF", "RF", "2L", "fTF"], n, **{knob: value})
    said = {
        f"{features}_theory": learning(draw, features, [ratio], SOURCE, **{knob: value})
        for features in ("TF", "RF")
    }
    said = {name: float(curve.test_error[0]) for name, curve in said.items()}
    return found | said | {"value": value}


def scratch_point(draw: int, target_latent_dim: int, examples: int, width: int) -> dict[str, float]:
    """A network from scratch: of the knobs, only the latent dimension matters to it."""
    knob = {"target_latent_dim": target_latent_dim}
    return {"test_error": simulated(draw, ["2L"], examples, width, **knob)["2L"]}


DIAGRAM = {"values": VALUES, "ratios": SAMPLE_RATIOS, "source": SOURCE}
WAYS = {
    "250 examples": SOURCE | {"size": 250},
    "1000 examples": SOURCE | {"size": 1000},
    "2000 examples": SOURCE,
    "4000 examples": SOURCE | {"size": 4000},
    "width 50": SOURCE | {"width": 50},
    "width 200": SOURCE | {"width": 200},
    "penalty 0.1": SOURCE | {"penalty": 0.1},
    "penalty 1": SOURCE | {"penalty": 1.0},
}
OF_SOURCES = {"ways": WAYS, "overlaps": np.linspace(0, 1, 9).tolist()}
OF_SOURCES |= {"examples": [25, 50, 100, 200, 400, 800]}
DRAWS = list(range(12))
SWEEPS = {
    "theory": Sweep(
        theory_point,
        {"draw": DRAWS[:4], "features": ["TF"], "knob": KNOBS, "place": range(30)},
        seed=14,
        fixed=DIAGRAM,
    ),
    "random": Sweep(
        theory_point,
        {"draw": DRAWS[:4], "features": ["RF"], "knob": KNOBS[3:], "place": range(30)},
        seed=14,
        fixed=DIAGRAM,
    ),
    "spots": Sweep(
        spot_point,
        {"draw": DRAWS, "knob": KNOBS, "place": range(4)},
        seed=14,
        fixed={"values": SPOTS, "ratio": SPOT_RATIO},
    ),
    "unrelated": Sweep(
        spot_point,
        {"draw": DRAWS, "knob": KNOBS[:3], "place": [0], "ratio": [0.5, SPOT_RATIO]},
        seed=14,
        fixed={"values": UNRELATED},
    ),
    "scratch": Sweep(
        scratch_point,
        {
            "draw": DRAWS[:10],
            "target_latent_dim": [20, 60, 100, 170, 310],
            "examples": [25, 50, 100, 200, 400, 800],
            "width": [100],
        },
        seed=14,
    ),
    "widths": Sweep(
        scratch_point,
        {"draw": DRAWS, "target_latent_dim": [100], "examples": [50, 200], "width": [50, 200]},
        seed=14,
    ),
    "sources": Sweep(
        source_point,
        {"draw": DRAWS[:4], "way": list(WAYS), "place": range(9)},
        seed=14,
        fixed=OF_SOURCES,
        dims={"test_error": ["examples"]},
    ),
}
