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
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.data.task import Task
from tlnb.validation import check_count, check_inputs, check_rng

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CIFAR_RECORD = 1 + 3 * 32 * 32

File = str | PathLike[str]
Groups = str | Sequence[str | Sequence[int]]


@dataclass(frozen=True, eq=False, init=False)
class Images:
    """A pool of greyscale images with class labels.

    Parameters
    ----------
    pixels : array of shape (n, height, width)
        Grey values in [0, 1].
    labels : integer array of shape (n,)
        The class of each image.
    ids : array of shape (n,), optional
        Distinct names, ``"<name>-17"`` by default; they keep source, target and test images apart.
    name : str
        The name of the pool, for messages.

    Anything else is a ValueError.
    """

    pixels: NDArray[np.float64] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    ids: NDArray[Any] = field(repr=False)
    name: str

    def __init__(
        self,
        pixels: ArrayLike,
        labels: ArrayLike,
        ids: ArrayLike | None = None,
        name: str = "images",
    ) -> None:
        pixels, labels = np.asarray(pixels), np.asarray(labels)
        if pixels.ndim != 3 or pixels.size == 0 or pixels.dtype.kind not in "biuf":
            allowed = "real numbers of shape (n, height, width)"
            raise ValueError(f"pixels must be {allowed}, got {_kind(pixels)}")
        n, low, high = len(pixels), pixels.min(), pixels.max()
        if not (low >= 0 and high <= 1):
            raise ValueError(f"pixels must lie in [0, 1], got values from {low} to {high}")
        if labels.shape != (n,) or labels.dtype.kind not in "iu":
            raise ValueError(f"labels must be {n} integers, got {_kind(labels)}")
        names = [f"{name}-{i}" for i in range(n)] if ids is None else ids
        ids = np.asarray(names)
        if ids.shape != (n,) or len(set(ids.tolist())) != n:
            raise ValueError(f"ids must be {n} distinct names, got {_kind(ids)}")
        stored = {"pixels": pixels.astype(np.float64, copy=False)}
        stored |= {"labels": labels.astype(np.int64), "ids": ids}
        for key, array in stored.items():
            view = array.view()
            view.flags.writeable = False
            self.__dict__[key] = view  # the fields are frozen
        self.__dict__["name"] = name


