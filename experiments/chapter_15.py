"""The transferred features of chapter 15, on digits and on its synthetic twin: results/15_*.nc.

A draw is a split of the images, a choice of the classes to exchange and the start of every
training; the theory of its readouts is computed here, because it comes with the networks.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from experiments.sweep import Sweep
from tlnb import Task
from tlnb.data.images import digits, transfer_tasks
from tlnb.data.manifold import CorrelatedHiddenManifold
from tlnb.networks import (
    TwoLayerNetwork,
    compare_protocols,
    train_readout,
    train_two_layer,
)
from tlnb.theory import glm
from tlnb.theory.readout.equivalence import measured_covariates

WIDTH = 64
SAMPLE_RATIOS = [0.25, 0.5, 1.0, 2.0, 4.0]
QUESTION = "0,1,2,3,4|5,6,7,8,9"
EXCHANGED = {"one exchanged": 1, "two exchanged": 2}
SOURCES = ["same", *EXCHANGED, "half permuted", "permuted"]
RELATIONS = [*SOURCES, "random features"]
TUNED = ["same", *EXCHANGED, "permuted"]
PROTOCOLS = ("TF", "RF", "2L", "fTF")
DECAYS = (1e-3, 1e-2, 1e-1)
REGULARIZATIONS = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)


def question(exchanged: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Is a digit below 5? With so many random classes of either side exchanged."""
    low, high = rng.permutation(5), 5 + rng.permutation(5)
    k = exchanged
    return np.append(high[:k], low[k:]), np.append(low[:k], high[k:])


def change(source: Task, relation: str, rng: np.random.Generator) -> Task:
    """Permute all or half of the inputs' columns among themselves."""
    X = source.X.copy()
    if relation in ("permuted", "half permuted"):
        n = source.n_features // (1 if relation == "permuted" else 2)
        chosen = rng.permutation(source.n_features)[:n]
        X[:, chosen] = X[:, np.roll(chosen, 1)]
    return Task(X, source.y, source.ids)


def digit_tasks(draw: int, relation: str) -> tuple[Task, Task, Task]:
    """700 images of the source, 900 of the target (the pool), 140 to validate with."""
    rng = np.random.default_rng([15, draw])
    groups = question(EXCHANGED.get(relation, 0), rng)
    sizes = dict(n_source=700, n_target=900, n_test=140)
    tasks = transfer_tasks(digits(), groups, QUESTION, **sizes, seed=draw)
    return change(tasks.source, relation, rng), tasks.target, tasks.test


def synthetic_tasks(draw: int, relation: str, latent_dim: int) -> tuple[Task, Task]:
    """The twin: 700 examples of the source, and 10,000 of the target as its population."""
    overlap = np.sin(np.pi / 2 * (1 - 0.4 * EXCHANGED.get(relation, 0)))
    knobs = dict(teacher_overlap=overlap, nonlinearity="linear", random_state=draw)
    manifold = CorrelatedHiddenManifold(64, latent_dim, **knobs)
    rng = np.random.default_rng([15, draw])
    source, target = manifold.sample_source(700, rng), manifold.sample_target(10_000, rng)
    return change(source, relation, rng), target


def source_network(source: Task, relation: str, seed: int) -> TwoLayerNetwork:
    """Trained on 560 examples; weight decay and end of the training from the other 140."""
    if relation == "random features":
        return TwoLayerNetwork.random(WIDTH, source.n_features, rng=seed)
    train, held_out = (Task(source.X[p], source.y[p]) for p in (slice(560), slice(560, 700)))
    options = dict(width=WIDTH, validation=held_out, epochs=400, rng=seed)
    trained = [train_two_layer(train, regularization=decay, **options) for decay in DECAYS]
    return min(trained, key=lambda result: result.validation_loss).network


def error_of_law(
    covariates: glm.GaussianCovariates, s: glm.GLMSolution, U: np.ndarray, y: np.ndarray
) -> float:
    """Wrong signs on the population of a readout that is Gaussian as the theory says."""
    e, basis = np.linalg.eigh(covariates.feature_covariance)
    r, Z = 1 / (s.regularization + s.V_hat * np.maximum(e, 0)), U @ basis
    mean = s.m_hat * Z @ (r * (covariates.teacher_covariance @ basis))
    spread = np.sqrt(s.q_hat / len(e) * (Z**2 @ (np.maximum(e, 0) * r**2)))
    return float(ndtr(-y * mean / spread).mean())


def in_theory(network: TwoLayerNetwork, population: Task) -> dict[str, np.ndarray]:
    """Errors of ridge regression at the best λ, and what the features explain of the labels."""
    U, y = network.features(population.X), population.y
    covariates = measured_covariates(U, y)
    e, t2 = covariates.eigenvalues, covariates.squared_projections
    kept = e > 1e-10 * e[-1]
    linear = dict(regularization="optimal", loss="square", labels="linear")
    found = [glm.solve(covariates, sample_ratio=ratio, **linear) for ratio in SAMPLE_RATIOS]
    return {
        "mean_square": np.array([s.test_error for s in found]),
        "wrong": np.array([error_of_law(covariates, s, U, y) for s in found]),
        "regularization": np.array([s.regularization for s in found]),
        "explained": (t2[kept] / e[kept]).sum() / covariates.teacher_variance,
        "participation": e.sum() ** 2 / (e**2).sum(),
    }


