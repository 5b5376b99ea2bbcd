"""Coupled targets: the scalar theory for Gaussian fields, limits, identities, sampled networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.chapter_07 import shared_teacher
from tests.instances import deterministic
from tlnb import Task, coupling_sweep
from tlnb.estimators import RenormalizedGPRegressor, TransferGPRegressor
from tlnb.kernels import InnerProducts, get_activation
from tlnb.priors import weight_covariances
from tlnb.sweeps import load
from tlnb.theory import transfer, unit_law
from tlnb.theory.transfer.predictor import TransferSolution
from tlnb.theory.unit_law.transfer import TransferLawProblem
from tlnb.theory.unit_law.transfer_moments import TargetSums, close_target, order_parameters
from tlnb.theory.unit_law.transfer_solution import average_log_evidence
from tlnb.theory.unit_law.transfer_walk import SourceUnits

SOURCE, TARGET, TEST = deterministic()
PRIORS: dict[str, Any] = {"temperature": 0.1}
SHORT: dict[str, Any] = {"particles": 800, "warmup": 40, "draws": 20, "tolerance": 0.1}
RESULTS = Path(__file__).resolve().parents[3] / "results"


def _scalar(
    coupling: float, width: float, activation: str
) -> tuple[TransferSolution, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The scalar saddle point with W, E, its kernels, and the source's force and propagator."""
    found = transfer.solve(
        SOURCE, TARGET, width=width, coupling=coupling, activation=activation, **PRIORS
    )
    c_s, c_st, c_t, c_tt = weight_covariances(coupling)
    sigma = get_activation(activation)
    K_s = InnerProducts.of(SOURCE.X).dual(sigma, c_s, c_s, c_s)
    K_st = InnerProducts.between(SOURCE.X, TARGET.X).dual(sigma, c_s, c_st, c_t)
    own = InnerProducts.of(TARGET.X)
    K_t, K_tt = own.dual(sigma, c_t, c_t, c_t), own.dual(sigma, c_t, c_tt, c_t)
    return found, K_s, K_st, K_t, K_tt


@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.parametrize("coupling", [0.7, 10.0, np.inf])
@pytest.mark.parametrize("with_pull", [True, False])
def test_gaussian_fields_give_the_franz_parisi_saddle(
    activation: str, coupling: float, with_pull: bool
) -> None:
    """With the pull of the source's readout all four overlaps come back; without it they do not."""
    width, T = 40.0, 0.1
    found, K_s, K_st, K_t, K_tt = _scalar(coupling, width, activation)
    Q_s, Q_t, Q_st, Q_tt = (getattr(found, name) for name in ("Q_s", "Q_t", "Q_st", "Q_tt"))
    D, one = Q_t - Q_tt, np.eye(8)
    Gamma_s = np.linalg.inv(T * np.eye(30) + Q_s * K_s)
    t_s = Gamma_s @ SOURCE.y
    W = np.linalg.inv(T * one + D * K_t + Q_tt * (K_t - K_tt))
    t = W @ (TARGET.y - Q_st * K_st.T @ t_s)
    E = Q_tt * K_tt - Q_st**2 * K_st.T @ Gamma_s @ K_st
    C = W @ E @ W
    # Gaussian units: variance of the field around a source unit, and what the source unit adds.
    Q = 1 / (1 + np.trace(W @ K_t) / width)
    around = t @ (K_t - K_tt) @ t + np.trace(C @ (K_t - K_tt))
    stretch = 1 / (1 - Q * around / width)
    pull = Q_st * np.trace(W @ K_st.T @ Gamma_s @ K_st) / width if with_pull else 0.0
    known = t_s @ K_st @ t
    mean_square = t @ K_tt @ t + np.trace(C @ K_tt) + Q_s * known**2 / width
    mean_square += 2 * pull * Q_s * known + pull**2 * Q_s * width
    overlap = stretch**2 * mean_square
    square = stretch * around + overlap
    source_overlap = stretch * (Q_s * known + pull * Q_s * width)
    drive = (TARGET.y - T * t) / Q
    X = source_overlap * K_st / 1.0
    sums = TargetSums(
        second=K_t,
        fourth=square * K_t,
        product=overlap * K_tt + np.outer(drive, drive),
        drive=drive,
        shared=drive - K_t @ t,
        cross=np.stack([X, X]),
        weight=np.zeros((2, 30)),
        half_drive=np.zeros((2, 8)),
        square=square,
        overlap=overlap,
        source_overlap=source_overlap,
    )
    closed = close_target(sums, TARGET.y, Gamma_s, width=width, temperature=T)
    ours = order_parameters(sums, closed.Q, width)
    theirs = Q_t, Q_tt, Q_st
    if not with_pull:
        assert abs(ours[2] - Q_st) > 1e-3 * Q_st
        return
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)
    np.testing.assert_allclose(closed.t, t, atol=1e-8)
    np.testing.assert_allclose(closed.propagator, W, atol=1e-8)
    np.testing.assert_allclose(closed.between, E, atol=1e-8)
    np.testing.assert_allclose(closed.field, C, atol=1e-8)
    # ln E_w exp(u) of a Gaussian field around each source unit, averaged over those.
    integral = 0.5 * np.log(stretch) + 0.5 * Q / width * stretch * mean_square
    evidence = average_log_evidence(
        closed, sums.covariance(drive), integral, TARGET.y, width=width, temperature=T
    )
    np.testing.assert_allclose(evidence, found.log_evidence, rtol=1e-8)