def digits() -> Images:
    """Return scikit-learn's 1797 digits of 8 by 8 pixels; no file, no network.

    Examples
    --------
    >>> from tlnb.data.images import digits
    >>> digits().pixels.shape
    (1797, 8, 8)
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    return Images(data.images / 16, data.target, name="digits")


def read_idx(path: File) -> NDArray[Any]:
    """Return the array that an IDX file holds, plain or gzip, in the machine's byte order.

    The format: two zero bytes, a code for the type of the entries, the number of dimensions (here
    8 at most), each dimension as a big-endian 32-bit integer, the entries. gzip is told by its
    first bytes, not by the file's name. OSError if the file cannot be read, ValueError if it is no
    IDX file, without entries, or shorter or longer than its header says.
    """
    content = _read_bytes(path)
    code, n_dimensions = content[2:4] if len(content) > 4 else (0, 0)
    start = 4 + 4 * n_dimensions
    known = content[:2] == b"\0\0" and code in IDX_TYPES and 1 <= n_dimensions <= 8
    if not known or len(content) <= start:
        allowed = "an IDX file (00 00, type code, number of dimensions, dimensions, entries)"
        raise ValueError(f"{path} must be {allowed}; {_begins(content)}")
    dtype = np.dtype(IDX_TYPES[code])
    shape = struct.unpack_from(f">{n_dimensions}I", content, 4)
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        must = f"must have {expected} bytes, as its header of shape {shape} says"
        raise ValueError(f"{path} {must}; it has {len(content)}")
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def read_mnist(images_path: File, labels_path: File, *, transposed: bool = False) -> Images:
    """Return the images of a pair of IDX files: MNIST, Fashion-MNIST, EMNIST.

    ``transposed`` is for EMNIST, which stores its images with rows and columns exchanged. (In its
    letters the labels start from 1: A is 1, Z is 26.) The pool, and with it the ids, is named after
    the file of images. Errors as of :func:`read_idx`, and ValueError if the two files do not fit.
    """
    pixels, labels = read_idx(images_path), read_idx(labels_path)
    dtypes = {pixels.dtype, labels.dtype}
    if pixels.ndim != 3 or labels.shape != pixels.shape[:1] or dtypes != {np.dtype(np.uint8)}:
        allowed = "unsigned bytes of shapes (n, height, width) and (n,)"
        got = f"{_kind(pixels)} and {_kind(labels)}"
        raise ValueError(f"{images_path} and {labels_path} must hold {allowed}, got {got}")
    pixels = pixels.transpose(0, 2, 1) if transposed else pixels
    return Images(pixels / 255, labels, name=Path(images_path).stem)


def read_cifar10(paths: File | Iterable[File]) -> Images:
    """Return the images of one or more files of CIFAR-10's binary version, in grey.

    A record is a label (0..9) and 32 by 32 bytes of red, of green and of blue. Grey is the luma of
    Rec. 601, 0.299 red + 0.587 green + 0.114 blue. OSError if a file cannot be read, ValueError if
    it is not of the binary version, or cut short.
    """
    paths = [paths] if isinstance(paths, (str, PathLike)) else list(paths)
    if not paths:
        raise ValueError("paths must name at least one file, got none")
    contents, ids = [], []
    for path in paths:
        content = _read_bytes(path)
        if not content or len(content) % CIFAR_RECORD or max(content[::CIFAR_RECORD]) > 9:
            allowed = f"records of {CIFAR_RECORD} bytes, the first a label 0..9 (no pickle is read)"
            raise ValueError(
                f"{path} must be CIFAR-10's binary version, {allowed}; {_begins(content)}"
            )
        contents.append(content)
        ids += [f"{Path(path).stem}-{i}" for i in range(len(content) // CIFAR_RECORD)]
    records = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, CIFAR_RECORD)
    red, green, blue = records[:, 1:].reshape(-1, 3, 32, 32).transpose(1, 0, 2, 3)
    grey = (299.0 * red + 587.0 * green + 114.0 * blue) / 255_000
    return Images(grey, records[:, 0], ids, "cifar10")


def resize(images: Images, size: int | tuple[int, int]) -> Images:
    """Return the images at ``size`` (height, width; one integer for both), by area averaging.

    Each new pixel is the mean of the old image over the area it covers, so that the mean grey
    value of every image is kept, for every size.
    """
    shape = size if isinstance(size, tuple) else (size, size)
    if len(shape) != 2 or not all(map(_is_count, shape)):
        raise ValueError(f"size must be an integer >= 1 or a pair of them, got {size!r}")
    rows, columns = map(_averages, images.pixels.shape[1:], shape)
    # rounding may leave a white pixel at 1 + 2e-16
    return replace(images, pixels=np.clip(rows @ images.pixels @ columns.T, 0, 1))


def _averages(old: int, new: int) -> NDArray[np.float64]:
    """Row i: the share of each of ``old`` pixels in the i-th of ``new`` equal intervals."""
    edges = np.arange(new + 1)[:, None] * (old / new)
    return np.diff(np.clip(edges - np.arange(old), 0, 1), axis=0) * (new / old)


def project(X: ArrayLike, n_features: int, rng: np.random.Generator | int) -> NDArray[np.float64]:
    """Return ``X R`` of shape (P, n_features), R with entries N(0, 1/n_features).

    The random projection keeps squared lengths, and inner products, on average over R.
    """
    X = check_inputs(X)
    n_features = check_count("n_features", n_features)
    R = check_rng("rng", rng).standard_normal((X.shape[1], n_features))
    return X @ R / math.sqrt(n_features)


def parse_groups(groups: Groups) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return two disjoint groups of classes: ``"3,8 | 4,9"`` becomes ``((3, 8), (4, 9))``.

    Groups may come as a pair, each written ``"3,8"`` or as a sequence of integers. ValueError
    unless there are two, none empty, of integers >= 0 that are all different.

    Examples
    --------
    >>> from tlnb.data.images import parse_groups
    >>> parse_groups("3,8 | 4,9") == parse_groups([(3, 8), (4, 9)])
    True
    """
    try:
        pair = groups.split("|") if isinstance(groups, str) else groups
        texts = [part if isinstance(part, str) else ",".join(map(str, part)) for part in pair]
    except TypeError:
        texts = []
    classes = re.findall(r"\d+", " ".join(texts))
    written = all(re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text) for text in texts)
    if len(texts) != 2 or not written or len(set(map(int, classes))) != len(classes):
        allowed = 'two disjoint groups of classes such as "3,8|4,9"'
        raise ValueError(f"groups must be {allowed}, got {groups!r}")
    plus, minus = (tuple(map(int, text.split(","))) for text in texts)
    return plus, minus


class TransferTasks(NamedTuple):
    """Four tasks that share no image; ``validation`` is None if none was asked for."""

    source: Task
    target: Task
    validation: Task | None
    test: Task


