"""The numbers behind the book's explorers, computed with tlnb when the book is built.

Each function returns what one explorer needs as plain lists and numbers; `write` puts it into a
JSON file together with the fingerprint of the code that made it, and leaves a file of the same
fingerprint alone. Where the explorer can solve, it gets the few numbers that it needs to solve
(the single task, the small posterior); where it cannot, a table.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from tlnb import Task, coupling_sweep
from tlnb.data.images import TransferTasks, digits, transfer_tasks
from tlnb.kernels import dual_diagonal, get_activation, kernel, squared_norms

ROOT = Path(__file__).resolve().parent.parent
LOW = "0,1,2,3,4|5,6,7,8,9"
TEMPERATURE = 0.01

#: Sources for the target question, is the digit below 5: label groups and what to call them.
SOURCES = {
    "the same question": LOW,
    "nearly the same": "0,1,2,3,5|4,6,7,8,9",
    "even or odd": "0,2,4,6,8|1,3,5,7,9",
}
SIZES = {"n_source": 300, "n_target": 40, "n_test": 400}
WIDTHS = (20, 50, 100, 200, 500)
RICHNESS = (0.01, 0.1, 1.0, 10.0)
COUPLINGS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, np.inf)
KNOBS = ("teacher_overlap", "feature_overlap", "replaced_fraction", "target_latent_dim")

Array = NDArray[np.float64]


def single_task() -> dict:
    """Spectra of a few tasks at λ1 = 1, and what the average test error needs of the test inputs.

    With V(x) = UᵀK(x), c = Σ_x V(x) y(x)/n, S = Σ_x V(x) V(x)ᵀ/n over the n test inputs, and with
    a = Q G⁻¹ Uᵀy, the squared bias is 1 - 2 a·c + a·S a, the variance Q (⟨K(x,x)⟩ - Tr Q G⁻¹ S).
    """
    two_minima = {"eigenvalues": [1.0] * 40 + [0.005], "projections": [0.0] * 40}
    return {
        "digits": {"title": "digits: 0 to 4, or 5 to 9?", **_spectrum(*digit_tasks())},
        "two minima": {
            "title": "two minima, label 3",
            "eigenvalues": two_minima["eigenvalues"],
            "projections": [*two_minima["projections"], np.sqrt(3.0)],
        },
        "two minima, smaller label": {
            "title": "two minima, label 2",
            "eigenvalues": two_minima["eigenvalues"],
            "projections": [*two_minima["projections"], np.sqrt(2.0)],
        },
    }


def digit_tasks() -> tuple[Task, Task]:
    """60 digits to learn from and 400 to be tested on."""
    tasks = transfer_tasks(digits(), LOW, LOW, n_source=10, n_target=60, n_test=400, seed=0)
    return tasks.target, tasks.test


def _spectrum(task: Task, test: Task) -> dict:
    eigenvalues, U = np.linalg.eigh(kernel(task.X, activation="erf"))
    V = U.T @ kernel(task.X, test.X, activation="erf")
    prior = dual_diagonal(get_activation("erf"), squared_norms(test.X), 1.0, 1.0)
    second = V @ V.T / test.n_examples
    return {
        "eigenvalues": eigenvalues.tolist(),
        "projections": (U.T @ task.y).tolist(),
        "cross": (V @ test.y / test.n_examples).tolist(),
        "second": second[np.tril_indices(len(second))].tolist(),
        "prior": float(prior.mean()),
    }


def transfer() -> dict:
    """Test errors over source, richness, width and coupling, and those of the matched prior."""
    shape = (len(SOURCES), len(RICHNESS), len(WIDTHS), len(COUPLINGS))
    found = {name: np.zeros(shape) for name in ("test_error", "matched_prior", "Q_st")}
    for s, groups in enumerate(SOURCES.values()):
        for r, richness in enumerate(RICHNESS):
            coupled = transfer_curves(groups, richness)
            matched = transfer_curves(groups, richness, baseline="matched-prior")
            found["test_error"][s, r] = coupled.test_error
            found["Q_st"][s, r] = coupled.Q_st
            found["matched_prior"][s, r] = matched.test_error
    return {
        "sources": list(SOURCES),
        "richness": list(RICHNESS),
        "widths": list(WIDTHS),
        "couplings": [γ if np.isfinite(γ) else "inf" for γ in COUPLINGS],
        "temperature": TEMPERATURE,
        **{name: np.round(values, 5).tolist() for name, values in found.items()},
        "points": networks(),
    }


def networks() -> list[dict]:
    """Networks drawn and trained on the tasks of the transfer explorer, from stored results.

    A place among the sliders each: errors and their standard errors at some couplings.
    """
    stored = xr.load_dataset(ROOT / "results" / "07_explorer.nc", engine="h5netcdf")
    couplings = json.loads(stored.attrs["fixed"])["couplings"]
    found = []
    for s, w, r in np.ndindex(stored.failure.shape):
        at = stored.isel(groups=s, width=w, richness=r)
        found.append(
            {
                "source": list(SOURCES.values()).index(str(at.groups.values)),
                "width": WIDTHS.index(int(at.width)),
                "richness": RICHNESS.index(float(at.richness)),
                "couplings": [COUPLINGS.index(c) for c in couplings],
                "sampled": np.round(at.test_error.values, 4).tolist(),
                "sampled_se": np.round(at.test_error_mcse.values, 4).tolist(),
                "trained": np.round(at.trained.values, 4).tolist(),
                "trained_se": np.round(at.trained_se.values, 4).tolist(),
            }
        )
    return found


@cache
def _tasks(groups: str) -> TransferTasks:
    n_source, n_target, n_test = (SIZES[name] for name in ("n_source", "n_target", "n_test"))
    return transfer_tasks(
        digits(), groups, LOW, n_source=n_source, n_target=n_target, n_test=n_test, seed=0
    )


def transfer_curves(groups: str, richness: float, **control: str) -> xr.Dataset:
    """The theory over all widths and couplings, for one draw of the digits."""
    tasks = _tasks(groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of competing saddles: the one of least action is taken
        return coupling_sweep(
            tasks.source,
            tasks.target,
            tasks.test,
            widths=WIDTHS,
            couplings=COUPLINGS,
            temperature=TEMPERATURE,
            richness=richness,
            **control,
        )


def phase_diagram() -> dict:
    """Errors of a readout on transferred and on random features, and of training from scratch.

    From the stored results of chapter 14, as that chapter combines them: means over draws; RF and
    2L depend on the target's latent dimension only, 2L is linear between its simulated points.
    """
    theory, random, scratch = (
        xr.load_dataset(ROOT / "results" / f"14_{name}.nc", engine="h5netcdf")
        for name in ("theory", "random", "scratch")
    )
    ratios = theory.sample_ratio.values
    values = theory.value.isel(draw=0, features=0)
    TF = theory.test_error.isel(features=0).mean("draw")
    RF = random.test_error.isel(features=0, knob=0).mean("draw")
    RF = RF.assign_coords(place=random.value.isel(draw=0, features=0, knob=0).values)
    alone = scratch.test_error.isel(width=0).mean("draw")
    alone = alone.assign_coords(
        examples=np.log(alone.examples.values / 100),
        target_latent_dim=np.log(alone.target_latent_dim.values),
    )
    knobs = {}
    for knob in KNOBS:
        places = values.sel(knob=knob).values
        dimension = places if knob == "target_latent_dim" else np.full(len(places), 100.0)
        own = alone.interp(
            examples=xr.DataArray(np.log(ratios), dims="ratio"),
            target_latent_dim=xr.DataArray(np.log(dimension), dims="dimension"),
        ).transpose("dimension", "ratio")
        idle = RF.interp(place=xr.DataArray(dimension, dims="dimension"))
        knobs[knob] = {
            "places": places.tolist(),
            "TF": np.round(TF.sel(knob=knob).transpose("place", ...).values, 4).tolist(),
            "RF": np.round(idle.transpose("dimension", ...).values, 4).tolist(),
            "2L": np.round(own.values, 4).tolist(),
        }
    return {"sample_ratios": ratios.tolist(), "knobs": knobs}


def posterior() -> dict:
    """One hidden unit, one example: y = v erf(w x), its exact averages by quadrature."""
    x, y, temperature = 1.0, 0.8, 0.1
    grid = np.linspace(-7, 7, 1401)
    w, v = np.meshgrid(grid, grid, indexing="ij")
    fit = v * get_activation("erf")(w * x)
    weight = np.exp(-0.5 * (w**2 + v**2 + (y - fit) ** 2 / temperature))
    weight /= weight.sum()
    return {
        "x": x,
        "y": y,
        "temperature": temperature,
        "Q": float((weight * v**2).sum()),
        "train_error": float((weight * (y - fit) ** 2).sum()),
    }


EXPLORERS: dict[str, Callable[[], dict]] = {
    "single-task": single_task,
    "transfer": transfer,
    "phase-diagram": phase_diagram,
    "posterior": posterior,
}


def fingerprint() -> str:
    """Of everything the numbers depend on: the package, this file, the stored results."""
    results = ROOT / "results"
    stored = [*results.glob("14_*.nc"), results / "07_explorer.nc"]
    files = [*(ROOT / "tlnb").rglob("*.py"), Path(__file__), *stored]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def write(folder: Path) -> list[str]:
    """Write ``NAME.json`` for every explorer; return the names of those computed anew."""
    folder.mkdir(parents=True, exist_ok=True)
    current, computed = fingerprint(), []
    for name, compute in EXPLORERS.items():
        path = folder / f"{name}.json"
        if path.exists() and json.loads(path.read_text("utf8"))["fingerprint"] == current:
            continue
        content = {"fingerprint": current, **compute()}
        path.write_text(json.dumps(content, allow_nan=False, separators=(",", ":")), "utf8")
        computed.append(name)
    return computed
