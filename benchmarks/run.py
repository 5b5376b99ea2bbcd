"""Speed and memory, as ratios measured in one run; `make bench` prints and stores the table.

Each row compares tlnb with a floor, the work that must be paid in any case, written out here as a
function, or with another way to get the same numbers. Ratios travel between machines; seconds do
not.
"""

from __future__ import annotations

import argparse
import math
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, cpu_count, delayed
from scipy.integrate import quad
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.linalg.blas import dsyrk, dtrsm
from scipy.linalg.lapack import dpotrf
from scipy.optimize import brentq, minimize_scalar
from threadpoolctl import threadpool_limits

from tlnb import Task, coupling_sweep, width_sweep
from tlnb.data.images import digits, transfer_tasks
from tlnb.data.manifold import CorrelatedHiddenManifold
from tlnb.kernels import InnerProducts, get_activation, kernel
from tlnb.priors import weight_covariances
from tlnb.sampling import sample_posterior, summary
from tlnb.sampling.likelihood import NetworkLikelihood
from tlnb.sweeps import run_grid
from tlnb.theory import unit_law
from tlnb.theory.glm import GaussianCovariates, learning_curve
from tlnb.theory.readout.equivalence import analytic_covariates
from tlnb.theory.transfer import TransferProblem
from tlnb.theory.transfer import solve as transfer_solve

TABLE = Path(__file__).with_name("table.md")
ERF = get_activation("erf")
WIDTHS = np.geomspace(20, 2000, 20)
COUPLINGS = np.geomspace(1e-2, 1e4, 20)
TEMPERATURE = 0.01


class Row(NamedTuple):
    """One line of the table; ``allowed`` bounds the ratio of ours to theirs."""

    what: str
    against: str
    ours: str
    theirs: str
    ratio: float
    allowed: float


def tasks(*sizes: int, n_features: int = 100) -> list[Task]:
    """Gaussian inputs with the signs of one linear teacher."""
    rng = np.random.default_rng(0)
    teacher = rng.standard_normal(n_features)
    inputs = [rng.standard_normal((n, n_features)) for n in sizes]
    return [Task(X, np.sign(X @ teacher)) for X in inputs]


