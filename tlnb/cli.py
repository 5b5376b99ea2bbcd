"""The ``tlnb`` command: ``tlnb gain`` measures the transfer between two data sets.

A thin face of :mod:`tlnb.gain`: reads arguments and files, prints a table and a verdict, and writes
what was asked for. Output files are opened before the computation and put in place after it, whole.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

import tlnb
from tlnb.data.task import Task
from tlnb.errors import ConvergenceError
from tlnb.gain import COUPLINGS, Comparison, TransferGain, transfer_gain
from tlnb.theory.coupled import Priors

EPILOG = """\
input files:
  .npz with arrays X (P, N0) and y (P,); the target's may hold X_test and y_test.
  With a test set: random subsets of 80 % of the training examples, tested on it. Without: random
  splits of the target's examples, 80 % for training and 20 % for testing.

the verdict, on the mean squared test error of the network's output:
  The coupling is the one of largest log evidence in each split; test labels do not enter.
  helps      better by more than 2 standard errors than each of: the same width from scratch; the
             same width with the matched prior (what the coupling does as a mere regulariser); the
             best width from scratch, chosen on the test errors (the strongest opponent)
  hurts      worse than scratch by more than 2 standard errors
  undecided  otherwise, with the reason
  Standard errors know that splits overlap: for splits the variance over splits is multiplied by
  1/J + n_test/n_train (Nadeau and Bengio 2003); for subsets of the training part it is that of the
  delete-d jackknife (Shao and Wu 1989) plus the sampling variance of the test set.

exit codes:
  0 a verdict was reached, whichever   2 bad usage or input
  3 the solver did not converge        4 an output cannot be written

examples:
  tlnb gain --digits "3,8|4,9" "3,8|4,9" --width 50
  tlnb gain --digits "3,8|4,9" "3,8|5,9" --figure gain.svg --csv gain.csv
  tlnb gain --source s.npz --target t.npz --width 200 --couplings 0,1,10,inf --json gain.json
"""


class _OutputError(Exception):
    """An output cannot be written."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be numbers such as 0,0.1,10,inf, got {text!r}"
        ) from None


