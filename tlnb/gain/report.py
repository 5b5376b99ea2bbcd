"""What `tlnb gain` says: text, a table, JSON, and the figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tlnb.gain.tool import TransferGain
from tlnb.theory.large.screening import Screening

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMAT = {"index": False, "float_format": "{:.4f}".format, "na_rep": "-"}
_PLACE = {"width": "N1", "coupling": "coupling", "temperature": "T", "richness": "λ1/N1"}
_CURVE = _PLACE | {
    "test_error": "left out",
    "standard_error": "±",
    "squared_bias": "its bias²",
    "classification_error": "wrong",
    "on_test_test_error": "test",
    "on_test_squared_bias": "test bias²",
    "on_test_classification_error": "test wrong",
}
_OPPONENTS = {"opponent": "opponent"} | _PLACE | {
    "test_error": "error",
    "classification_error": "wrong",
    "gain": "gain",
    "standard_error": "± ",
    "classification_gain": "of wrong",
    "classification_se": "±",
}  # fmt: skip
_SHORT = {name: "{:g}".format for name in _PLACE.values()}


def text(gain: TransferGain) -> str:
    """The curve, the opponents, trained networks if any, and the verdict."""
    where = f"{gain.n_test} test examples" if gain.n_test else f"{gain.n_train} left-out examples"
    chosen = gain.chosen
    lines = [
        "at each coupling, the temperature and richness that leave-one-out chooses for it:\n",
        _table(gain.curve, _CURVE),
        f"\nchosen by leave-one-out: coupling {chosen['coupling']:g}, temperature "
        f"{chosen['temperature']:g}, readout precision {chosen['readout_precision']:g} "
        f"(richness {chosen['richness']:g})",
        f"at {where}: test error {gain.test_error:.4f} ± {gain.test_error_se:.4f}, of the mean "
        f"{gain.squared_bias:.4f} ± {gain.squared_bias_se:.4f}"
        + _of_classes(gain.classification_error, gain.classification_error_se),
    ]
    if gain.regret is not None:
        regret = f"{gain.regret:.1%} above the best candidate's on the test set"
        lines.append(f"regret of the choice: its error is {regret}")
    lines += [
        "\nopponents, each at its own choice, and what the best coupled network gains over them:\n",
        _table(gain.opponents, _OPPONENTS),
    ]
    if gain.trained is not None:
        lines += [
            "\ntrained networks, the weight decays being those that the chosen points mean:\n",
            gain.trained.to_string(formatters={"coupling": "{:g}".format}, **_FORMAT),
        ]
    if gain.screening is not None:
        lines.append(f"\n{_of_screening(gain.screening)}")
    if gain.failures:
        lines.append(f"\n{gain.failures} candidates did not converge and were left out")
    expected = "gain over scratch to be expected, to rank sources by"
    lines.append(f"\n{expected}: {gain.expected_gain:+.4f}")
    if gain.n_test:
        lines.append(f"from training labels alone: {gain.left_out.verdict}")
    lines.append(f"\n{gain.action}\nverdict: {gain.verdict} ({gain.reason})")
    return "\n".join(lines)


def _table(rows: pd.DataFrame, names: dict[str, str]) -> str:
    """The columns that are named, but for those without a number."""
    shown = [name for name in names if name in rows and rows[name].notna().any()]
    return rows[shown].rename(columns=names).to_string(formatters=_SHORT, **_FORMAT)


def _of_classes(error: float, standard_error: float) -> str:
    return "" if np.isnan(error) else f", wrong classes {error:.4f} ± {standard_error:.4f}"


def _of_screening(found: Screening) -> str:
    if found.kept == found.points:
        return f"all {found.points} temperatures and richness solved for with the whole source"
    return (
        f"{found.points} temperatures and richness screened on {found.examples} examples of the "
        f"source, the best {found.kept} solved for with all of them: left-out errors changed by up "
        f"to {found.change:.4f}; one that was dropped may be better by {found.missed:.4f}"
    )


def as_dict(gain: TransferGain) -> dict[str, Any]:
    """Everything, in plain numbers, lists and dicts: what the JSON file holds."""
    found = dict(vars(gain))
    found["opponents"] = {row.pop("opponent"): row for row in gain.opponents.to_dict("records")}
    found["left_out"] = gain.left_out._asdict()
    found["screening"] = None if gain.screening is None else gain.screening._asdict()
    for name in ("curve", "candidates", "trained"):
        if isinstance(found[name], pd.DataFrame):
            found[name] = found[name].to_dict("list")
    return found


def write_json(gain: TransferGain, path: Path) -> None:
    """Write `as_dict`; infinity as "inf", not a number as null."""
    content = json.dumps(_plain(as_dict(gain)), indent=1, allow_nan=False)
    path.write_text(content + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return None if np.isnan(number) else number if np.isfinite(number) else "inf"
    return value.item() if isinstance(value, np.generic) else value


def write_csv(gain: TransferGain, path: Path) -> None:
    """Write the curve."""
    gain.curve.to_csv(path, index=False)


def write_figure(gain: TransferGain, path: Path) -> None:
    """Save `figure`."""
    from matplotlib import rc_context

    from tlnb import plotting

    with rc_context():
        plotting.use_style()
        figure(gain).savefig(path)


def figure(gain: TransferGain) -> Figure:
    """Errors against the coupling: theory, opponents and, if there are any, trained networks.

    One panel for the test error and, where there are classes, one for the share of wrong ones.
    """
    from matplotlib.figure import Figure

    from tlnb import plotting

    classes = not np.isnan(gain.classification_error)
    drawn = Figure(figsize=(8.0 if classes else 6.4, 4.2))
    panels = {"test_error": "test error"}
    if classes:
        panels["classification_error"] = "share of wrong classes"
    axes = drawn.subplots(1, len(panels), squeeze=False)[0]
    prefix = "on_test_" if gain.n_test else ""
    kind = "test set" if gain.n_test else "left out"
    curve = gain.curve
    for ax, (measure, name) in zip(axes, panels.items(), strict=True):
        x = plotting.coupling_axis(ax, curve.coupling)
        at = dict(zip(curve.coupling, x, strict=True))
        ax.plot(x, curve[prefix + measure], "o-", label=f"theory, {kind}")
        if measure == "test_error":
            spread = 2 * curve.standard_error
            style = {"fmt": "s--", "color": "C1", "mfc": "none", "capsize": 2}
            ax.errorbar(x, curve.test_error, spread, **style, label="leave-one-out (± 2 s.e.)")
        for row, line in zip(gain.opponents.iloc[:3].itertuples(), ("-.", ":", "--"), strict=True):
            label = f"{row.opponent} (width {row.width:g})"
            level = getattr(row, measure)
            ax.plot(x[[0, -1]], [level, level], line, color="0.45", label=label)
        if gain.trained is not None:
            of = "squared_error" if measure == "test_error" else measure
            for way, marker in (("scratch", "^"), ("fine-tuned", "D"), ("frozen", "v")):
                mine = gain.trained[gain.trained.way == way]
                places = [at.get(g, np.nan) for g in mine.coupling]
                style = {"ls": "", "color": "C3", "mfc": "none", "ms": 7}
                ax.plot(places, mine[of], marker, label=f"trained, {way}", **style)
        ax.set(ylabel=name)
    axes[0].set_title(f"width {gain.width:g}: {gain.verdict}")
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    return drawn


WRITERS = {"csv": write_csv, "json": write_json, "figure": write_figure}
