"""Real images, chapter 09: makes results/09_*.nc.

MNIST is read from the folder that the environment variable TLNB_MNIST names; the same command takes
Fashion-MNIST, EMNIST or CIFAR-10 there (`tlnb.data.pools`). The atlas holds `pairs.pair(number)`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from scipy.stats import spearmanr

from experiments import pairs
from experiments.sweep import Sweep
from tlnb import Task, scores
from tlnb.gain import transfer_gain
from tlnb.gain.training import train_networks
from tlnb.kernels import kernel
from tlnb.networks import TwoLayerNetwork

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
    for decay_to in ("start", "zero"):
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
    from tlnb.networks import train_mode

    start = TwoLayerNetwork.random(width, source.n_features, rng=seed)
    at = {name: point[name] for name in ("temperature", "readout_precision")}
    # Weight decay towards the start, as in `tlnb.gain.training`.
    return train_mode(source, source=start, coupling=1.0, weight_precision=1e-12, **at).network


SWEEPS = {"atlas": Sweep(atlas_point, {"number": range(N_PAIRS)}, seed=9)}
