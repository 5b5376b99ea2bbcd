"""Cost and memory of a transfer curve against the size of the source: `python benchmarks/large.py`.

    python benchmarks/large.py 2000 4000 8000 --images FOLDER --dense 4000

Sizes are numbers of source examples; each runs in a process of its own, so that its peak of memory
is its own. FOLDER holds a pair of MNIST files (IDX, plain or gzip), averaged to 14 × 14; where more
images are asked for than it holds, the others are the same ones moved by a pixel. Without it inputs
are Gaussian with a spectrum that falls like that of images. Printed are seconds by the clock and of
all cores, the peak of memory, and the slopes of all in the size; `--store` writes large.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from tlnb import Task
from tlnb.data.images import Images, read_mnist, resize
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.large.problem import LargeTransferProblem
from tlnb.theory.transfer import TransferProblem

TABLE = Path(__file__).with_name("large.md")
COUPLINGS = np.geomspace(0.03, 300, 9).tolist()


def images(folder: Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    """``n`` inputs of mean squared norm N0, and their classes."""
    pair = [next(folder.glob(f"*{kind}-idx*")) for kind in ("images", "labels")]
    drawn = read_mnist(*pair)
    rng = np.random.default_rng(0)
    parts, labels = [], []
    for dx, dy in [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)]:
        moved = resize(Images(np.roll(drawn.pixels, (dx, dy), (1, 2)), drawn.labels), 14)
        parts.append(moved.pixels.reshape(len(drawn.labels), -1))
        labels.append(drawn.labels)
        if sum(map(len, parts)) >= n:
            break
    X, classes = np.concatenate(parts), np.concatenate(labels)
    if len(X) < n:
        raise ValueError(f"{n} images were asked for, {len(X)} can be made of those in {folder}")
    # Images that are not moved come last: target and test are drawn from them.
    first = rng.permutation(len(drawn.labels))
    keep = np.concatenate([np.arange(len(first), n), first])[-n:]
    X = X[keep] - X.mean(0)
    return X / np.sqrt((X**2).mean()), classes[keep]


def gaussian(n: int, n_features: int = 196) -> tuple[np.ndarray, np.ndarray]:
    """The same of Gaussian inputs with a spectrum that falls, in ten classes."""
    rng = np.random.default_rng(0)
    variances = np.arange(1, n_features + 1) ** -1.3
    X = rng.standard_normal((n, n_features)) * np.sqrt(n_features * variances / variances.sum())
    score = X[:, 0] + X[:, 1] * X[:, 2] / np.sqrt(n_features)
    return X, np.digitize(score, np.quantile(score, np.arange(1, 10) / 10))


def one(size: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one size in this process."""
    n_t, n_0 = arguments.target, arguments.test
    n = size + n_t + n_0
    X, classes = images(arguments.images, n) if arguments.images else gaussian(n)
    y = np.where(classes < 5, -1.0, 1.0)
    source, target, test = (Task(X[p], y[p]) for p in np.split(np.arange(n), [size, size + n_t]))
    widths = np.geomspace(200, 800, arguments.widths).tolist()
    couplings = [*COUPLINGS, np.inf][-arguments.couplings :]
    grid = {"widths": widths, "couplings": couplings}
    options = LargeOptions(
        folder=arguments.folder, n_landmarks=arguments.landmarks, progress=arguments.progress
    )
    times = {"wall": time.perf_counter(), "cpu": time.process_time()}
    problem = LargeTransferProblem(source, target, options=options, temperature=0.1)
    parts = {}

    def timed(name: str, function: Callable[[], object]) -> None:
        start = time.process_time()
        function()
        parts[name] = time.process_time() - start

    timed("tiles", lambda: problem.source_kernel.tiles)
    timed("low rank", lambda: problem.source_kernel.low_rank)
    timed("moments", lambda: problem.source_kernel.moments)
    timed("Q_s", lambda: [problem.source_saddle(width) for width in widths])
    curves = []
    timed("couplings", lambda: curves.append(problem.sweep(test, **grid)))
    curve = curves[0]
    row = {
        "P_s": size,
        "seconds": time.perf_counter() - times["wall"],
        "core seconds": time.process_time() - times["cpu"],
        "memory / GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "nodes": problem.interpolant(widths[0]).degree + 1,
        "Q_s": curve.Q_s.values[0, 0],
        "its error": curve.Q_s_error.values[0, 0],
        "test error": curve.test_error.values[0, -1],
        "relative error": float((curve.test_error_error / curve.test_error).max()),
    }
    row |= {f"core s: {name}": seconds for name, seconds in parts.items()}
    if size <= arguments.dense:
        truth = TransferProblem(source, target, temperature=0.1).sweep(test, **grid)
        row["Q_s off by"] = float(np.abs(curve.Q_s / truth.Q_s - 1).max())
        row["test error off by"] = float(np.abs(curve.test_error / truth.test_error - 1).max())
    return {name: float(value) for name, value in row.items()}


def main() -> None:
    """Print a row for each size, and slopes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", type=int, default=[1000, 2000], help="source examples")
    parser.add_argument("--target", type=int, default=500)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--widths", type=int, default=2)
    parser.add_argument("--couplings", type=int, default=10)
    parser.add_argument("--landmarks", type=int)
    parser.add_argument("--images", type=Path, help="folder of MNIST files")
    parser.add_argument("--folder", type=Path, help="for tiles and solved couplings")
    parser.add_argument("--dense", type=int, default=0, help="compare up to this size")
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--store", action="store_true", help="write the table to large.md")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.sizes[0], arguments)))
        return
    rows = []
    for size in arguments.sizes:
        options = {
            k: v
            for k, v in vars(arguments).items()
            if k not in ("sizes", "one", "store", "progress")
        }
        given = [f"--{name}={value}" for name, value in options.items() if value is not None]
        given += ["--progress"] * arguments.progress
        command = [sys.executable, __file__, str(size), *given, "--one"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout))
        print("\n".join(f"{name:22s} {value:.4g}" for name, value in rows[-1].items()), "\n")
    slopes = []
    for first, second in pairwise(rows):
        ratio = np.log(second["P_s"] / first["P_s"])
        for name in ("seconds", "core seconds", "memory / GB"):
            slope = np.log(second[name] / first[name]) / ratio
            slopes.append(f"{name}, {first['P_s']:.0f} to {second['P_s']:.0f}: slope {slope:.2f}")
    print("\n".join(slopes))
    if arguments.store:
        TABLE.write_text(table(rows, slopes, arguments), encoding="utf8")


def table(rows: list[dict[str, float]], slopes: list[str], arguments: argparse.Namespace) -> str:
    """The rows as a page, a column for each size."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [
        f"| {name} | "
        + " | ".join(f"{row[name]:.4g}" if name in row else "" for row in rows)
        + " |"
        for name in names
    ]
    inputs = (
        "images of MNIST, moved by a pixel where they are too few"
        if arguments.images
        else ("Gaussian inputs with a falling spectrum")
    )
    return "\n".join(
        [
            "# Sources of real size",
            "",
            f"{arguments.target} target and {arguments.test} test examples, {arguments.couplings} "
            f"couplings, {arguments.widths} widths; {inputs}; {os.cpu_count()} cores. Made by "
            f"`python benchmarks/large.py {' '.join(map(str, arguments.sizes))} --store`.",
            "",
            lines[0],
            "|" + " --- |" * (len(rows) + 1),
            *lines[1:],
            "",
            *(f"- {slope}" for slope in slopes),
            "",
        ]
    )


if __name__ == "__main__":
    main()
