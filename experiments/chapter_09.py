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
from experiments.sweep import Sweep
from tlnb import Task, scores
from tlnb.gain import transfer_gain
from tlnb.gain.training import DECAYS, train_networks
from tlnb.kernels import kernel
from tlnb.networks import TwoLayerNetwork, train_mode
from tlnb.theory.transfer import TransferProblem

N_PAIRS = 120
VERDICTS = ("hurts", "undecided", "helps")
STARTS = 2
SCORES = ("leep", "log_me", "h_score", "alignment")


def atlas_point(number: int, seed: int) -> dict[str, np.ndarray | float]:
    """Theory, choice and verdict of a pair, with and without its test set; trained networks."""
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
    found["left_out_verdict"] = VERDICTS.index(judged.left_out.verdict)
    found["error"], found["error_se"] = judged.test_error, judged.test_error_se
    rows = judged.opponents.set_index("opponent")
    for measure in ("gain", "standard_error", "classification_gain", "classification_se"):
        for name, opponent in (("", "scratch"), ("width_", "best width"), ("frozen_", "frozen")):
            found[name + measure] = rows.loc[opponent, measure]
    found["scratch_error"] = rows.loc["scratch", "test_error"]
    chosen = judged.curve.loc[judged.curve.coupling > 0].test_error.min()
    found["left_out_gain"] = judged.curve.test_error[judged.curve.coupling == 0].item() - chosen
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


QUESTIONS = (  # source and target: the same, another question, one class exchanged, unrelated
    (pairs.LOW, pairs.LOW),
    (pairs.PARITY, pairs.LOW),
    ("3,8|4,9", "3,8|5,9"),
    ("0,1|2,3", "6,7|8,9"),
)
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
    drawn = pairs.section_tasks(*QUESTIONS[question])
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


def curve_point(question: int, prior: int) -> dict[str, np.ndarray]:
    """Norms, overlaps and errors over couplings: 300 source images, 300 of the test images."""
    drawn = pairs.section_tasks(*QUESTIONS[question])
    rows = np.random.default_rng(3).permutation(1000)[:300]
    source = Task(drawn.source.X[rows], drawn.source.y[rows])
    test = Task(drawn.test.X[:300], drawn.test.y[:300])
    T, precision = PRIORS[prior]
    problem = TransferProblem(source, drawn.target, temperature=T, readout_precision=precision)
    swept = problem.sweep(test, widths=[WIDTH, np.inf], couplings=sorted(FINE))
    return {"coupling": np.array(sorted(FINE))} | {name: swept[name].values for name in CURVES}


SWEEPS = {
    "atlas": Sweep(atlas_point, {"number": range(N_PAIRS)}, seed=9),
    "choice": Sweep(
        choice_point, {"question": range(4)}, seed=9,
        dims={name: ["candidate"] for name in CANDIDATE}
        | {f"{d}_{m}": ["way", "start"] for d in DECAYS for m in TRAINED},
    ),
    "curves": Sweep(
        curve_point, {"question": range(2), "prior": range(4)}, seed=9,
        dims={"coupling": ["strength"]} | {name: ["width", "strength"] for name in CURVES},
    ),
}  # fmt: skip