@pytest.fixture(scope="module")
def problem() -> TransferLawProblem:
    return unit_law.TransferLawProblem(SOURCE, TARGET, rng=0, **PRIORS, **SHORT)


@pytest.fixture(scope="module", params=[1.0, np.inf])
def solution(request: pytest.FixtureRequest, problem: TransferLawProblem) -> Any:
    return problem.solve(width=20, coupling=request.param)


def test_the_labels_are_what_the_equations_say(solution: Any) -> None:
    """At the training inputs the mean is y - T t and the variance T - T²(Γ - C)."""
    outcome = solution.predict(TARGET.X, TARGET.y)
    closed = solution.closures[0]
    np.testing.assert_allclose(outcome.mean, TARGET.y - 0.1 * closed.t, atol=1e-10)
    left = 0.1 - 0.01 * np.diagonal(closed.propagator - closed.field)
    np.testing.assert_allclose(outcome.total_variance, left, atol=1e-10)
    np.testing.assert_allclose(
        outcome.source_variance, 0.01 * np.diagonal(closed.field), atol=1e-10
    )
    np.testing.assert_allclose(outcome.test_error.mean(), solution.train_error)


def test_it_is_near_the_scalar_theory_on_gaussian_inputs(solution: Any) -> None:
    scalar = transfer.solve(SOURCE, TARGET, width=20, coupling=solution.coupling, **PRIORS)
    for name in ("Q_s", "Q_t", "Q_tt"):
        assert getattr(solution, name) == pytest.approx(getattr(scalar, name), rel=0.25, abs=0.03)


def test_halves_of_the_source_units_share_no_particle(problem: TransferLawProblem) -> None:
    """X is measured on halves so that one holds no noise of the other."""
    particles = problem.source_law(20.0).particles
    units = SourceUnits.of(problem.source_law(20.0), 8, np.random.default_rng(0), 200, times=4)
    places = particles.hidden_weights[0].reshape(-1, 200, SOURCE.n_features)
    halves = units.weights[0].reshape(2, 400, 1, 1, -1)
    of = (halves == places).all(-1).any(2).sum(1)  # (half, particle): in how many places
    assert sorted(of.tolist()) == [[0] * 100 + [4] * 100, [4] * 100 + [0] * 100]