def seconds(
    function: Callable[[], object], repeats: int = 3, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The least time of several runs."""
    times = []
    for _ in range(repeats):
        start = clock()
        function()
        times.append(clock() - start)
    return min(times)


def width_rows() -> list[Row]:
    """A sweep of 20 widths at P = 1000 with 1000 test points."""
    train, test = tasks(1000, 1000)

    def ours() -> np.ndarray:
        return width_sweep(train, test, widths=WIDTHS, temperature=TEMPERATURE).Q.values

    def floor() -> None:
        eigh(kernel(train.X, activation="erf"), driver="evd", check_finite=False)
        kernel(train.X, test.X, activation="erf")

    def anew() -> np.ndarray:
        """Each width by a general-purpose optimiser on the action, with no shared decomposition."""
        K = kernel(train.X, activation="erf")

        def action(t: float, width: float) -> float:
            Q = np.exp(t)
            factor = cho_factor(TEMPERATURE * np.eye(len(K)) + Q * K)
            log_det = 2 * np.log(np.diagonal(factor[0])).sum()
            return width * (Q - t) + log_det + train.y @ cho_solve(factor, train.y)

        bounds = -8, 8
        return np.exp(
            [minimize_scalar(action, args=(w,), bounds=bounds, method="bounded").x for w in WIDTHS]
        )

    np.testing.assert_allclose(ours(), anew(), rtol=1e-3)
    mine = seconds(ours)
    rows = [
        ("one eigendecomposition + the kernel blocks", seconds(floor), 2.0),
        ("each width anew by an optimiser, no predictions", seconds(anew, 1), 1.0),
    ]
    what = "20 widths, P = 1000, 1000 test points"
    return [
        Row(what, against, f"{mine:.2f} s", f"{theirs:.2f} s", mine / theirs, allowed)
        for against, theirs, allowed in rows
    ]


def coupling_rows() -> list[Row]:
    """A sweep of 20 couplings at P_s = 1000, P_t = 200 with 1000 test points."""
    source, target, test = tasks(1000, 200, 1000)

    def ours() -> None:
        coupling_sweep(
            source, target, test, widths=[200], couplings=COUPLINGS, temperature=TEMPERATURE
        )

    def floor() -> None:
        _, U = eigh(kernel(source.X, activation="erf"), driver="evd", check_finite=False)
        source_target = InnerProducts.between(source.X, target.X)
        target_target = InnerProducts.of(target.X)
        source_test, target_test = (InnerProducts.between(X, test.X) for X in (source.X, target.X))
        for coupling in COUPLINGS:
            c_s, c_st, c_t, c_tt = weight_covariances(coupling)
            U.T @ source_target.dual(ERF, c_s, c_st, c_t)
            U.T @ source_test.dual(ERF, c_s, c_st, c_t)
            for block in (target_test, target_target):
                block.dual(ERF, c_t, c_tt, c_t)
                K_t = block.dual(ERF, c_t, c_t, c_t)
            K_t.flat[:: len(K_t) + 1] += TEMPERATURE
            for _ in range(10):
                cho_factor(K_t)

    mine, least = in_turns(ours, floor)
    what = "20 couplings, P_s = 1000, P_t = 200, 1000 test points"
    against = "decomposition, kernel blocks, rotations, 10 factorisations a coupling"
    return [Row(what, against, f"{mine:.2f} s", f"{least:.2f} s", mine / least, 1.4)]


def in_turns(*functions: Callable[[], object], repeats: int = 5) -> list[float]:
    """The least seconds of one core that each takes, on a machine that may be busy."""
    with threadpool_limits(1):
        times = [[seconds(f, 1, time.process_time) for f in functions] for _ in range(repeats)]
    return np.min(times, axis=0).tolist()


def choice_rows() -> list[Row]:
    """Choosing among 84 candidates at P_s = 1000, P_t = 60; leave-one-out beside a solution."""
    source, target = tasks(1000, 60)
    couplings = [0.0, 0.3, 1.0, 3.0, 10.0, 100.0, np.inf]
    priors = {"temperatures": [0.001, 0.01, 0.1], "readout_precisions": [1.0, 10.0, 100.0, 1000.0]}

    def ours() -> None:
        problem = TransferProblem(source, target)
        problem.choose(widths=[100], couplings=couplings, **priors)

    def floor() -> None:
        e, U = eigh(kernel(source.X, activation="erf"), driver="evd", check_finite=False)
        across, own = InnerProducts.between(source.X, target.X), InnerProducts.of(target.X)
        for coupling in couplings:
            c_s, c_st, c_t, c_tt = weight_covariances(coupling)
            V = U.T @ across.dual(ERF, c_s, c_st, c_t)
            K_t, _ = own.dual(ERF, c_t, c_t, c_t), own.dual(ERF, c_t, c_tt, c_t)
            eigh(K_t)
            for T in priors["temperatures"]:
                for precision in priors["readout_precisions"]:
                    root = V / np.sqrt(T * precision + e)[:, None]
                    Delta = K_t + root.T @ root
                    Delta.flat[:: len(K_t) + 1] += T * precision
                    for _ in range(10):
                        cho_factor(Delta)

    mine, least = in_turns(ours, floor)
    against = "decompositions, kernel blocks, rotations, 10 factorisations a candidate"
    rows = [
        Row("a choice among 84 candidates, P_s = 1000, P_t = 60", against,
            f"{mine:.2f} s", f"{least:.2f} s", mine / least, 3.0)
    ]  # fmt: skip
    source, target = tasks(1000, 200)
    solution = transfer_solve(source, target, width=200, coupling=1.0)
    mine, least = in_turns(
        solution.leave_one_out, lambda: transfer_solve(source, target, width=200, coupling=1.0)
    )
    rows.append(
        Row("leave-one-out, P_s = 1000, P_t = 200", "the solution it comes from",
            f"{1e3 * mine:.0f} ms", f"{1e3 * least:.0f} ms", mine / least, 0.1)
    )  # fmt: skip
    return rows


def fresh(code: str) -> list[float]:
    """Numbers that ``code`` prints in a new interpreter, with its wall time in front."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [time.perf_counter() - start, *map(float, done.stdout.split())]


def command_rows() -> list[Row]:
    """Wall times with start-up, against the time in which they must be done."""
    importing = min(fresh("from tlnb import TransferGPRegressor")[0] for _ in range(3))
    command = [sys.executable, "-m", "tlnb.cli", "gain", "--digits", "3,8|4,9", "3,8|5,9"]
    gain = seconds(lambda: subprocess.run(command, capture_output=True, check=True), 2)
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{name}.npz" for name in ("source", "target")]
        for file, task in zip(files, tasks(1000, 60, n_features=196), strict=True):
            np.savez(file, X=task.X, y=task.y)
        command = [*command[:4], "--source", files[0], "--target", files[1], "--width", "100"]
        large = seconds(lambda: subprocess.run(command, capture_output=True, check=True), 1)
    return [
        Row("from tlnb import ...", "a limit", f"{importing:.2f} s", "2 s", importing / 2, 1),
        Row("tlnb gain --digits", "a limit", f"{gain:.2f} s", "8 s", gain / 8, 1),
        Row("tlnb gain, P_s = 1000, P_t = 60", "a limit", f"{large:.2f} s", "20 s", large / 20, 1),
    ]


PEAK = """
import numpy as np
from joblib import cpu_count
from tlnb import Task
from tlnb.theory import one_task, transfer
def peak():
    # Of this program alone: the resource module's figure starts at the parent's (Linux only).
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
rng = np.random.default_rng(0)
X = rng.standard_normal(({P}, 100))
task = Task(X, np.sign(X[:, 0]))
few = Task(X[:200] + 0.1, task.y[:200])
before = peak()
{work}
print(before, peak())
"""


def memory_rows() -> list[Row]:
    """Peak memory beyond what was there before."""
    fit = "one_task.solve(task, width=200)"
    transferred = "transfer.solve(task, few, width=200, coupling=1.0)"
    many = f"solution = {transferred}; before = peak()\n"
    many += "solution.predict(np.random.default_rng(1).standard_normal((100_000, 100)))"
    # At a weak coupling, which the branch of saddle points reaches at once.
    into = "solution = transfer.solve(few, task, width=200, coupling=0.01)\n"
    into += "solution.predict(X[:1000] + 0.1, task.y[:1000])"
    frozen = "transfer.solve(few, Task(X, task.y), width=200, coupling=np.inf)"
    wide = "few = Task(X[:10], task.y[:10])\nproblem = transfer.TransferProblem(few, task)\n"
    wide += "held = transfer.Overlaps(0.8, 0.3, 0.1, np.nan, 0.0, 1, True, 0.0)\n"
    wide += "predictor = problem.predictor(held, problem.blocks(200, 1.0), 1.0)\nbefore = peak()\n"
    wide += "X = np.random.default_rng(1).standard_normal((20_000, 100))\n"
    wide += "for part in problem.kernels.parts(len(X)):\n"
    wide += "    predictor(problem.kernels.test(problem.kernels.products(X[part]), 1.0))"
    cases = [
        ("frozen features, P_t = 2000", "6 P² numbers", 2000, frozen, 6 * 2000**2),
        ("solution and prediction, P_t = 5000", "6 P² numbers", 5000, into, 6 * 5000**2),
        ("prediction at 20,000 points, P_s = 10, P_t = 3000", "300 MB", 3000, wide, 300 * 2**17),
        ("fit at P = 5000", "6 P² numbers", 5000, fit, 6 * 5000**2),
        ("transfer from P_s = 5000", "6 P² numbers", 5000, transferred, 6 * 5000**2),
        ("prediction at 10⁵ points, P_s = 1000", "one kernel block for all", 1000, many, 10**8),
    ]
    rows = []
    for what, against, P, work, numbers in cases:
        _, before, after = fresh(PEAK.format(P=P, work=work))
        mine, theirs = (after - before) / 2**20, 8 * numbers / 2**20
        rows.append(Row(what, against, f"{mine:.0f} MB", f"{theirs:.0f} MB", mine / theirs, 1))
    return rows


def gradient_rows() -> list[Row]:
    """One gradient of the collapsed likelihood; erf alone costs as much as the products."""
    rows = []
    algebra = "its matrix products, factorisation and triangular solves"
    for P, N0, N1, chains in ((60, 20, 40, 4), (300, 64, 200, 4)):
        (task,) = tasks(P, n_features=N0)
        W = np.random.default_rng(1).standard_normal((chains, N1, N0))
        for name, against in (("tanh", algebra), ("erf", algebra + ", σ and σ'")):
            network = NetworkLikelihood(task, get_activation(name), N1, 0.1, 1.0)
            mine, least = one_gradient(network, W, with_activation=name == "erf")
            rows.append(
                Row(
                    f"a collapsed gradient, {name}, P = {P}, N0 = {N0}, N1 = {N1}, {chains} chains",
                    against, f"{1e3 * mine:.2f} ms", f"{1e3 * least:.2f} ms", mine / least, 2.0,
                )
            )  # fmt: skip
    return rows


def one_gradient(
    network: NetworkLikelihood, W: np.ndarray, with_activation: bool
) -> tuple[float, float]:
    """Seconds of ours and of the work it cannot do without, in turns, on one thread."""
    (X, y), wide = (network.task.X, network.task.y), len(network.task.y) <= network.width
    # Each matrix in the order that BLAS likes best.
    features = [np.asfortranarray(Phi.T if wide else Phi) for Phi in network.features(W)]

    h = network.preactivations(W)

    def floor() -> None:
        if with_activation:
            network.activation.function(h)
            network.activation.derivative(h)
        for w, Phi in zip(W, features, strict=True):
            slope = X @ w.T
            M = dsyrk(1.0, Phi, trans=True, lower=True)
            M.flat[:: len(M) + 1] += 1.0
            L, _ = dpotrf(M, lower=True, clean=False, overwrite_a=True)
            half = dtrsm(1.0, L, Phi, side=1, lower=1, trans_a=1)
            dtrsm(1.0, L, half, side=1, lower=1, overwrite_b=1)
            Phi @ y if wide else y @ Phi
            slope.T @ X

    both, clock = (lambda: network.collapsed(W), floor), time.process_time
    with threadpool_limits(1):
        times = [[seconds(function, 5, clock) for function in both] for _ in range(30)]
    return tuple(np.min(times, axis=0))


QUANTITIES = {"order_parameter": "readout norm", "test_error": "test error"}


def small_network() -> tuple[Task, Task]:
    """Training and test task of the sampler's rows: N0 = 20, P = 60, a linear teacher."""
    train, test = tasks(60, 50, n_features=20)
    teacher = np.linalg.lstsq(train.X, train.y, rcond=None)[0]
    train, test = (Task(t.X, t.X @ teacher / np.linalg.norm(teacher)) for t in (train, test))
    return train, test


def nuts_rows(python: str | None, repeats: int = 2) -> list[Row]:
    """Against a compiled NUTS on all weights (benchmarks/nuts.py), warm-up included, in turns.

    Ours moves eight chains together; NUTS runs one after the other, so that its rate does not
    depend on their number. Both draw a thousand times in each.
    """
    python = python or sys.executable
    known = subprocess.run([python, "-c", "import blackjax"], capture_output=True, check=False)
    if known.returncode:
        print("not measured, blackjax is not installed: `make bench NUTS=path/to/python` with it")
        return []
    train, test = small_network()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        problem, drawn = (str(Path(folder) / name) for name in ("tasks.npz", "draws.npz"))
        np.savez(problem, X=train.X, y=train.y, X_test=test.X, y_test=test.y)

        def theirs(temperature: float, seed: int) -> tuple[dict[str, np.ndarray], float]:
            command = [python, str(Path(__file__).with_name("nuts.py")), problem, drawn]
            command += [f"--temperature={temperature}", "--width=40", f"--seed={seed}"]
            subprocess.run(command, check=True, capture_output=True)
            with np.load(drawn) as found:
                return {name: found[name] for name in QUANTITIES}, float(found["seconds"])

        def ours(temperature: float, seed: int) -> tuple[dict[str, np.ndarray], float]:
            start = time.process_time()
            data = sample_posterior(
                train, test=test, width=40, temperature=temperature, chains=8, draws=1000,
                warmup=100, rng=seed, progress=False,
            )  # fmt: skip
            taken = time.process_time() - start
            return {name: data[name].values for name in QUANTITIES}, taken

        for temperature in (0.1, 0.01):
            runs = [[run(temperature, seed) for run in (ours, theirs)] for seed in range(repeats)]
            rows += compared_with_nuts(runs, temperature)
    return rows


def compared_with_nuts(
    runs: list[list[tuple[dict[str, np.ndarray], float]]], temperature: float
) -> list[Row]:
    """Effective draws a second of each side's draws; networks a second that the errors are worth.

    A draw of ours is averaged over the readouts, so that it is worth more than one network: the
    variance of a quantity over networks, readouts and all (theirs), divided by the squared error.
    """
    import arviz as az

    rows = []
    for name, words in QUANTITIES.items():
        sides = [
            [(found[name], taken) for found, taken in side] for side in zip(*runs, strict=True)
        ]
        means = [[x.mean() for x, _ in side] for side in sides]
        errors = [[float(az.mcse(x)) for x, _ in side] for side in sides]
        apart = abs(np.mean(means[0]) - np.mean(means[1]))
        assert apart < 5 * np.linalg.norm(np.concatenate(errors)) / len(runs), (name, means, errors)
        taken = [sum(seconds for _, seconds in side) for side in sides]
        draws = [
            sum(float(az.ess(x)) for x, _ in side) / t for side, t in zip(sides, taken, strict=True)
        ]
        variance = np.mean([x.var() for x, _ in sides[1]])
        networks = [
            variance * sum(error**-2 for error in side) / t
            for side, t in zip(errors, taken, strict=True)
        ]
        what = f"{words}, N1 = 40, T = {temperature:g}: collapsed HMC"
        for measure, (mine, peer) in (("effective draws", draws), ("networks", networks)):
            rows.append(
                Row(f"{what}, {measure}", "compiled NUTS on all weights", f"{mine:.0f} / s",
                    f"{peer:.0f} / s", peer / mine, 0.1)
            )  # fmt: skip
    return rows


def sampler_rows() -> list[Row]:
    """Effective draws a second at N0 = 20, P = 60, T = 0.1, and the time to an error of 1 %."""
    train, test = small_network()

    def run(width: int, sampler: str, draws: int, **plan: float) -> tuple[object, float]:
        """The table of one run, and the seconds of one core it took, warm-up included."""
        start = time.process_time()
        data = sample_posterior(
            train, test=test, width=width, temperature=0.1, sampler=sampler, draws=draws,
            rng=1, progress=False, **plan,
        )  # fmt: skip
        return summary(data).loc[list(QUANTITIES)], time.process_time() - start

    rows = []
    for width, draws, span in ((40, 3000, 300), (200, 1000, 60), (800, 400, 40)):
        ours, seconds_ours = run(width, "collapsed-hmc", draws, warmup=150)
        plain, seconds_plain = run(width, "hmc", draws // 2, warmup=150)
        steps = np.array([0.07, 0.1, 0.14])
        langevin = [
            run(width, "langevin", 10 * span, step_size=step, thin=round(0.2 / step**2),
                warmup=round(5 / step**2))
            for step in steps
        ]  # fmt: skip
        for name, words in QUANTITIES.items():
            what = f"{words}, N1 = {width}: collapsed HMC"
            rate, rate_plain = ours.ess[name] / seconds_ours, plain.ess[name] / seconds_plain
            rows.append(
                Row(f"{what}, effective draws", "plain HMC", f"{rate:.0f} / s",
                    f"{rate_plain:.0f} / s", rate_plain / rate, 1.0)
            )  # fmt: skip
            allowed = (0.01 * ours["mean"][name]) ** 2
            mine = seconds_ours * ours.mcse[name] ** 2 / allowed
            biases = np.array([table["mean"][name] for table, _ in langevin]) - ours["mean"][name]
            errors = np.array([table.mcse[name] for table, _ in langevin])
            taken = np.array([seconds for _, seconds in langevin])
            theirs = langevin_seconds(steps, biases, errors, taken, allowed)
            rows.append(
                Row(f"{what}, to 1 %, bias included", "Langevin at its best step",
                    f"{mine:.3f} s", f"{theirs:.2f} s", mine / theirs, 0.1 if width == 40 else 1.0)
            )  # fmt: skip
    return rows


SEEDS = 6  # of the law: an error from four populations is itself only known to 40 %
SHORT = {"particles": 1000, "warmup": 24, "draws": 8}


def unit_law_rows() -> list[Row]:
    """The law of a hidden unit on 300 digits, T = 0.01, λ1 = 100, on one core."""
    sizes = {"n_source": 300, "n_target": 60, "n_test": 200}
    drawn = transfer_tasks(digits(), "3,8|4,9", "3,8|4,9", **sizes, seed=0)
    train, test = drawn.source, drawn.test
    given: dict[str, Any] = {"temperature": 0.01, "readout_precision": 100.0}

    def law(task: Task, width: int, seeds: int = SEEDS, **effort: int) -> tuple[float, float]:
        """Seconds of a solution and of one with an error of 1 %, from several of them."""
        start, found = time.process_time(), []
        with threadpool_limits(1):
            for seed in range(seeds):
                plan = SHORT | effort | {"tolerance": 0.5, "rng": seed}
                solved = unit_law.solve(task, width=width, **plan, **given)
                found.append(solved.averages(test)["test_error"])
        taken = (time.process_time() - start) / seeds
        value, mcse = np.array(found).T
        return taken, taken * float(np.mean(mcse**2) / (0.01 * value.mean()) ** 2)

    def networks(width: int) -> float:
        """Seconds of chains with an error of 1 %, warm-up and all."""
        start = time.process_time()
        plan = {"chains": 4, "warmup": 150, "draws": 60, "thin": 2, "rng": 1, "progress": False}
        with threadpool_limits(1):
            chains = sample_posterior(train, test=test, width=width, **plan, **given)
        taken, row = time.process_time() - start, summary(chains).loc["test_error"]
        needed = (row["mcse"] / (0.01 * row["mean"])) ** 2
        return float(taken * (150 + 120 * needed) / 270)

    rows, limit = [], 20.0
    # A twentieth is what is asked, of a hundred units. A law's time does not depend on the width.
    for width, allowed in ((50, 1.0), (100, 0.05), (400, 0.1)):
        taken, mine = law(train, width)
        # Not less than what one solution takes.
        mine, theirs = max(mine, taken), networks(width)
        what = f"law of a hidden unit, P = 300, N1 = {width}, test error to 1 %"
        if width == 100:
            rows.append(Row(what, "a limit", f"{mine:.1f} s", f"{limit:g} s", mine / limit, 1.0))
        rows.append(
            Row(what, "sampled networks to the same error", f"{mine:.1f} s", f"{theirs:.1f} s",
                mine / theirs, allowed)
        )  # fmt: skip
    many, few = law(train, 100, 1, particles=2000)[0], law(train, 100, 1, particles=500)[0]
    half = law(Task(train.X[:150], train.y[:150]), 100, 1, particles=2000)[0]
    rows += [
        Row("the same, 2000 particles", "500 particles", f"{many:.1f} s", f"{few:.1f} s",
            many / few, 4.5),
        Row("the same, P = 300", "P = 150", f"{many:.1f} s", f"{half:.1f} s", many / half, 4.5),
    ]  # fmt: skip
    return rows


def sweep_point(draw: int, seed: int) -> dict[str, float]:
    """One point of a sweep: networks from a posterior, a few seconds of work."""
    train, _ = tasks(120, 1, n_features=40)
    plan = {"draws": 150, "warmup": 100, "progress": False}
    sampled = sample_posterior(train, width=80, temperature=0.1, rng=seed, **plan)
    return {"order_parameter": float(sampled.order_parameter.mean())}


def sweep_rows() -> list[Row]:
    """A sweep of 12 points by one worker and by two, start of the workers included."""

    def run(workers: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path, grid = Path(folder) / "sweep.nc", {"draw": list(range(12))}
            start = time.perf_counter()
            run_grid(sweep_point, grid, path=path, seed=0, workers=workers, progress=False)
            return time.perf_counter() - start

    alone, together = run(1), run(2)
    what = f"a sweep of 12 sampled points by 2 workers, measured on {cpu_count()} cores"
    return [Row(what, "1 worker", f"{together:.1f} s", f"{alone:.1f} s", together / alone, 0.75)]


def langevin_seconds(
    steps: np.ndarray, biases: np.ndarray, errors: np.ndarray, taken: np.ndarray, allowed: float
) -> float:
    """Seconds to a mean-square error ``allowed``, at the step that needs the fewest.

    The bias is kε² and the variance after t seconds a/(tε²): from runs at three steps k is fitted
    (what it has from noise is taken off), a averaged. a/[ε²(allowed - k²ε⁴)] is least at
    kε² = sqrt(allowed/3), or at the largest step.
    """
    weights = steps**2 / errors**2
    k_squared = ((weights @ biases) ** 2 / (weights @ steps**2) - 1) / (weights @ steps**2)
    k_squared = max(k_squared, 1e-12)
    a = np.mean(taken * errors**2 * steps**2)
    best = min(np.sqrt(allowed / 3 / k_squared), steps[-1] ** 2)
    return a / (best * (allowed - k_squared * best**2))


def random_features(n_features: int, **knobs: float) -> GaussianCovariates:
    """Of K random erf features on a target whose N0 = 2K inputs have a latent dimension of K."""
    W = np.random.default_rng(2).standard_normal((n_features, 2 * n_features))
    manifold = CorrelatedHiddenManifold(2 * n_features, n_features, random_state=0, **knobs)
    return analytic_covariates(manifold, W)


def readout_rows() -> list[Row]:
    """Logistic learning curves and a phase diagram of the replica theory."""
    rows, alphas = [], np.geomspace(0.2, 20, 20)
    for K, limited in ((500, True), (150, False)):
        covariates = random_features(K)  # holds its eigendecomposition

        def curve(of: GaussianCovariates = covariates) -> np.ndarray:
            return learning_curve(of, sample_ratios=alphas, regularization=0.1).q.values

        with threadpool_limits(1):
            mine = seconds(curve)
            what = f"20 points of a logistic learning curve, K = {K}"
            if limited:
                rows.append(Row(what, "a limit", f"{mine:.2f} s", "1 s", mine, 1))
                continue
            start = time.perf_counter()
            theirs = [node_by_node(covariates, alpha, 0.1) for alpha in alphas]
            taken = time.perf_counter() - start
        np.testing.assert_allclose(curve(), theirs, rtol=1e-4)
        against = "scalar root finders in adaptive quadrature, plain iteration"
        rows.append(Row(what, against, f"{mine:.2f} s", f"{taken:.1f} s", mine / taken, 1))
    start = time.perf_counter()
    with threadpool_limits(1):
        overlaps = np.linspace(0, 1, 30)
        Parallel(n_jobs=2)(delayed(diagram_column)(overlap) for overlap in overlaps)
    mine = time.perf_counter() - start
    what = "30 × 30 phase diagram, logistic, K = 200, best λ at each point, 2 workers"
    rows.append(Row(what, "a limit", f"{mine:.0f} s", "120 s", mine / 120, 1))
    return rows


def diagram_column(feature_overlap: float) -> np.ndarray:
    """Test errors of 30 sample ratios, covariances and their eigendecomposition included."""
    covariates = random_features(200, feature_overlap=feature_overlap)
    ratios = np.geomspace(0.25, 8, 30)
    curve = learning_curve(covariates, sample_ratios=ratios, regularization="optimal")
    return curve.test_error.values


def node_by_node(covariates: GaussianCovariates, alpha: float, penalty: float) -> float:
    """q of the logistic fixed point, with one root finder and one integrand call for each node."""
    e, t2 = covariates.eigenvalues, covariates.squared_projections
    V, q, m = e.mean() / penalty, 0.1, 0.01

    def integrand(x: float, which: int) -> float:
        M, V0 = m * x / math.sqrt(q), covariates.teacher_variance - m * m / q
        total = 0.0
        for y in (1, -1):
            a = y * math.sqrt(q) * x
            z = brentq(lambda z: z - a - V / (1 + math.exp(z)), a, a + V, xtol=1e-12)  # noqa: B023
            pull, probability = 1 / (1 + math.exp(z)), 0.5 * math.erfc(-y * M / math.sqrt(2 * V0))
            h = pull * (1 - pull)
            total += (
                probability * h / (1 + V * h),
                probability * pull**2,
                math.exp(-M * M / (2 * V0)) / math.sqrt(2 * math.pi * V0) * pull,
            )[which]
        return total * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    while True:
        options = {"epsabs": 1e-8, "epsrel": 1e-8}
        V_hat, q_hat, m_hat = (
            alpha * quad(integrand, -9, 9, args=(which,), **options)[0] for which in range(3)
        )
        d = penalty + V_hat * e
        new = (
            np.mean(e / d),
            q_hat * np.mean((e / d) ** 2) + m_hat**2 * np.sum(t2 * e / d**2),
            m_hat * np.sum(t2 / d),
        )
        step = max(abs(new / np.array([V, q, m]) - 1))
        V, q, m = 0.5 * (V + new[0]), 0.5 * (q + new[1]), 0.5 * (m + new[2])
        if step < 1e-6:
            return q


PARTS = (
    width_rows,
    coupling_rows,
    choice_rows,
    readout_rows,
    gradient_rows,
    sampler_rows,
    unit_law_rows,
    sweep_rows,
    command_rows,
    memory_rows,
)


def main() -> int:
    """Measure everything and write the table."""
    rows: list[Row] = []
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nuts", metavar="PYTHON", help="an interpreter that has blackjax")
    nuts = partial(nuts_rows, parser.parse_args().nuts)
    for part in (*PARTS, nuts):
        told = getattr(part, "func", part).__doc__
        print(f"measuring: {told.splitlines()[0]}", flush=True)
        rows += part()
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy"))
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench`; Python {platform.python_version()}, {versions}. "
        "Ratios are ours to theirs.",
        "",
        "| what | against | ours | theirs | ratio | allowed |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.what} | {row.against} | {row.ours} | {row.theirs} | {row.ratio:.2f} | "
            f"{row.allowed:g} |"
            for row in rows
        ),
    ]
    if not any("NUTS" in row.against for row in rows):
        lines += ["", "Not measured, for want of blackjax: a compiled NUTS (`make bench NUTS=...`)"]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[2:]))
    missed = [row.what for row in rows if row.ratio > row.allowed]
    for name in missed:
        print(f"above what is allowed: {name}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
