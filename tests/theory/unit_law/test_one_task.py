"""The particles' theory of one task: linear networks, limits, errors that mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.instances import deterministic, linear_teachers
from tlnb import Task
from tlnb.errors import ConvergenceError
from tlnb.kernels import get_activation, kernel
from tlnb.sampling import sample_posterior
from tlnb.sampling.hmc import init
from tlnb.theory import one_task as scalar_theory
from tlnb.theory import unit_law
from tlnb.theory.unit_law.closure import close, labels_factor
from tlnb.theory.unit_law.moments import Moments, Units
from tlnb.theory.unit_law.solution import spread
from tlnb.theory.unit_law.walk import begin

SOURCE, _, TEST = deterministic()
PRIORS: dict[str, Any] = {"width": 20, "temperature": 0.1}
SHORT: dict[str, Any] = {"particles": 400, "warmup": 40, "draws": 40, "tolerance": 0.05}


def test_linear_networks_have_a_gaussian_law_in_closed_form() -> None:
    """The particles agree with the fixed point of the exact moments, within their errors."""
    scalar = scalar_theory.solve(SOURCE, activation="linear", **PRIORS)
    K, y = kernel(SOURCE.X, activation="linear"), SOURCE.y
    t, Q = np.linalg.solve(0.1 * np.eye(30) + scalar.Q * K, y), 0.7
    for _ in range(400):  # damped: the force and Q of the exact law
        Kt = K @ t
        k = t @ Kt
        stretch = 1 / (1 - min(Q * k / 20, 0.9))
        second = K + np.outer(Kt, Kt) * (stretch - 1) / k
        along = second @ t
        fourth = Q**2 * ((t @ along) * second + 2 * np.outer(along, along))
        closed = close(Moments(second, fourth), y, **PRIORS)
        t, Q = t + 0.2 * (closed.t - t), Q + 0.2 * (closed.Q - Q)
    found = unit_law.solve(SOURCE, activation="linear", rng=1, **PRIORS, **SHORT)
    assert abs(found.Q - closed.mean_square) < 4 * found.errors["Q"]
    assert found.errors["Q"] < 0.03 * found.Q
    mean = closed.Q * t @ second
    np.testing.assert_allclose(found.predict(SOURCE.X).mean, mean, atol=0.02)


def test_it_is_closer_to_sampled_networks_than_one_number() -> None:
    source, _, test = linear_teachers(0, 80, 15)
    given: dict[str, Any] = {"width": 40, "temperature": 0.1}
    scalar = scalar_theory.solve(source, **given)
    law = unit_law.solve(source, rng=0, **given, **SHORT)
    drawn = sample_posterior(
        source, **given, test=test, chains=8, draws=60, warmup=80, thin=2, rng=0, progress=False
    )
    Q = float(drawn.order_parameter.mean())
    mcse = float(drawn.order_parameter.mean("draw").std()) / np.sqrt(8)
    assert abs(law.Q - Q) < 4 * np.hypot(mcse, law.errors["Q"]) + 0.01
    assert abs(law.Q - Q) < 0.6 * abs(scalar.Q - Q)


def test_a_wide_network_is_the_gaussian_process() -> None:
    wide = unit_law.solve(SOURCE, width=1e6, temperature=0.1, **SHORT)
    limit = scalar_theory.solve(SOURCE, width=np.inf, temperature=0.1)
    ours, theirs = (s.predict(TEST.X, TEST.y) for s in (wide, limit))
    assert wide.Q == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(ours.mean, theirs.mean, atol=1e-4)
    np.testing.assert_allclose(ours.total_variance, theirs.total_variance, atol=1e-4)
    assert abs(wide.log_evidence - limit.log_evidence) < 5 * wide.errors["log_evidence"] < 3


@pytest.fixture(scope="module")
def repeated() -> list[Any]:
    return [unit_law.solve(SOURCE, rng=seed, **PRIORS, **SHORT) for seed in range(20)]


def test_monte_carlo_errors_are_the_spread_of_repetitions(repeated: list[Any]) -> None:
    for name in ("Q", "train_error", "leave_one_out_error"):
        stated = np.sqrt(np.mean([s.errors[name] ** 2 for s in repeated]))
        if name == "leave_one_out_error":
            values = [s.leave_one_out().test_error.mean() for s in repeated]
        else:
            values = [getattr(s, name) for s in repeated]
        # The larger of two estimates is stated: rather too much than too little.
        assert 0.4 < np.std(values, ddof=1) / stated < 1.5
    of_test = [s.averages(TEST)["test_error"] for s in repeated]
    values, errors = np.array(of_test).T
    assert 0.4 < values.std(ddof=1) / np.sqrt(np.mean(errors**2)) < 1.5


def test_the_labels_are_what_the_equations_say(repeated: list[Any]) -> None:
    """T t + ⟨Qσ m⟩ = y: the predictor at the training inputs returns y - T t."""
    solution = repeated[0]
    mean = solution.predict(SOURCE.X).mean
    np.testing.assert_allclose(mean, SOURCE.y - 0.1 * solution.force, atol=1e-10)
    outcome = solution.predict(SOURCE.X, SOURCE.y)
    # The variance left at a training input is T - T²Γ: Σ - ΣΓΣ with Σ = Γ⁻¹ - T.
    np.testing.assert_allclose(
        outcome.total_variance, 0.1 - 0.01 * np.diagonal(solution.propagator), atol=1e-10
    )
    np.testing.assert_allclose(outcome.test_error.mean(), solution.train_error)
    assert solution.predict_mcse(TEST.X, TEST.y).mean.shape == (5,)


def test_chunks_do_not_change_a_prediction(
    repeated: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    solution = repeated[0]
    whole = solution.predict(TEST.X)
    monkeypatch.setattr("tlnb.theory.unit_law.solution.CHUNK", 10_000)
    np.testing.assert_allclose(solution.predict(TEST.X).mean, whole.mean, atol=1e-12)


def test_the_same_rng_gives_the_same_numbers(repeated: list[Any]) -> None:
    again = unit_law.solve(SOURCE, rng=3, **PRIORS, **SHORT)
    assert again.Q == repeated[3].Q


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": np.inf}, "width must be finite"),
        ({"width": 0.5}, "width must be"),
        ({"temperature": 0}, "temperature must be"),
        ({"readout_precision": -1}, "readout_precision must be"),
        ({"particles": 3}, "particles must be"),
        ({"max_steps": 10}, "max_steps must be"),
        ({"tolerance": 0}, "tolerance must be"),
        ({"rng": -1}, "rng must be"),
        ({"activation": "sign"}, "derivative"),
    ],
)
def test_bad_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        unit_law.solve(SOURCE, **{**PRIORS, **wrong})
    with pytest.raises(TypeError, match="Task"):
        unit_law.solve(SOURCE.X, **PRIORS)


def test_too_few_steps_for_the_tolerance_is_an_error_that_says_what_to_try() -> None:
    with pytest.raises(ConvergenceError, match="more particles"):
        unit_law.solve(
            SOURCE, **PRIORS, particles=16, warmup=5, draws=5, max_steps=20, tolerance=1e-4
        )


def test_too_few_particles_for_the_labels_is_an_error_that_says_what_to_try() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 5))
    task = Task(X, np.sign(X[:, 0] * X[:, 1]))
    with pytest.raises(ConvergenceError, match="more particles"):
        unit_law.solve(
            task, width=10, temperature=1e-4, particles=16, warmup=3, draws=3, max_steps=6
        )


@pytest.mark.parametrize("activation", ["erf", "tanh", "relu", "gelu"])
def test_the_walk_is_pushed_along_the_gradient_of_the_tilt(activation: str) -> None:
    """Exactly, and nearly by the quick force that stands in for the gradient."""
    scalar = scalar_theory.solve(SOURCE, activation=activation, **PRIORS)
    units = Units(SOURCE.X, get_activation(activation), 0.8, 1.7)
    rng = np.random.default_rng(0)
    K = kernel(SOURCE.X, activation=activation)
    tilt = begin(units, K, SOURCE.y, scalar, 16, rng).tilt(3)
    x, step = rng.standard_normal((4, 12)), 1e-6
    u, slope = tilt(x)
    direction = rng.standard_normal((4, 12))
    ahead, behind = (tilt(x + s * step * direction)[0] for s in (1, -1))
    np.testing.assert_allclose((ahead - behind) / (2 * step), (slope * direction).sum(1), rtol=1e-5)
    state = init(x, tilt)
    np.testing.assert_allclose(state.log_likelihood, u)
    np.testing.assert_allclose(state.details[0], units.features(x))
    assert abs(tilt.force(x) - slope).max() < 1e-2 * abs(slope).max()
    # One function of the position: a trajectory can be gone back on.
    np.testing.assert_array_equal(state.gradient, tilt.force(x))


def test_the_force_goes_to_where_the_particles_give_the_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one whole step, if what steers it is made of the same particles."""
    monkeypatch.setattr("tlnb.theory.unit_law.walk.MOST_GROWTH", np.inf)
    scalar = scalar_theory.solve(SOURCE, **PRIORS)
    units = Units(SOURCE.X, get_activation("erf"), 1.0, 1.0)
    K = kernel(SOURCE.X, activation="erf")
    walk = begin(units, K, SOURCE.y, scalar, 400, np.random.default_rng(0))
    averages = walk.measure()[0].moments(K)
    walk.factors = [labels_factor(m, Q, 0.1) for m, Q in zip(averages, walk.Q, strict=True)]
    walk.follow()
    for t, m, Q in zip(walk.t, averages, walk.Q, strict=True):
        np.testing.assert_allclose(t, np.linalg.solve(0.1 * np.eye(30) + Q * m.second, SOURCE.y))


