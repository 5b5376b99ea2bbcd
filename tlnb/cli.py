"""The ``tlnb`` command: ``tlnb gain`` measures the transfer between two data sets.

A thin face of :mod:`tlnb.gain`: reads arguments and files, prints tables and a verdict, and writes
what was asked for. Whether outputs can be written is tried before the computation; they are put in
place after it, whole.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import textwrap
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tlnb
from tlnb import gain as rules
from tlnb.data.task import Task
from tlnb.errors import ConvergenceError
from tlnb.gain import COUPLINGS, PRIORS, TransferGain, transfer_gain
from tlnb.priors import Priors

EPILOG = f"""\
{rules.__doc__}
input files: .npz with arrays X (P, N0) and y (P,) of real numbers, y = ±1 for two classes; the
target's may hold a test set X_test, y_test.

exit codes: 0 a verdict was reached, whichever; 2 bad usage or input; 3 the solver did not
converge; 4 an output cannot be written; 130 interrupted

examples:
  tlnb gain --digits "3,8|4,9" "3,8|4,9" --width 50
  tlnb gain --digits "3,8|4,9" "3,8|5,9" --figure gain.svg --csv gain.csv
  tlnb gain --source s.npz --target t.npz --width 200 --couplings 0,1,10,inf --json gain.json
"""
NPZ = ["X", "y", "X_test", "y_test"]


class _OutputError(Exception):
    """An output cannot be written."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        message = f"must be numbers such as 0,0.1,10,inf, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


