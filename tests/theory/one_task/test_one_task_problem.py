"""One task: saddle points, gradients, the Gaussian-process limit, the predictor's identities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import Polynomial
from scipy.optimize import approx_fprime

from tests.instances import deterministic, linear_teachers
from tlnb import Task, width_sweep
from tlnb.errors import CompetingSaddlesWarning
from tlnb.kernels import kernel
from tlnb.theory import one_task
from tlnb.theory.one_task import effective_action, saddle_points, solve, stationarity
from tlnb.theory.prediction import prediction

# An instance with two minima: forty directions without labels, one weak direction with one.
EIGENVALUES = np.append(np.ones(40), 0.005)


def two_minima(label: float) -> one_task.SaddlePoints:
    return saddle_points(EIGENVALUES, np.append(np.zeros(40), label), width=20, temperature=0.01)


def roots_of_the_polynomial(label: float) -> tuple[np.ndarray, np.ndarray]:
    """Q and A(Q) at the positive roots of dA/d ln Q times (T + Q)(T + e Q)², of degree four."""
    N1, T, e = 20, 0.01, 0.005
    Q, strong, weak = (Polynomial(coefficients) for coefficients in ([0, 1], [T, 1], [T, e]))
    slope = N1 * (Q - 1) * strong * weak**2 + 40 * Q * weak**2
    slope += e * Q * weak * strong - label * e * Q * strong
    found = slope.roots()
    q = found[(found.imag == 0) & (found.real > 0)].real
    action = N1 * (q - np.log(q)) + 40 * np.log(T + q) + np.log(T + e * q) + label / (T + e * q)
    return q, action


@pytest.mark.parametrize("label", [2.0, 3.0])
def test_instance_with_three_roots(label: float) -> None:
    roots = two_minima(label)
    Q, action = roots_of_the_polynomial(label)
    np.testing.assert_allclose(roots.Q, Q, rtol=1e-9)
    np.testing.assert_allclose(roots.action, action, rtol=1e-12)
    assert roots.minimum.tolist() == [True, False, True]
    assert roots.residual.max() < 1e-12


def test_the_collapsed_root_can_be_the_minimum() -> None:
    roots = two_minima(2.0)
    minima = roots.action[roots.minimum]
    assert minima[0] < minima[-1] - 10


@given(
    seed=st.integers(0, 2**32 - 1),
    log_T=st.floats(-4, 1),
    log_width=st.floats(0, 4),
    log_label=st.floats(-2, 2),
)
def test_every_sign_change_on_a_fine_grid_is_a_root(
    seed: int, log_T: float, log_width: float, log_label: float
) -> None:
    """All roots: a scan ten times finer finds no further one, and all lie within the bounds."""
    rng = np.random.default_rng(seed)
    e = np.sort(10.0 ** rng.uniform(-4, 2, 12)) * (rng.random(12) < 0.8)
    y2 = 10.0**log_label * rng.standard_normal(12) ** 2
    given: dict[str, Any] = {"width": 10.0**log_width, "temperature": 10.0**log_T}
    roots = saddle_points(e, y2, **given)
    upper = 1 + y2.sum() / (4 * given["temperature"] * given["width"])
    lower = 1 / (1 + e.sum() / (given["temperature"] * given["width"]))
    assert len(roots.Q) % 2 == 1
    assert lower * (1 - 1e-9) <= roots.Q[0] and roots.Q[-1] <= upper * (1 + 1e-9)
    assert (roots.residual <= 1e-9 * roots.Q.clip(1)).all()
    grid = np.exp(np.linspace(np.log(lower) - 0.1, np.log(upper) + 0.1, 6000))
    signs = np.sign(stationarity(grid, e, y2, **given))
    assert np.count_nonzero(signs[1:] != signs[:-1]) <= len(roots.Q)


def test_unique_root_if_the_rank_is_below_the_width() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        e = 10.0 ** rng.uniform(-4, 2, 15)
        y2 = 100 * rng.standard_normal(15) ** 2
        assert len(saddle_points(e, y2, width=15, temperature=0.01).Q) == 1


def test_stationarity_is_the_gradient_of_the_action() -> None:
    rng = np.random.default_rng(4)
    e, y2 = rng.random(9), rng.random(9)
    given: dict[str, Any] = {"width": 7.0, "temperature": 0.2}
    for t in np.linspace(-2, 2, 5):
        slope = approx_fprime([t], lambda t: effective_action(np.exp(t[0]), e, y2, **given), 1e-7)
        np.testing.assert_allclose(
            7.0 * stationarity(np.exp(t), e, y2, **given), slope[0], rtol=1e-5, atol=1e-5
        )


def test_action_equals_determinant_and_quadratic_form() -> None:
    source, _, _ = deterministic()
    K = kernel(source.X, activation="erf")
    solution = solve(source, width=20, temperature=0.1)
    G = 0.1 * np.eye(30) + solution.Q * K
    direct = 20 * (solution.Q - np.log(solution.Q)) + np.linalg.slogdet(G)[1]
    direct += source.y @ np.linalg.solve(G, source.y)
    np.testing.assert_allclose(solution.action, direct, rtol=1e-12)


def test_predictor_is_gaussian_process_regression_with_the_renormalised_kernel() -> None:
    source, _, test = deterministic()
    solution = solve(source, width=20, temperature=0.1, weight_precision=0.5, readout_precision=2)
    given: dict[str, Any] = {"activation": "erf", "weight_variance": 2.0, "readout_precision": 2.0}
    K, k = kernel(source.X, **given), kernel(source.X, test.X, **given)
    Q, G = solution.Q, 0.1 * np.eye(30) + solution.Q * K
    outcome = solution.predict(test.X, test.y)
    np.testing.assert_allclose(outcome.mean, Q * k.T @ np.linalg.solve(G, source.y), rtol=1e-9)
    variance = Q * np.diagonal(kernel(test.X, **given))
    variance = variance - Q**2 * np.einsum("in,in->n", k, np.linalg.solve(G, k))
    np.testing.assert_allclose(outcome.total_variance, variance, rtol=1e-9)
    np.testing.assert_allclose(outcome.squared_bias, (test.y - outcome.mean) ** 2)
    np.testing.assert_allclose(outcome.test_error, outcome.squared_bias + outcome.total_variance)
    at_training = solution.predict(source.X, source.y)
    np.testing.assert_allclose(solution.train_error, at_training.test_error.mean(), rtol=1e-9)


def test_infinite_width_is_the_limit_and_is_approached_as_one_over_width() -> None:
    source, _, test = deterministic()
    limit = solve(source, width=np.inf, temperature=0.1)
    assert limit.Q == 1.0
    distances = []
    for width in (1e3, 1e4):
        solution = solve(source, width=width, temperature=0.1)
        distances.append(
            [
                solution.Q - 1,
                solution.log_evidence - limit.log_evidence,
                np.abs(solution.predict(test.X).mean - limit.predict(test.X).mean).max(),
            ]
        )
    np.testing.assert_allclose(np.divide(*distances), 10, rtol=0.03)


def test_log_evidence_at_infinite_width_is_the_gaussian_one() -> None:
    from scipy.stats import multivariate_normal

    source, _, _ = deterministic()
    covariance = kernel(source.X, activation="relu") + 0.1 * np.eye(30)
    direct = multivariate_normal(cov=covariance).logpdf(source.y)
    solution = solve(source, width=np.inf, activation="relu", temperature=0.1)
    np.testing.assert_allclose(solution.log_evidence, direct, rtol=1e-12)


def test_readout_precision_alone_rescales_temperature_and_labels() -> None:
    """f → f/sqrt(λ1): the saddle depends on T λ1 and y sqrt(λ1) only."""
    source, _, _ = deterministic()
    one = solve(source, width=20, temperature=0.1, readout_precision=4.0)
    other = solve(Task(source.X, 2 * source.y), width=20, temperature=0.4)
    np.testing.assert_allclose(one.Q, other.Q, rtol=1e-12)


def test_width_sweep_equals_single_solutions() -> None:
    source, _, test = deterministic()
    widths = [3, 20, 500, np.inf]
    table = width_sweep(source, test, widths=widths, temperature=0.1, activation="relu")
    for width in widths:
        solution = solve(source, width=width, temperature=0.1, activation="relu")
        outcome = solution.predict(test.X, test.y)
        row = table.sel(width=width)
        for name in one_task.AVERAGED:
            np.testing.assert_allclose(row[name], getattr(outcome, name).mean(), rtol=1e-10)
        for name in ("Q", "train_error", "log_evidence"):
            np.testing.assert_allclose(row[name], getattr(solution, name), rtol=1e-12)


def test_competing_minima_are_reported() -> None:
    X = np.diag(np.sqrt(41 * EIGENVALUES))  # linear kernel X Xᵀ / N0 with the eigenvalues above
    task = Task(X, np.append(np.zeros(40), np.sqrt(3)))
    with pytest.warns(CompetingSaddlesWarning, match=r"Q = 0\.011"):
        solution = solve(task, width=20, activation="linear", temperature=0.01)
    np.testing.assert_allclose(solution.Q, two_minima(3.0).Q[-1], rtol=1e-9)
    (competing,) = solution.competing
    np.testing.assert_allclose(competing[0], two_minima(3.0).Q[0], rtol=1e-9)


def test_prediction_in_chunks_equals_prediction_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source, _, test = deterministic()
    solution = solve(source, width=20)
    whole = solution.predict(test.X, test.y)
    one_by_one = lambda n, numbers: (slice(i, i + 1) for i in range(n))  # noqa: E731
    monkeypatch.setattr("tlnb.theory.one_task.solution.chunks", one_by_one)
    for one, other in zip(whole, solution.predict(test.X, test.y), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_errors_of_a_network_without_spread() -> None:
    outcome = prediction(
        np.array([1.0, -1.0, 0.0]), np.zeros(3), np.zeros(3), np.array([1.0, 1.0, 1.0])
    )
    assert outcome.classification_error.tolist() == [0.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0.5}, "width must be a number >= 1 or infinity, got 0.5"),
        ({"width": np.nan}, "width must be a number >= 1"),
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"temperature": np.inf}, "temperature must be a number > 0, got inf"),
        ({"weight_precision": -2.0}, "weight_precision must be a number > 0, got -2.0"),
        ({"readout_precision": 0.0}, "readout_precision must be a number > 0, got 0.0"),
        ({"activation": "softsign"}, "softsign"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    source, _, _ = deterministic()
    with pytest.raises(ValueError, match=message):
        solve(source, **({"width": 20} | change))


def test_duplicated_inputs_need_a_temperature() -> None:
    source, _, _ = linear_teachers(0, 10, 1)
    twice = Task(np.vstack([source.X, source.X]), np.concatenate([source.y, -source.y]))
    with pytest.raises(ValueError, match=r"temperature must exceed .* got 1\.0e-15.*duplicated"):
        solve(twice, width=20, temperature=1e-15)
    assert solve(twice, width=20, temperature=1e-3).converged


def test_large_labels_make_a_large_order_parameter() -> None:
    """Labels far outside the prior: N1 Q² K ~ yyᵀ, so that Q grows in proportion to them."""
    source, _, _ = deterministic()
    Q = [solve(Task(source.X, scale * source.y), width=20).Q for scale in (1e6, 1e8)]
    np.testing.assert_allclose(Q[1] / Q[0], 100, rtol=1e-3)


@pytest.mark.parametrize(
    ("labels", "change", "message"),
    [
        (1e160, {}, "temperature must be large enough to divide labels"),
        (1.0, {"temperature": 1e-320}, "temperature must be large enough"),
        (1.0, {"temperature": 10**400}, "temperature must be a number > 0, got a number beyond"),
        (1.0, {"readout_precision": 5e-324}, "readout_precision must be large enough"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_at_the_edge_of_floating_point(
    labels: float, change: dict[str, Any], message: str
) -> None:
    source, _, _ = deterministic()
    with pytest.raises(ValueError, match=message):
        solve(Task(source.X, labels * source.y), **({"width": 20} | change))


def test_arrays_are_not_tasks() -> None:
    with pytest.raises(TypeError, match=r"task must be a tlnb\.Task, got ndarray"):
        solve(np.ones((2, 2)), width=20)


def test_new_inputs_of_another_dimension() -> None:
    source, _, _ = deterministic()
    with pytest.raises(ValueError, match="X must have N0 = 12 columns"):
        solve(source, width=20).predict(np.ones((2, 3)))