def test_without_coupling_the_target_is_alone(problem: TransferLawProblem) -> None:
    found = problem.solve(width=20, coupling=0)
    alone = unit_law.solve(TARGET, width=20, **PRIORS, **SHORT)
    assert found.Q_st == found.Q_tt == 0
    assert abs(found.Q_t - alone.Q) < 5 * np.hypot(found.errors["Q_t"], alone.errors["Q"])
    outcome = found.averages(TEST)["test_error"]
    assert outcome.mcse < 0.1 * outcome.value


def test_the_limit_of_small_coupling_is_the_target_alone(problem: TransferLawProblem) -> None:
    small, alone = (problem.solve(width=20, coupling=g) for g in (1e-4, 0))
    assert abs(small.Q_st) < 4 * small.errors["Q_st"] + 0.01
    assert abs(small.Q_t - alone.Q_t) < 5 * np.hypot(small.errors["Q_t"], alone.errors["Q_t"])
    np.testing.assert_allclose(small.predict(TEST.X).mean, alone.predict(TEST.X).mean, atol=0.05)


def test_leave_one_out_is_the_score_of_a_label(solution: Any) -> None:
    outcome, closed = solution.leave_one_out(), solution.closures[0]
    np.testing.assert_allclose(TARGET.y - outcome.mean, closed.t / np.diagonal(closed.propagator))
    assert (outcome.total_variance >= outcome.source_variance).all()


def test_leave_one_out_is_near_the_solution_without_the_example(
    problem: TransferLawProblem,
) -> None:
    effort: dict[str, Any] = SHORT | {"particles": 2400, "tolerance": 0.2}
    whole = unit_law.TransferLawProblem(SOURCE, TARGET, rng=0, **PRIORS, **effort)
    solved = whole.solve(width=20, coupling=2.0)
    closed, trained = solved.leave_one_out(), solved.predict(TARGET.X).mean
    rest = np.arange(8) != 3
    fewer = Task(TARGET.X[rest], TARGET.y[rest])
    without = unit_law.TransferLawProblem(SOURCE, fewer, rng=1, **PRIORS, **effort)
    refit = without.solve(width=20, coupling=2.0).predict(TARGET.X[3:4])
    moved = abs(trained[3] - refit.mean[0])
    assert abs(closed.mean[3] - refit.mean[0]) < 0.15 * moved
    np.testing.assert_allclose(closed.total_variance[3], refit.total_variance, rtol=0.2)


def test_the_evidence_is_near_the_scalar_theory_on_gaussian_inputs(solution: Any) -> None:
    """And its thermodynamic integral is exact for frozen units, which are not integrated."""
    scalar = transfer.solve(SOURCE, TARGET, width=20, coupling=solution.coupling, **PRIORS)
    assert np.isfinite(solution.errors["log_evidence"])
    assert abs(solution.log_evidence - scalar.log_evidence) < 0.6


def test_the_mean_logarithm_of_a_units_integral_is_that_of_quadrature(
    problem: TransferLawProblem,
) -> None:
    """One label and units of one input: the integral over w is one-dimensional."""
    walk = problem._begin(20.0, 1.0, problem.source_law(20.0), {})
    x = np.zeros((1, 12))
    x[0, 0] = 1.5
    walk.units = replace(walk.units, X=x)
    walk.y, walk.force = np.ones(1), 9.0 * np.ones_like(walk.force[..., :1])
    walk.features = walk.features_at(walk.units.X)
    found = walk.mean_log_integrals(steps=30)
    z, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    centre = walk.units.centre[..., 0] * 1.5 / np.sqrt(12)
    h = centre[..., None] + walk.units.spread * z * 1.5 / np.sqrt(12)
    u = walk.closed.Q * (9.0 * walk.units.activation(h)) ** 2 / 40
    exact = np.log(np.exp(u) @ weights).mean(1)
    np.testing.assert_allclose(found, exact, rtol=0.05)


