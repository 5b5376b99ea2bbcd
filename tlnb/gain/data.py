"""What `tlnb gain` is pointed at: files or pools of images, made into tasks that fit together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tlnb.data.images import parse_groups, transfer_tasks
from tlnb.data.pools import read_pool
from tlnb.data.tables import LabelledData, class_tasks, read
from tlnb.data.task import Task
from tlnb.gain.tool import LEAST_EXAMPLES

SOURCE_IMAGES, TARGET_IMAGES, OF_A_CLASS = 300, 40, 150


class GainData(NamedTuple):
    """Tasks of source, target and test set, one for each class; what was done to them, in words."""

    source: list[Task]
    target: list[Task]
    test: list[Task] | None
    notes: list[str]


def from_files(
    source: Sequence[str | os.PathLike[str]],
    target: Sequence[str | os.PathLike[str]],
    *,
    test: Sequence[str | os.PathLike[str]] | None = None,
    label: str | None = None,
    labels: str = "auto",
    scale: bool = True,
) -> GainData:
    """Read and match source and target; see `tlnb.data.tables` for what files may hold.

    Parameters
    ----------
    source, target, test : one path, or two of .npy files with X and y
    label : the column of labels in tables
    labels : "auto", "classes" or "values": what they are
    scale : make the mean of |x|²/N0 over source and target one

    Raises
    ------
    ValueError, OSError, ImportError
        As `tlnb.data.tables.read`, and for inputs that do not fit or cannot be scaled.
    """
    notes = []
    of_source = _read(source, label)
    of_target = _read(target, label, test)
    inputs = {"source": of_source.X, "target": of_target.X, "test set": of_target.X_test}
    widths = {name: X.shape[1] for name, X in inputs.items() if X is not None}
    if len(set(widths.values())) > 1:
        got = ", ".join(f"{n} in the {name}" for name, n in widths.items())
        raise ValueError(f"source and target must have the same features, got {got}")
    if (n := len(of_target.y)) < LEAST_EXAMPLES:
        raise ValueError(f"the target must have at least {LEAST_EXAMPLES} examples, got {n}")
    if scale:
        with np.errstate(over="ignore"):
            size = np.sqrt(np.mean(np.concatenate([of_source.X, of_target.X]) ** 2))
        if not 0 < size < np.inf:
            raise ValueError(f"X must have a finite mean square > 0 to be scaled, got {size**2:g}")
        of_source, of_target = (_divided(data, size) for data in (of_source, of_target))
        one = "the mean of |x|²/N0 over source and target is 1"
        notes.append(f"inputs divided by {size:.4g}: {one}")
    else:
        notes.append("inputs as they are")
    names = [" and ".join(map(str, paths)) for paths in (source, target)]
    sources, _, of_one = class_tasks(of_source._replace(X_test=None, y_test=None), labels, names[0])
    targets, tests, of_other = class_tasks(of_target, labels, names[1])
    for name, classes in (("source", of_one), ("target", of_other)):
        kind = "labels are values"
        if classes is not None:
            kind = f"{len(classes)} classes: {', '.join(f'{c:g}' for c in classes[:12])}"
        notes.append(f"{name}: {kind}")
    return GainData(_matched(sources, of_one, targets, of_other), targets, tests, notes)


def from_images(
    place: str | os.PathLike[str],
    source: str,
    target: str,
    *,
    part: str = "test",
    size: int | None = None,
    scale: bool = True,
    seed: int = 0,
    **numbers: int | None,
) -> GainData:
    """Draw source, target and test tasks from a pool of images, no image twice.

    Parameters
    ----------
    place, part : of `tlnb.data.pools.read_pool`
    source, target : groups of classes such as "3,8|4,9"
    size : pixels along an edge to average down to; None: as they are
    scale : centre, and make the mean of |x|²/N0 over source and target one
    seed : of the draw
    **numbers : n_source, n_target and n_test; None: 300 (or 150 a class if that is less), 40, 300

    Examples
    --------
    >>> from tlnb.gain.data import from_images
    >>> data = from_images("digits", "3,8|4,9", "3,8|5,9", n_source=60, n_target=20, n_test=40)
    >>> data.source[0].n_examples, data.target[0].n_examples, data.test[0].n_examples
    (60, 20, 40)
    """
    most = [
        min(SOURCE_IMAGES, OF_A_CLASS * min(map(len, parse_groups(groups))))
        for groups in (source, target)
    ]
    sizes = {"n_source": most[0], "n_target": TARGET_IMAGES, "n_test": most[1]}
    sizes |= {name: n for name, n in numbers.items() if n is not None}
    pool = read_pool(place, part)
    tasks = transfer_tasks(pool, source, target, **sizes, size=size, normalize=scale, seed=seed)
    done = "centred, the mean of |x|²/N0 over source and target is 1" if scale else "as they are"
    notes = [f"images of {pool.name}", f"inputs {done}"]
    return GainData([tasks.source], [tasks.target], [tasks.test], notes)


def _read(
    paths: Sequence[str | os.PathLike[str]],
    label: str | None,
    test: Sequence[str | os.PathLike[str]] | None = None,
) -> LabelledData:
    if len(paths) > 1:
        data = read(tuple(paths))
        return data if test is None else data._replace(**_as_test(read(tuple(test))))
    path = Path(paths[0])
    if path.suffix.lower() == ".npz":
        data = read(path, label=label)
        return data if test is None else data._replace(**_as_test(_read(test, label)))
    if test is not None and len(test) == 1:
        return read(path, label=label, test=test[0])
    data = read(path, label=label)
    return data if test is None else data._replace(**_as_test(read(tuple(test))))


def _as_test(data: LabelledData) -> dict[str, Any]:
    return {"X_test": data.X, "y_test": data.y}


def _divided(data: LabelledData, size: float) -> LabelledData:
    test = None if data.X_test is None else data.X_test / size
    return data._replace(X=data.X / size, X_test=test)


def _matched(
    sources: list[Task],
    of_source: np.ndarray | None,
    targets: list[Task],
    of_target: np.ndarray | None,
) -> list[Task]:
    """For each class of the target the source's task of the same class, else one after the other.

    Two classes are one task, which goes with every class.
    """
    if len(sources) == 1 or of_source is None or of_target is None:
        return [sources[c % len(sources)] for c in range(len(targets))]
    names = of_target if len(targets) > 1 else of_target[1:]
    of_class = {float(name): task for name, task in zip(of_source, sources, strict=True)}
    rest = [task for name, task in of_class.items() if name not in set(map(float, names))]
    rest = rest or sources
    return [of_class.get(float(name), rest[k % len(rest)]) for k, name in enumerate(names)]
