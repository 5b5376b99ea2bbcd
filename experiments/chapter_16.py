"""Two theories on the same pairs of hidden manifolds, chapter 16: makes results/16_*.nc.

Square loss and linear labels everywhere. Errors are in units of the teacher's variance: 1 is what
an output of zero makes. What is random in an experiment (manifolds, examples, networks) is drawn
again for each ``draw``; the same draw has the same source in every sweep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from experiments.sweep import Sweep
from tlnb import CorrelatedHiddenManifold, Task
from tlnb.networks import TwoLayerNetwork, train_mode
from tlnb.sampling import networks, sample_posterior, sample_transfer
from tlnb.sampling.diagnostics import chain_statistics
from tlnb.theory import glm
from tlnb.theory.readout.equivalence import analytic_covariates, measured_covariates
from tlnb.theory.transfer import TransferProblem

SIZES = {"n_inputs": 100, "latent_dim": 20, "n_source": 300, "n_target": 50, "width": 50}
PRIORS = {"temperature": 0.1, "readout_precision": 5.0}
DIALS = {
    "teacher_overlap": [0.0, 0.3, 0.5, 0.7, 0.85, 1.0],
    "feature_overlap": [0.0, 0.3, 0.5, 0.7, 0.85, 1.0],
    "replaced_fraction": [1.0, 0.7, 0.4, 0.2, 0.1, 0.0],
    "target_latent_dim": [10, 15, 20, 30, 40, 60],
}
COUPLINGS = [0.0, 1.0, 3.0, 10.0, 30.0, 100.0, np.inf]
NO_LABELS = 1e9  # a temperature at which a source is a draw of the prior
FEATURES = ["posterior", "random", "minimum", "one decay"]
PLAN = {"chains": 8, "warmup": 120, "draws": 10, "thin": 10}
EVERY = 3  # of the draws, one is kept
ALONE = {"chains": 8, "warmup": 60, "draws": 25, "thin": 2}
STARTS = 2  # of networks trained to a minimum
N_TEST = 400
RIDGE = ["mean", "thermal", "D", "Q_tt", "Q_st"]


def pair_of(draw: int, sizes: Mapping, **knob: float) -> CorrelatedHiddenManifold:
    """Source and target; the source is the same whatever the knob."""
    knob = {name: int(x) if name == "target_latent_dim" else x for name, x in knob.items()}
    shape = sizes["n_inputs"], sizes["latent_dim"]
    return CorrelatedHiddenManifold(*shape, labels="linear", random_state=draw, **knob)


def source_task(draw: int, sizes: Mapping) -> Task:
    """The source's examples."""
    return pair_of(draw, sizes).sample_source(sizes["n_source"], [draw, 1])


def target_tasks(
    pair: CorrelatedHiddenManifold, draw: int, n: int, of_set: int = 0
) -> tuple[Task, Task]:
    """Training and test examples of the target; the latent vectors are the same at every knob."""
    pool = pair.sample_target(max(n, 300), [draw, 2, of_set])
    test = pair.sample_target(N_TEST, [draw, 3, of_set])
    return Task(pool.X[:n], pool.y[:n]), test


def source_networks(
    draw: int, sizes: Mapping, priors: Mapping, starts: int
) -> tuple[dict[str, list[TwoLayerNetwork]], xr.Dataset]:
    """Networks of a draw by what their features are, and the chains.

    ``posterior``: drawn; ``random``: from the prior; ``minimum``: trained to a mode of the same
    posterior; ``one decay``: trained with the hidden layer's weight decay in both layers.
    """
    task, width = source_task(draw, sizes), sizes["width"]
    rng = np.random.default_rng([16, draw])
    at = {"width": width, "progress": False, "rng": rng}
    drawn = sample_posterior(task, weights=True, **PLAN, **at, **priors)
    kept = networks(drawn.isel(draw=slice(EVERY - 1, None, EVERY)), task)
    found = {"posterior": kept}
    shape = width, sizes["n_inputs"]
    hidden = priors.get("weight_precision", 1.0)
    prior = [rng.standard_normal(shape) / np.sqrt(hidden) for _ in kept]
    found["random"] = [TwoLayerNetwork(W, rng.standard_normal(width)) for W in prior]
    decays = {"minimum": priors, "one decay": priors | {"readout_precision": hidden}}
    seeds = rng.integers(2**31, size=starts).tolist()
    for name, decay in decays.items():
        found[name] = [train_mode(task, width=width, rng=s, **decay).network for s in seeds]
    return found, drawn