def test_kick_of_target_units_is_the_gradient(problem: TransferLawProblem) -> None:
    walk = problem._begin(20.0, 1.0, problem.source_law(20.0), {})
    rng = np.random.default_rng(0)
    shape = walk.position.reshape(-1, 12).shape
    x, step, direction = rng.standard_normal(shape), 1e-6, rng.standard_normal(shape)
    tilt = walk.tilt
    _, slope = tilt(x)
    ahead, behind = (tilt(x + s * step * direction)[0] for s in (1, -1))
    assert abs(tilt.force(x) - slope).max() < 1e-2 * abs(slope).max()
    np.testing.assert_allclose(
        (ahead - behind) / (2 * step), (slope * direction).sum(1), rtol=1e-5, atol=1e-7
    )


def test_overlaps_of_sampled_networks() -> None:
    """Chains of chapter 07 around shared sources: related tasks at width 40."""
    source, target, _ = shared_teacher(40, 0)
    sampled = load(RESULTS / "07_teacher.nc").sel(draw=0, width=40, coupling=2)
    given: dict[str, Any] = {"width": 40, "coupling": 2.0, **PRIORS}
    found = unit_law.solve_transfer(source, target, rng=1, particles=1000, tolerance=0.05, **given)
    scalar = transfer.solve(source, target, **given)
    off = {}
    for name in ("Q_s", "Q_t", "Q_tt"):
        networks, mcse = float(sampled[name]), float(sampled[f"{name}_mcse"])
        assert abs(getattr(found, name) - networks) < 4 * np.hypot(mcse, found.errors[name])
        off[name] = abs(getattr(found, name) - networks), abs(getattr(scalar, name) - networks)
    ours, theirs = np.array(list(off.values())).T
    assert ours.sum() < 0.5 * theirs.sum()


def test_a_sweep_has_every_number_with_its_error(problem: TransferLawProblem) -> None:
    table = problem.sweep(TEST, widths=[20], couplings=[np.inf, 0])
    assert table.Q_st.sel(width=20, coupling=0) == 0
    for name in ("Q_s", "Q_t", "test_error", "squared_bias"):
        assert (table[f"{name}_mcse"] > 0).all() and np.isfinite(table[name]).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"coupling": -1.0}, "coupling must be"),
        ({"coupling": "evidence"}, "coupling must be"),
        ({"width": np.inf}, "width must be finite"),
        ({"tolerance": -1}, "tolerance must be"),
        ({"temprature": 1}, "did you mean 'temperature'"),
    ],
)
def test_bad_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"width": 20, "coupling": 1.0, **SHORT} | wrong
    with pytest.raises((ValueError, TypeError), match=message):
        unit_law.solve_transfer(SOURCE, TARGET, **arguments)


def test_the_public_sweep_and_the_estimators_take_this_theory() -> None:
    table = coupling_sweep(
        SOURCE, TARGET, TEST, widths=[20], couplings=[np.inf], theory="unit-law", **PRIORS
    )
    assert table.attrs["theory"] == "unit-law" and table.test_error_mcse > 0
    fitted = TransferGPRegressor(width=20, coupling=np.inf, temperature=0.1, theory="unit-law").fit(
        TARGET.X, TARGET.y, source=SOURCE
    )
    assert fitted.order_parameters_.Q_st == pytest.approx(float(table.Q_st.item()))
    alone = RenormalizedGPRegressor(width=20, temperature=0.1, theory="unit-law")
    assert alone.fit(TARGET.X, TARGET.y).predict(TEST.X).shape == (5,)
    with pytest.raises(ValueError, match="theory must be"):
        coupling_sweep(SOURCE, TARGET, TEST, widths=[20], couplings=[1], theory="other")
    with pytest.raises(ValueError, match="baseline must be None"):
        coupling_sweep(
            SOURCE, TARGET, TEST, widths=[20], couplings=[1], theory="unit-law",
            baseline="scratch",
        )  # fmt: skip
