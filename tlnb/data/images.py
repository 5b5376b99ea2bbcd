"""Greyscale images with class labels, and the binary tasks that groups of classes make.

A binary task ``"3,8|4,9"`` gives the label +1 to the classes 3 and 8 and -1 to the classes 4 and
9. A transfer problem draws four such tasks from one pool: source, target, validation and test,
the last three with the target's groups. No image is in two of them: every image carries an id, and
:func:`transfer_tasks` asserts it with :func:`assert_disjoint`.

scikit-learn's digits need no file. Other pools are read from local files: IDX (MNIST,
Fashion-MNIST, EMNIST), plain or gzip, and the binary version of CIFAR-10. Nothing is unpickled.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.data.task import Task
from tlnb.validation import check_inputs

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CIFAR_RECORD = 1 + 3 * 32 * 32

Groups = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Images:
    """A pool of greyscale images with class labels.

    Parameters
    ----------
    pixels : array of shape (n, height, width)
        Grey values in [0, 1].
    labels : integer array of shape (n,)
        The class of each image.
    ids : array of shape (n,)
        Distinct names such as ``"digits-17"``; they keep source, target and test images apart.
    name : str
        The name of the pool, for messages.

    Raises
    ------
    ValueError
        For wrong shapes, grey values outside [0, 1] or not finite, labels that are not integers,
        ids that are not distinct.
    """

    pixels: NDArray[np.float64] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    ids: NDArray = field(repr=False)
    name: str = "images"

    def __post_init__(self) -> None:
        pixels, labels, ids = (np.asarray(a) for a in (self.pixels, self.labels, self.ids))
        if pixels.ndim != 3 or 0 in pixels.shape:
            raise ValueError(f"pixels must have shape (n, height, width), got {pixels.shape}")
        low, high = pixels.min(), pixels.max()
        if not (low >= 0 and high <= 1):
            raise ValueError(f"pixels must lie in [0, 1], got values from {low} to {high}")
        n = len(pixels)
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels must be {n} integers, one for each image, got shape {labels.shape} of "
                f"{labels.dtype}"
            )
        if ids.shape != (n,) or len(np.unique(ids)) != n:
            raise ValueError(f"ids must be {n} distinct names, got shape {ids.shape}")
        for key, values in (
            ("pixels", pixels.astype(np.float64, copy=False)),
            ("labels", labels.astype(np.int64, copy=False)),
            ("ids", ids),
        ):
            view = values.view()
            view.flags.writeable = False
            object.__setattr__(self, key, view)

    def select(self, classes: Iterable[int]) -> Images:
        """Return the images of the given classes, in the order of this pool.

        Raises
        ------
        ValueError
            If a class has no image in the pool.
        """
        classes = list(classes)
        self._check_classes(classes)
        return _take(self, np.isin(self.labels, classes))

    def _check_classes(self, classes: Iterable[int]) -> None:
        known = np.unique(self.labels).tolist()
        unknown = [c for c in classes if c not in known]
        if unknown:
            raise ValueError(
                f"classes must be among {', '.join(map(str, known))}, those of {self.name}, "
                f"got {', '.join(map(str, unknown))}"
            )


def digits() -> Images:
    """Return scikit-learn's 1797 digits of 8 by 8 pixels; no file, no network."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return _pool(data.images / 16, data.target, "digits")


def read_idx(path: str | PathLike) -> NDArray:
    """Return the array that an IDX file holds, plain or gzip, in the machine's byte order.

    The format: two zero bytes, a code for the type of the entries, the number of dimensions, each
    dimension as a big-endian 32-bit integer, the entries. gzip is told by its first bytes, not by
    the file's name.

    Raises
    ------
    OSError
        If the file cannot be read (``FileNotFoundError`` if it does not exist).
    ValueError
        If it is not an IDX file, or shorter or longer than its header says.
    """
    content = _read_bytes(path)
    allowed = "an IDX file (00 00, type code, number of dimensions, ...)"
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES or not content[3]:
        found = content[:4].hex(" ") or "nothing"
        raise ValueError(f"{path} must be {allowed}; it begins with {found}")
    dtype = np.dtype(IDX_TYPES[content[2]])
    n_dimensions = content[3]
    start = 4 + 4 * n_dimensions
    if len(content) < start:
        raise ValueError(f"{path} must be {allowed}; its header of {start} bytes is cut short")
    shape = tuple(np.frombuffer(content, ">u4", n_dimensions, offset=4).tolist())
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(
            f"{path} must have {expected} bytes, as its header of shape {shape} says; "
            f"it has {len(content)}"
        )
    return (
        np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
    )