def test_leave_one_out_is_near_the_solution_without_the_example() -> None:
    """The law is held in closed form and solved again by brute force: the same to order 1/P."""
    effort: dict[str, Any] = {"particles": 2000, "warmup": 60, "draws": 40, "tolerance": 0.1}
    whole = unit_law.solve(SOURCE, rng=0, **PRIORS, **effort)
    closed, trained = whole.leave_one_out(), whole.predict(SOURCE.X).mean
    for mu in (0, 23):
        rest = np.arange(30) != mu
        again = unit_law.solve(Task(SOURCE.X[rest], SOURCE.y[rest]), rng=1, **PRIORS, **effort)
        refit = again.predict(SOURCE.X[mu : mu + 1])
        moved = abs(trained[mu] - refit.mean[0])
        assert abs(closed.mean[mu] - refit.mean[0]) < 0.15 * moved
        np.testing.assert_allclose(closed.total_variance[mu], refit.total_variance, rtol=0.1)


def test_the_stated_error_is_no_less_than_half_of_what_separates_two_starts() -> None:
    values = np.array([[1.0, 0.0], [1.0, 2.0], [3.0, 2.0], [3.0, 0.0]])
    assert spread(values)[0] == 1.0
    np.testing.assert_allclose(spread(values)[1], np.std(values[:, 1], ddof=1) / 2)
    # All together are off by a third of what single populations are off by more.
    np.testing.assert_allclose(spread(values, np.array([8.0, 1.0])), [2.0, spread(values)[1]])


def test_two_starts_meet_where_labels_outnumber_units() -> None:
    """Populations from both sides agree at P = 3 N1 and low temperature, and the error says so."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 8))
    task = Task(X, np.sign(X[:, 0] + 0.5 * X[:, 1]))
    given: dict[str, Any] = {"width": 20, "temperature": 0.02, "particles": 800, "rng": 0}
    solved = unit_law.solve(task, warmup=80, draws=20, tolerance=0.1, **given)
    low, high = (np.mean([c.mean_square for c in solved.closures[k : k + 2]]) for k in (1, 3))
    assert abs(low - high) <= 2 * solved.errors["Q"] * (1 + 1e-12)
    scalar = scalar_theory.solve(task, width=20, temperature=0.02)
    assert abs(low - high) < 0.3 * abs(scalar.Q - solved.Q)
    with pytest.raises(ConvergenceError, match="from units of the prior"):
        unit_law.solve(task, warmup=1, draws=2, max_steps=4, tolerance=0.02, **given)
