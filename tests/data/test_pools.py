"""Folders as the data sets are given out, written here in miniature."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlnb.data.images import digits
from tlnb.data.pools import read_pool


def idx(array: Any) -> bytes:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def images(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 2, 3)), rng.integers(0, 10, n)


def write(
    folder: Path, head: Any, n: int, seed: int = 0, dot: str = "-", compress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = images(n, seed)
    for kind, d, array in (("images", 3, pixels), ("labels", 1, labels)):
        content = idx(array)
        name = f"{head}{kind}{dot}idx{d}-ubyte" + (".gz" if compress else "")
        (folder / name).write_bytes(gzip.compress(content) if compress else content)
    return pixels / 255, labels


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dot", ["-", "."])
def test_mnist_by_its_folder(tmp_path: Path, dot: str, compress: bool) -> None:
    test = write(tmp_path, "t10k-", 4, 1, dot, compress)
    train = write(tmp_path, "train-", 6, 2, dot, compress)
    for part, expected in (("test", test), ("train", train)):
        pool = read_pool(tmp_path, part)
        np.testing.assert_array_equal(pool.pixels, expected[0])
        np.testing.assert_array_equal(pool.labels, expected[1])
    both = read_pool(str(tmp_path), "all")
    np.testing.assert_array_equal(both.labels, [*test[1], *train[1]])
    assert len(set(both.ids.tolist())) == 10


def test_emnist_is_turned_upright(tmp_path: Path) -> None:
    pixels, _ = write(tmp_path, "emnist-letters-test-", 3)
    np.testing.assert_array_equal(read_pool(tmp_path).pixels, pixels.transpose(0, 2, 1))


def test_cifar_in_its_binary_version(tmp_path: Path) -> None:
    record = bytes([7]) + bytes(range(256)) * 12
    (tmp_path / "test_batch.bin").write_bytes(record)
    for k in (1, 2):
        (tmp_path / f"data_batch_{k}.bin").write_bytes(record * 2)
    assert [len(read_pool(tmp_path, p).labels) for p in ("test", "train", "all")] == [1, 4, 5]


def test_digits_need_no_file() -> None:
    np.testing.assert_array_equal(read_pool("digits").pixels, digits().pixels)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*missing of images"):
        read_pool(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="holds no test images: IDX files such as t10k"):
        read_pool(tmp_path)
    write(tmp_path, "train-", 2)
    with pytest.raises(FileNotFoundError, match="holds no test images"):
        read_pool(tmp_path)
    with pytest.raises(ValueError, match="part must be one of 'test', 'train', 'all'"):
        read_pool(tmp_path, "validation")
    write(tmp_path, "emnist-letters-train-", 2)
    with pytest.raises(ValueError, match="must hold one data set, it holds emnist-letters-train"):
        read_pool(tmp_path, "train")
    write(tmp_path, "t10k-", 2)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="without its labels t10k-labels-idx1-ubyte"):
        read_pool(tmp_path)
    write(tmp_path, "t10k-", 2)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\0")
    with pytest.raises(ValueError, match="must be an IDX file"):
        read_pool(tmp_path)