def of_action(
    problem: TransferProblem, width: int, couplings: Sequence[float], test: Task, unit: float
) -> dict[str, np.ndarray]:
    """Theory of coupled networks, errors over couplings, the last of them frozen, and its parts."""
    swept = problem.sweep(test, widths=[width], couplings=couplings).isel(width=0)
    last = swept.isel(coupling=-1)
    parts = {
        "coupled": swept.test_error.values / unit,
        "bias": float(last.squared_bias) / unit,
        "source_variance": float(last.source_variance) / unit,
        "thermal": float(last.total_variance - last.source_variance) / unit,
    }
    overlaps = {name: float(last[name]) for name in ("Q_s", "Q_t", "Q_st", "Q_tt")}
    return {f"action_{name}": np.array(x) for name, x in (parts | overlaps).items()}


def of_ridge(
    sources: Sequence[TwoLayerNetwork], target: Task, test: Task, priors: Mapping, unit: float
) -> dict[str, np.ndarray]:
    """Readouts on the features of networks, averaged over networks.

    ``mean``: error of the readout's mean, a ridge regression; ``thermal``: variance around it;
    and the overlaps of readouts.
    """
    T, precision, K = priors["temperature"], priors["readout_precision"], sources[0].width
    rows = []
    for network in sources:
        U, u = (network.features(X) / np.sqrt(K) for X in (target.X, test.X))
        inverse = np.linalg.inv(T * precision * np.eye(K) + U.T @ U)
        v = inverse @ (U.T @ target.y)
        rows.append(
            {
                "mean": ((test.y - u @ v) ** 2).mean() / unit,
                "thermal": T * np.vdot(inverse, u.T @ u) / len(u) / unit,
                "D": T * precision / K * np.trace(inverse),
                "Q_tt": precision / K * (v @ v),
                "Q_st": precision / K * (v @ network.readout),
            }
        )
    return {f"ridge_{name}": x.mean(0) for name, x in gathered(rows).items()}


