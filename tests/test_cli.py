"""The command: what it prints and writes, what it refuses and with which code."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tlnb import cli
from tlnb.data.tables import LabelledData, class_tasks
from tlnb.data.task import Task
from tlnb.errors import ConvergenceError
from tlnb.gain import transfer_gain
from tlnb.gain.data import _matched
from tlnb.gain.tool import TransferGain

FAST = ["--couplings", "0,1,inf", "--width", "30", "--temperature", "0.01,0.1"]
FAST += ["--richness", "0.1,1"]


def arrays(n: int, seed: int, n_test: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    X = 3 * rng.standard_normal((n + n_test, 6))
    y = np.sign(X[:, 0])
    held_out = {"X_test": X[n:], "y_test": y[n:]} if n_test else {}
    return {"X": X[:n], "y": y[:n]} | held_out


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    np.savez(tmp_path / "s.npz", **arrays(30, 0))
    np.savez_compressed(tmp_path / "t.npz", **arrays(15, 1, 12))
    return ["--source", str(tmp_path / "s.npz"), "--target", str(tmp_path / "t.npz")]


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = cli.main(["gain", *map(str, arguments)])
    return code, *capsys.readouterr()


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 2) -> str:
    """The one line on standard error."""
    result, out, err = run(capsys, *arguments)
    assert (result, out) == (code, "")
    assert err.startswith("tlnb") and ": error: " in err and err.count("\n") == 1
    return err


def test_files_in_table_and_files_out(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [f"--{kind}={tmp_path / name}" for kind, name in
               (("csv", "c.csv"), ("json", "j.json"), ("figure", "f.png"))]  # fmt: skip
    code, out, err = run(capsys, *files, *FAST, *outputs)
    assert (code, err) == (0, "")
    s, t = arrays(30, 0), arrays(15, 1, 12)
    size = np.sqrt(np.mean(np.vstack([s["X"], t["X"]]) ** 2))
    gain = transfer_gain(
        Task(s["X"] / size, s["y"]),
        Task(t["X"] / size, t["y"]),
        Task(t["X_test"] / size, t["y_test"]),
        width=30,
        couplings=(0, 1, np.inf),
        temperatures=(0.01, 0.1),
        richness=(0.1, 1),
    )
    assert f"divided by {size:.4g}" in out and f"verdict: {gain.verdict} ({gain.reason})" in out
    assert f"\n{gain.action}\n" in out and "regret of the choice" in out
    for value in (*gain.curve.test_error, *gain.opponents.gain, gain.test_error):
        assert f"{value:.4f}" in out
    close: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "c.csv"), gain.curve, **close)
    content = json.loads((tmp_path / "j.json").read_text(), parse_constant=pytest.fail)
    assert content.keys() == vars(gain).keys()
    assert content["verdict"] == gain.verdict and content["trained"] is None
    assert content["test_error"] == pytest.approx(gain.test_error)
    assert content["classification_error"] == pytest.approx(gain.classification_error)
    chosen = {k: np.inf if v == "inf" else v for k, v in content["chosen"].items()}
    assert chosen == pytest.approx(gain.chosen)
    for row in gain.opponents.to_dict("records"):
        mine = content["opponents"][row["opponent"]]
        assert mine["test_error"] == pytest.approx(row["test_error"])
        assert mine["classification_error"] == pytest.approx(row["classification_error"])
    candidates = pd.DataFrame(content["candidates"]).apply(pd.to_numeric)
    pd.testing.assert_frame_equal(candidates.astype(gain.candidates.dtypes), gain.candidates)
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "c.csv", "f.png", "j.json", "s.npz", "t.npz"
    ]  # fmt: skip


@pytest.mark.parametrize("suffix, magic", [("svg", b"<?xml"), ("PDF", b"%PDF")])
def test_figure_formats(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, magic: bytes
) -> None:
    path = tmp_path / f"f.{suffix}"
    assert run(capsys, *files, *FAST, "--figure", path)[0] == 0
    assert path.read_bytes().startswith(magic)


def test_scaling_can_be_refused_and_is_undone_by_it(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, scaled, _ = run(capsys, *files, *FAST)
    both = [dict(np.load(name)) for name in files[1::2]]
    size = np.sqrt(np.mean(np.vstack([content["X"] for content in both]) ** 2))
    for name, content in zip(files[1::2], both, strict=True):
        np.savez(name, **{k: v / size if "X" in k else v for k, v in content.items()})
    _, plain, _ = run(capsys, *files, *FAST, "--no-scale")
    assert "inputs as they are" in plain
    start = "at each coupling"
    assert plain[plain.index(start) :] == scaled[scaled.index(start) :]


def test_without_a_test_set_the_target_is_split(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "t.npz", **arrays(15, 1))
    _, out, _ = run(capsys, *files, *FAST)
    assert "at 15 left-out examples: test error" in out and "regret" not in out


def test_digits_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tlnb.cli", "gain", "--digits", "3,8|4,9", "3,8|4,9", *FAST]
    done = subprocess.run(
        [*command, "--n-target", "20", "--n-source", "80"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "source 3,8|4,9: 80 examples of 64 features" in done.stdout
    assert "verdict: " in done.stdout


def test_digits_of_single_classes_are_as_many_as_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, err = run(capsys, "--digits", "3|8", "3 | 5, 8", *FAST)
    assert "source 3|8: 150 examples" in out and "at 150 test examples" in out and not err


def test_tables_and_arrays_are_read_like_archives(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, expected, _ = run(capsys, *files, *FAST)
    s, t = (dict(np.load(name)) for name in files[1::2])
    for kind, content in (("s", s), ("t", t)):
        np.save(tmp_path / f"{kind}X.npy", content["X"])
        np.save(tmp_path / f"{kind}y.npy", content["y"])
        table = pd.DataFrame(content["X"]).assign(label=content["y"]).rename(columns=str)
        table.to_csv(tmp_path / f"{kind}.csv", index=False)
    held = pd.DataFrame(t["X_test"]).assign(label=t["y_test"]).rename(columns=str)
    held.to_parquet(tmp_path / "held.parquet")
    np.save(tmp_path / "hX.npy", t["X_test"])
    np.save(tmp_path / "hy.npy", t["y_test"])
    place = {name: tmp_path / name for name in ("s.csv", "t.csv", "held.parquet")}
    pairs = [[tmp_path / f"{kind}{a}.npy" for a in "Xy"] for kind in "sth"]
    start = "at each coupling"
    for source, target, test in (map(lambda x: [x], place.values()), pairs):
        given = ["--source", *source, "--target", *target, "--test", *test]
        code, out, err = run(capsys, *given, *FAST)
        assert (code, err) == (0, "")
        assert out[out.index(start) :] == expected[expected.index(start) :]


def test_more_than_two_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((4, 6))
    for name, n, classes in (("s", 60, [0, 1, 2, 3]), ("t", 24, [3, 1, 2])):
        y = np.array(classes)[np.arange(n) % len(classes)]
        X = centres[y] + rng.standard_normal((n, 6))
        np.savez(tmp_path / f"{name}.npz", X=X, y=y, X_test=X + 0.1, y_test=y)
    given = ["--source", tmp_path / "s.npz", "--target", tmp_path / "t.npz", *FAST]
    code, out, err = run(capsys, *given, "--json", tmp_path / "j.json")
    assert (code, err) == (0, "")
    assert "source: 4 classes: 0, 1, 2, 3" in out and "target: 3 classes: 1, 2, 3" in out
    found = json.loads((tmp_path / "j.json").read_text())
    assert found["classes"] == 3 and found["classification_error"] < 0.1
    np.savez(tmp_path / "t.npz", X=np.eye(6), y=np.arange(6))
    message = "y must hold fewer classes than examples, got 6 classes in 6 examples"
    assert message in refused(capsys, *given)
    np.savez(tmp_path / "t.npz", X=np.eye(6), y=np.ones(6))
    assert "y must hold at least two classes, all are 1.0" in refused(capsys, *given)
    np.savez(tmp_path / "t.npz", X=np.ones((1, 6)), y=[0.5])
    assert "must have at least 5 examples, got 1" in refused(capsys, *given)


def test_classes_find_those_of_the_source_by_name() -> None:
    y = np.arange(12) % 4
    data = LabelledData(np.random.default_rng(0).standard_normal((12, 3)), y)
    sources, _, of_source = class_tasks(data, name="s")
    targets, _, of_target = class_tasks(data._replace(y=np.array([7, 3, 0, 7, 3, 0] * 2)), name="t")
    matched = _matched(sources, of_source, targets, of_target)
    assert [task.name for task in matched] == ["s: 0", "s: 3", "s: 1"]  # 0, 3 and the first left
    two, _, of_two = class_tasks(data._replace(y=y % 2), name="two")
    assert _matched(two, of_two, targets, of_target) == 3 * two
    assert [t.name for t in _matched(sources, of_source, two, of_two)] == ["s: 1"]


def test_a_table_with_text_is_refused(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "y": [0, 1]}).to_csv(path)
    message = "column 'b' must hold real numbers, got 'x'"
    assert message in refused(capsys, *files[:2], "--target", path)
    assert not (tmp_path / "j.json").exists()


def test_images_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 4, 4))
    for name, code, array in (("images", 3, pixels), ("labels", 1, np.arange(80) % 4)):
        header = struct.pack(">HBB", 0, 8, code) + struct.pack(f">{code}I", *array.shape)
        path = tmp_path / f"t10k-{name}-idx{code}-ubyte"
        path.write_bytes(header + array.astype(np.uint8).tobytes())
    sizes = ["--n-source", "20", "--n-target", "8", "--n-test", "12", "--size", "2", *FAST]
    code, out, err = run(capsys, "--images", tmp_path, "0|1", "2|3", *sizes, "--train", "1")
    assert (code, err) == (0, "")
    assert "source 0|1: 20 examples of 4 features" in out and "trained networks" in out
    assert "holds no training images" in refused(
        capsys, "--images", tmp_path, "0|1", "2|3", "--part", "train"
    )


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for word in (
        "examples:",
        "exit codes:",
        "--figure",
        "helps",
        "matched prior",
        "--no-scale",
        "--train",
    ):
        assert word in out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tlnb ")


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "give --source and --target, or --digits"),
        (["--source", "s.npz"], "give --source and --target"),
        (["--digits", "3|4", "3|5", "--source", "s.npz"], "give --source and --target"),
        (["--digits", "3|4", "3,3|5"], "two disjoint groups"),
        (["--digits", "3|4", "3|11"], "classes must be among 0, 1"),
        (["--digits", "3|4", "3|5", "--n-source", "9999"], "ask for"),
        (["--digits", "3|4", "3|5", "--n-target", "0"], "n_target"),
        (["--digits", "3|4"], "expected 2 arguments"),
        (["--couplings", "0,x"], "must be numbers such as 0,0.1,10,inf, got '0,x'"),
        (["--figure", "f.gif"], "--figure must end in .png, .svg or .pdf, got 'f.gif'"),
        (["--csv", "same", "--json", "same"], "--csv, --json must name different files"),
        (["--couplings", ""], "must be numbers such as 0,0.1,10,inf, got ''"),
        (["--width", "a"], "argument --width: invalid float value: 'a'"),
        (["--digits", "3,8|3", "3|5"], "two disjoint groups"),
        (["--digits", "3,8,4", "3|5"], "two disjoint groups"),
        (
            ["--digits", "3|4", "3|5", "--seed", "-1"],
            "seed must be an integer >= 0 or a Generator, got -1",
        ),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
    ],
)
def test_bad_usage(capsys: pytest.CaptureFixture[str], options: list, message: str) -> None:
    assert message in refused(capsys, *options)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--width", "0"], "width must be a number >= 1 or infinity, got 0.0"),
        (["--temperature", "0"], "temperatures must be a number > 0, got 0.0"),
        (["--weight-precision", "-1"], "weight_precision must be a number > 0, got -1.0"),
        (["--richness", "nan"], "richness must be a number > 0, got nan"),
        (["--activation", "sine"], "activation must be"),
        (["--couplings", "1,-2"], "couplings must be a number >= 0 or infinity, got -2.0"),
        (["--train", "-1"], "train must be an integer >= 0, got -1"),
        (["--temperature", "0.1,0"], "temperatures must be a number > 0, got 0.0"),
        (["--richness", "1", "--readout-precision", "1"], "richness or readout_precisions, not"),
        (["--size", "3"], "give --source and --target, or --digits"),
        (["--labels", "values", "--label", "y"], "label and test are for tables"),
        (["--n-target", "30"], "give --source and --target, or --digits"),
    ],
)
def test_bad_values(
    files: list[str], capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert message in refused(capsys, *files, *options)


def test_bad_files(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.npz"
    good = path.read_bytes()
    array, source = arrays(15, 1), (tmp_path / "s.npz").read_bytes()
    assert "--source, --target, --csv must name different" in refused(
        capsys, *files, "--csv", tmp_path / ".." / tmp_path.name / "s.npz"
    )
    assert (tmp_path / "s.npz").read_bytes() == source

    def message(*options: Any, **content: Any) -> str:
        np.savez(path, **content)
        return refused(capsys, *files, *options)

    assert "must hold X, y and may hold X_test, y_test; it holds X" in message(X=array["X"])
    assert "it holds X, y, X_test" in message(**array, X_test=array["X"])
    assert "it holds X, y, y_test" in message(**array, y_test=array["y"])
    assert "got 6 in the source, 6 in the target, 4 in the test set" in message(
        **array, X_test=array["X"][:, :4], y_test=array["y"]
    )
    for kind in (str, complex, "datetime64[s]", "S9"):
        wrong = array["y"].astype(int).astype(kind)
        assert f"y must hold real numbers, got {wrong.dtype}" in message(X=array["X"], y=wrong)
    assert "y must be at most 1e+100 in size, got 1e+200" in message(
        "--labels", "values", X=array["X"], y=1e200 * array["y"]
    )
    assert "X must be a finite real array" in message(X=array["X"][0], y=[1.0])
    assert "got nan at index (0, 0)" in message(X=[[np.nan]], y=[1.0])
    assert "y must be" in message(X=array["X"], y=array["y"][:-1])
    assert "Object arrays cannot be loaded" in message(X=np.array([{}]), y=[1.0])
    assert "source and target must have the same features" in message(
        X=array["X"][:, :4], y=array["y"]
    )
    assert "finite mean square" in message(X=np.full((15, 6), 1e200), y=array["y"])
    for n in (1, 3):
        few = message(X=array["X"][:n], y=array["y"][:n])
        assert f"the target must have at least 5 examples, got {n}" in few
    position = good.index(b"y.npy") - 200
    damaged = good[:position] + bytes(150) + good[position + 150 :]
    for content in (b"", b"not a zip", good[: len(good) // 2], damaged):
        path.write_bytes(content)
        assert f"{path} must be an .npz file of plain arrays: " in refused(capsys, *files)
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (%d, 6)}"
    for member in ("", "(" * 5000, "{'descr':", header % 10**15, header % -1, header % 7):
        with zipfile.ZipFile(path, "w") as archive:
            start = b"\x93NUMPY\x01\x00" + len(member).to_bytes(2, "little")
            archive.writestr("X.npy", start + member.encode())
        assert f"{path} must be an .npz file of plain arrays: " in refused(capsys, *files)
    np.save(tmp_path / "one.npy", array["X"])
    assert "must be a file that ends in .npz" in refused(capsys, *files[:3], tmp_path / "one.npy")
    assert "No such file" in refused(capsys, *files[:3], tmp_path / "missing.npz")
    assert "must be a file that ends in .npz" in refused(capsys, *files[:3], tmp_path)


def never(*_: Any, **__: Any) -> None:
    raise AssertionError("computed before the outputs were checked")


@pytest.mark.parametrize("kind, name", [("csv", "c.csv"), ("json", "j"), ("figure", "f.png")])
def test_unwritable_outputs_are_seen_before_the_computation(
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    name: str,
) -> None:
    monkeypatch.setattr(cli, "transfer_gain", never)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    bad = (f"missing/{name}", f"s.npz/{name}", "folder.png", "loop.png", f"{'c' * 300}.png")
    for path in (tmp_path / name for name in bad):
        err = refused(capsys, *files, f"--{kind}", path, code=4)
        assert f"{path} cannot be written: " in err
    if os.geteuid() != 0:
        (tmp_path / name).touch(mode=0o400)
        refused(capsys, *files, f"--{kind}", tmp_path / name, code=4)


def test_what_else_the_file_holds_does_not_matter(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(capsys, *files, *FAST)
    np.savez(tmp_path / "t.npz", **arrays(15, 1, 12), notes=np.array([{}]))
    assert run(capsys, *files, *FAST) == (0, out, "")


def test_nothing_half_written(
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "old.csv"
    path.write_text("old")
    output = ["--csv", path, "--json", tmp_path / "new.json"]

    def fails(error: Any) -> Callable:
        def function(*_: Any, **__: Any) -> None:
            raise error

        return function

    with monkeypatch.context() as patch:
        patch.setattr(cli, "transfer_gain", fails(ConvergenceError("no saddle point:\n residual")))
        err = refused(capsys, *files, *output, code=3)
        assert "no saddle point: residual" in err
        for code, error, message in (
            (130, KeyboardInterrupt(), "interrupted"),
            (2, OverflowError("inf"), "inputs, temperature or precisions too large or too small"),
            (2, MemoryError("1 TB"), "1 TB"),
            (2, ValueError("x " * 9999), "[...]"),
        ):
            patch.setattr(cli, "transfer_gain", fails(error))
            assert message in refused(capsys, *files, *output, code=code)
    with monkeypatch.context() as patch:
        patch.setitem(cli.WRITERS, "json", fails(OSError(28, "No space left on device")))
        err = refused(capsys, *files, *FAST, *output, code=4)
        assert "cannot be written: No space left on device" in err
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.csv", "s.npz", "t.npz"]
    assert run(capsys, *files, *FAST, *output)[0] == 0
    assert path.read_text().startswith("coupling,")


def test_warnings_are_one_line_on_standard_error(
    files: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = cli.transfer_gain

    def warns(*arguments: Any, **options: Any) -> TransferGain:
        for k in range(3):
            cli.warnings.warn(f"further minima {k}", UserWarning, stacklevel=1)
        return original(*arguments, **options)

    monkeypatch.setattr(cli, "transfer_gain", warns)
    code, out, err = run(capsys, *files, *FAST)
    assert code == 0 and "verdict" in out
    assert err == "tlnb gain: UserWarning (3 times): further minima 0\n"


COMMAND = [sys.executable, "-m", "tlnb.cli", "gain"]


@pytest.mark.parametrize("options, code", [(["--help"], 0), (FAST, 0), (["--train", "-1"], 2)])
def test_a_terminal_without_greek(files: list[str], options: dict[str, Any], code: int) -> None:
    done = subprocess.run(
        [*COMMAND, *files, *options],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == code and b"Traceback" not in done.stderr
    assert done.stdout.isascii() and bool(done.stdout) != bool(done.stderr)


def test_a_reader_that_leaves_early(files: list[str], tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    done = subprocess.Popen(
        [*COMMAND, *files, *FAST, "--csv", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    done.stdout.close()
    assert (done.stderr.read(), done.wait()) == (b"", 0)
    done.stderr.close()
    assert path.read_text().startswith("coupling,")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_standard_output(files: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *files, *FAST], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 4
    assert done.stderr.startswith(b"tlnb gain: error: standard output cannot be written: ")


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", -15)])
def test_interrupted_in_the_middle(files: list[str], tmp_path: Path, name: str, code: int) -> None:
    outputs = ["--csv", tmp_path / "c.csv", "--json", tmp_path / "j.json"]
    started = (
        # Started in the background, a process inherits an ignored SIGINT.
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tlnb import cli; inner = cli.transfer_gain\n"
        "def slow(*a, **o): print('started', file=sys.stderr, flush=True); return inner(*a, **o)\n"
        "cli.transfer_gain = slow; sys.exit(cli.main())"
    )
    many = ["--temperature", ",".join(f"{k / 1000:g}" for k in range(1, 3000))]
    command = [sys.executable, "-c", started, "gain", *files, *many, *outputs]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stderr.readline() == b"started\n"
        time.sleep(0.2)
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, b"")
    assert err == (b"tlnb gain: error: interrupted\n" if code == 130 else b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.npz", "t.npz"]


def test_a_large_source_is_kept_in_a_folder(
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tlnb.theory.large.problem.DENSE_UP_TO", 29)
    given = [*files, *FAST, "--temperature", "0.1", "--richness", "1", "--folder"]
    code, out, err = run(capsys, *given, tmp_path / "kept")
    assert (code, err) == (0, "") and "solved for with the whole source" in out
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert "tile_000_000.npy" in kept and any(name.startswith("coupling_") for name in kept)
    assert run(capsys, *given, tmp_path / "kept") == (0, out, "")
    assert kept == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    refused(capsys, *given, tmp_path / "s.npz")
    says = refused(capsys, *given, tmp_path / "kept", "--activation", "relu")
    assert "tiles of another kernel" in says