def read_mnist(
    images_path: str | PathLike,
    labels_path: str | PathLike,
    *,
    transposed: bool = False,
    name: str | None = None,
) -> Images:
    """Return the images of a pair of IDX files: MNIST, Fashion-MNIST, EMNIST.

    Parameters
    ----------
    images_path, labels_path : path
        Files of shape (n, height, width) and (n,), both of unsigned bytes.
    transposed : bool
        True for EMNIST, which stores its images with rows and columns exchanged. (In its letters
        the labels start from 1: A is 1, Z is 26.)
    name : str, optional
        The pool's name, the file's by default. Ids are made of it: give two names to two pools
        whose files are called alike.

    Raises
    ------
    OSError, ValueError
        As :func:`read_idx`, and if the two files do not fit each other.
    """
    pixels, labels = read_idx(images_path), read_idx(labels_path)
    for path, array, shape in (
        (images_path, pixels, ("n", "height", "width")),
        (labels_path, labels, ("n",)),
    ):
        if array.ndim != len(shape) or array.dtype != np.uint8:
            raise ValueError(
                f"{path} must hold unsigned bytes of shape ({', '.join(shape)}), got "
                f"{array.dtype} of shape {array.shape}"
            )
    if len(pixels) != len(labels):
        raise ValueError(
            f"{images_path} and {labels_path} must hold as many images as labels, got "
            f"{len(pixels)} images and {len(labels)} labels"
        )
    if transposed:
        pixels = pixels.transpose(0, 2, 1)
    return _pool(pixels / 255, labels, Path(images_path).stem if name is None else name)


def read_cifar10(paths: str | PathLike | Iterable[str | PathLike]) -> Images:
    """Return the images of one or more files of CIFAR-10's binary version, in grey.

    A record is a label (0..9) and 32 by 32 bytes of red, of green and of blue. Grey is the luma of
    Rec. 601, 0.299 red + 0.587 green + 0.114 blue.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read; if it is not of the binary version, or cut short.
    """
    paths = [paths] if isinstance(paths, (str, PathLike)) else list(paths)
    pixels, labels, ids = [], [], []
    for path in paths:
        content = _read_bytes(path)
        if content[:1] == b"\x80":
            raise ValueError(
                f"{path} is a pickle, as in CIFAR-10's Python version, and is not read: pickles "
                "can run code. Use the binary version (data_batch_1.bin, ...)"
            )
        if not content or len(content) % CIFAR_RECORD:
            raise ValueError(
                f"{path} must consist of records of {CIFAR_RECORD} bytes (CIFAR-10's binary "
                f"version), got {len(content)} bytes"
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR_RECORD)
        if records[:, 0].max() > 9:
            raise ValueError(f"{path} must have labels 0..9, got {records[:, 0].max()}")
        red, green, blue = records[:, 1:].reshape(-1, 3, 32, 32).transpose(1, 0, 2, 3)
        pixels.append((299.0 * red + 587.0 * green + 114.0 * blue) / 255_000)
        labels.append(records[:, 0])
        ids += [f"{Path(path).stem}-{i}" for i in range(len(records))]
    if not paths:
        raise ValueError("paths must name at least one file, got none")
    return Images(np.concatenate(pixels), np.concatenate(labels), np.array(ids), "cifar10")


def resize(images: Images, size: int | tuple[int, int]) -> Images:
    """Return the images at ``size`` (height, width; one integer for both), by area averaging.

    Each new pixel is the mean of the old image over the area it covers, so that the mean grey
    value of every image is kept, for every size.
    """
    shape = size if isinstance(size, tuple) else (size, size)
    if len(shape) != 2 or not all(isinstance(s, Integral) and s >= 1 for s in shape):
        raise ValueError(f"size must be an integer >= 1 or a pair of them, got {size!r}")
    rows, columns = (
        _averages(old, int(n)) for old, n in zip(images.pixels.shape[1:], shape, strict=True)
    )
    # rounding may leave a white pixel at 1 + 2e-16
    return replace(images, pixels=np.clip(rows @ images.pixels @ columns.T, 0, 1))