def _figure_path(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise argparse.ArgumentTypeError(f"must end in .png, .svg or .pdf, got {text!r}")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tlnb", description="Transfer learning in the proportional limit.")
    parser.add_argument("--version", action="version", version=f"tlnb {tlnb.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    gain = commands.add_parser(
        "gain",
        help="does a source data set help a target data set?",
        description="The transfer curve of two data sets in the proportional limit, and a verdict.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = gain.add_argument_group("data (two files, or scikit-learn's digits)")
    data.add_argument("--source", type=Path, metavar="S.npz")
    data.add_argument("--target", type=Path, metavar="T.npz")
    data.add_argument(
        "--digits",
        nargs=2,
        metavar=("SOURCE", "TARGET"),
        help='groups of classes, such as "3,8|4,9": 3 and 8 against 4 and 9',
    )
    data.add_argument("--n-source", type=int, metavar="P", help="digits of the source (300)")
    data.add_argument("--n-target", type=int, metavar="P", help="digits of the target (40)")
    data.add_argument(
        "--no-scale",
        action="store_true",
        help="leave the inputs as they are; otherwise one factor for all of them makes the mean of "
        "|x|²/N0 over source and target inputs 1",
    )
    network = gain.add_argument_group("network")
    network.add_argument("--width", type=float, default=200, help="N1, or inf (%(default)s)")
    network.add_argument("--activation", default="erf", help="erf, relu, linear, ... (%(default)s)")
    network.add_argument("--temperature", type=float, default=0.1, help="T (%(default)s)")
    network.add_argument("--weight-precision", type=float, default=1.0, help="λ0 (%(default)s)")
    network.add_argument("--readout-precision", type=float, default=1.0, help="λ1 (%(default)s)")
    network.add_argument(
        "--couplings",
        type=_numbers,
        default=COUPLINGS,
        metavar="γ,γ,...",
        help="from 0 to inf (" + ",".join(f"{g:g}" for g in COUPLINGS) + ")",
    )
    run = gain.add_argument_group("splits and output")
    run.add_argument("--splits", type=int, default=10, metavar="J", help="at least 2 (%(default)s)")
    run.add_argument("--seed", type=int, default=0, help="of splits and digits (%(default)s)")
    run.add_argument("--figure", type=_figure_path, metavar="F", help=".png, .svg or .pdf")
    run.add_argument("--csv", type=Path, metavar="F", help="the curve")
    run.add_argument("--json", type=Path, metavar="F", help="curve, comparisons and verdict")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code (see ``tlnb gain --help``)."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed its message or help
        return int(stop.code or 0)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _gain(arguments)
    except ConvergenceError as error:
        return _fail(3, error)
    except _OutputError as error:
        return _fail(4, error)
    except (ValueError, TypeError, OSError) as error:
        return _fail(2, error)
    for name in sorted({w.category.__name__ for w in caught}):
        messages = [str(w.message) for w in caught if w.category.__name__ == name]
        print(f"tlnb gain: {name} ({len(messages)} times): {messages[0]}", file=sys.stderr)
    return 0


def _fail(code: int, error: Exception) -> int:
    print(f"tlnb gain: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _gain(arguments: argparse.Namespace) -> None:
    outputs = {k: getattr(arguments, k) for k in _WRITERS if getattr(arguments, k)}
    if len({path.resolve() for path in outputs.values()}) < len(outputs):
        raise ValueError("--figure, --csv and --json must name different files")
    if arguments.seed < 0:
        raise ValueError(f"--seed must be an integer >= 0, got {arguments.seed}")
    priors = Priors(
        arguments.activation,
        arguments.temperature,
        arguments.weight_precision,
        arguments.readout_precision,
    )
    source, target, test, scaling = _data(arguments)
    with ExitStack() as stack:
        files = {kind: stack.enter_context(_whole(path)) for kind, path in outputs.items()}
        gain = transfer_gain(
            source,
            target,
            test,
            width=arguments.width,
            priors=priors,
            couplings=arguments.couplings,
            splits=arguments.splits,
            seed=arguments.seed,
        )
        for kind, path in files.items():
            _WRITERS[kind](gain, path, outputs[kind].suffix[1:].lower())
    print(f"source {source.name}: {source.n_examples} examples of {source.n_features} features")
    print(f"target {target.name}: {target.n_examples} examples")
    print(f"inputs {scaling}")
    print(
        f"network: {arguments.activation}, width {gain.width:g}, temperature {priors.temperature:g}"
    )
    print(_report(gain))
    for kind, path in outputs.items():
        print(f"{kind} written to {path}")


# input


def _data(arguments: argparse.Namespace) -> tuple[Task, Task, Task | None, str]:
    """Source, target, test set if there is one, and what was done to the inputs."""
    files, sizes = (arguments.source, arguments.target), (arguments.n_source, arguments.n_target)
    if arguments.digits and files == (None, None):
        tasks = _digits(arguments)
    elif not arguments.digits and None not in files and sizes == (None, None):
        tasks = (_read_npz(arguments.source)[0], *_read_npz(arguments.target))
    else:
        raise ValueError("give --source and --target, or --digits (with --n-source, --n-target)")
    scaling = "the mean of |x|²/N0 over source and target is 1"
    if arguments.no_scale:
        return *tasks, "as they are"
    if arguments.digits:
        return *tasks, f"centred and scaled: {scaling}"
    source, target, _ = tasks
    if source.n_features != target.n_features:
        raise ValueError(
            f"X must have as many columns in both files, got {source.n_features} in {source.name} "
            f"and {target.n_features} in {target.name}"
        )
    size = np.sqrt(np.mean(np.concatenate([source.X, target.X]) ** 2))
    if not 0 < size < np.inf:
        raise ValueError(f"X must have a finite mean square > 0 to be scaled, got {size**2:g}")
    scaled = (task and Task(task.X / size, task.y, task.ids, task.name) for task in tasks)
    return *scaled, f"divided by {size:.4g}: {scaling}"


def _digits(arguments: argparse.Namespace) -> tuple[Task, Task, Task]:
    from tlnb.data.images import digits, transfer_tasks

    tasks = transfer_tasks(
        digits(),
        *arguments.digits,
        n_source=300 if arguments.n_source is None else arguments.n_source,
        n_target=40 if arguments.n_target is None else arguments.n_target,
        n_test=300,
        normalize=not arguments.no_scale,
        seed=arguments.seed,
    )
    return tasks.source, tasks.target, tasks.test


def _read_npz(path: Path) -> tuple[Task, Task | None]:
    """The task of a file, and its test set if it holds one."""
    allowed = f"{path} must be an .npz file of plain arrays X, y"
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{allowed}; it is no (whole) zip archive")
        file.seek(0)
        try:
            arrays = dict(np.load(file, allow_pickle=False))
        except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{allowed}: {error}") from error
    for pair in (("X", "y"), ("X_test", "y_test")):
        missing = [key for key in pair if key not in arrays]
        if missing and (len(missing) == 1 or pair[0] == "X"):
            raise ValueError(
                f"{path} must hold {' and '.join(pair)}, {' and '.join(missing)} missing; "
                f"it has {', '.join(arrays) or 'nothing'}"
            )
    try:
        task = Task(arrays["X"], arrays["y"], name=str(path))
        test = Task(arrays["X_test"], arrays["y_test"]) if "X_test" in arrays else None
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error
    return task, test


# output


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Yield a new file beside ``path``, which replaces it when all went well."""
    final = path.resolve()
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        if final.exists() and not (final.is_file() and os.access(final, os.W_OK)):
            raise OSError("not a writable file")
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise _OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        yield temporary
        os.replace(temporary, final)
    except OSError as error:  # a full disk, a directory that vanished
        raise _OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _report(gain: TransferGain) -> str:
    splits = len(gain.chosen)
    what = "subsets of the training examples, one test set" if gain.fixed_test else "splits"
    lines = [
        f"{splits} random {what}: {gain.n_train} to train, {gain.n_test} to test",
        "",
        "gains: test error of the opponent minus that of the coupled network, ± standard error",
        "",
        "coupling  test error   gain over scratch  over matched prior  log evidence  chosen",
    ]
    for g, error, gain_s, se_s, gain_p, se_p, _, evidence in zip(*gain.curve.values(), strict=True):
        lines.append(
            f"{g:8g}  {error:10.4f}  {gain_s:8.4f} ± {se_s:6.4f}   {gain_p:8.4f} ± {se_p:6.4f}  "
            f"{evidence:12.3f}  {np.sum(gain.chosen == g):>3d}/{splits}"
        )
    lines += ["", f"at the couplings chosen by evidence: test error {gain.chosen_error:.4f}"]
    for c, width in zip(gain.comparisons, (gain.width, gain.width, gain.best_width), strict=True):
        lines.append(
            f"  {c.opponent + f' (width {width:g})':<27} {c.test_error:.4f}, "
            f"gain {c.gain:7.4f} ± {c.standard_error:.4f}"
        )
    return "\n".join([*lines, "", f"verdict: {gain.verdict} ({gain.reason})"])


def _write_csv(gain: TransferGain, path: Path, _: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(gain.curve)
        writer.writerows(np.transpose(list(gain.curve.values())).tolist())


def _plain(value: object) -> object:
    """What JSON can hold; infinity, which it cannot, becomes the string "inf"."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list, np.ndarray)):
        return [_plain(entry) for entry in np.asarray(value, dtype=object).tolist()]
    if isinstance(value, Comparison):
        return vars(value)
    return "inf" if value == np.inf else value


def _write_json(gain: TransferGain, path: Path, _: str) -> None:
    content = {"verdict": gain.verdict, "reason": gain.reason} | _plain(vars(gain))
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _write_figure(gain: TransferGain, path: Path, suffix: str) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from tlnb import plotting

    with rc_context():
        plotting.use_style()
        figure = Figure()
        ax = figure.add_subplot()
        curve = {
            name: values[np.argsort(gain.curve["coupling"])] for name, values in gain.curve.items()
        }
        x = plotting.coupling_axis(ax, curve["coupling"])
        bars = 2 * curve["gain_over_scratch_se"]
        label = "coupled (± 2 s.e. of the gain over scratch)"
        ax.errorbar(x, curve["test_error"], bars, marker="o", label=label)
        ax.plot(x, curve["matched_prior_error"], marker="s", linestyle="--", label="matched prior")
        scratch, _, best = gain.comparisons
        ax.axhline(scratch.test_error, color="C2", linestyle="-.", label="scratch")
        label = f"best width from scratch ({gain.best_width:g})"
        ax.axhline(best.test_error, color="C3", linestyle=":", label=label)
        ax.set_ylabel("test error")
        ax.set_title(f"width {gain.width:g}: {gain.verdict}")
        figure.legend(loc="outside lower center", ncols=2)
        figure.savefig(path, format=suffix)


_WRITERS = {"csv": _write_csv, "json": _write_json, "figure": _write_figure}

if __name__ == "__main__":
    sys.exit(main())
