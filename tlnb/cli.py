"""The ``tlnb`` command: ``tlnb gain`` measures the transfer between two data sets.

A thin face of :mod:`tlnb.gain`: reads arguments, prints tables and a verdict, and writes what was
asked for. Whether outputs can be written is tried before the computation; they are put in place
after it, whole.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import tlnb
from tlnb import gain as rules
from tlnb._renamed import renamed_names
from tlnb.data.pools import PARTS
from tlnb.data.tables import KINDS
from tlnb.errors import ConvergenceError
from tlnb.gain import COUPLINGS, RICHNESS, TEMPERATURES, TransferGain, transfer_gain, verdict
from tlnb.gain.data import GainData, from_files, from_images
from tlnb.gain.report import WRITERS, text
from tlnb.gain.training import DECAYS
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.transfer import THEORIES

EPILOG = f"""\
{rules.__doc__}
{verdict.__doc__}
input files: .npz with arrays X (P, N0) and y (P,) of real numbers, the target's also with a test
set X_test, y_test; .csv or .parquet tables with a column of labels; or two .npy files, X and y.
Features may be those of any backbone. Two labels are two classes; more, if they are whole numbers,
are classes too, one against the rest; others are values.

exit codes: 0 a verdict was reached, whichever; 2 bad usage or input; 3 the solver did not
converge; 4 an output cannot be written; 130 interrupted

examples:
  tlnb gain --digits "3,8|4,9" "3,8|4,9" --width 50
  tlnb gain --digits "3,8|4,9" "3,8|5,9" --train --figure gain.svg --csv gain.csv
  tlnb gain --images MNIST "0,1,2,3,4|5,6,7,8,9" "0,1,2,3,4|5,6,7,8,9" --size 14 --n-source 1000
  tlnb gain --source s.npz --target t.npz --width 200 --couplings 0,1,10,inf --json gain.json
  tlnb gain --source s.csv --target t.parquet --test held_out.parquet --label species
"""


class _OutputError(Exception):
    """An output cannot be written."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _listed(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def _numbers(given: str) -> list[float]:
    try:
        return [float(part) for part in given.split(",")]
    except ValueError:
        message = f"must be numbers such as 0,0.1,10,inf, got {given!r}"
        raise argparse.ArgumentTypeError(message) from None


