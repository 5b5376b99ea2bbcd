"""Networks with several outputs, sampled, trained and in theory: makes results/18_*.nc.

Linear teachers with 2, 3 and 10 correlated outputs, the ten classes of the digits that come with
scikit-learn, and transfer of both kinds. Every point keeps the sampled order parameters with their
Monte Carlo errors and what the theory says of the same tasks.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import erf

from experiments.sweep import Sweep
from tlnb.data.images import digits
from tlnb.data.outputs import MultiOutputTask, class_codes
from tlnb.errors import CompetingSaddlesWarning
from tlnb.sampling import sample_outputs, sample_outputs_transfer
from tlnb.sampling.diagnostics import chain_statistics
from tlnb.theory import outputs, transfer

Array = NDArray[np.float64]
MOST = 10  # outputs: matrices of fewer are padded
ERRORS = ("squared_bias", "total_variance", "test_error")
PRIORS = {  # temperature and readout precision at width N1
    "warm": lambda width: {"temperature": 0.1},
    "cold": lambda width: {"temperature": 0.01},
    "rich": lambda width: {"temperature": 0.01, "readout_precision": float(width)},
}


def teacher_tasks(
    n_outputs: int, width: int, draw: int, n_target: int = 0
) -> list[MultiOutputTask]:
    """Correlated linear teachers on width/2 inputs: 2 width examples, a target and 200 tests."""
    rng, n_features = np.random.default_rng([draw, n_outputs]), width // 2
    own, shared = rng.standard_normal((n_features, n_outputs)), rng.standard_normal((n_features, 1))
    teachers = (own + shared) / np.linalg.norm(own + shared, axis=0)
    tasks = []
    for n in (2 * width, n_target, 200):
        X = rng.standard_normal((n, n_features))
        tasks += [MultiOutputTask(X, X @ teachers)] if n else []
    return tasks


def digit_tasks(
    groups: tuple[tuple[int, ...], ...], sizes: tuple[int, ...], draw: int
) -> list[MultiOutputTask]:
    """Tasks on images of these classes, no image twice, scaled by the last task's images."""
    pool, rng = digits(), np.random.default_rng(draw)
    left, rows = rng.permutation(len(pool.labels)), []
    for classes, n in zip(groups, sizes, strict=True):
        chosen = left[np.isin(pool.labels[left], classes)][:n]
        left = left[~np.isin(left, chosen)]
        rows.append(chosen)
    X = pool.pixels.reshape(len(pool.labels), -1)
    mean = X[rows[-1]].mean(0)
    scale = np.sqrt(np.mean((X[rows[-1]] - mean) ** 2))
    return [
        MultiOutputTask((X[each] - mean) / scale, class_codes(pool.labels[each], classes)[0])
        for each, classes in zip(rows, groups, strict=True)
    ]


def padded(Q: Array) -> Array:
    """A matrix of few outputs in the corner of one of ten."""
    found = np.full((MOST, MOST), np.nan)
    found[: len(Q), : Q.shape[1]] = Q
    return found


def wrong(mean: Array, y: Array) -> float:
    """How often the largest mean output is not that of the label."""
    return float((mean.argmax(1) != y.argmax(1)).mean())


def of_theory(
    task: MultiOutputTask, test: MultiOutputTask, width: int, priors: dict[str, Any]
) -> dict[str, Any]:
    """What each restriction of Q says, in the order of `tlnb.theory.outputs.OVERLAPS`."""
    found: dict[str, list] = {name: [] for name in (*ERRORS, "wrong", "evidence", "left_out", "Q")}
    for overlap in outputs.OVERLAPS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CompetingSaddlesWarning)
            solution = outputs.solve(task, width=width, overlap=overlap, **priors)
        outcome = solution.predict(test.X, test.y)
        for name in ERRORS:
            found[name].append(getattr(outcome, name).mean())
        found["wrong"].append(wrong(outcome.mean, test.y))
        found["evidence"].append(solution.log_evidence)
        found["left_out"].append(solution.leave_one_out().test_error.mean())
        found["Q"].append(padded(solution.Q))
    return {
        f"theory_{name}": (("overlap", "a", "b") if name == "Q" else "overlap", values)
        for name, values in found.items()
    }


