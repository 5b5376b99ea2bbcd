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
OF_A_TASK = ("temperature", "weight_precision", "readout_precision")
HOW_MOVED = ("step_size", "trajectory", "acceptance", "divergences")
EXTRA: dict[str, tuple[str, ...]] = {
    "prediction": ("test",),
    "prediction_variance": ("test",),
    "hidden_weights": ("unit", "feature"),
    "weights": ("weight",),
}


def options_of(priors: Priors) -> dict[str, Any]:
    """What the sampler of one task is told of ``priors``."""
    return {name: getattr(priors, name) for name in ("activation", *OF_A_TASK)}


def not_moved(records: dict[str, Array], moved: Mapping[str, Any]) -> Run:
    """What is recorded of frozen features, which nothing moves: how their sources were."""
    step_size, trajectory, acceptance, divergences = (moved.get(name, 0) for name in HOW_MOVED)
    return Run(records, step_size, trajectory, acceptance, divergences, np.empty(0))


def as_dataset(
    records: dict[str, Array], dims: tuple[str, ...], run: Run, priors: Priors, width: int,
    further: Mapping[str, tuple[str, ...]] = EXTRA, **attributes: Any,
) -> Dataset:  # fmt: skip
    """Records of shape ``(*dims, ...)`` by name, with priors and run in the attributes.

    ``further`` names the dimensions that some of the records have beyond ``dims``.
    """
    import xarray as xr

    def of(name: str, values: Array) -> tuple[tuple[str, ...], Array]:
        extra = further.get(name, ())
        return (*dims[: values.ndim - len(extra)], *extra), values

    attributes |= {"width": width, "activation": priors.activation.name}
    for name in OF_A_TASK:
        attributes[name] = getattr(priors, name)
    for name in HOW_MOVED:
        attributes[name] = getattr(run, name)
    return xr.Dataset({name: of(name, x) for name, x in records.items()}, attrs=attributes)
