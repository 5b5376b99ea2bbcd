"""Readers against files written here; tasks by their counts, their ids and their norms."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlnb.data import images as im
from tlnb.data.images import Images, TransferTasks
from tlnb.data.task import Task


def idx_bytes(array: np.ndarray, code: int) -> bytes:
    header = struct.pack(">HBB", 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.dtype(im.IDX_TYPES[code]).newbyteorder(">")).tobytes()


@pytest.fixture
def mnist_files(tmp_path: Path) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 3, 5))
    labels = np.array([0, 1, 2, 0, 1, 2])
    (tmp_path / "pixels").write_bytes(idx_bytes(pixels, 0x08))
    (tmp_path / "labels").write_bytes(gzip.compress(idx_bytes(labels, 0x08)))
    return tmp_path / "pixels", tmp_path / "labels", pixels, labels


def pool(
    n_per_class: int = 20, n_classes: int = 6, shape: tuple[int, int] = (4, 4), seed: int = 0
) -> Images:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(n_classes), n_per_class))
    pixels = rng.uniform(size=(len(labels), *shape))
    return im.Images(pixels, labels, np.arange(len(labels)), "pool")


# files


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "code, values",
    [
        (0x08, [0, 1, 255]),
        (0x09, [-128, 0, 127]),
        (0x0B, [-32768, 258, 32767]),
        (0x0C, [-(2**31), 16909060, 2**31 - 1]),
        (0x0D, [-1.5, 0.0, 3.25e7]),
        (0x0E, [-np.pi, 1e-300, np.e]),
    ],
)
def test_idx_round_trip(tmp_path: Path, code: int, values: list, compress: Any) -> None:
    array = np.array(values).reshape(1, 3, 1)
    path = tmp_path / "array.idx"
    path.write_bytes(compress(idx_bytes(array, code)))
    read = im.read_idx(path)
    np.testing.assert_array_equal(read, array)
    assert read.dtype.isnative and read.flags.writeable


GOOD = idx_bytes(np.arange(6).reshape(2, 3), 0x08)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "begins with nothing"),
        (b"\0\0\x08", "begins with 00 00 08"),
        (b"\x89PNG\r\n\x1a\n", "begins with 89 50 4e 47"),
        (b"\0\0\x0a\1\0\0\0\1\0", "begins with 00 00 0a 01"),
        (b"\0\0\x08\0", "begins with 00 00 08 00"),
        (b"\0\1" + GOOD[2:], "begins with 00 01"),
        (b"\0\0\x08\0\1", "5 bytes and begins with 00 00 08 00"),
        (b"\0\0\x08\x41" + b"\0\0\0\1" * 65 + b"a", "begins with 00 00 08 41"),
        (idx_bytes(np.zeros((0, 4)), 0x08), "entries.; it has 12 bytes"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 0), "entries.; it has 16 bytes"),
        (GOOD[:9], "entries.; it has 9 bytes"),
        (GOOD[:-1], r"18 bytes, as its header of shape \(2, 3\) says; it has 17"),
        (GOOD + b"\0", "it has 19"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 9) + b"a", "it has 17"),
        (gzip.compress(GOOD, mtime=0)[:-9], "whole gzip file"),
        (gzip.compress(GOOD, mtime=0)[:-8] + bytes(8), "whole gzip file"),
        (gzip.compress(GOOD, mtime=0) + b"more", "whole gzip file"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\xff" * 20, "whole gzip file"),
    ],
)
def test_idx_refuses(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "bad.idx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        im.read_idx(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("read", [im.read_idx, im.read_cifar10])
def test_what_is_not_a_file_is_an_os_error(tmp_path: Path, read: Any) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        read(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


def test_mnist_pair(mnist_files: tuple[Path, Path, np.ndarray, np.ndarray]) -> None:
    pixels_path, labels_path, pixels, labels = mnist_files
    images = im.read_mnist(pixels_path, labels_path)
    np.testing.assert_allclose(images.pixels, pixels / 255, rtol=1e-15)
    np.testing.assert_array_equal(images.labels, labels)
    assert images.ids[2] == "pixels-2" and images.name == "pixels"


def test_emnist_images_are_turned_upright(
    mnist_files: tuple[Path, Path, np.ndarray, np.ndarray],
) -> None:
    pixels_path, labels_path, pixels, _ = mnist_files
    images = im.read_mnist(pixels_path, labels_path, transposed=True)
    assert images.pixels.shape == (6, 5, 3)
    np.testing.assert_allclose(images.pixels[4, 1], pixels[4, :, 1] / 255, rtol=1e-15)


def test_mnist_files_must_fit_each_other(
    tmp_path: Path, mnist_files: tuple[Path, Path, np.ndarray, np.ndarray]
) -> None:
    pixels_path, labels_path, pixels, labels = mnist_files
    with pytest.raises(ValueError, match=r"\(n, height, width\) and .* got uint8 of shape \(6,\)"):
        im.read_mnist(labels_path, pixels_path)
    short = tmp_path / "short"
    short.write_bytes(idx_bytes(labels[:5], 0x08))
    with pytest.raises(ValueError, match=r"shape \(6, 3, 5\) and uint8 of shape \(5,\)"):
        im.read_mnist(pixels_path, short)
    short.write_bytes(idx_bytes(pixels / 255, 0x0D))
    with pytest.raises(ValueError, match=r"unsigned bytes .* got float32"):
        im.read_mnist(short, labels_path)


def cifar_bytes(labels: list[int], pixels: np.ndarray) -> bytes:
    return b"".join(bytes([label]) + p.tobytes() for label, p in zip(labels, pixels, strict=True))


def test_cifar_is_read_in_grey(tmp_path: Path) -> None:
    colours = np.zeros((5, 3, 32, 32), np.uint8)
    colours[0] = 255
    for channel in range(3):
        colours[1 + channel, channel] = 255
    colours[4, 1, 3, 7] = 100
    (tmp_path / "one.bin").write_bytes(cifar_bytes([9, 0, 3], colours[:3]))
    (tmp_path / "two.bin").write_bytes(gzip.compress(cifar_bytes([4, 1], colours[3:])))
    images = im.read_cifar10([tmp_path / "one.bin", tmp_path / "two.bin"])
    np.testing.assert_array_equal(images.labels, [9, 0, 3, 4, 1])
    # The weights of ITU-R BT.601 for red, green and blue.
    np.testing.assert_allclose(images.pixels[:4, 5, 5], [1, 0.299, 0.587, 0.114], rtol=1e-15)
    assert np.argwhere(images.pixels[4]).tolist() == [[3, 7]]
    assert images.ids.tolist() == ["one-0", "one-1", "one-2", "two-0", "two-1"]
    np.testing.assert_array_equal(im.read_cifar10(tmp_path / "two.bin").pixels, images.pixels[3:])


def test_cifar_refuses(tmp_path: Path) -> None:
    path = tmp_path / "batch"
    good = cifar_bytes([3, 4], np.zeros((2, 3, 32, 32), np.uint8))
    for content, message in [
        (pickle.dumps({b"data": [1, 2]}, protocol=2), "binary version, .*no pickle.* with 80 02"),
        (b"", "has 0 bytes and begins with nothing"),
        (good[:-1], "records of 3073 bytes, .* has 6145 bytes"),
        (b"\x0a" + good[1:], r"a label 0\.\.9 .* begins with 0a"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            im.read_cifar10(path)
    path.write_bytes(good)
    with pytest.raises(ValueError, match="distinct"):
        im.read_cifar10([path, path])
    with pytest.raises(ValueError, match="at least one"):
        im.read_cifar10([])


# pools


def test_digits() -> None:
    images = im.digits()
    assert images.pixels.shape == (1797, 8, 8) and images.pixels.max() == 1
    assert images.ids[17] == "digits-17"
    np.testing.assert_array_equal(np.unique(images.labels), np.arange(10))


def test_pool_is_checked() -> None:
    good: dict[str, Any] = {"pixels": np.zeros((2, 3, 3)), "labels": [0, 1], "ids": ["a", "b"]}
    for change, message in [
        (
            {"pixels": np.zeros((2, 9))},
            r"shape \(n, height, width\), got float64 of shape \(2, 9\)",
        ),
        ({"pixels": np.zeros((0, 3, 3))}, r"got float64 of shape \(0, 3, 3\)"),
        ({"pixels": np.zeros((2, 3, 3), complex)}, "real numbers .* got complex128"),
        ({"pixels": np.full((2, 3, 3), "0")}, "real numbers .* got <U1"),
        ({"pixels": np.full((2, 3, 3), None)}, "real numbers .* got object"),
        ({"pixels": np.full((2, 3, 3), 255.0)}, r"\[0, 1\], got values from 255"),
        ({"pixels": np.full((2, 3, 3), np.nan)}, "from nan"),
        ({"labels": [0.5, 1]}, "2 integers.*float64"),
        ({"labels": [0]}, r"got int64 of shape \(1,\)"),
        ({"ids": ["a", "a"]}, "2 distinct"),
        ({"ids": [None, None]}, "2 distinct"),
    ]:
        with pytest.raises(ValueError, match=message):
            im.Images(**(good | change))
    images = im.Images(**(good | {"ids": None, "name": "mine"}))
    assert images.ids.tolist() == ["mine-0", "mine-1"]
    assert im.Images(**(good | {"ids": [None, 1]})).ids[1] == 1
    with pytest.raises(ValueError, match="read-only"):
        images.pixels[0] = 1


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 14, (3, 12), (28, 1)])
def test_resize_keeps_the_mean_of_every_image(size: int | tuple[int, int]) -> None:
    images = pool(shape=(6, 7))
    small = im.resize(images, size)
    np.testing.assert_allclose(
        small.pixels.mean(axis=(1, 2)), images.pixels.mean(axis=(1, 2)), rtol=1e-13
    )
    assert small.pixels.shape[1:] == (size if isinstance(size, tuple) else (size, size))
    np.testing.assert_array_equal(small.ids, images.ids)


def test_resize_identities() -> None:
    images = pool(shape=(6, 4))
    np.testing.assert_allclose(im.resize(images, (6, 4)).pixels, images.pixels, rtol=1e-14)
    blocks = images.pixels.reshape(-1, 3, 2, 2, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(im.resize(images, (3, 2)).pixels, blocks, rtol=1e-14)
    twice = im.resize(images, (12, 8)).pixels
    np.testing.assert_allclose(twice, images.pixels.repeat(2, axis=1).repeat(2, axis=2), rtol=1e-13)
    white = im.Images(np.ones((1, 7, 7)), [0], [0])
    np.testing.assert_allclose(im.resize(white, (5, 11)).pixels, 1, rtol=1e-14)
    for size in (0, 2.5, True, "4", (2, 0), (2, 2, 2)):
        with pytest.raises(ValueError, match="size must be"):
            im.resize(images, size)


def test_projection_keeps_inner_products_on_average() -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((3, 40))
    draws = np.array([P @ P.T for P in (im.project(X, 25, rng) for _ in range(2000))])
    errors = (draws.mean(axis=0) - X @ X.T) / (draws.std(axis=0) / np.sqrt(len(draws)))
    assert np.abs(errors).max() < 4
    np.testing.assert_array_equal(im.project(X, 5, 3), im.project(X, 5, 3))
    np.testing.assert_allclose(im.project(2 * X, 5, 3), 2 * im.project(X, 5, 3), rtol=1e-14)
    for n in (0, 2.5, True):
        with pytest.raises((ValueError, TypeError), match=f"n_features .* got {n}"):
            im.project(X, n, rng)


# groups and tasks


@given(st.lists(st.integers(0, 99), min_size=2, max_size=8, unique=True), st.data())
def test_groups_round_trip(classes: Any, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(classes) - 1))
    groups = (tuple(classes[:cut]), tuple(classes[cut:]))
    space = data.draw(st.sampled_from(["", " "]))
    text = f"{space}|{space}".join(f"{space},".join(map(str, g)) for g in groups)
    assert im.parse_groups(text) == groups == im.parse_groups(groups)
    assert im.parse_groups(text.split("|")) == groups == im.parse_groups(np.array(groups, object))


@pytest.mark.parametrize(
    "groups",
    [
        *("", "3,8", "3|8|4", "3,8|8,4", "3,3|4", "3,|4", "|4", "A|B", "-1|2", "1.5|2", "1|²"),
        *(((1,), (2,), (3,)), ((1,), ()), ((1.0,), (2,)), ((True,), (2,)), (1, 2), 7, None),
    ],
)
def test_groups_refuse(groups: Any) -> None:
    with pytest.raises(ValueError, match="two disjoint groups") as error:
        im.parse_groups(groups)
    assert repr(groups) in str(error.value)


def draw(
    images: Images | None = None,
    source: im.Groups = "0,1|2,3",
    target: im.Groups = "0,1|2,4",
    **options: Any,
) -> TransferTasks:
    sizes: dict[str, Any] = {"n_source": 24, "n_target": 8, "n_test": 12}
    return im.transfer_tasks(images or pool(), source, target, **(sizes | options))


@given(
    groups=st.lists(
        st.permutations(range(6)).map(lambda p: ((p[0], p[1]), (p[2],))), min_size=2, max_size=2
    ),
    sizes=st.tuples(*[st.integers(3, 11)] * 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_tasks_are_disjoint_and_balanced(groups: Any, sizes: Any, seed: int) -> None:
    images = pool(30)
    keys = ("n_source", "n_target", "n_validation", "n_test")
    tasks = im.transfer_tasks(
        images, *groups, **dict(zip(keys, sizes, strict=True)), seed=seed, normalize=False
    )
    assert [task.n_examples for task in tasks] == list(sizes)
    all_ids = np.concatenate([task.ids for task in tasks])
    assert len(np.unique(all_ids)) == sum(sizes)
    for task, (plus, minus) in zip(tasks, [groups[0]] + 3 * [groups[1]], strict=True):
        classes = images.labels[task.ids]
        np.testing.assert_array_equal(task.y, np.where(np.isin(classes, plus), 1, -1))
        assert set(classes) <= {*plus, *minus}
        assert 0 <= task.y.sum() <= 1
        counts = [np.sum(classes == c) for c in plus]
        assert 0 <= counts[0] - counts[1] <= 1
        np.testing.assert_array_equal(task.X, images.pixels[task.ids].reshape(len(task.ids), -1))


def test_tasks_reproduce_by_seed() -> None:
    first, again, other = draw(seed=5), draw(seed=5), draw(seed=6)
    for a, b, c in zip(first, again, other, strict=True):
        if a is None:
            continue
        np.testing.assert_array_equal(a.X, b.X)
        np.testing.assert_array_equal(a.ids, b.ids)
        assert not np.array_equal(a.ids, c.ids)


def test_target_and_test_do_not_depend_on_the_source() -> None:
    few, many = draw(n_features=5), draw(source="3|5", n_source=30, n_features=5)
    np.testing.assert_array_equal(few.test.ids, many.test.ids)
    np.testing.assert_array_equal(few.target.ids, many.target.ids)
    more = draw(n_source=30)
    assert set(few.source.ids.tolist()) < set(more.source.ids.tolist())
    # one projection for both: up to centring and scale the test inputs are the same
    a, b = (np.diff(tasks.test.X, axis=0) for tasks in (few, many))
    np.testing.assert_allclose(a / np.linalg.norm(a), b / np.linalg.norm(b), rtol=1e-10)


@pytest.mark.parametrize("options", [{}, {"size": 3}, {"n_features": 7}])
def test_normalisation_is_that_of_the_training_inputs(options: dict[str, Any]) -> None:
    tasks, raw = (draw(n_validation=6, normalize=n, **options) for n in (True, False))
    training = np.concatenate([tasks.source.X, tasks.target.X])
    np.testing.assert_allclose(training.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(np.mean(np.sum(training**2, axis=1)) / training.shape[1], 1)
    scale = np.ptp(tasks.test.X[:, 0]) / np.ptp(raw.test.X[:, 0])
    offset = tasks.test.X[0] - scale * raw.test.X[0]
    for task, plain in zip(tasks, raw, strict=True):
        np.testing.assert_allclose(task.X, scale * plain.X + offset, atol=1e-12)


def test_identical_task_on_disjoint_images_and_names() -> None:
    tasks = draw(source="0,1|2,4", target=((0, 1), (2, 4)))
    assert tasks.source.name == tasks.target.name == tasks.test.name == "0,1|2,4"
    assert tasks.validation is None
    assert not set(tasks.source.ids.tolist()) & set(tasks.target.ids.tolist())


def test_tasks_refuse() -> None:
    for images in (None, pool().pixels):
        with pytest.raises(
            TypeError, match=r"images must be of type Images, got (NoneType|ndarray)"
        ):
            im.transfer_tasks(images, "0|1", "0|1", n_source=2, n_target=2, n_test=2)
    for options, message in [
        ({"source": "0|9"}, "classes must be among 0, 1, 2, 3, 4, 5, .* got 9"),
        ({"target": "0|0"}, "two disjoint groups"),
        ({"n_source": 70}, "n_source ask for 23 images of class 0, pool has 20"),
        ({"n_source": 8.0}, r"n_source must be an integer .* got 8\.0"),
        ({"n_source": True}, "n_source must be an integer .* got True"),
        ({"seed": -1}, "seed must be an integer >= 0 or a Generator, got -1"),
        ({"seed": "a"}, "seed must be an integer >= 0 or a Generator, got 'a'"),
        ({"n_target": 3}, "n_target must .* every class of 0,1.2,4 an image, got 3"),
        ({"n_test": 0}, "n_test .* got 0"),
        ({"n_source": -4}, "n_source .* got -4"),
        ({"images": im.Images(np.ones((9, 2, 2)), np.arange(9) % 3, np.arange(9)), "source": "0|1",
          "target": "0|1", "n_source": 2, "n_target": 2, "n_test": 2}, "all alike"),
    ]:  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=message):
            draw(**options)


def test_assert_disjoint() -> None:
    X, y = np.eye(3), np.ones(3)
    a, b, c = Task(X, y, [0, 1, 2], "a"), Task(X, y, [3, 4, 5], "b"), Task(X, y, [9, 5, 1], "c")
    im.assert_disjoint(a, b)
    with pytest.raises(ValueError, match="'a' and 'c' share 1, such as 1"):
        im.assert_disjoint(a, b, c)
    with pytest.raises(ValueError, match="'a' and 'a' share 3, such as 0"):
        im.assert_disjoint(a, a)
    with pytest.raises(ValueError, match=r"must have ids, .* got 'd'"):
        im.assert_disjoint(a, Task(X, y, name="d"))
    with pytest.raises(ValueError, match=r"must have ids, .* got .ndarray"):
        im.assert_disjoint(a, X)
    im.assert_disjoint(a, Task(X, y, ["0", "1", "2"]))