def of_chains(drawn: xr.Dataset, test: MultiOutputTask) -> dict[str, Any]:
    """Sampled averages with Monte Carlo errors, and the R-hat of the mean entry of Q."""
    Q = drawn.order_parameter
    of_chain = Q.mean("draw").values
    n = len(of_chain)
    trace = np.einsum("cdaa->cd", Q.values)
    mean = drawn.prediction.mean(("chain", "draw")).values
    residual = test.y - drawn.prediction.mean("draw").values
    # Products of different chains: the noise of a mean does not enter its square.
    pairs = (residual.sum(0) ** 2 - (residual**2).sum(0)) / (n * (n - 1))
    errors = drawn.test_error.mean("draw").values
    return {
        "Q": (("a", "b"), padded(of_chain.mean(0))),
        "Q_mcse": (("a", "b"), padded(of_chain.std(0, ddof=1) / np.sqrt(n))),
        "Q_r_hat": chain_statistics(trace)[0],
        "test_error": errors.mean(),
        "test_error_mcse": errors.std(ddof=1) / np.sqrt(n),
        "squared_bias": pairs.mean(),
        "wrong": wrong(mean, test.y),
    }


def one_task(
    task: MultiOutputTask, test: MultiOutputTask, width: int, priors: dict[str, Any], seed: int,
    plan: dict[str, int],
) -> xr.Dataset:  # fmt: skip
    """Sampled networks beside the theory."""
    drawn = sample_outputs(task, width=width, test=test, rng=seed, progress=False, **plan, **priors)
    found = of_chains(drawn, test) | of_theory(task, test, width, priors)
    return xr.Dataset(found, coords={"overlap": list(outputs.OVERLAPS)})


def teacher_point(
    n_outputs: int, width: int, draw: int, seed: int, plan: dict[str, int]
) -> xr.Dataset:
    """One draw of the teachers."""
    task, test = teacher_tasks(n_outputs, width, draw)
    return one_task(task, test, width, {"temperature": 0.1}, seed, plan)


def ten_digits(draw: int) -> list[MultiOutputTask]:
    """500 test and 300 training images of all ten digits."""
    return digit_tasks((tuple(range(10)),) * 2, (500, 300), draw)


def digits_point(prior: str, width: int, seed: int, plan: dict[str, int]) -> xr.Dataset:
    """Ten classes: sampled, in theory, and trained to the posterior's mode from three starts."""
    test, task = ten_digits(0)
    priors = PRIORS[prior](width)
    found = one_task(task, test, width, priors, seed, plan)
    rng = np.random.default_rng(seed)
    trained = np.stack([train(task, test.X, width, rng, **priors) for _ in range(3)])
    found["trained_error"] = float(np.mean((trained - test.y) ** 2))
    found["trained_wrong"] = float(np.mean([wrong(mean, test.y) for mean in trained]))
    found["trained_mean_wrong"] = wrong(trained.mean(0), test.y)
    return found


def train(
    task: MultiOutputTask, X_0: Array, width: int, rng: np.random.Generator, temperature: float,
    readout_precision: float = 1.0,
) -> Array:  # fmt: skip
    """Outputs at ``X_0`` of an erf network at a mode of the posterior, by L-BFGS from the prior."""
    X, y = task.X / np.sqrt(task.n_features), task.y
    shapes = (width, X.shape[1]), (width, y.shape[1])
    cut, root = width * X.shape[1], np.sqrt(width)
    decay = temperature, temperature * readout_precision

    def loss(parameters: Array) -> tuple[float, Array]:
        W, v = parameters[:cut].reshape(shapes[0]), parameters[cut:].reshape(shapes[1])
        h = X @ W.T
        Phi = erf(h)
        residual = Phi @ v / root - y
        back = (residual @ v.T / root) * (2 / np.sqrt(np.pi) * np.exp(-(h**2)))
        by_W, by_v = back.T @ X + decay[0] * W, Phi.T @ residual / root + decay[1] * v
        value = 0.5 * ((residual**2).sum() + decay[0] * (W**2).sum() + decay[1] * (v**2).sum())
        return float(value), np.concatenate([by_W.ravel(), by_v.ravel()])

    start = [rng.standard_normal(shape).ravel() for shape in shapes]
    start[1] /= np.sqrt(readout_precision)
    end = minimize(
        loss, np.concatenate(start), jac=True, method="L-BFGS-B", options={"maxiter": 1000}
    ).x
    W, v = end[:cut].reshape(shapes[0]), end[cut:].reshape(shapes[1])
    return erf(X_0 / np.sqrt(X.shape[1]) @ W.T) @ v / root


def five_digits(source: str, draw: int) -> list[MultiOutputTask]:
    """Source, target and test task: 5 to 9 after other images of these digits, or after 0 to 4.

    300, 30 and 300 images; target and test images are the same for both sources.
    """
    high, low = tuple(range(5, 10)), tuple(range(5))
    groups = high, high, high if source == "same" else low
    target, test, task = digit_tasks(groups, (30, 300, 300), draw)
    return [task, target, test]