def simulated(
    network: TwoLayerNetwork, population: Task, regularizations: np.ndarray, reps: int, seed: int
) -> dict[str, np.ndarray]:
    """Ridge regression on examples drawn with replacement; means and their standard errors."""
    X, y, rng = population.X, population.y, np.random.default_rng(seed)
    errors = np.empty((2, len(SAMPLE_RATIOS), reps))
    for i, (ratio, λ) in enumerate(zip(SAMPLE_RATIOS, regularizations, strict=True)):
        for k in range(reps):
            rows = rng.integers(len(y), size=round(ratio * WIDTH))
            drawn = Task(X[rows], y[rows])
            f = train_readout(network, drawn, regularization=λ, loss="square")(X)
            errors[:, i, k] = np.mean((y - f) ** 2), np.mean(y * f <= 0)
    mean, error = errors.mean(axis=2), errors.std(axis=2, ddof=1) / np.sqrt(reps)
    names = "mean_square", "wrong"
    found = {f"simulated_{name}": row for name, row in zip(names, mean, strict=True)}
    return found | {f"simulated_{name}_error": row for name, row in zip(names, error, strict=True)}


def between_classes(network: TwoLayerNetwork, task: Task) -> float:
    """Share of the features' variance that is between the ten digits."""
    U = network.features(task.X)
    classes = digits().labels[[int(name.split("-")[1]) for name in task.ids]]
    means = np.stack([U[classes == c].mean(axis=0) for c in range(10)])
    return float(((means[classes] - U.mean(axis=0)) ** 2).sum() / (len(U) * U.var(axis=0).sum()))


def digits_point(draw: int, relation: str, reps: int, seed: int) -> dict[str, np.ndarray]:
    """Readouts on features of one source, in theory and simulated."""
    source, pool, _ = digit_tasks(draw, relation)
    network = source_network(source, relation, seed=draw).centred(pool.X)
    found = in_theory(network, pool)
    found |= simulated(network, pool, found["regularization"], reps, seed)
    return found | {"between_classes": between_classes(network, pool)}


def synthetic_point(draw: int, relation: str, latent_dim: int) -> dict[str, np.ndarray]:
    """The same on a hidden manifold, in theory."""
    source, population = synthetic_tasks(draw, relation, latent_dim)
    network = source_network(source, relation, seed=draw).centred(population.X)
    return in_theory(network, population)


def protocols_point(draw: int, sample_ratio: float, loss: str, seed: int) -> dict[str, np.ndarray]:
    """Mean loss and wrong signs of the four protocols, each tuned on validation images.

    RF and 2L know of no source: they are the same for all relations.
    """
    errors = np.empty((2, len(TUNED), len(PROTOCOLS)))
    rng = np.random.default_rng(seed)
    rows = rng.integers(900, size=round(sample_ratio * WIDTH))
    for i, relation in enumerate(TUNED):
        source, pool, validation = digit_tasks(draw, relation)
        network = source_network(source, relation, seed=draw)
        options = dict(loss=loss, regularizations=REGULARIZATIONS, centre_on=pool.X, epochs=300)
        names = ("TF", "fTF") if i else PROTOCOLS
        target = Task(pool.X[rows], pool.y[rows])
        options |= dict(protocols=names, rng=seed)
        found = compare_protocols(network, target, validation, **options)
        if i:
            errors[:, i] = errors[:, 0]
        for name, protocol in found.items():
            of_pool = protocol.network.loss(pool, loss), protocol.network.error(pool)
            errors[:, i, PROTOCOLS.index(name)] = of_pool
    return {"mean_loss": errors[0], "wrong": errors[1]}


def by_ratio(*names: str) -> dict[str, list[str]]:
    """These arrays run over sample ratios."""
    return {name: ["sample_ratio"] for name in names}


THEORY = by_ratio("mean_square", "wrong", "regularization")
NAMES = [f"simulated_{name}{end}" for name in ("mean_square", "wrong") for end in ("", "_error")]
DRAWS = list(range(12))
SWEEPS = {
    "digits": Sweep(
        digits_point,
        {"draw": DRAWS, "relation": RELATIONS},
        seed=15,
        fixed={"reps": 40},
        dims=THEORY | by_ratio(*NAMES),
    ),
    "synthetic": Sweep(
        synthetic_point,
        {"draw": DRAWS, "relation": RELATIONS, "latent_dim": [20, 24, 28]},
        seed=15,
        dims=THEORY,
    ),
    "protocols": Sweep(
        protocols_point,
        {"draw": DRAWS, "sample_ratio": SAMPLE_RATIOS, "loss": ["square", "logistic"]},
        seed=15,
        dims={name: ["relation", "protocol"] for name in ("mean_loss", "wrong")},
    ),
}
