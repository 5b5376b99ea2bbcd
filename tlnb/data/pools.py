"""Pools of images by the folder that holds them, whatever the data set calls its files.

MNIST, Fashion-MNIST and EMNIST come as pairs of IDX files, CIFAR-10 as batches of its binary
version. One function reads them all, so that whatever runs on one of them runs on the others.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from tlnb.data.images import Images, digits, read_cifar10, read_mnist
from tlnb.validation import check_choice

__all__ = ["PARTS", "read_pool"]

PARTS = ("test", "train", "all")
_IMAGES = re.compile(r"(?P<head>.*)images(?P<middle>[-.]idx)3(?P<tail>-ubyte(\.gz)?)", re.I)
_CIFAR = {"train": "data_batch_*.bin", "test": "test_batch.bin"}


def read_pool(place: str | os.PathLike[str], part: str = "test") -> Images:
    """Read the pool of images that a folder holds.

    Parameters
    ----------
    place : path, or "digits"
        A folder with files of MNIST, Fashion-MNIST, EMNIST or CIFAR-10 (binary version), by the
        names that they are given out under: ``t10k-images-idx3-ubyte.gz``, ``test_batch.bin``, ...
        EMNIST's images are turned upright. "digits": scikit-learn's, which need no file.
    part : {"test", "train", "all"}
        Which of the data set's files. The test set of MNIST, 10 000 images, is enough for most
        questions about transfer. Ignored for digits.

    Raises
    ------
    FileNotFoundError
        If the folder, or files of the part asked for, are not there.
    ValueError
        If files are damaged, or the folder holds more than one data set.
    """
    check_choice("part", part, PARTS)
    if place == "digits":
        return digits()
    folder = Path(place)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder} of images (or 'digits')")
    parts = PARTS[:2] if part == "all" else (part,)
    names = sorted(path.name for path in folder.iterdir())
    pairs = [found for name in names if (found := _IMAGES.fullmatch(name)) and _of(name, parts)]
    if heads := {re.sub(r"(train|t10k|test)[-.]?$", "", pair["head"]) for pair in pairs}:
        if len(heads) > 1 or len(pairs) > len(parts):
            held = ", ".join(pair.group() for pair in pairs)
            raise ValueError(f"{folder} must hold one data set, it holds {held}")
        return _join([_read(folder, pair) for pair in pairs])
    batches = sorted(path for name in parts for path in folder.glob(_CIFAR[name]))
    if batches:
        return read_cifar10(batches)
    asked = "test or training" if part == "all" else {"test": "test", "train": "training"}[part]
    raise FileNotFoundError(
        f"{folder} holds no {asked} images: IDX files such as t10k-images-idx3-ubyte.gz with their "
        "labels, or CIFAR-10's .bin files"
    )


def _of(name: str, parts: tuple[str, ...]) -> bool:
    return ("train" if "train" in name.lower() else "test") in parts


def _read(folder: Path, pair: re.Match[str]) -> Images:
    compressed = pair["tail"].removesuffix(".gz")
    stem = f"{pair['head']}labels{pair['middle']}1{compressed}"
    labels = next((p for p in (folder / stem, folder / f"{stem}.gz") if p.exists()), None)
    if labels is None:
        raise FileNotFoundError(f"{folder} holds {pair.group()} without its labels {stem}")
    transposed = pair["head"].lower().startswith("emnist")
    return read_mnist(folder / pair.group(), labels, transposed=transposed)


def _join(pools: list[Images]) -> Images:
    if len(pools) == 1:
        return pools[0]
    return Images(
        np.concatenate([pool.pixels for pool in pools]),
        np.concatenate([pool.labels for pool in pools]),
        np.concatenate([pool.ids for pool in pools]),
        " and ".join(pool.name for pool in pools),
    )