# name: type, default, help
OPTIONS: dict[str, tuple[Callable[[str], Any], Any, str]] = {
    "--n-source": (int, None, "images of the source (300, or 150 a class if that is less)"),
    "--n-target": (int, None, "images of the target (40)"),
    "--n-test": (int, None, "images of the test set (300, or 150 a class if that is less)"),
    "--size": (int, None, "average images down to so many pixels along an edge"),
    "--label": (str, None, "the column of labels in tables (y or label)"),
    "--width": (float, 200, "N1, or inf"),
    "--activation": (str, "erf", "erf, relu, linear, ..."),
    "--weight-precision": (float, 1.0, "λ0"),
    "--temperature": (_numbers, _listed(TEMPERATURES), "T, candidates"),
    "--richness": (_numbers, None, f"λ1/N1, candidates ({_listed(RICHNESS)})"),
    "--readout-precision": (_numbers, None, "λ1, candidates, instead of the richness"),
    "--couplings": (_numbers, _listed(COUPLINGS), "γ, candidates from 0 to inf"),
    "--seed": (int, 0, "of images, resamples and starts"),
    "--folder": (Path, None, "of sources above 12,000 examples: keep what is solved, to continue"),
    "--figure": (Path, None, "write the curve as .png, .svg or .pdf"),
    "--csv": (Path, None, "write the curve as a table"),
    "--json": (Path, None, "write all results"),
}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tlnb", description="Transfer learning in the proportional limit.")
    parser.add_argument("--version", action="version", version=f"tlnb {tlnb.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    style = argparse.RawDescriptionHelpFormatter
    says = "does a source data set help a target data set?"
    gain = commands.add_parser("gain", help=says, epilog=EPILOG, formatter_class=style)
    for name, says in (
        ("--source", "a file, or two .npy files X and y, see below"),
        ("--target", "the same"),
        ("--test", "the same, the target's test set, for those that hold none"),
    ):
        gain.add_argument(name, nargs="+", type=Path, metavar="FILE", help=says)
    says = 'instead of files: classes such as "3,8|4,9" "3,8|5,9", 3 and 8 against 4 and 9, ...'
    gain.add_argument("--digits", nargs=2, metavar=("SOURCE", "TARGET"), help=says)
    says = "the same, of MNIST, Fashion-MNIST, EMNIST or CIFAR-10 (binary) files in a folder"
    gain.add_argument("--images", nargs=3, metavar=("FOLDER", "SOURCE", "TARGET"), help=says)
    gain.add_argument("--part", choices=PARTS, default="test", help="of those files (%(default)s)")
    says = "what labels are: classes, or values of a regression (%(default)s)"
    gain.add_argument("--labels", choices=KINDS, default="auto", help=says)
    for name, (kind, default, says) in OPTIONS.items():
        says = says if default is None else f"{says} (%(default)s)"
        gain.add_argument(name, type=kind, default=default, help=says)
    says = "train so many networks of each kind beside the theory (3)"
    gain.add_argument("--train", nargs="?", type=int, const=3, default=0, metavar="N", help=says)
    says = "what their weights decay to: where training started, or zero (%(default)s)"
    gain.add_argument("--decay-to", choices=DECAYS, default=DECAYS[0], help=says)
    says = "solve for the choices by one number of a hidden unit's law, or by all of it, in minutes"
    gain.add_argument("--theory", choices=THEORIES, default=THEORIES[0], help=says)
    says = "leave the inputs as they are; else the mean of |x|²/N0 over both data sets is made 1"
    gain.add_argument("--no-scale", action="store_true", help=says)
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
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        return _fail(2, error)
    return 0


def _fail(code: int, error: Exception | str) -> int:
    print(f"tlnb gain: error: {textwrap.shorten(str(error), 500)}", file=sys.stderr)
    return code


def _gain(arguments: argparse.Namespace) -> None:
    options = vars(arguments)
    outputs = {kind: path for kind in WRITERS if (path := options[kind])}
    places = {kind: _place(path) for kind, path in outputs.items()}
    inputs = {kind: options[kind] or [] for kind in ("source", "target", "test")}
    given = [(kind, path) for kind, paths in inputs.items() for path in paths]
    given += list(outputs.items())
    if len({os.path.realpath(path) for _, path in given}) < len(given):
        names = ", --".join(dict.fromkeys(kind for kind, _ in given))
        raise ValueError(f"--{names} must name different files")
    if arguments.figure and arguments.figure.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--figure must end in .png, .svg or .pdf, got '{arguments.figure}'")
    data = _data(arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)  # between libraries
        gain = transfer_gain(
            _one(data.source),
            _one(data.target),
            None if data.test is None else _one(data.test),
            width=arguments.width,
            temperatures=arguments.temperature,
            richness=arguments.richness,
            readout_precisions=arguments.readout_precision,
            couplings=arguments.couplings,
            activation=arguments.activation,
            weight_precision=arguments.weight_precision,
            train=arguments.train,
            decay_to=arguments.decay_to,
            theory=arguments.theory,
            options=LargeOptions(folder=arguments.folder, progress=sys.stderr.isatty()),
            rng=arguments.seed,
            progress=sys.stderr.isatty(),
        )
        _write(gain, places)
    for name in sorted({w.category.__name__ for w in caught}):
        messages = [str(w.message) for w in caught if w.category.__name__ == name]
        print(f"tlnb gain: {name} ({len(messages)} times): {messages[0]}", file=sys.stderr)
    source, target = data.source[0], data.target[0]
    law = ", what was chosen solved for by the law of a hidden unit"
    lines = [
        f"source {source.name}: {source.n_examples} examples of {source.n_features} features",
        f"target {target.name}: {target.n_examples} examples",
        *data.notes,
        f"network: {arguments.activation}, width {gain.width:g}"
        + f"{law if gain.theory == 'unit-law' else ''}\n",
        text(gain),
        *(f"{kind} written to {path}" for kind, path in outputs.items()),
    ]
    try:
        print("\n".join(lines), flush=True)
    except OSError as error:
        # What is left in the buffer must not be flushed once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # a closed pipe: the reader has seen enough
            raise _OutputError(f"standard output cannot be written: {error.strerror}") from error


def _one(tasks: list[Any]) -> Any:
    return tasks[0] if len(tasks) == 1 else tasks


def _data(arguments: argparse.Namespace) -> GainData:
    files, scale = (arguments.source, arguments.target), not arguments.no_scale
    numbers = {name: vars(arguments)[name] for name in ("n_source", "n_target", "n_test")}
    pools = [pool for pool in (arguments.digits, arguments.images) if pool]
    of_images = [*numbers.values(), arguments.size]
    of_files = [*files, arguments.test, arguments.label]
    if len(pools) == 1 and not any(value is not None for value in of_files):
        place = "digits" if arguments.digits else pools[0][0]
        at = {"part": arguments.part, "size": arguments.size, "seed": arguments.seed}
        source, target = pools[0][-2:]
        return from_images(place, source, target, scale=scale, **at, **numbers)
    if pools or None in files or any(value is not None for value in of_images):
        raise ValueError(
            "give --source and --target, or --digits or --images (with --n-source, --n-target, "
            "--n-test, --size)"
        )
    options = {"test": arguments.test, "label": arguments.label, "labels": arguments.labels}
    return from_files(*files, **options, scale=scale)


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
            WRITERS[kind](gain, path)
        for kind, path in places.items():
            os.replace(new[kind], path)
    except OSError as error:  # a full disk, a directory that vanished
        raise _OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        for path in new.values():
            path.unlink(missing_ok=True)


__getattr__ = renamed_names(__name__)

if __name__ == "__main__":
    sys.exit(main())
