"""Real images, chapter 09: makes results/09_*.nc.

MNIST is read from the folder that the environment variable TLNB_MNIST names; the same command takes
Fashion-MNIST, EMNIST or CIFAR-10 there (`tlnb.data.pools`). The atlas holds `pairs.pair(number)`.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.special import expit
from scipy.stats import spearmanr

from experiments import pairs
from experiments.left_out import VERDICTS, left_out_point
from experiments.sweep import Sweep, path_of
from tlnb import Task, scores, sweeps
from tlnb.gain import transfer_gain
from tlnb.gain.training import DECAYS, train_networks
from tlnb.kernels import kernel
from tlnb.networks import TwoLayerNetwork, train_mode
from tlnb.sampling import sample_posterior, sample_transfer, summary
from tlnb.sampling.diagnostics import chain_statistics
from tlnb.theory.transfer import TransferProblem

STARTS = 2
SCORES = ("leep", "log_me", "h_score", "alignment")


def atlas_point(number: int, seed: int) -> dict[str, np.ndarray | float]:
    """Theory, choice and verdict of a pair at its test set; trained networks."""
    pair = pairs.pair(number)
    source, target, test = pairs.tasks(pair)
    judged = transfer_gain(source, target, test, width=pair.width, rng=number)
    found: dict[str, np.ndarray | float] = {
        "pool": pairs.POOLS.index(pair.pool),
        "relation": pairs.RELATIONS.index(pair.relation),
        "n_source": pair.n_source,
        "n_target": pair.n_target,
        "width": pair.width,
        "regret": judged.regret,
    }
    averages = judged.candidates
    found["rank_correlation"] = spearmanr(averages.test_error, averages.on_test_test_error)[0]
    found["verdict"] = VERDICTS.index(judged.verdict)
    found["error"], found["error_se"] = judged.test_error, judged.test_error_se
    rows = judged.opponents.set_index("opponent")
    for measure in ("gain", "standard_error", "classification_gain", "classification_se"):
        for name, opponent in (("", "scratch"), ("width_", "best width"), ("frozen_", "frozen")):
            found[name + measure] = rows.loc[opponent, measure]
    found["scratch_error"] = rows.loc["scratch", "test_error"]
    points = {
        "scratch": rows.loc["scratch"].to_dict(),
        "frozen": rows.loc["frozen"].to_dict(),
        "fine-tuned": judged.coupled,
    }
    for name in ("coupling", "temperature", "richness"):
        found |= {f"{way}_{name}": point[name] for way, point in points.items()}
    for decay_to in DECAYS:
        outputs, converged = train_networks(
            [source], [target], points, test.X,
            width=pair.width, starts=STARTS, decay_to=decay_to, rng=number,
        )  # fmt: skip
        found[f"{decay_to}_converged"] = np.mean([c.all() for c in converged.values()])
        found |= trained_gains(test.y, {k: f[:, 0] for k, f in outputs.items()}, decay_to)
    return found | transferability(source, target, pair.width, points["fine-tuned"], seed)


def trained_gains(y: np.ndarray, outputs: dict[str, np.ndarray], name: str) -> dict[str, float]:
    """Errors of trained networks, outputs (starts, n), and their gains over scratch.

    The standard error of a gain is that over test examples and that over starts, added.
    """
    squared = {way: (y - f) ** 2 for way, f in outputs.items()}
    wrong = {way: (y * f <= 0).astype(float) for way, f in outputs.items()}
    found = {}
    for measure, errors in (("squared", squared), ("wrong", wrong)):
        for way, of_start in errors.items():
            found[f"{name}_{measure}_{way}"] = of_start.mean()
            if way == "scratch":
                continue
            gains = errors["scratch"].mean(0) - of_start.mean(0)
            variance = gains.var(ddof=1) / gains.size
            for part in (errors["scratch"], of_start):
                variance += part.mean(1).var(ddof=1) / len(part)
            found[f"{name}_{measure}_gain_{way}"] = gains.mean()
            found[f"{name}_{measure}_se_{way}"] = np.sqrt(variance)
    return found


def transferability(
    source: Task, target: Task, width: int, point: dict[str, float], seed: int
) -> dict[str, float]:
    """Scores of the features of a trained source, and of random ones, at the target's examples.

    LEEP takes for the source's probability of its class +1 the logistic function of twice its
    output; alignment is that of the features' kernel.
    """
    random = TwoLayerNetwork.random(width, source.n_features, rng=seed)
    at = point | {"coupling": 0.0}
    taught = _source_network(source, width, at, seed)
    found = {}
    for name, network in (("", taught), ("random_", random)):
        features = network.features(target.X)
        found[f"{name}log_me"] = scores.log_me(features, target.y)
        found[f"{name}h_score"] = scores.h_score(features, target.y)
        found[f"{name}alignment"] = scores.kernel_alignment(features @ features.T, target.y)
    plus = expit(2 * taught(target.X))
    found["leep"] = scores.leep(np.column_stack([1 - plus, plus]), target.y)
    alone = kernel(target.X, activation="erf")
    found["input_alignment"] = scores.kernel_alignment(alone, target.y)
    return found


def _source_network(
    source: Task, width: int, point: dict[str, float], seed: int
) -> TwoLayerNetwork:
    start = TwoLayerNetwork.random(width, source.n_features, rng=seed)
    at = {name: point[name] for name in ("temperature", "readout_precision")}
    # Weight decay towards the start, as in `tlnb.gain.training`.
    return train_mode(source, source=start, coupling=1.0, weight_precision=1e-12, **at).network


TEMPERATURES, PRECISIONS = (0.001, 0.01, 0.1), (1.0, 10.0, 100.0, 1000.0)
COUPLINGS = (0.0, 0.3, 1.0, 3.0, 10.0, 100.0, np.inf)
PRIORS = ((0.1, 1.0), (0.01, 1.0), (0.01, 100.0), (0.001, 1000.0))  # T and λ1, lazy to rich
FINE = (0.0, *np.geomspace(0.03, 3000, 16).tolist(), 10.0, np.inf)
WIDTH = 100


CANDIDATE = ("temperature", "readout_precision", "coupling", "left_out", "squared_residual")
CANDIDATE += ("log_evidence", "error", "wrong")
TRAINED = ("squared_error", "classification_error")
CURVES = ("Q_s", "Q_t", "Q_st", "Q_tt", "test_error", "classification_error")


def choice_point(question: int) -> dict[str, np.ndarray | float]:
    """All candidates of one question, with their evidence; networks trained at the choices."""
    drawn = pairs.section_tasks(*pairs.QUESTIONS[question])
    problem = TransferProblem(drawn.source, drawn.target)
    names = ("temperature", "readout_precision", "coupling")
    table = {name: [] for name in (*names, "left_out", "squared_residual", "log_evidence")}
    table |= {"error": [], "wrong": []}
    for T, precision in product(TEMPERATURES, PRECISIONS):
        mine = problem.with_priors(temperature=T, readout_precision=precision)
        for coupling in COUPLINGS:
            solution = mine.solve(width=WIDTH, coupling=coupling)
            left_out = solution.leave_one_out()
            outcome = solution.predict(drawn.test.X, drawn.test.y)
            for name, value in zip(names, (T, precision, coupling), strict=True):
                table[name].append(value)
            table["left_out"].append(left_out.test_error.mean())
            table["squared_residual"].append((left_out.residual**2).mean())
            table["log_evidence"].append(solution.log_evidence)
            table["error"].append(outcome.test_error.mean())
            table["wrong"].append(np.mean(outcome.mean * drawn.test.y <= 0))
    found: dict[str, np.ndarray | float] = {k: np.array(v) for k, v in table.items()}
    for decay_to in DECAYS:
        gain = transfer_gain(
            drawn.source, drawn.target, drawn.test,
            width=WIDTH, train=STARTS + 1, decay_to=decay_to,
        )  # fmt: skip
        for measure in TRAINED:
            by_way = gain.trained.pivot(index="way", columns="start", values=measure)
            ways = ["scratch", "fine-tuned", "frozen"]
            found[f"{decay_to}_{measure}"] = by_way.loc[ways].to_numpy()
    return found | {"verdict": VERDICTS.index(gain.verdict)}


def curve_tasks(question: int) -> tuple[Task, Task, Task]:
    """300 of the source images, the target, 300 of the test images of a question."""
    drawn = pairs.section_tasks(*pairs.QUESTIONS[question])
    rows = np.random.default_rng(3).permutation(1000)[:300]
    source = Task(drawn.source.X[rows], drawn.source.y[rows])
    return source, drawn.target, Task(drawn.test.X[:300], drawn.test.y[:300])


def curve_point(question: int, prior: int) -> dict[str, np.ndarray]:
    """Norms, overlaps and errors over couplings."""
    source, target, test = curve_tasks(question)
    T, precision = PRIORS[prior]
    problem = TransferProblem(source, target, temperature=T, readout_precision=precision)
    swept = problem.sweep(test, widths=[WIDTH, np.inf], couplings=sorted(FINE))
    return {"coupling": np.array(sorted(FINE))} | {name: swept[name].values for name in CURVES}


HEADLINE = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, np.inf)
TRAINED_AT = (0.0, 1.0, 10.0, 100.0, np.inf)
MANY_STARTS = 6


def headline_point(question: int) -> dict[str, np.ndarray | float]:
    """Theory along a fine curve, at the points of leave-one-out, and networks trained there."""
    drawn = pairs.section_tasks(*pairs.QUESTIONS[question])
    gain = transfer_gain(drawn.source, drawn.target, drawn.test, width=WIDTH, couplings=HEADLINE)
    found = {name: gain.curve[name].to_numpy() for name in HEADLINES}
    rows = gain.curve.set_index("coupling")
    points = {f"{g:g}": rows.loc[g].to_dict() | {"coupling": g} for g in TRAINED_AT}
    outputs, converged = train_networks(
        [drawn.source], [drawn.target], points, drawn.test.X, width=WIDTH, starts=MANY_STARTS
    )
    f = np.array([outputs[name][:, 0] for name in points])
    found["trained_squared"] = ((drawn.test.y - f) ** 2).mean(-1)
    found["trained_wrong"] = (drawn.test.y * f <= 0).mean(-1)
    scratch = gain.opponents.set_index("opponent").loc["scratch"]
    found |= {name: scratch[name] for name in ("gain", "standard_error")}
    found["converged"] = np.mean([c.all() for c in converged.values()])
    return found | {"verdict": VERDICTS.index(gain.verdict), "chosen": gain.chosen["coupling"]}


HEADLINES = ("temperature", "readout_precision", "test_error", "on_test_test_error")
HEADLINES += ("on_test_classification_error",)
SAMPLED = ("Q_t", "Q_st", "Q_tt", "test_error", "squared_bias")
STATISTICS = ("", "_mcse", "_r_hat", "_ess")
SOURCES = {"chains": 12, "warmup": 35, "draws": 12}  # the last draw of each is a source
TARGETS = {"chains": 2, "warmup": 16, "draws": 8}
ALONE = {"chains": 6, "warmup": 30, "draws": 30}


def sampled_alone(
    target: Task, test: Task, plan: dict, rng: np.random.Generator, **at: float
) -> dict[str, float]:
    """Networks from scratch, drawn: means, Monte Carlo errors, R-hat, effective sizes."""
    drawn = sample_posterior(target, test=test, rng=rng, progress=False, **plan, **at)
    residual = test.y - drawn.prediction.mean("draw").values  # (chain, test)
    n = len(residual)
    # Products of different chains: the noise of a mean does not enter its square.
    left_out = [_bias(np.delete(residual, chain, axis=0)) for chain in range(n)]
    series = {"Q_t": drawn.order_parameter.values, "test_error": drawn.test_error.values}
    found = {name: 0.0 for name in ("Q_st", "Q_tt", "Q_st_mcse", "Q_tt_mcse")}
    for name, x in series.items():
        r_hat, size = chain_statistics(x)
        found |= {name: x.mean(), f"{name}_mcse": x.std(ddof=1) / np.sqrt(size)}
        found |= {f"{name}_r_hat": r_hat, f"{name}_ess": size}
    spread = np.sqrt((n - 1) * np.var(left_out))  # the jackknife's
    found |= {"squared_bias": _bias(residual), "squared_bias_mcse": spread, "squared_bias_ess": n}
    return found | {"wrong": (test.y * drawn.prediction.mean(["chain", "draw"]) <= 0).mean().item()}


def _bias(residual: np.ndarray) -> float:
    n = len(residual)
    return ((residual.sum(0) ** 2 - (residual**2).sum(0)) / (n * (n - 1))).mean()


def sampled_coupled(
    source: Task, target: Task, test: Task, couplings: list[float],
    plans: dict[str, dict], rng: np.random.Generator, **at: float,
) -> tuple[dict[str, float], list[dict[str, float]]]:  # fmt: skip
    """Statistics of the sources' Q, and at each coupling those of targets around them."""
    given = at | {"rng": rng, "progress": False}
    drawn = sample_posterior(source, weights=True, **plans["sources"], **given)
    x = drawn.order_parameter.values
    r_hat, size = chain_statistics(x)
    of_source = {"Q_s": x.mean(), "Q_s_mcse": x.std(ddof=1) / np.sqrt(size)}
    of_source |= {"Q_s_r_hat": r_hat, "Q_s_ess": size}
    of_source["Q_s_drift"] = x[:, len(x.T) // 2 :].mean() - x[:, : len(x.T) // 2].mean()
    kept = drawn.isel(draw=[-1])
    points = []
    for coupling in couplings:
        found = sample_transfer(
            source, target, coupling=coupling, sources=kept, test=test, **plans["targets"], **given
        )
        table, point = summary(found), {}
        for name in SAMPLED:
            for statistic in STATISTICS:
                column = statistic.removeprefix("_") or "mean"
                point[name + statistic] = table.loc[name, column]
        mean = found.prediction.mean(["source", "chain", "draw"]).values
        point["wrong"] = np.mean(test.y * mean <= 0)
        points.append(point)
    return of_source, points


def sampled_point(
    number: int, seed: int, sources: dict, targets: dict, alone: dict
) -> dict[str, np.ndarray | float]:
    """Networks drawn at the points that the stored atlas chose for a pair, beside the theory.

    Strengths: from scratch at its own point; the best coupled one; the same frozen.
    """
    pair = pairs.pair(number)
    source, target, test = pairs.tasks(pair)
    row, rng = sweeps.load(path_of("09", "atlas")).sel(number=number), np.random.default_rng(seed)
    way, lone = (
        {"temperature": float(row[f"{name}_temperature"]),
         "readout_precision": float(row[f"{name}_richness"]) * pair.width}
        for name in ("fine-tuned", "scratch")
    )  # fmt: skip
    couplings = [float(row["fine-tuned_coupling"]), np.inf]
    drawn = sampled_alone(target, test, alone, rng, width=pair.width, **lone)
    plans = {"sources": sources, "targets": targets}
    of_source, points = sampled_coupled(
        source, target, test, couplings, plans, rng, width=pair.width, **way
    )
    return of_source | _beside_theory(
        source, target, test, pair.width, [drawn, *points],
        [(0.0, lone), *((coupling, way) for coupling in couplings)],
    )  # fmt: skip


def section_sampled_point(
    row: int, seed: int, sources: dict, targets: dict, alone: dict
) -> dict[str, np.ndarray | float]:
    """Networks drawn for one question at one prior, at no coupling, at 10 and frozen."""
    question, prior = SECTION_ROWS[row]
    source, target, test = curve_tasks(question)
    T, precision = PRIORS[prior]
    at, rng = {"temperature": T, "readout_precision": precision}, np.random.default_rng(seed)
    drawn = sampled_alone(target, test, alone, rng, width=WIDTH, **at)
    plans = {"sources": sources, "targets": targets}
    of_source, points = sampled_coupled(
        source, target, test, [10.0, np.inf], plans, rng, width=WIDTH, **at
    )
    where = [(coupling, at) for coupling in (0.0, 10.0, np.inf)]
    return of_source | _beside_theory(source, target, test, WIDTH, [drawn, *points], where)


def _beside_theory(
    source: Task, target: Task, test: Task, width: int,
    points: list[dict[str, float]], where: list[tuple[float, dict]],
) -> dict[str, np.ndarray | float]:  # fmt: skip
    """Arrays over the points, of what was drawn and, as ``theory_*``, of what the theory says."""
    names = [name + statistic for name in SAMPLED for statistic in STATISTICS] + ["wrong"]
    found = {name: np.array([point.get(name, np.nan) for point in points]) for name in names}
    problem, rows = TransferProblem(source, target), []
    for coupling, at in where:
        solution = problem.with_priors(**at).solve(width=width, coupling=coupling)
        outcome = solution.predict(test.X, test.y)
        row = {name: getattr(solution, name) for name in ("Q_s", "Q_t", "Q_st", "Q_tt")}
        row |= {name: getattr(outcome, name).mean() for name in SAMPLED[3:]}
        rows.append(row | {"wrong": np.mean(outcome.mean * test.y <= 0)} | at)
    found |= {f"theory_{name}": np.array([row[name] for row in rows]) for name in rows[0]}
    return found | {"coupling": np.array([coupling for coupling, _ in where])}


POINTS = [name + statistic for name in SAMPLED for statistic in STATISTICS]
POINTS += ["wrong", "coupling", "theory_temperature", "theory_readout_precision", "theory_Q_s"]
POINTS += [f"theory_{name}" for name in (*SAMPLED, "wrong")]
SECTION_ROWS = ((0, 0), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3))  # question and prior
SAMPLED_PAIRS = sorted(
    sorted(range(pairs.N_PAIRS), key=lambda number: pairs.sampling_effort(pairs.pair(number)))[:41]
)  # those that cost least
SHORT = {
    "sources": {"chains": 10, "warmup": 20, "draws": 8},
    "targets": {"chains": 2, "warmup": 12, "draws": 6},
    "alone": {"chains": 6, "warmup": 20, "draws": 16},
}
PLANS = {"sources": SOURCES, "targets": TARGETS, "alone": ALONE}