def _averages(old: int, new: int) -> NDArray[np.float64]:
    """Row i: the share of each of ``old`` pixels in the i-th of ``new`` equal intervals."""
    edges = np.arange(new + 1)[:, None] * (old / new)
    covered = np.clip(edges - np.arange(old), 0, 1)
    return np.diff(covered, axis=0) * (new / old)


def project(X: ArrayLike, n_features: int, rng: np.random.Generator | int) -> NDArray[np.float64]:
    """Return ``X R`` of shape (P, n_features), R with entries N(0, 1/n_features).

    The random projection keeps squared lengths, and inner products, on average over R.
    """
    X = check_inputs(X)
    if not isinstance(n_features, Integral) or n_features < 1:
        raise ValueError(f"n_features must be an integer >= 1, got {n_features!r}")
    R = np.random.default_rng(rng).standard_normal((X.shape[1], int(n_features)))
    return X @ R / math.sqrt(n_features)


def parse_groups(groups: str | Sequence[Sequence[int]]) -> Groups:
    """Return two disjoint groups of classes: ``"3,8|4,9"`` becomes ``((3, 8), (4, 9))``.

    A pair of sequences of integers passes through the same checks.

    Raises
    ------
    ValueError
        Unless there are two groups, none empty, of integers >= 0 that are all different.
    """
    allowed = 'two disjoint groups of classes such as "3,8|4,9"'
    try:
        parts = [p.split(",") for p in groups.split("|")] if isinstance(groups, str) else groups
        parsed = tuple(tuple(_class(c) for c in part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError(f"groups must be {allowed}, got {groups!r}") from None
    classes = [c for group in parsed for c in group]
    if len(parsed) != 2 or not all(parsed) or len(set(classes)) != len(classes):
        raise ValueError(f"groups must be {allowed}, got {groups!r}")
    return parsed


def _class(value: object) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, Integral) and not isinstance(value, bool) and value >= 0:
        return int(value)
    raise ValueError(value)


class TransferTasks(NamedTuple):
    """Four tasks that share no image; ``validation`` is None if none was asked for."""

    source: Task
    target: Task
    validation: Task | None
    test: Task


def transfer_tasks(
    images: Images,
    source: str | Sequence[Sequence[int]],
    target: str | Sequence[Sequence[int]],
    *,
    n_source: int,
    n_target: int,
    n_test: int,
    n_validation: int = 0,
    size: int | tuple[int, int] | None = None,
    n_features: int | None = None,
    normalize: bool = True,
    seed: int | np.random.Generator = 0,
) -> TransferTasks:
    """Draw a source task, and target, validation and test tasks, from a pool of images.

    Parameters
    ----------
    images : Images
    source, target : str or pair of sequences
        The groups of classes (:func:`parse_groups`), labelled +1 | -1. The two may share classes
        in any way, or be the same.
    n_source, n_target, n_test, n_validation : int
        Numbers of images. Both labels have n/2, and each class of a group the same share; what
        does not divide goes, one each, to the first group and to the first classes of a group.
    size : int or pair, optional
        Height and width to :func:`resize` to.
    n_features : int, optional
        N0 to :func:`project` to, with one random matrix for all tasks.
    normalize : bool
        Subtract the mean input and divide by one number such that the mean of ``|x|²/N0`` is 1;
        both are those of the source and target inputs together, and serve all four tasks. No
        label, validation or test image enters.
    seed : int or Generator
        The same seed gives the same target, validation and test images, whatever the source; and
        more images of a kind contain the fewer, as long as those drawn before it (in the order
        test, validation, target, source) keep their numbers.

    Returns
    -------
    TransferTasks
        Named after their groups, with the ids of their images, which are disjoint.

    Raises
    ------
    ValueError
        For bad groups, classes that the pool lacks, numbers that leave a class without an image or
        ask for more than there are.
    """
    draw_rng, projection_rng = np.random.default_rng(seed).spawn(2)
    source, target = parse_groups(source), parse_groups(target)
    test_share = _shares(images, target, n_test, "n_test")
    validation_share = _shares(images, target, n_validation, "n_validation") if n_validation else {}
    target_share = _shares(images, target, n_target, "n_target")
    source_share = _shares(images, source, n_source, "n_source")
    rows = _draw(images, [test_share, validation_share, target_share, source_share], draw_rng)

    chosen = _take(images, np.concatenate(rows))
    if size is not None:
        chosen = resize(chosen, size)
    X = chosen.pixels.reshape(len(chosen.pixels), -1)
    if n_features is not None:
        X = project(X, n_features, projection_rng)
    if normalize:
        training = X[-(n_target + n_source) :]
        mean = training.mean(axis=0)
        scale = math.sqrt(np.mean((training - mean) ** 2))
        if scale == 0:
            raise ValueError(f"images of {images.name} are all alike: they cannot be normalised")
        X = (X - mean) / scale

    inputs = np.split(X, np.cumsum([len(r) for r in rows])[:-1])
    test, validation, target_task, source_task = (
        _task(x, images, r, groups) if len(r) else None
        for x, r, groups in zip(inputs, rows, (target, target, target, source), strict=True)
    )
    tasks = TransferTasks(source_task, target_task, validation, test)
    assert_disjoint(*(task for task in tasks if task is not None))
    return tasks


def assert_disjoint(*tasks: Task) -> None:
    """Raise unless no example is in two of the tasks.

    Raises
    ------
    ValueError
        Naming the shared ids; also if a task has no ids, so that nothing can be asserted.
    """
    for task in tasks:
        if task.ids is None:
            raise ValueError(f"ids are needed to tell examples apart, task {task.name!r} has none")
    for (i, a), (j, b) in combinations(enumerate(tasks), 2):
        shared = sorted(set(a.ids.tolist()) & set(b.ids.tolist()), key=str)
        if shared:
            first = ", ".join(map(str, shared[:5])) + (", ..." if len(shared) > 5 else "")
            raise ValueError(
                f"tasks must share no example: number {i} ({a.name!r}) and number {j} "
                f"({b.name!r}) share {len(shared)}: {first}"
            )


def _shares(images: Images, groups: Groups, n: int, argument: str) -> dict[int, int]:
    """Return how many of ``n`` images each class gives."""
    images._check_classes(c for group in groups for c in group)
    if not isinstance(n, Integral):
        raise TypeError(f"{argument} must be an integer, got {n!r}")
    shares = {}
    for group, of_group in zip(groups, ((n + 1) // 2, n // 2), strict=True):
        each, rest = divmod(of_group, len(group))
        shares |= {c: each + (k < rest) for k, c in enumerate(group)}
    if min(shares.values()) < 1:
        raise ValueError(f"{argument} must give every class of {_name(groups)} an image, got {n!r}")
    return shares


def _draw(
    images: Images, wanted: Sequence[dict[int, int]], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return rows of the pool for each of ``wanted``, none twice."""
    rows: list[list[NDArray[np.int64]]] = [[] for _ in wanted]
    for c in np.unique(images.labels).tolist():
        members = rng.permutation(np.flatnonzero(images.labels == c))
        ends = np.cumsum([shares.get(c, 0) for shares in wanted])
        if ends[-1] > len(members):
            raise ValueError(
                f"n_source, n_target, n_validation and n_test ask for {ends[-1]} images of class "
                f"{c}, {images.name} has {len(members)}"
            )
        for mine, part in zip(rows, np.split(members, ends)[:-1], strict=True):
            mine.append(part)
    return [rng.permutation(np.concatenate(parts)) for parts in rows]


def _task(X: NDArray[np.float64], images: Images, rows: NDArray[np.int64], groups: Groups) -> Task:
    y = np.where(np.isin(images.labels[rows], groups[0]), 1.0, -1.0)
    return Task(X, y, images.ids[rows], _name(groups))


def _take(images: Images, rows: NDArray) -> Images:
    return Images(images.pixels[rows], images.labels[rows], images.ids[rows], images.name)


def _name(groups: Groups) -> str:
    return "|".join(",".join(map(str, group)) for group in groups)


def _pool(pixels: NDArray, labels: NDArray, name: str) -> Images:
    return Images(pixels, labels, np.array([f"{name}-{i}" for i in range(len(pixels))]), name)


def _read_bytes(path: str | PathLike) -> bytes:
    content = Path(path).read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} must be a whole gzip file: {error}") from error
