"""Files of every kind hold the same data; codes of classes by hand; what is refused, and how."""

from __future__ import annotations

import builtins
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike
from pandas import DataFrame

from tlnb.data import tables
from tlnb.data.tables import LabelledData, class_codes, class_tasks, read

X = np.random.default_rng(0).standard_normal((12, 3))
Y = np.arange(12) % 2 * 2 - 1


def table(y: ArrayLike = Y, X: np.ndarray = X, label: str = "y") -> DataFrame:
    return pd.DataFrame(X, columns=["a", "b", "c"]).assign(**{label: y})


def write(path: Path, frame: Any) -> Path:
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".CSV"])
@pytest.mark.parametrize("label", ["y", "label", "digit"])
def test_a_table_is_what_was_written(tmp_path: Path, suffix: str, label: str) -> None:
    path = tmp_path / f"t{suffix}"
    frame = table(label=label)
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_csv(path, index=False)
    data = read(path, label="digit" if label == "digit" else None)
    np.testing.assert_array_equal(data.X, X)
    np.testing.assert_array_equal(data.y, Y)
    assert data.X_test is data.y_test is None


def test_all_kinds_of_file_agree_and_a_table_may_bring_a_test_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X=X, y=Y, X_test=X[:4] + 1, y_test=Y[:4])
    write(tmp_path / "t.csv", table())
    write(tmp_path / "held.parquet", table(Y[:4], X[:4] + 1))
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", Y)
    whole = read(tmp_path / "t.npz")
    for found, expected in zip(
        read(tmp_path / "t.csv", test=tmp_path / "held.parquet"), whole, strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    for pair in ((X, Y), (tmp_path / "X.npy", str(tmp_path / "y.npy"))):
        np.testing.assert_array_equal(read(pair).X, whole.X)
        np.testing.assert_array_equal(read(pair).y, whole.y)


# labels


def test_two_classes_are_coded_plus_and_minus_one() -> None:
    for labels in ((0, 1), (-1, 1), (0.25, 0.75), (3, 8), (False, True)):
        y = np.array(labels)[np.arange(6) % 2]
        tasks, tests, classes = class_tasks(LabelledData(X[:6], y, X[:2], y[:2]), name="t")
        np.testing.assert_array_equal(tasks[0].y, np.tile([-1, 1], 3))
        np.testing.assert_array_equal(tests[0].y, [-1, 1])
        assert len(tasks) == len(tests) == 1 and list(classes) == list(labels)


def test_codes_of_many_classes() -> None:
    y = np.arange(12) % 4
    codes = class_codes(y, np.arange(4))
    np.testing.assert_allclose(codes.mean(axis=1), 0, atol=1e-15)
    np.testing.assert_allclose((codes**2).mean(axis=1), 1)
    assert (codes.argmax(axis=0) == y).all() and len(np.unique(codes)) == 2
    tasks, tests, classes = class_tasks(LabelledData(X, y.astype(float)), name="digits")
    assert [task.name for task in tasks] == [f"digits: {c:.1f}" for c in range(4)]
    assert tests is None and list(classes) == [0, 1, 2, 3]
    np.testing.assert_array_equal([task.y for task in tasks], codes)


def test_other_numbers_are_values_and_the_user_has_the_last_word() -> None:
    values = X[:, 0]
    (task,), _, classes = class_tasks(LabelledData(X, values))
    np.testing.assert_array_equal(task.y, values)
    assert classes is None
    counts = np.arange(12) % 4
    (task,), _, classes = class_tasks(LabelledData(X, counts), "values")
    np.testing.assert_array_equal(task.y, counts)
    assert classes is None
    assert len(class_tasks(LabelledData(X, np.tile([0.1, 0.2, 0.3], 4)), "classes")[0]) == 3


@pytest.mark.parametrize(
    "data, message",
    [
        (LabelledData(X, np.ones(12)), "t: y must hold at least two classes, all are 1.0"),
        (LabelledData(X, np.arange(12)), "fewer classes than examples, got 12 classes in 12"),
        (LabelledData(X, Y, X[:1], np.array([7])), "y_test must hold classes among -1, 1, got 7"),
    ],
)
def test_labels_that_make_no_task(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_tasks(data, name="t")


# refusals


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    "frame, message",
    [
        (table().assign(b="blue"), "column 'b' must hold real numbers, got 'blue' .* drop it"),
        (table(["cat", "dog"] * 6), "column 'y' must hold real numbers, got 'cat' .* 0, 1"),
        (table([1.0, np.nan, 3.0, np.nan] * 3), "column 'y' lacks 6 values, the first in row 2"),
        (table().assign(c=[np.nan] + [1.0] * 11), "column .c. lacks 1 values, the first in row 1"),
        (table().drop(columns="y"), "must have a column of labels, y or label"),
        (table()[["y"]], r"must have columns of features, got shape \(12, 1\)"),
        (table().iloc[:0], "must have rows"),
        (table().replace(X[3, 1], np.inf), "got inf"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, suffix: str, frame: Any, message: str) -> None:
    path = write(tmp_path / f"t{suffix}", frame)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".npy"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    for content in (b"", b"\x89PNG\r\n\x1a\n\0\xff", b"PAR1 but no more"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="must "):
            read((path, path) if suffix == ".npy" else path)
    name = tmp_path / f"missing{suffix}"
    with pytest.raises(OSError, match="missing"):
        read((name, name) if suffix == ".npy" else name)


def test_other_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, npz = write(tmp_path / "t.csv", table()), tmp_path / "t.npz"
    np.savez(npz, X=X, y=Y)
    for call, message in [
        (lambda: read(tmp_path / "t.xlsx"), "must be a file that ends in .npz, .csv, .parquet"),
        (lambda: read(npz, label="y"), "label and test are for tables"),
        (lambda: read(good, label="z"), "must have a column 'z' of labels, it has a, b, c, y"),
        (lambda: read((X,)), "pair of arrays X, y, got 1"),
        (lambda: read((X, Y[1:])), r"y must be .* shape \(12,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    other = write(tmp_path / "o.csv", table().rename(columns={"a": "d"}))
    with pytest.raises(ValueError, match="must have the feature columns of"):
        read(good, test=other)
    np.savez(npz, X=X, y=np.array([{}]))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        read(npz)

    inner = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> ModuleType:
        if name.startswith(("pyarrow", "fastparquet")):
            raise ImportError(name)
        return inner(name, *arguments, **options)

    path = write(tmp_path / "t.parquet", table())
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(pd, "read_parquet", lambda path: without("pyarrow"))
    with pytest.raises(ImportError, match=r"pip install 'tlnb\[parquet\]'"):
        tables.read(path)
