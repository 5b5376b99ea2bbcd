"""Pairs of real tasks, drawn by number: what the atlas of chapter 09 is made of.

Every pair has a relation between source and target, groups of classes, and sizes of its own, all
drawn from its number. Pairs by which defaults of the tool were settled (`development_pair`) have
other groups of classes and other images: a third of MNIST's pool is set aside for them.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from tlnb.data.images import Images, TransferTasks, resize, transfer_tasks
from tlnb.data.pools import read_pool
from tlnb.data.task import Task

LOW, PARITY = "0,1,2,3,4|5,6,7,8,9", "0,2,4,6,8|1,3,5,7,9"
RELATIONS = (
    "identical",
    "overlapping",
    "unrelated",
    "another question",
    "noisy labels",
    "permuted pixels",
    "rotated",
    "identical, few source",
)
POOLS = ("mnist", "digits")
# The four pairs that chapter 09 looks at one by one.
QUESTIONS = (  # source and target: the same, another question, one class exchanged, unrelated
    (LOW, LOW),
    (PARITY, LOW),
    ("3,8|4,9", "3,8|5,9"),
    ("0,1|2,3", "6,7|8,9"),
)
N_PAIRS = 120
NOISE = 0.3  # share of source labels drawn to be flipped


class Pair(NamedTuple):
    """A pair by its number: see the module."""

    pool: str
    relation: str
    source: str
    target: str
    n_source: int
    n_target: int
    n_test: int
    width: int
    seed: int


def mnist(size: int | None = 14) -> Images:
    """The pool of images in the folder that the environment variable TLNB_MNIST names.

    MNIST's test set, or any other data set that `tlnb.data.pools.read_pool` reads.
    """
    folder = os.environ.get("TLNB_MNIST")
    if not folder:
        raise FileNotFoundError("set the environment variable TLNB_MNIST to the folder of MNIST")
    pool = read_pool(folder)
    return pool if size is None else resize(pool, size)


def section_tasks(source: str, target: str) -> TransferTasks:
    """The four tasks that chapter 09 looks at one by one: 1000, 60 and 500 images."""
    sizes = {"n_source": 1000, "n_target": 60, "n_test": 500}
    return transfer_tasks(mnist(None), source, target, **sizes, size=14, seed=0)


def pair(number: int) -> Pair:
    """The pair of this number; every third one is small."""
    rng = np.random.default_rng([9, number])
    pool = POOLS[number % 4 == 3]
    relation = RELATIONS[(number // 4) % len(RELATIONS)]
    source, target, each = _drawn_groups(relation, set(), rng)
    small = number % 3 == 0
    most = {("mnist", 2): 1000, ("mnist", 5): 2000, ("digits", 2): 300, ("digits", 5): 800}
    sources = [n for n in (100, 200, 400, 1000) if n <= (200 if small else most[pool, each])]
    if most[pool, each] == 2000 and number % 5 == 0:
        sources = [2000]
    n_source = 100 if relation.endswith("few source") else int(rng.choice(sources))
    n_target = int(rng.choice([10, 20, 40, 100, 200] if pool == "mnist" else [10, 20, 40, 80]))
    width = int(rng.choice([50, 100] if small else [50, 100, 200, 400]))
    n_test = 400 if pool == "mnist" else 160
    return Pair(pool, relation, source, target, n_source, n_target, n_test, width, 7000 + number)


def development_pair(number: int) -> Pair:
    """A pair by which defaults are settled: of none of the figures' groups, nor their images."""
    taken = {*QUESTIONS, *((p.source, p.target) for p in map(pair, range(N_PAIRS)))}
    rng = np.random.default_rng([10, number])
    relation = RELATIONS[number % len(RELATIONS)]
    source, target, each = _drawn_groups(relation, taken, rng)
    sources = (100, 200, 400) if each == 2 else (100, 200, 400, 1000)
    n_source = 100 if relation.endswith("few source") else int(rng.choice(sources))
    n_target = (10, 20, 40, 100, 200)[number // len(RELATIONS) % 5]
    width = int(rng.choice([50, 100, 200]))
    return Pair(
        "development", relation, source, target, n_source, n_target, 400, width, 8000 + number
    )


def sampling_effort(of: Pair) -> float:
    """About proportional to what sampled networks of a pair cost: the matrix products of a step."""

    def step(n: int) -> float:
        pixels = 196 if of.pool == "mnist" else 64
        return 4 * n * of.width * (pixels + n) + n**3

    return 1.5 * step(of.n_source) + step(of.n_target)


def tasks(of: Pair, pool: Images | None = None) -> tuple[Task, Task, Task]:
    """Source, target and test task of a pair."""
    if pool is None:
        pool = read_pool("digits") if of.pool == "digits" else _share(mnist(), of.pool)
    sizes = {"n_source": of.n_source, "n_target": of.n_target, "n_test": of.n_test}
    drawn = transfer_tasks(pool, of.source, of.target, **sizes, seed=of.seed)
    X, y = drawn.source.X, drawn.source.y
    rng = np.random.default_rng(of.seed)
    if of.relation == "permuted pixels":
        X = X[:, rng.permutation(X.shape[1])]
    elif of.relation == "rotated":
        side = int(np.sqrt(X.shape[1]))
        X = np.rot90(X.reshape(-1, side, side), axes=(1, 2)).reshape(X.shape)
    elif of.relation == "noisy labels":
        y = np.where(rng.random(len(y)) < NOISE, -y, y)
    return Task(X, y, name=drawn.source.name), drawn.target, drawn.test


def _groups(relation: str, each: int, rng: np.random.Generator) -> tuple[str, str]:
    classes = rng.permutation(10)
    own = classes[: 2 * each]
    source = _named(own, each)
    if relation == "overlapping" and each == 2:
        other = own.copy()
        other[rng.integers(4)] = classes[4]
        return source, _named(other, each)
    if relation == "overlapping":  # two classes change sides
        other = own.copy()
        other[[0, each]] = other[[each, 0]]
        return source, _named(other, each)
    if relation == "unrelated":
        return source, _named(classes[4:8], each)
    if relation == "another question":
        return source, _named(np.concatenate([own[::2], own[1::2]]), each)
    return source, source


def _named(classes: np.ndarray, each: int) -> str:
    halves = sorted(classes[:each].tolist()), sorted(classes[each:].tolist())
    return "|".join(",".join(map(str, half)) for half in halves)


def _drawn_groups(
    relation: str, taken: set[tuple[str, str]], rng: np.random.Generator
) -> tuple[str, str, int]:
    """Groups of source and target that are not taken, and the classes on each side."""
    while True:
        each = int(rng.choice([2, 5])) if relation != "unrelated" else 2
        source, target = _groups(relation, each, rng)
        if (source, target) not in taken:
            return source, target, each


def _share(pool: Images, of: str) -> Images:
    """One third of a pool for development, the rest for the atlas."""
    third = np.arange(len(pool.labels)) % 3 == 0
    rows = np.flatnonzero(third if of == "development" else ~third)
    return Images(pool.pixels[rows], pool.labels[rows], pool.ids[rows], pool.name)
