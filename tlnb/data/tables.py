"""Tasks from files: .npz archives, .csv and .parquet tables; and from pairs of arrays.

A table has one column of labels, named by the user or else ``y`` or ``label``; every other column
is a feature, such as a pixel or the output of any backbone. Labels are classes or values:

* two distinct labels are two classes, coded as they are if they are ±1, else -1 for the lower;
* more, if they are whole numbers, are classes too: one task for each, that class against the rest;
* other numbers are values, of a regression.

The code of one class against the rest is y = sqrt(C - 1) for it and -1/sqrt(C - 1) for the others:
±1 for two classes; for C classes of equal size of mean zero and mean square one, which a network
without bias on centred inputs can fit.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.data.task import Task
from tlnb.validation import check_choice, check_inputs, check_labels

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "LabelledData", "class_codes", "class_tasks", "read"]

KINDS = ("auto", "classes", "values")
SUFFIXES = (".npz", ".csv", ".parquet")
LABEL_COLUMNS = ("y", "label")
ARRAYS = ("X", "y", "X_test", "y_test")


class LabelledData(NamedTuple):
    """Inputs and labels as read: ``X`` (P, N0), ``y`` (P,), and a test set if there is one."""

    X: NDArray[np.float64]
    y: NDArray[Any]
    X_test: NDArray[np.float64] | None = None
    y_test: NDArray[Any] | None = None


def read(
    source: str | os.PathLike[str] | tuple[ArrayLike | os.PathLike[str], ...],
    *,
    label: str | None = None,
    test: str | os.PathLike[str] | None = None,
) -> LabelledData:
    """Read labelled data from a file, or check a pair of arrays.

    Parameters
    ----------
    source : path or pair (X, y)
        An .npz archive with arrays X (P, N0), y (P,) and, if there is a test set, X_test, y_test;
        or a .csv or .parquet table. A pair: arrays, or the paths of .npy files. Nothing is
        unpickled.
    label : str, optional
        The column of labels of a table; by default y or label, whichever is there.
    test : path, optional
        A table of the same columns that holds the test set.

    Raises
    ------
    ValueError, TypeError
        For files of another kind or damaged ones, columns of text, missing values, labels that are
        not there.
    OSError
        If a file cannot be read.
    ImportError
        For .parquet without the reader that pandas needs: ``pip install 'tlnb[parquet]'``.

    Examples
    --------
    >>> from tlnb.data.tables import read
    >>> data = read(([[0.0, 1.0], [1.0, 0.0], [0.2, 0.9]], [3, 8, 3]))
    >>> data.X.shape, data.y, data.X_test is None
    ((3, 2), array([3, 8, 3]), True)
    """
    if isinstance(source, tuple):
        if len(source) != 2:
            raise ValueError(f"source must be a pair of arrays X, y, got {len(source)} of them")
        X, y = (_npy(a) if isinstance(a, (str, os.PathLike)) else a for a in source)
        return LabelledData(*_checked(X, y))
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path} must be a file that ends in {', '.join(SUFFIXES)}")
    if suffix == ".npz":
        if label is not None or test is not None:
            raise ValueError(f"label and test are for tables, {path} is an .npz file")
        return _read_npz(path)
    data = _from_table(path, label)
    if test is None:
        return LabelledData(*data[:2])
    held_out = _from_table(Path(test), data[2])
    if held_out[3] != data[3]:
        raise ValueError(f"{test} must have the feature columns of {path}, in the same order")
    return LabelledData(*data[:2], *held_out[:2])


def class_codes(y: ArrayLike, classes: ArrayLike) -> NDArray[np.float64]:
    """Codes (C, P) of each of C ≥ 2 classes against the rest; see the module.

    Two classes have codes ±1, the first row being the negative of the second.
    """
    y, classes = np.asarray(y), np.asarray(classes)
    C = len(classes)
    if C < 2:
        raise ValueError(f"y must hold at least two classes, all are {classes[0]}")
    return np.where(y == classes[:, None], np.sqrt(C - 1), -1 / np.sqrt(C - 1))


def class_tasks(
    data: LabelledData, kind: str = "auto", name: str = ""
) -> tuple[list[Task], list[Task] | None, NDArray[Any] | None]:
    """The tasks that labelled data make, their test sets, and the classes.

    Parameters
    ----------
    data : LabelledData
    kind : {"auto", "classes", "values"}
        What the labels are; "auto" decides by the rule of the module.
    name : str
        For tables and messages.

    Returns
    -------
    tasks, tests : lists of Task
        One for two classes (+1 is the higher) and for values, C for C > 2 classes. ``tests`` is
        None without a test set.
    classes : array or None
        The classes, ascending; None for values.

    Raises
    ------
    ValueError
        For labels all alike, test labels that training has not seen, and classes of which no two
        examples are alike.

    Examples
    --------
    Two classes make one task, three make one each against the rest:

    >>> from tlnb.data.tables import class_tasks, read
    >>> X = [[0.0], [0.1], [1.0], [1.1], [2.0], [2.1]]
    >>> tasks, _, classes = class_tasks(read((X, [3, 3, 5, 5, 8, 8])))
    >>> tasks[1].y, classes
    (array([-1., -1.,  1.,  1., -1., -1.]), array([3, 5, 8]))
    """
    check_choice("kind", kind, KINDS)
    y = data.y
    distinct = np.unique(y)
    if kind == "auto":
        whole = (distinct == np.round(distinct.astype(float))).all()
        kind = "classes" if len(distinct) <= 2 or whole else "values"
    where = f"{name}: " if name else ""
    if kind == "values":
        tests = None
        if data.X_test is not None and data.y_test is not None:
            tests = [Task(data.X_test, data.y_test, name=name)]
        return [Task(data.X, y, name=name)], tests, None
    if len(distinct) < 2:
        raise ValueError(f"{where}y must hold at least two classes, all are {distinct[0]}")
    if len(distinct) > 2 and len(distinct) >= len(y):
        counts = f"got {len(distinct)} classes in {len(y)} examples"
        hint = "are the labels values of a regression?"
        raise ValueError(f"{where}y must hold fewer classes than examples, {counts}; {hint}")
    if data.y_test is not None and (new := set(np.unique(data.y_test)) - set(distinct)):
        known = ", ".join(map(str, distinct[:20]))
        raise ValueError(f"{where}y_test must hold classes among {known}, got {min(new)}")

    def tasks(X: NDArray[Any], y: NDArray[Any]) -> list[Task]:
        codes = class_codes(y, distinct)
        if len(distinct) == 2:
            return [Task(X, codes[1], name=name)]
        named = zip(codes, distinct, strict=True)
        return [Task(X, code, name=f"{name}: {label}".removeprefix(": ")) for code, label in named]

    held_out = None
    if data.X_test is not None and data.y_test is not None:
        held_out = tasks(data.X_test, data.y_test)
    return tasks(data.X, y), held_out, distinct


def _npy(path: str | os.PathLike[str]) -> NDArray[Any]:
    try:
        return np.load(path, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # whatever a foreign or damaged file may cause
        raise ValueError(f"{path} must be an .npy file of a plain array: {error}") from error


def _checked(X: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[Any]]:
    X = check_inputs(X)
    y = np.asarray(y)
    numbers = check_labels(y, len(X))
    return X, y if y.dtype.kind in "biu" else numbers


def _read_npz(path: Path) -> LabelledData:
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                held = {member.removesuffix(".npy"): member for member in archive.namelist()}
                mine = [name for name in ARRAYS if name in held]
                arrays = {n: np.lib.format.read_array(archive.open(held[n])) for n in mine}
        except Exception as error:  # whatever a foreign or damaged file may cause
            raise ValueError(f"{path} must be an .npz file of plain arrays: {error}") from error
    if mine not in (list(ARRAYS), list(ARRAYS[:2])):
        holds = ", ".join(held) or "nothing"
        raise ValueError(f"{path} must hold X, y and may hold X_test, y_test; it holds {holds}")
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{path}: {name} must hold real numbers, got {array.dtype}")
    try:
        data = LabelledData(*_checked(arrays["X"], arrays["y"]))
        if len(mine) == 4:
            X, y = _checked(arrays["X_test"], arrays["y_test"])
            data = data._replace(X_test=X, y_test=y)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return data


def _from_table(path: Path, label: str | None) -> tuple[NDArray[Any], NDArray[Any], str, list[str]]:
    """Features, labels, the name of the label column, and those of the others."""
    table = _read_table(path)
    names = [str(column) for column in table.columns]
    if len(set(names)) < len(names):
        raise ValueError(f"{path} must have columns of distinct names, got {', '.join(names)}")
    if not len(table):
        raise ValueError(f"{path} must have rows, got shape {table.shape}")
    if label is None:
        found = [name for name in LABEL_COLUMNS if name in names]
        if not found:
            raise ValueError(
                f"{path} must have a column of labels, y or label, or one named by label"
            )
        label = found[0]
    if label not in names:
        shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise ValueError(f"{path} must have a column {label!r} of labels, it has {shown}")
    table.columns = names
    for name in names:
        column = table[name]
        if column.dtype.kind not in "biuf":
            hint = "code classes as 0, 1, ..." if name == label else "code or drop it"
            got = f"got {column.iloc[0]!r} of {column.dtype}"
            raise ValueError(f"{path}: column {name!r} must hold real numbers, {got}; {hint}")
        if missing := int(column.isna().sum()):
            first = int(np.flatnonzero(column.isna())[0]) + 1
            raise ValueError(
                f"{path}: column {name!r} lacks {missing} values, the first in row {first}"
            )
    features = [name for name in names if name != label]
    if not features:
        raise ValueError(f"{path} must have columns of features, got shape {table.shape}")
    try:
        X, y = _checked(table[features].to_numpy(float), table[label].to_numpy())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return X, y, label, features


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    with path.open("rb"):  # an OSError of its own, before pandas speaks
        pass
    try:
        if path.suffix.lower() == ".csv":
            # To the last digit, which had to be asked for before pandas 3.1.
            version = tuple(int(part) for part in pd.__version__.split(".")[:2])
            exactly: dict[str, Any] = {"float_precision": "round_trip"} if version < (3, 1) else {}
            return pd.read_csv(path, **exactly)
        return pd.read_parquet(path)
    except ImportError as error:
        hint = "a .parquet table needs pyarrow: pip install 'tlnb[parquet]'"
        raise ImportError(f"{path}: {hint}") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever a foreign or damaged file may cause
        kind = path.suffix.lower()
        raise ValueError(f"{path} must be a {kind} table: {error}") from error
