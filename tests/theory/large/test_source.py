"""Large sources against dense algebra at a size where both can be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlnb import Task
from tlnb.errors import CompetingSaddlesWarning, ConvergenceError
from tlnb.kernels import Activation, get_activation, kernel
from tlnb.theory.large import traces
from tlnb.theory.large.iterative import Equation, solve
from tlnb.theory.large.kernel import LargeKernel, LargeOptions
from tlnb.theory.large.low_rank import LowRank
from tlnb.theory.large.source import _first_guess, log_evidence, source_saddle
from tlnb.theory.large.tiles import TiledKernel
from tlnb.theory.one_task import OneTaskProblem
from tlnb.theory.one_task.action import curvature

P, N0, Q, T = 500, 30, 2.5, 0.1
ERF, RELU = get_activation("erf"), get_activation("relu")


def inputs(seed: int = 0, n: int = P) -> np.ndarray:
    """Inputs whose directions have variances that fall like those of images."""
    variances = np.arange(1, N0 + 1) ** -0.7
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, N0)) * np.sqrt(N0 * variances / variances.sum())


X = inputs()
Y = np.sign(X[:, 0] + X[:, 1] * X[:, 2])


@pytest.fixture(scope="module")
def dense() -> tuple[np.ndarray, np.ndarray]:
    K = kernel(X, activation="erf")
    return K, T * np.eye(P) + Q * K


@pytest.fixture(scope="module")
def tiles() -> TiledKernel:
    return TiledKernel.of(X, ERF, 1.0, tile=180)


@pytest.fixture(scope="module")
def low_rank() -> LowRank:
    return LowRank.of(X, ERF, 1.0, 80, 1)


def large(**options: Any) -> LargeKernel:
    return LargeKernel(X, ERF, 1.0, LargeOptions(**({"tile": 180} | options)))


# tiles


@pytest.mark.parametrize("activation", [ERF, RELU])
def test_products_of_tiles_have_the_rounding_that_is_stated(activation: Activation) -> None:
    K = kernel(X, activation=activation)
    tiled = TiledKernel.of(X, activation, 1.0, tile=180)
    B = np.random.default_rng(0).standard_normal((P, 3))
    rounding = 6e-8 * np.abs(K).max() * np.sqrt(P) * np.linalg.norm(B, axis=0)
    assert np.all(np.linalg.norm(tiled.product(B) - K @ B, axis=0) < 3 * rounding)
    np.testing.assert_allclose(tiled.diagonal, np.diag(K), rtol=1e-7)
    assert tiled.squared_norm == pytest.approx((K**2).sum(), rel=1e-6)
    assert {tile.dtype for tile in tiled.tiles.values()} == {np.dtype(np.float32)}


def test_a_killed_run_makes_only_the_tiles_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiles: TiledKernel
) -> None:
    whole = type(ERF).dual

    def broken(self: Activation, *arguments: Any) -> np.ndarray:
        if len(list(tmp_path.glob("tile_*.npy"))) == 4:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(ERF), "dual", broken)
        with pytest.raises(KeyboardInterrupt):
            TiledKernel.of(X, ERF, 1.0, tile=180, folder=tmp_path)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("tile_*.npy")}
    assert len(made) == 4
    resumed = TiledKernel.of(X, ERF, 1.0, tile=180, folder=tmp_path)
    assert all(path.stat().st_mtime_ns == then for path, then in made.items())
    assert not list(tmp_path.glob("*.part"))
    for pair, tile in tiles.tiles.items():
        np.testing.assert_array_equal(resumed.tiles[pair], tile)
        assert isinstance(resumed.tiles[pair], np.memmap)


@pytest.mark.parametrize(
    ("X_there", "activation", "variance", "differs"),
    [(X[:, ::-1], ERF, 1.0, "inputs"), (X, RELU, 1.0, "activation"), (X, ERF, 2.0, "variance")],
)
def test_a_folder_holds_one_kernel(
    tmp_path: Path, X_there: np.ndarray, activation: Activation, variance: float, differs: str
) -> None:
    TiledKernel.of(X[:60], ERF, 1.0, tile=40, folder=tmp_path)
    with pytest.raises(ValueError, match=f"another kernel: .*{differs}"):
        TiledKernel.of(X_there[:60], activation, variance, tile=40, folder=tmp_path)


def test_too_little_memory_is_said_before_any_work() -> None:
    with pytest.raises(MemoryError, match="give a folder"):
        TiledKernel.of(X, ERF, 1.0, memory=1e5)


def test_memory_beside_the_tiles_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlnb.theory.large.kernel.available", lambda: 3e7)
    assert large(columns=16).tiles.size == P
    with pytest.raises(MemoryError, match="fewer examples"):
        _ = large(columns=2000).tiles


def test_float32_is_refused_where_it_is_too_coarse(tiles: TiledKernel) -> None:
    with pytest.raises(ValueError, match="temperature must exceed"):
        tiles.check_resolution(1.0, 1e-7)


# low rank


def test_low_rank_is_its_own_dense_matrix(low_rank: LowRank) -> None:
    M = low_rank.shifted(Q, T)
    U = low_rank.vectors
    matrix = (T + Q * low_rank.tail) * np.eye(P) + Q * (U * low_rank.values) @ U.T
    B = np.random.default_rng(0).standard_normal((P, 3))
    inverse = np.linalg.inv(matrix)
    np.testing.assert_allclose(M.solve(B), inverse @ B, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(M.solve(B[:, 0]), inverse @ B[:, 0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(M.half(M.half(B)), inverse @ B, rtol=1e-9, atol=1e-9)
    assert M.log_det() == pytest.approx(np.linalg.slogdet(matrix)[1], abs=1e-8)
    assert M.inverse_trace() == pytest.approx(np.trace(inverse))
    np.testing.assert_allclose(M.inverse_diagonal(), np.diag(inverse))


def test_low_rank_is_exact_at_its_landmarks_and_with_all_of_them(
    low_rank: LowRank, dense: tuple[np.ndarray, np.ndarray]
) -> None:
    K = dense[0]
    approximate = (low_rank.vectors * low_rank.values) @ low_rank.vectors.T
    lacking = np.diag(K) - np.diag(approximate)
    assert np.sort(lacking)[79] < 1e-8 < np.sort(lacking)[80]
    assert low_rank.tail == pytest.approx(lacking.mean())
    whole = LowRank.of(X, ERF, 1.0, P)
    np.testing.assert_allclose((whole.vectors * whole.values) @ whole.vectors.T, K, atol=1e-9)
    assert whole.tail < 1e-9


def test_duplicated_landmarks_are_no_trouble() -> None:
    doubled = np.concatenate([X[:40], X[:40]])
    found = LowRank.of(doubled, ERF, 1.0, 80)
    K = kernel(doubled, activation="erf")
    np.testing.assert_allclose((found.vectors * found.values) @ found.vectors.T, K, atol=1e-7)


# solutions


def test_solutions_and_their_quadratic_forms(
    tiles: TiledKernel, low_rank: LowRank, dense: tuple[np.ndarray, np.ndarray]
) -> None:
    K, G = dense
    B = K[:, :6]
    truth = B.T @ np.linalg.solve(G, B)
    equation = Equation.of(tiles, low_rank, Q, T)
    errors = []
    for allowed in (1e-1, 1e-2, 1e-3):
        found = solve(equation, B, allowed)
        assert found.norms().max() <= allowed
        np.testing.assert_allclose(found.residual, B - G @ found.X, atol=2e-6)
        below = np.diag(truth) - found.diagonal(B)
        assert np.all(below > -1e-6) and np.all(below <= found.norms() ** 2 / T + 1e-6)
        np.testing.assert_allclose(np.diag(found.form(B)), found.diagonal(B))
        errors.append(np.abs(found.form(B) - truth).max())
        assert errors[-1] <= allowed**2 / T
    assert errors[1] < errors[0] / 10


def test_columns_leave_when_they_are_done(
    tiles: TiledKernel, low_rank: LowRank, dense: tuple[np.ndarray, np.ndarray]
) -> None:
    B = dense[0][:, :3]
    found = solve(Equation.of(tiles, low_rank, Q, T), B, [1e-1, 1e-3, 1e-5])
    norms = found.norms()
    assert np.all(norms <= [1e-1, 1e-3, 1e-5])
    assert norms[0] > 1e-3 > norms[1] > 1e-5


def test_a_solution_at_another_Q_is_a_good_start(
    tiles: TiledKernel, low_rank: LowRank, dense: tuple[np.ndarray, np.ndarray]
) -> None:
    B = dense[0][:, :4]
    old, new = (Equation.of(tiles, low_rank, q, T) for q in (Q, 1.2 * Q))
    start = solve(old, B, 1e-4).refined(B, old, new)
    cold = new.preconditioner.solve(B)
    left, without = (np.linalg.norm(B - new.apply(each)) for each in (start, cold))
    assert left < 0.5 * without
    # One step of refinement is exact, to float32, where M is G.
    whole = LowRank.of(X, ERF, 1.0, P)
    old, new = (Equation.of(tiles, whole, q, T) for q in (Q, 1.2 * Q))
    start = solve(old, B, 1e-2).refined(B, old, new)
    assert np.linalg.norm(B - new.apply(start)) < 1e-3


def test_the_solver_says_when_it_gives_up(tiles: TiledKernel, low_rank: LowRank) -> None:
    equation = Equation.of(tiles, low_rank, Q, T)
    with pytest.raises(ConvergenceError, match="after 2 iterations"):
        solve(equation, Y[:, None], 1e-8, max_iterations=2)
    with pytest.raises(ValueError, match="finite"):
        solve(equation, np.full((P, 1), np.nan), 1e-3)


# traces


def test_known_means_of_the_controls(
    tiles: TiledKernel, low_rank: LowRank, dense: tuple[np.ndarray, np.ndarray]
) -> None:
    K = dense[0]
    moments, M = traces.Moments.of(tiles, low_rank, at_once=30), low_rank.shifted(Q, T)
    inverse = M.solve(np.eye(P))
    once = inverse @ K
    expected = [np.trace(inverse), np.trace(once @ inverse), np.trace(once @ once @ inverse)]
    np.testing.assert_allclose(moments.controls(M), expected, rtol=3e-5)
    np.testing.assert_allclose(
        moments.whitened(M), [np.trace(once), np.trace(once @ once)], rtol=3e-5
    )


def test_traces_are_within_their_errors(
    tiles: TiledKernel, low_rank: LowRank, dense: tuple[np.ndarray, np.ndarray]
) -> None:
    inverse = np.linalg.inv(dense[1])
    moments, equation = traces.Moments.of(tiles, low_rank), Equation.of(tiles, low_rank, Q, T)
    off, plain = [], []
    for seed in range(12):
        z = traces.signs(P, 32, seed)
        found, volume = (
            traces.inverse_trace(equation, moments, z),
            traces.log_det(equation, moments, z),
        )
        off.append((found.value - np.trace(inverse)) / found.error)
        off.append((volume.value - np.linalg.slogdet(dense[1])[1]) / volume.error)
        assert found.squared == pytest.approx(np.trace(inverse @ inverse), rel=0.05)
        plain.append((z * (inverse @ z)).sum(0).mean() - np.trace(inverse))
        assert found.error < 5e-3 * found.value and volume.error < 0.5
    assert 0.5 < np.sqrt(np.mean(np.square(off))) < 1.7
    assert found.error < 0.3 * np.std(plain)  # what the controls are for


def test_more_random_vectors_begin_with_the_same_ones() -> None:
    np.testing.assert_array_equal(large().probes(24)[:, :8], large().probes(8))
    assert not np.array_equal(large(rng=1).probes(8), large().probes(8))


# the order parameter


@pytest.mark.parametrize(("width", "temperature"), [(50, 0.1), (400, 0.1), (100, 0.01)])
def test_order_parameter_covers_the_dense_one(width: int, temperature: float) -> None:
    truth = OneTaskProblem(Task(X, Y), temperature=temperature).solve(width=width)
    off = []
    for seed in range(4):
        mine = large(rng=seed)
        found = source_saddle(mine, Y, width=width, temperature=temperature)
        assert found.error <= 1e-3 * found.Q and found.residual < 1e-4
        assert found.Q == pytest.approx(truth.Q, rel=1e-3)
        off.append((found.Q - truth.Q) / found.error)
        G = temperature * np.eye(P) + found.Q * kernel(X, activation="erf")
        away = np.linalg.norm(found.alpha - np.linalg.solve(G, Y))
        rounding = 6e-8 * np.sqrt(P) * found.Q * mine.tiles.diagonal.max()
        left = 1e-6 * np.linalg.norm(Y) + rounding * np.linalg.norm(found.alpha)
        assert away < 2 * left / temperature
    assert np.sqrt(np.mean(np.square(off))) < 2
    evidence = log_evidence(mine, Y, found, width=width)
    assert abs(evidence.value - truth.log_evidence) < 4 * evidence.error + 0.02


def test_slope_is_the_derivative() -> None:
    problem = OneTaskProblem(Task(X, Y), temperature=0.1)
    found = source_saddle(large(), Y, width=50, temperature=0.1)
    truth = curvature(
        found.Q,
        problem.kernel.factor.eigenvalues,
        problem.projections() ** 2,
        width=50,
        temperature=0.1,
    )
    assert found.slope == pytest.approx(float(truth), rel=0.01)


def test_infinite_width_leaves_the_kernel_as_it_is() -> None:
    found = source_saddle(large(), Y, width=np.inf, temperature=0.1)
    assert (found.Q, found.error) == (1.0, 0.0)


def test_random_vectors_are_added_until_the_error_is_small() -> None:
    few = source_saddle(large(n_landmarks=10, n_probes=8), Y, width=400, temperature=0.1)
    assert few.n_probes > 8 and few.error < 1e-3 * few.Q
    with pytest.raises(ConvergenceError, match="most_probes"):
        source_saddle(
            large(n_landmarks=10, n_probes=8, most_probes=8, tolerance=1e-5),
            Y,
            width=400,
            temperature=0.1,
        )


def test_other_minima_are_warned_of() -> None:
    """The three roots of chapter 02: e = 40 × 1 and 1 × 0.005, y2 = 0 and 3, T = 0.01, N1 = 20."""
    U = np.linalg.qr(np.random.default_rng(0).standard_normal((41, 41)))[0]
    e = np.append(np.ones(40), 0.005)
    with pytest.warns(CompetingSaddlesWarning, match=r"further minima.*0.0116.*2.655"):
        found = _first_guess(LowRank(U, e, 0.0), np.sqrt(3) * U[:, 40], 20, 0.01)
    assert found == pytest.approx(2.655, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n_landmarks": P + 1}, "n_landmarks must be at most"),
        ({"n_landmarks": 0}, "n_landmarks"),
        ({"n_probes": 4}, "n_probes"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tile": 0}, "tile"),
        ({"rng": -1}, "rng"),
    ],
)
def test_options_out_of_range(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        source_saddle(large(**change), Y, width=50, temperature=0.1)


@pytest.mark.parametrize(
    ("y", "width", "temperature"), [(Y, 50, 0.0), (Y[1:], 50, 0.1), (Y, 0.5, 0.1)]
)
def test_arguments_out_of_range(y: np.ndarray, width: float, temperature: float) -> None:
    with pytest.raises(ValueError, match="must"):
        source_saddle(large(), y, width=width, temperature=temperature)


def test_inputs_must_be_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        TiledKernel.of(np.full((3, 2), np.nan), ERF, 1.0)
    with pytest.raises(ValueError, match="finite"):
        LowRank.of(np.full((3, 2), np.nan), ERF, 1.0, 2)