def of_replica(
    sources: Sequence[TwoLayerNetwork],
    covariates: Sequence[glm.GaussianCovariates],
    ratios: Sequence[float],
    priors: Mapping,
    tuned: int = 0,
) -> dict[str, np.ndarray]:
    """Replica theory of readouts on these networks' features: arrays over sample ratios.

    ``mean``: error of a ridge regression of penalty Tλ1; ``thermal``: T V, the variance around it;
    ``D``, ``Q_tt``, ``Q_st``: what the other theory calls so; ``reach``: κ². Averaged over
    networks; ``best``, the error at the best penalty, over so many of them.
    """
    T, precision = priors["temperature"], priors["readout_precision"]
    options = {"loss": "square", "labels": "linear", "sample_ratios": ratios}
    rows = []
    for network, of in zip(sources, covariates, strict=True):
        curve = glm.learning_curve(of, regularization=T * precision, **options)
        V, V_hat, m_hat = (curve[name].values for name in ("V", "V_hat", "m_hat"))
        shifted = V_hat[:, None, None] * of.feature_covariance
        shifted += T * precision * np.eye(of.n_features)
        right = np.broadcast_to(of.teacher_covariance[:, None], (len(V), of.n_features, 1))
        along = np.linalg.solve(shifted, right)[..., 0] @ network.readout
        rows.append(
            {
                "mean": curve.test_error.values / of.teacher_variance,
                "thermal": T * V / of.teacher_variance,
                "D": 1 - V * V_hat,
                "Q_tt": precision * curve.norm.values,
                "Q_st": precision * m_hat * along / np.sqrt(of.n_features),
                "reach": np.full(len(ratios), reach(of)),
            }
        )
    found = {name: x.mean(0) for name, x in gathered(rows).items()}
    if tuned:
        few = covariates[:: max(len(covariates) // tuned, 1)]
        curves = [glm.learning_curve(of, regularization="optimal", **options) for of in few]
        errors = [
            c.test_error.values / of.teacher_variance for c, of in zip(curves, few, strict=True)
        ]
        found["best"] = np.mean(errors, axis=0)
    return {f"replica_{name}": x for name, x in found.items()}


def reach(covariates: glm.GaussianCovariates) -> float:
    """κ², the share of the teacher's variance that the best readout explains."""
    e, t2 = covariates.eigenvalues, covariates.squared_projections
    seen = e > 1e-6 * e.mean()
    return float((t2[seen] / e[seen]).sum() / covariates.teacher_variance)


def gathered(rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Rows of named numbers as arrays with a leading axis."""
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def dials_point(
    draw: int, dials: dict, sizes: dict, priors: dict, sets: int, measured: int
) -> dict[str, np.ndarray]:
    """Everything at every place of every dial, for one draw: arrays over (knob, place, ...)."""
    source, width = source_task(draw, sizes), sizes["width"]
    found, drawn = source_networks(draw, sizes, priors, STARTS)
    found["random"] = found["random"][:8]
    ratios = [sizes["n_target"] / width]
    taught = TransferProblem(source, source, **priors)
    untaught = taught.with_priors(source_temperature=NO_LABELS)
    rows = []
    for knob, values in dials.items():
        for value in values:
            pair = pair_of(draw, sizes, **{knob: value})
            of_sets, curves = [], []
            for k in range(sets):
                target, test = target_tasks(pair, draw, sizes["n_target"], k)
                unit = float((test.y**2).mean())  # of this sample: less noise in the ratio
                problem = taught.with_target(target)
                row = of_action(problem, width, COUPLINGS if k < 2 else [np.inf], test, unit)
                errors = row.pop("action_coupled")
                curves += [errors] if k < 2 else []
                row["action_frozen"] = errors[-1]
                of_random = of_action(untaught.with_target(target), width, [np.inf], test, unit)
                row["random_action_frozen"] = of_random["action_coupled"][0]
                row |= gathered([of_ridge(found[f], target, test, priors, unit) for f in FEATURES])
                of_sets.append(row)
            row = {name: x.mean(0) for name, x in gathered(of_sets).items()}
            row["action_coupled"] = np.mean(curves, axis=0)
            covariates = {
                f: [analytic_covariates(pair, net.first_layer) for net in found[f]]
                for f in FEATURES
            }
            by_feature = [
                of_replica(found[f], covariates[f], ratios, priors, tuned=4) for f in FEATURES
            ]
            row |= {name: x[..., 0] for name, x in gathered(by_feature).items()}
            c = np.random.default_rng([draw, 5]).standard_normal((6000, pair.target.latent_dim))
            x, field = pair.target.inputs(c), pair.target.field(c)
            every = max(len(found["posterior"]) // measured, 1)
            nets = found["posterior"][::every]
            by_data = [measured_covariates(net.features(x), field) for net in nets]
            pairs = {"measured": by_data, "analytic": covariates["posterior"][::every]}
            for name, of in pairs.items():
                told = of_replica(nets, of, ratios, priors)
                row |= {f"{name}_{key}": told[f"replica_{key}"][0] for key in CHECKED}
            rows.append(row)
    shape = len(dials), len(next(iter(dials.values())))
    arrays = {name: x.reshape(*shape, *x.shape[1:]) for name, x in gathered(rows).items()}
    Q_s = drawn.order_parameter.values
    r_hat, _ = chain_statistics(Q_s)
    return arrays | {"Q_s_sampled": Q_s.mean(), "r_hat": r_hat}


BY_PLACE = ["knob", "place"]
ACTION = ["frozen", "bias", "source_variance", "thermal", "Q_s", "Q_t", "Q_st", "Q_tt"]
REPLICA = ["mean", "thermal", "D", "Q_tt", "Q_st", "reach", "best"]
CHECKED = ["mean", "thermal", "reach"]
OVER = {f"action_{name}": BY_PLACE for name in ACTION} | {"random_action_frozen": BY_PLACE}
OVER["action_coupled"] = [*BY_PLACE, "coupling"]
OVER |= {f"ridge_{name}": [*BY_PLACE, "features"] for name in RIDGE}
OVER |= {f"replica_{name}": [*BY_PLACE, "features"] for name in REPLICA}
OVER |= {f"{way}_{name}": BY_PLACE for way in ("measured", "analytic") for name in CHECKED}


def diagram_point(
    draw: int, overlaps: list, examples: list, plan: dict, sizes: dict, priors: dict
) -> dict[str, np.ndarray]:
    """Frozen features over (overlap, examples), both theories and ridge regressions."""
    source, width = source_task(draw, sizes), sizes["width"]
    found, _ = source_networks(draw, sizes, priors, STARTS)
    taught = TransferProblem(source, source, **priors)
    untaught = taught.with_priors(source_temperature=NO_LABELS)
    ratios = [n / width for n in examples]
    columns = []
    for overlap in overlaps:
        pair = pair_of(draw, sizes, teacher_overlap=overlap)
        unit = pair.target.teacher_variance
        rows = []
        for n in examples:
            target, test = target_tasks(pair, draw, n)
            of = of_action(taught.with_target(target), width, [0.0, np.inf], test, unit)
            row = {"action_scratch": of["action_coupled"][0]}
            row |= {"action_posterior": of["action_coupled"][1], "action_Q_st": of["action_Q_st"]}
            of = of_action(untaught.with_target(target), width, [np.inf], test, unit)
            row["action_random"] = of["action_coupled"][0]
            for f in FEATURES[:3]:
                simulated = of_ridge(found[f], target, test, priors, unit)
                row[f"ridge_{f}"] = simulated["ridge_mean"] + simulated["ridge_thermal"]
            rows.append(row)
        column = gathered(rows)
        for f in FEATURES[:3]:
            nets = found[f][:20]
            of = [analytic_covariates(pair, net.first_layer) for net in nets]
            told = of_replica(nets, of, ratios, priors, tuned=6)
            column[f"replica_{f}"] = told["replica_mean"] + told["replica_thermal"]
            column[f"best_{f}"] = told["replica_best"]
            column[f"reach_{f}"] = told["replica_reach"]
        columns.append(column)
    # From scratch the overlap does not matter: networks at the last one only.
    alone = []
    for n in examples:
        target, test = target_tasks(pair, draw, n)
        drawn = sample_posterior(
            target, test=test, width=width, rng=draw, progress=False, **plan, **priors
        )
        alone.append(float(drawn.test_error.mean()) / unit)
    return gathered(columns) | {"sampled_scratch": np.array(alone)}


def map_point(
    draw: int, overlaps: list, examples: list, sets: int, sizes: dict, priors: dict
) -> dict[str, np.ndarray]:
    """Theory of coupled networks over (overlap, examples), averaged over target data sets."""
    source, width = source_task(draw, sizes), sizes["width"]
    taught = TransferProblem(source, source, **priors)
    margin = np.zeros((len(overlaps), len(examples)))
    for i, overlap in enumerate(overlaps):
        pair = pair_of(draw, sizes, teacher_overlap=overlap)
        for k in range(sets):
            for j, n in enumerate(examples):
                target, test = target_tasks(pair, draw, n, k)
                unit = float((test.y**2).mean())
                of = of_action(taught.with_target(target), width, [0.0, np.inf], test, unit)
                alone, frozen = of["action_coupled"]
                margin[i, j] += (alone - frozen) / sets
    return {"margin": margin}


def cooled(priors: Mapping[str, float], cooling: float) -> dict[str, float]:
    """Less noise at the same weight decays: T and the variances of the prior over one factor."""
    return {
        "temperature": priors["temperature"] / cooling,
        "weight_precision": cooling,
        "readout_precision": priors["readout_precision"] * cooling,
    }


def cooling_point(cooling: float, draw: int, priors: dict, **given: dict | int) -> dict:
    """As `dials_point`, colder."""
    return dials_point(draw, priors=cooled(priors, cooling), **given)


def scaled(sizes: Mapping[str, int], scale: float) -> dict[str, int]:
    """All sizes in the same proportions."""
    return {name: round(scale * size) for name, size in sizes.items()}


def coupled_point(
    draw: int, seed: int, spots: list, couplings: list, plans: dict, sizes: dict, priors: dict
) -> dict[str, np.ndarray]:
    """Networks sampled around sampled sources over (spot, coupling), 0 from scratch, and theory."""
    source, width = source_task(draw, sizes), sizes["width"]
    at = {"width": width, "progress": False, "rng": np.random.default_rng(seed), **priors}
    drawn = sample_posterior(source, weights=True, **PLAN, **at)
    kept = drawn.isel(draw=slice(4, None, 5))
    rows = []
    for spot in spots:
        pair = pair_of(draw, sizes, **spot)
        unit = pair.target.teacher_variance
        target, test = target_tasks(pair, draw, sizes["n_target"])
        alone = sample_posterior(target, test=test, **plans["alone"], **at)
        errors, overlaps = [float(alone.test_error.mean())], [0.0]
        for coupling in couplings[1:]:
            found = sample_transfer(
                source, target, coupling=coupling, sources=kept, test=test, **plans["target"], **at
            )
            errors.append(float(found.test_error.mean()))
            overlaps.append(float(found.Q_st.mean()))
        problem = TransferProblem(source, target, **priors)
        said = problem.sweep(test, widths=[width], couplings=couplings).isel(width=0)
        of_action = {"action": said.test_error.values / unit, "action_Q_st": said.Q_st.values}
        rows.append(
            {"sampled": np.array(errors) / unit, "sampled_Q_st": np.array(overlaps)} | of_action
        )
    return gathered(rows)


def instances_point(
    scale: float, manifold: int, data: int, spots: list, sizes: dict, priors: dict
) -> dict[str, np.ndarray]:
    """Theory of frozen features over (spot,): the same manifolds with other examples."""
    sizes, rows = scaled(sizes, scale), []
    source = pair_of(manifold, sizes).sample_source(sizes["n_source"], [manifold, data, 1])
    taught = TransferProblem(source, source, **priors)
    for spot in spots:
        pair = pair_of(manifold, sizes, **spot)
        unit = pair.target.teacher_variance
        target = pair.sample_target(sizes["n_target"], [manifold, data, 2])
        test = pair.sample_target(N_TEST, [manifold, data, 3])
        row = of_action(taught.with_target(target), sizes["width"], [np.inf], test, unit)
        rows.append(row | {"action_frozen": row.pop("action_coupled")[0]})
    return gathered(rows)


DIAGRAM = ["action_scratch", "action_posterior", "action_Q_st", "action_random"]
DIAGRAM += [f"{way}_{f}" for way in ("ridge", "replica", "best", "reach") for f in FEATURES[:3]]
SPOTS = [
    {"teacher_overlap": 1.0}, {"teacher_overlap": 0.5}, {"feature_overlap": 0.7},
    {"replaced_fraction": 0.4}, {"target_latent_dim": 40},
]  # fmt: skip
ENDS = {"teacher_overlap": [0.0, 1.0]}
AT = {"sizes": SIZES, "priors": PRIORS}
SWEEPS = {
    "dials": Sweep(
        dials_point,
        {"draw": list(range(8))},
        seed=16,
        fixed={"dials": DIALS, "sets": 8, "measured": 6, **AT},
        dims=OVER,
    ),
    "cooling": Sweep(
        cooling_point,
        {"cooling": [3.0, 8.0], "draw": list(range(3))},
        seed=16,
        fixed={"dials": ENDS, "sets": 8, "measured": 6, **AT},
        dims=OVER,
    ),
    "diagram": Sweep(
        diagram_point,
        {"draw": list(range(3))},
        seed=16,
        fixed={
            "overlaps": [0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
            "examples": [10, 16, 25, 40, 63, 100, 160, 250],
            "plan": ALONE,
            **AT,
        },
        dims={key: ["overlap", "examples"] for key in DIAGRAM} | {"sampled_scratch": ["examples"]},
    ),
    "map": Sweep(
        map_point,
        {"draw": list(range(3))},
        seed=16,
        fixed={
            "overlaps": [0.2, 0.4, 0.6, 0.8, 0.9, 1.0],
            "examples": [10, 16, 25, 40, 63, 100, 160, 250],
            "sets": 12,
            **AT,
        },
        dims={"margin": ["overlap", "examples"]},
    ),
    "coupled": Sweep(
        coupled_point,
        {"draw": list(range(3))},
        seed=16,
        fixed={
            "spots": SPOTS[:3],
            "couplings": [0.0, 1.0, 10.0, np.inf],
            "plans": {
                "alone": ALONE,
                "target": {"chains": 2, "draws": 10, "thin": 2, "warmup": 40},
            },
            **AT,
        },
        dims={
            key: ["spot", "coupling"]
            for key in ["sampled", "sampled_Q_st", "action", "action_Q_st"]
        },
    ),
    "instances": Sweep(
        instances_point,
        {"scale": [1.0, 3.0], "manifold": list(range(3)), "data": list(range(8))},
        seed=16,
        fixed={"spots": SPOTS, **AT},
        dims={f"action_{name}": ["spot"] for name in ACTION},
    ),
}
