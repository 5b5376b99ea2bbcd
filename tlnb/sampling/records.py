"""Draws as a labelled dataset, the same for one task and for transfer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tlnb.priors import Priors
from tlnb.sampling.chains import Run

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
HOW_MOVED = ("step_size", "trajectory", "acceptance", "divergences")
EXTRA: dict[str, tuple[str, ...]] = {
    "prediction": ("test",),
    "prediction_variance": ("test",),
    "hidden_weights": ("unit", "feature"),
    "weights": ("weight",),
}


def not_moved(records: dict[str, Array], moved: Mapping[str, Any]) -> Run:
    """What is recorded of frozen features, which nothing moves: how their sources were."""
    step_size, trajectory, acceptance, divergences = (moved.get(name, 0) for name in HOW_MOVED)
    return Run(records, step_size, trajectory, acceptance, divergences, np.empty(0))


def as_dataset(
    records: dict[str, Array], dims: tuple[str, ...], run: Run, priors: Priors, width: int,
    **attributes: Any,
) -> Dataset:  # fmt: skip
    """Records of shape ``(*dims, ...)`` by name, with priors and run in the attributes."""
    import xarray as xr

    def of(name: str, values: Array) -> tuple[tuple[str, ...], Array]:
        extra = EXTRA.get(name, ())
        return (*dims[: values.ndim - len(extra)], *extra), values

    attributes |= {"width": width, "activation": priors.activation.name}
    for name in ("temperature", "weight_precision", "readout_precision"):
        attributes[name] = getattr(priors, name)
    for name in HOW_MOVED:
        attributes[name] = getattr(run, name)
    return xr.Dataset({name: of(name, x) for name, x in records.items()}, attrs=attributes)
