"""Tiles on the workers of a cluster against tiles here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlnb import Task, coupling_sweep
from tlnb.kernels import get_activation
from tlnb.theory.large.cluster import ClusterKernel
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.large.tiles import TiledKernel

ERF = get_activation("erf")
X = np.random.default_rng(0).standard_normal((150, 12))


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(host="127.0.0.1", **options) as cluster, Client(cluster) as client:
        yield client


def test_products_are_those_of_one_machine(client: Any, tmp_path: Path) -> None:
    here = TiledKernel.of(X, ERF, 1.0, tile=60)
    B = np.random.default_rng(1).standard_normal((150, 4))
    for folder in (None, tmp_path, tmp_path):  # made, kept, found
        there = ClusterKernel.on(client, X, ERF, 1.0, tile=60, folder=folder)
        np.testing.assert_allclose(there.product(B), here.product(B), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(there.diagonal, here.diagonal)
        assert there.squared_norm == pytest.approx(here.squared_norm)
    assert len(list(tmp_path.glob("tile_*.npy"))) == 6
    homes = client.who_has(list(there.tiles.values())).values()
    assert len({worker for home in homes for worker in home}) == 2


def test_a_curve_of_a_cluster(client: Any) -> None:
    tasks = [Task(X[p], X[p, 0]) for p in np.split(np.arange(150), [120, 135])]
    grid: dict[str, Any] = {
        "widths": [40],
        "couplings": [0.5, np.inf],
        "temperature": 0.1,
        "solver": "iterative",
    }
    here, there = (
        coupling_sweep(*tasks, **grid, options=LargeOptions(tile=60, client=each))
        for each in (None, client)
    )
    np.testing.assert_allclose(there.test_error, here.test_error, rtol=1e-5)