def transfer_point(
    source: str, draw: int, seed: int, couplings: list[float], sources: dict[str, int],
    targets: dict[str, int],
) -> xr.Dataset:  # fmt: skip
    """Targets of several outputs around the same sources, over couplings."""
    if source == "teachers":
        tasks, width, priors = teacher_tasks(3, 40, draw, 15), 40, {"temperature": 0.1}
    else:
        tasks, width = five_digits(source, draw), 100
        priors = PRIORS["rich"](width)
    task, target, test = tasks
    rng = np.random.default_rng(seed)
    given = {"width": width, "rng": rng, "progress": False, **priors}
    drawn = sample_outputs(task, weights=True, **sources, **given)
    problem = outputs.OutputsTransferProblem(task, target, **priors)
    alone = [
        transfer.TransferProblem(task.column(a), target.column(a), **priors)
        for a in range(target.n_outputs)
    ]
    points = []
    for coupling in couplings:
        sampled = sample_outputs_transfer(
            task, target, coupling=coupling, sources=drawn, test=test, **targets, **given
        )
        point = {}
        for name in ("Q_s", "Q_t", "Q_st", "Q_tt", "test_error"):
            x = sampled[name]
            means = x.mean([dim for dim in ("chain", "draw") if dim in x.dims]).values
            # Sources of one chain are not independent: errors from the chains' means.
            chains = drawn.sizes["chain"]
            means = means.reshape(-1, chains, *means.shape[1:]).mean(0)
            point[name] = means.mean(0)
            point[f"{name}_mcse"] = means.std(0, ddof=1) / np.sqrt(chains)
        point["wrong"] = wrong(sampled.prediction.mean(("source", "chain", "draw")).values, test.y)
        solution = problem.solve(width=width, coupling=coupling)
        outcome = solution.predict(test.X, test.y)
        for name in ("Q_s", "Q_t", "Q_st", "Q_tt"):
            point[f"theory_{name}"] = getattr(solution, name)
        for name in (*ERRORS, "source_variance"):
            point[f"theory_{name}"] = getattr(outcome, name).mean()
        point["theory_wrong"] = wrong(outcome.mean, test.y)
        point["theory_left_out"] = solution.leave_one_out().test_error.mean()
        each = [one.solve(width=width, coupling=coupling) for one in alone]
        means = [one.predict(test.X, y) for one, y in zip(each, test.y.T, strict=True)]
        point["one_by_one_test_error"] = np.mean([one.test_error.mean() for one in means])
        point["one_by_one_wrong"] = wrong(np.stack([one.mean for one in means], 1), test.y)
        for name in ("Q_s", "Q_t", "Q_st", "Q_tt"):
            point[f"one_by_one_{name}"] = np.diag([getattr(one, name) for one in each])
        points.append(point)
    found = {}
    for name in points[0]:
        values = np.stack([point[name] for point in points])
        found[name] = (("coupling", "a", "b")[: values.ndim], values)
    found["Q_s_r_hat"] = chain_statistics(np.einsum("cdaa->cd", drawn.order_parameter.values))[0]
    return xr.Dataset(found, coords={"coupling": np.array(couplings, dtype=float)})


SWEEPS = {
    "teachers": Sweep(
        teacher_point,
        {"n_outputs": [1, 2, 3, 10], "width": [20, 40, 80], "draw": [0, 1]},
        seed=18,
        fixed={"plan": {"chains": 6, "warmup": 100, "draws": 80, "thin": 1}},
    ),
    "digits": Sweep(
        digits_point,
        {"prior": ["warm", "cold", "rich"], "width": [100]},
        seed=18,
        fixed={"plan": {"chains": 4, "warmup": 150, "draws": 40, "thin": 3}},
    ),
    "transfer": Sweep(
        transfer_point,
        {"source": ["teachers"], "draw": [0, 1]},
        seed=18,
        fixed={
            "couplings": [0.0, 0.5, 2.0, 10.0, np.inf],
            "sources": {"chains": 8, "warmup": 120, "draws": 3, "thin": 10},
            "targets": {"chains": 2, "warmup": 60, "draws": 25, "thin": 2},
        },
    ),
    "digit_transfer": Sweep(
        transfer_point,
        {"source": ["same", "other"], "draw": [0]},
        seed=18,
        fixed={
            "couplings": [0.0, 1.0, 10.0, np.inf],
            "sources": {"chains": 6, "warmup": 200, "draws": 2, "thin": 20},
            "targets": {"chains": 2, "warmup": 80, "draws": 20, "thin": 3},
        },
    ),
}
