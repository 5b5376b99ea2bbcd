"""The command: what it prints and writes, what it refuses and with which code."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tlnb import cli
from tlnb.data.task import Task
from tlnb.errors import ConvergenceError
from tlnb.gain import transfer_gain

FAST = ["--splits", "2", "--couplings", "0,1,inf", "--width", "30"]


def arrays(n, seed, n_test=0):
    rng = np.random.default_rng(seed)
    X = 3 * rng.standard_normal((n + n_test, 6))
    y = np.sign(X[:, 0])
    held_out = {"X_test": X[n:], "y_test": y[n:]} if n_test else {}
    return {"X": X[:n], "y": y[:n]} | held_out


@pytest.fixture
def files(tmp_path):
    np.savez(tmp_path / "s.npz", **arrays(30, 0))
    np.savez_compressed(tmp_path / "t.npz", **arrays(15, 1, 12))
    return ["--source", str(tmp_path / "s.npz"), "--target", str(tmp_path / "t.npz")]


def run(capsys, *arguments):
    code = cli.main(["gain", *map(str, arguments)])
    return code, *capsys.readouterr()


def refused(capsys, *arguments, code=2):
    """The one line on standard error."""
    result, out, err = run(capsys, *arguments)
    assert (result, out) == (code, "")
    assert err.startswith("tlnb") and ": error: " in err and err.count("\n") == 1
    return err


def test_files_in_table_and_files_out(files, tmp_path, capsys):
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
        splits=2,
    )
    assert f"divided by {size:.4g}" in out and f"verdict: {gain.verdict} ({gain.reason})" in out
    for value in (*gain.curve["test_error"], gain.chosen_error):
        assert f"{value:.4f}" in out
    with open(tmp_path / "c.csv", newline="") as file:
        header, *rows = csv.reader(file)
    np.testing.assert_allclose(
        np.array(rows, dtype=float).T, list(gain.curve.values()), rtol=1e-9, atol=1e-12
    )
    assert header == list(gain.curve)
    content = json.loads((tmp_path / "j.json").read_text())
    assert content["verdict"] == gain.verdict and content["reason"] == gain.reason
    assert content["curve"]["coupling"] == [0, 1, "inf"]
    assert content["comparisons"][0]["opponent"] == "scratch"
    np.testing.assert_allclose([float(c) for c in content["chosen"]], gain.chosen)
    np.testing.assert_allclose([float(w) for w in content["widths"]], gain.widths)
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "c.csv", "f.png", "j.json", "s.npz", "t.npz"
    ]  # fmt: skip


@pytest.mark.parametrize("suffix, magic", [("svg", b"<?xml"), ("PDF", b"%PDF")])
def test_figure_formats(files, tmp_path, capsys, suffix, magic):
    path = tmp_path / f"f.{suffix}"
    assert run(capsys, *files, *FAST, "--figure", path)[0] == 0
    assert path.read_bytes().startswith(magic)


def test_scaling_can_be_refused_and_is_undone_by_it(files, tmp_path, capsys):
    _, scaled, _ = run(capsys, *files, *FAST)
    both = [dict(np.load(name)) for name in files[1::2]]
    size = np.sqrt(np.mean(np.vstack([content["X"] for content in both]) ** 2))
    for name, content in zip(files[1::2], both, strict=True):
        np.savez(name, **{k: v / size if "X" in k else v for k, v in content.items()})
    _, plain, _ = run(capsys, *files, *FAST, "--no-scale")
    assert "inputs as they are" in plain
    assert plain[plain.index("gains") :] == scaled[scaled.index("gains") :]


def test_without_a_test_set_the_target_is_split(files, tmp_path, capsys):
    np.savez(tmp_path / "t.npz", **arrays(15, 1))
    _, out, _ = run(capsys, *files, *FAST)
    assert "2 random splits: 12 to train, 3 to test" in out


def test_digits_in_a_process_of_its_own():
    command = [sys.executable, "-m", "tlnb.cli", "gain", "--digits", "3,8|4,9", "3,8|4,9", *FAST]
    done = subprocess.run(
        [*command, "--n-target", "20", "--n-source", "80"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "source 3,8|4,9: 80 examples of 64 features" in done.stdout
    assert "verdict: " in done.stdout


def test_help_and_version(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for word in ("examples:", "exit codes:", "--figure", "helps", "Nadeau", "--no-scale"):
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
        (["--figure", "f.gif"], "must end in .png, .svg or .pdf, got 'f.gif'"),
        (["--csv", "same", "--json", "same"], "must name different files"),
        (["--digits", "3|4", "3|5", "--seed", "-1"], "--seed must be an integer >= 0, got -1"),
        (["--colour", "red"], "unrecognized arguments: --colour red"),
    ],
)
def test_bad_usage(capsys, options, message):
    assert message in refused(capsys, *options)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--width", "0"], "width must be a number >= 1 or infinity, got 0.0"),
        (["--temperature", "0"], "temperature must be a number > 0, got 0.0"),
        (["--weight-precision", "-1"], "weight_precision must be a number > 0, got -1.0"),
        (["--readout-precision", "nan"], "readout_precision must be a number > 0, got nan"),
        (["--activation", "sine"], "activation must be"),
        (["--couplings", "1,-2"], "couplings must be a number >= 0 or infinity, got -2.0"),
        (["--splits", "1"], "splits must be an integer >= 2, got 1"),
        (["--n-target", "30"], "give --source and --target, or --digits"),
    ],
)
def test_bad_values(files, capsys, options, message):
    assert message in refused(capsys, *files, *options)


def test_bad_files(files, tmp_path, capsys):
    path = tmp_path / "t.npz"
    good = path.read_bytes()
    array = arrays(15, 1)

    def message(**content):
        np.savez(path, **content)
        return refused(capsys, *files)

    assert "must hold X and y, y missing; it has X" in message(X=array["X"])
    assert "must hold X_test and y_test, y_test missing" in message(**array, X_test=array["X"])
    assert "X must be a finite real array" in message(X=array["X"][0], y=[1.0])
    assert "got nan at index (0, 0)" in message(X=[[np.nan]], y=[1.0])
    assert "y must be" in message(X=array["X"], y=array["y"][:-1])
    assert "Object arrays cannot be loaded" in message(X=np.array([{}]), y=[1.0])
    assert "as many columns" in message(X=array["X"][:, :4], y=array["y"])
    assert "finite mean square" in message(X=np.full((15, 6), 1e200), y=array["y"])
    assert "at least 5 examples, got 3" in message(X=array["X"][:3], y=array["y"][:3])
    for content in (b"", b"not a zip", good[: len(good) // 2]):
        path.write_bytes(content)
        assert "must be an .npz file of plain arrays X, y; it is no" in refused(capsys, *files)
    position = good.index(b"y.npy") - 200
    path.write_bytes(good[:position] + bytes(150) + good[position + 150 :])
    assert "must be an .npz file of plain arrays X, y: " in refused(capsys, *files)
    np.save(tmp_path / "one.npy", array["X"])
    assert "must be an .npz file" in refused(capsys, *files[:3], tmp_path / "one.npy")
    assert "No such file" in refused(capsys, *files[:3], tmp_path / "missing.npz")
    assert "Is a directory" in refused(capsys, *files[:3], tmp_path)


def never(*_, **__):
    raise AssertionError("computed before the outputs were checked")


@pytest.mark.parametrize("kind, name", [("csv", "c.csv"), ("json", "j"), ("figure", "f.png")])
def test_unwritable_outputs_are_seen_before_the_computation(
    files, tmp_path, capsys, monkeypatch, kind, name
):
    monkeypatch.setattr(cli, "transfer_gain", never)
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "missing" / name, tmp_path / "s.npz" / name, tmp_path / "folder.png"):
        err = refused(capsys, *files, f"--{kind}", path, code=4)
        assert f"{path} cannot be written: " in err
    if os.geteuid() != 0:
        (tmp_path / name).touch(mode=0o400)
        refused(capsys, *files, f"--{kind}", tmp_path / name, code=4)


def test_nothing_half_written(files, tmp_path, capsys, monkeypatch):
    path = tmp_path / "old.csv"
    path.write_text("old")
    output = ["--csv", path, "--json", tmp_path / "new.json"]

    def fails(error):
        def function(*_, **__):
            raise error

        return function

    with monkeypatch.context() as patch:
        patch.setattr(cli, "transfer_gain", fails(ConvergenceError("no saddle point:\n residual")))
        err = refused(capsys, *files, *output, code=3)
        assert "no saddle point: residual" in err
    with monkeypatch.context() as patch:
        patch.setitem(cli._WRITERS, "json", fails(OSError(28, "No space left on device")))
        err = refused(capsys, *files, *FAST, *output, code=4)
        assert "cannot be written: No space left on device" in err
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.csv", "s.npz", "t.npz"]
    assert run(capsys, *files, *FAST, *output)[0] == 0
    assert path.read_text().startswith("coupling,")


def test_warnings_are_one_line_on_standard_error(files, capsys, monkeypatch):
    original = cli.transfer_gain

    def warns(*arguments, **options):
        for k in range(3):
            cli.warnings.warn(f"further minima {k}", UserWarning, stacklevel=1)
        return original(*arguments, **options)

    monkeypatch.setattr(cli, "transfer_gain", warns)
    code, out, err = run(capsys, *files, *FAST)
    assert code == 0 and "verdict" in out
    assert err == "tlnb gain: UserWarning (3 times): further minima 0\n"