OPTIONS = {  # name: type, default, help
    "--source": (Path, None, "an .npz file, see below"),
    "--target": (Path, None, "the same"),
    "--n-source": (int, None, "digits of the source (300, or 150 a class if that is less)"),
    "--n-target": (int, None, "digits of the target (40)"),
    "--width": (float, 200, "N1, or inf"),
    "--activation": (str, "erf", "erf, relu, linear, ..."),
    "--temperature": (float, PRIORS.temperature, "T"),
    "--weight-precision": (float, 1.0, "λ0"),
    "--readout-precision": (float, 1.0, "λ1"),
    "--couplings": (_numbers, ",".join(f"{g:g}" for g in COUPLINGS), "from 0 to inf"),
    "--splits": (int, 10, "at least 2"),
    "--seed": (int, 0, "of splits and digits"),
    "--figure": (Path, None, "write the curve as .png, .svg or .pdf"),
    "--csv": (Path, None, "write the curve as a table"),
    "--json": (Path, None, "write all results"),
}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tlnb", description="Transfer learning in the proportional limit.")
    parser.add_argument("--version", action="version", version=f"tlnb {tlnb.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    style = argparse.RawDescriptionHelpFormatter
    text = "does a source data set help a target data set?"
    gain = commands.add_parser("gain", help=text, epilog=EPILOG, formatter_class=style)
    text = 'instead of files: classes such as "3,8|4,9" "3,8|5,9", 3 and 8 against 4 and 9, ...'
    gain.add_argument("--digits", nargs=2, metavar=("SOURCE", "TARGET"), help=text)
    for name, (kind, default, text) in OPTIONS.items():
        text = text if default is None else f"{text} (%(default)s)"
        gain.add_argument(name, type=kind, default=default, help=text)
    text = "leave the inputs as they are; else the mean of |x|²/N0 over both data sets is made 1"
    gain.add_argument("--no-scale", action="store_true", help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code (see ``tlnb gain --help``)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where a γ cannot be shown
    try:
        _gain(_parser().parse_args(argv))
    except SystemExit as stop:  # argparse has printed its message or help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    except ConvergenceError as error:
        return _fail(3, error)
    except _OutputError as error:
        return _fail(4, error)
    except ArithmeticError as error:
        return _fail(2, f"inputs, temperature or precisions too large or too small: {error}")
    except (ValueError, TypeError, OSError, MemoryError) as error:
        return _fail(2, error)
    return 0


def _fail(code: int, error: Exception | str) -> int:
    print(f"tlnb gain: error: {textwrap.shorten(str(error), 500)}", file=sys.stderr)
    return code


def _gain(arguments: argparse.Namespace) -> None:
    options = vars(arguments)
    given = {name: path for name, path in options.items() if isinstance(path, Path)}
    places = {kind: _place(path) for kind, path in given.items() if kind in _WRITERS}
    if len(set(map(os.path.realpath, given.values()))) < len(given):
        raise ValueError(f"--{', --'.join(given)} must name different files")
    if arguments.figure and arguments.figure.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--figure must end in .png, .svg or .pdf, got '{arguments.figure}'")
    names = ("activation", "temperature", "weight_precision", "readout_precision")
    priors = Priors(**{name: options[name] for name in names})
    *tasks, scaling = _data(arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = ("width", "couplings", "splits", "seed")
        gain = transfer_gain(*tasks, priors=priors, **{name: options[name] for name in names})
        _write(gain, places)
    for name in sorted({w.category.__name__ for w in caught}):
        messages = [str(w.message) for w in caught if w.category.__name__ == name]
        print(f"tlnb gain: {name} ({len(messages)} times): {messages[0]}", file=sys.stderr)
    source, target, _ = tasks
    what = "subsets of the training examples, one test set" if gain.fixed_test else "splits"
    table = {"index": False, "float_format": "{:.4f}".format}
    lines = [
        f"source {source.name}: {source.n_examples} examples of {source.n_features} features",
        f"target {target.name}: {target.n_examples} examples",
        f"inputs {scaling}",
        f"network: {arguments.activation}, width {gain.width:g}, T = {priors.temperature:g}",
        f"{arguments.splits} random {what}: {gain.n_train} to train, {gain.n_test} to test",
        "gains: test error of the opponent minus that of the coupled network; se: standard error\n",
        gain.curve.to_string(formatters={"coupling": "{:g}".format}, **table),
        f"\nat the couplings chosen by evidence: test error {gain.chosen_error:.4f}\n",
        gain.comparisons.to_string(formatters={"width": "{:g}".format}, **table),
        f"\nverdict: {gain.verdict} ({gain.reason})",
        *(f"{kind} written to {given[kind]}" for kind in places),
    ]
    try:
        print("\n".join(lines), flush=True)
    except OSError as error:
        # What is left in the buffer must not be flushed once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # a closed pipe: the reader has seen enough
            raise _OutputError(f"standard output cannot be written: {error.strerror}") from error


def _data(arguments: argparse.Namespace) -> tuple[Task, Task, Task | None, str]:
    """Source, target, test set if there is one, and what was done to the inputs."""
    files, sizes = (arguments.source, arguments.target), (arguments.n_source, arguments.n_target)
    one = "the mean of |x|²/N0 over source and target is 1"
    if arguments.digits and files == (None, None):
        return *_digits(arguments), "as they are" if arguments.no_scale else f"centred, {one}"
    if arguments.digits or None in files or sizes != (None, None):
        raise ValueError("give --source and --target, or --digits (with --n-source, --n-target)")
    tasks = (_read_npz(arguments.source)[0], *_read_npz(arguments.target))
    if arguments.no_scale:
        return *tasks, "as they are"
    widths = [task.n_features for task in tasks if task]
    if len(set(widths)) > 1:
        raise ValueError(f"X and X_test must have as many columns in both files, got {widths}")
    with np.errstate(over="ignore"):
        size = np.sqrt(np.mean(np.concatenate([task.X for task in tasks[:2]]) ** 2))
    if not 0 < size < np.inf:
        raise ValueError(f"X must have a finite mean square > 0 to be scaled, got {size**2:g}")
    scaled = (task and Task(task.X / size, task.y, name=task.name) for task in tasks)
    return *scaled, f"divided by {size:.4g}: {one}"


def _digits(arguments: argparse.Namespace) -> tuple[Task, Task, Task]:
    from tlnb.data.images import digits, parse_groups, transfer_tasks

    # with 75 of a class for the source and 75 for the test some of its 174 and more are left
    most = [min(300, 150 * min(map(len, parse_groups(text)))) for text in arguments.digits]
    sizes = {"n_source": most[0], "n_target": 40, "n_test": most[1]}
    sizes |= {k: n for k, n in vars(arguments).items() if k in sizes and n is not None}
    options = {"normalize": not arguments.no_scale, "seed": arguments.seed}
    tasks = transfer_tasks(digits(), *arguments.digits, **sizes, **options)
    return tasks.source, tasks.target, tasks.test


def _read_npz(path: Path) -> tuple[Task, Task | None]:
    """The task of a file, and its test set if it holds one."""
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                held = {member.removesuffix(".npy"): member for member in archive.namelist()}
                mine = [name for name in NPZ if name in held]
                arrays = {n: np.lib.format.read_array(archive.open(held[n])) for n in mine}
        except Exception as error:  # whatever a foreign or damaged file may cause
            raise ValueError(f"{path} must be an .npz file of plain arrays: {error}") from error
    if mine not in (NPZ, NPZ[:2]):
        holds = ", ".join(held) or "nothing"
        raise ValueError(f"{path} must hold X, y and may hold X_test, y_test; it holds {holds}")
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{path}: {name} must hold real numbers, got {array.dtype}")
    try:
        task = Task(arrays["X"], arrays["y"], name=str(path))
        return task, Task(arrays["X_test"], arrays["y_test"]) if len(mine) == 4 else None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _place(path: Path) -> Path:
    """Where to write ``path``, once it is known that one can."""
    try:
        final = path.resolve()
        if final.exists() and not (final.is_file() and os.access(final, os.W_OK)):
            raise OSError("not a writable file")
        tempfile.TemporaryFile(dir=final.parent).close()
        return final
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        message = getattr(error, "strerror", None) or error
        raise _OutputError(f"{path} cannot be written: {message}") from error


def _write(gain: TransferGain, places: dict[str, Path]) -> None:
    """Write all outputs beside their places, then move them there."""
    new = {k: path.with_name(f".tlnb-{os.getpid()}-{k}{path.suffix}") for k, path in places.items()}
    try:
        for kind, path in new.items():
            _WRITERS[kind](gain, path)
        for kind, path in places.items():
            os.replace(new[kind], path)
    except OSError as error:  # a full disk, a directory that vanished
        raise _OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        for path in new.values():
            path.unlink(missing_ok=True)


def _write_csv(gain: TransferGain, path: Path) -> None:
    gain.curve.to_csv(path, index=False)


def _write_json(gain: TransferGain, path: Path) -> None:
    text = json.dumps(vars(gain), indent=1, default=lambda table: table.to_dict("list"))
    path.write_text(text.replace("Infinity", '"inf"') + "\n", encoding="utf-8")  # not in JSON


def _write_figure(gain: TransferGain, path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from tlnb import plotting

    with rc_context():
        plotting.use_style()
        figure = Figure()
        ax, curve = figure.add_subplot(), gain.curve
        x = plotting.coupling_axis(ax, curve.coupling)
        label = "coupled (± 2 s.e. of the gain over scratch)"
        ax.errorbar(x, curve.test_error, 2 * curve.se_scratch, marker="o", label=label)
        ax.plot(x, curve.test_error + curve.gain_prior, "s--", label="matched prior")
        for k, style in ((0, "C2-."), (2, "C3:")):
            label, width, error = gain.comparisons.iloc[k, :3]
            ax.plot(x[[0, -1]], [error, error], style, label=f"{label} (width {width:g})")
        ax.set(ylabel="test error", title=f"width {gain.width:g}: {gain.verdict}")
        figure.legend(loc="outside lower center", ncols=2)
        figure.savefig(path)


_WRITERS = {"csv": _write_csv, "json": _write_json, "figure": _write_figure}

if __name__ == "__main__":
    sys.exit(main())