SWEEPS = {
    "atlas": Sweep(atlas_point, {"number": range(pairs.N_PAIRS)}, seed=9),
    "choice": Sweep(
        choice_point, {"question": range(4)}, seed=9,
        dims={name: ["candidate"] for name in CANDIDATE}
        | {f"{d}_{m}": ["way", "start"] for d in DECAYS for m in TRAINED},
    ),
    "curves": Sweep(
        curve_point, {"question": range(2), "prior": range(4)}, seed=9,
        dims={"coupling": ["strength"]} | {name: ["width", "strength"] for name in CURVES},
    ),
    "development": Sweep(
        left_out_point, {"number": range(80)}, seed=9, fixed={"which": "development"},
        dims={"expected": ["scale"]},
    ),
    "left_out": Sweep(
        left_out_point, {"number": range(pairs.N_PAIRS)}, seed=9, fixed={"which": "atlas"},
        dims={"expected": ["scale"]},
    ),
    "headline": Sweep(
        headline_point, {"question": range(2)}, seed=9,
        dims={name: ["strength"] for name in HEADLINES}
        | {name: ["trained_at", "start"] for name in ("trained_squared", "trained_wrong")},
    ),
    "sampled": Sweep(
        sampled_point, {"number": SAMPLED_PAIRS}, seed=9, fixed=PLANS,
        dims={name: ["strength"] for name in POINTS},
    ),
    "section": Sweep(
        section_sampled_point, {"row": range(len(SECTION_ROWS))}, seed=9, fixed=SHORT,
        dims={name: ["strength"] for name in POINTS},
    ),
}  # fmt: skip