def transfer_tasks(
    images: Images,
    source: Groups,
    target: Groups,
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
    source, target : str or pair of groups
        The groups of classes (:func:`parse_groups`), labelled +1 | -1. The two may share classes
        in any way, or be the same; the tasks are named after them.
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

    Raises
    ------
    ValueError, TypeError
        For bad groups, classes that the pool lacks, numbers that leave a class without an image or
        ask for more than there are.

    Examples
    --------
    >>> from tlnb.data.images import digits, transfer_tasks
    >>> low = "0,1,2,3,4|5,6,7,8,9"
    >>> source, target, _, test = transfer_tasks(
    ...     digits(), low, low, n_source=400, n_target=20, n_test=200
    ... )
    >>> source.n_examples, target.n_examples, test.n_examples
    (400, 20, 200)
    """
    if not isinstance(images, Images):
        raise TypeError(f"images must be of type Images, got {type(images).__name__}")
    draw_rng, projection_rng = check_rng("seed", seed).spawn(2)
    of_source, of_target = parse_groups(source), parse_groups(target)
    numbers = {"test": n_test, "validation": n_validation, "target": n_target, "source": n_source}
    numbers = {kind: n for kind, n in numbers.items() if n or kind != "validation"}
    groups = dict.fromkeys(numbers, of_target) | {"source": of_source}
    rows = _draw(images, groups, numbers, draw_rng)
    labels, ids = images.labels[rows], images.ids[rows]
    chosen = Images(images.pixels[rows], labels, ids, images.name)
    X = (chosen if size is None else resize(chosen, size)).pixels.reshape(len(rows), -1)
    if n_features is not None:
        X = project(X, n_features, projection_rng)
    if normalize:
        training = X[-(n_target + n_source) :]
        mean = training.mean(axis=0)
        scale = math.sqrt(np.mean((training - mean) ** 2))
        if scale == 0:
            raise ValueError(f"images of {images.name} are all alike: they cannot be normalised")
        X = (X - mean) / scale

    tasks: dict[str, Task] = {}
    end = 0
    for kind, n in numbers.items():
        part, end = slice(end, end + n), end + n
        y = np.where(np.isin(labels[part], groups[kind][0]), 1.0, -1.0)
        tasks[kind] = Task(X[part], y, ids[part], _name(groups[kind]))
    assert_disjoint(*tasks.values())
    validation = tasks.get("validation")
    return TransferTasks(tasks["source"], tasks["target"], validation, tasks["test"])


def assert_disjoint(*tasks: Task) -> None:
    """Raise a ValueError that names them if examples are in two of the tasks, or have no ids."""
    known: list[tuple[str, set[Any]]] = []
    for task in tasks:
        ids = getattr(task, "ids", None)
        name = getattr(task, "name", type(task).__name__)
        if ids is None:
            raise ValueError(f"tasks must have ids, to tell examples apart, got {name!r}")
        known.append((name, set(ids.tolist())))
    for (a, of_a), (b, of_b) in combinations(known, 2):
        if shared := sorted(of_a & of_b, key=str):
            both = f"{a!r} and {b!r} share {len(shared)}, such as {shared[0]}"
            raise ValueError(f"tasks must share no example, {both}")


def _draw(
    images: Images,
    groups: dict[str, tuple[Any, ...]],
    numbers: dict[str, int],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return rows of the pool for each kind of task, one kind after the other, none twice."""
    known = np.unique(images.labels).tolist()
    shares = []
    for kind, n in numbers.items():
        if unknown := [c for group in groups[kind] for c in group if c not in known]:
            allowed = f"among {', '.join(map(str, known))}, those of {images.name}"
            raise ValueError(f"classes must be {allowed}, got {', '.join(map(str, unknown))}")
        halves = ((n + 1) // 2, n // 2) if _is_count(n) else (0, 0)
        share = {
            c: (half + len(group) - 1 - k) // len(group)
            for group, half in zip(groups[kind], halves, strict=True)
            for k, c in enumerate(group)
        }
        if min(share.values()) < 1:
            allowed = f"an integer that gives every class of {_name(groups[kind])} an image"
            raise ValueError(f"n_{kind} must be {allowed}, got {n!r}")
        shares.append(share)
    rows: list[list[NDArray[np.int64]]] = [[] for _ in shares]
    for c in known:
        members = rng.permutation(np.flatnonzero(images.labels == c))
        ends = np.cumsum([share.get(c, 0) for share in shares])
        if ends[-1] > len(members):
            asked = f"n_{', n_'.join(numbers)} ask for {ends[-1]} images of class {c}"
            raise ValueError(f"{asked}, {images.name} has {len(members)}")
        for mine, part in zip(rows, np.split(members, ends)[:-1], strict=True):
            mine.append(part)
    return np.concatenate([rng.permutation(np.concatenate(parts)) for parts in rows])


def _name(groups: Sequence[Sequence[int]]) -> str:
    return "|".join(",".join(map(str, group)) for group in groups)


def _read_bytes(path: File) -> bytes:
    content = Path(path).read_bytes()
    try:
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} must be a whole gzip file: {error}") from error


def _begins(content: bytes) -> str:
    return f"it has {len(content)} bytes and begins with {content[:4].hex(' ') or 'nothing'}"


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _kind(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"
