"""Exact linear networks against networks drawn one by one, other integrals, and their limits."""

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gammaln, kv
from scipy.stats import gamma, geninvgauss, multivariate_normal, norm, ortho_group

from tlnb import ConvergenceError, Task
from tlnb.theory import one_task
from tlnb.theory.exact import linear


def random_task(P: int = 12, N0: int = 5, seed: int = 0, noise: float = 0.3) -> Task:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((P, N0))
    return Task(X, X @ rng.standard_normal(N0) / np.sqrt(N0) + noise * rng.standard_normal(P))


def bimodal_task(extra: Any) -> Task:
    """The instance of 41 eigenvalues: 40 of them 1, one 0.005 with squared projection ``extra``."""
    singular = np.sqrt(np.append(np.ones(40), 0.005))
    y = np.zeros(41)
    y[-1] = np.sqrt(extra)
    return Task(np.diag(singular) * np.sqrt(41), y)


def test_one_hidden_unit_against_a_double_integral_over_both_weights() -> None:
    x, y, T = np.array([0.7, -1.1]), np.array([0.9, -0.4]), 0.2
    solution = linear.solve(Task(x[:, None], y), width=1, temperature=T)

    v, step = np.linspace(-9, 9, 721, retstep=True)
    f = np.multiply.outer(np.multiply.outer(v, v), x)
    joint = norm.pdf(v)[:, None] * norm.pdf(v) * norm.pdf(y, f, np.sqrt(T)).prod(axis=-1)
    evidence = joint.sum() * step**2
    second = (v**2 @ joint).sum() * step**2
    assert solution.log_evidence == pytest.approx(np.log(evidence), abs=1e-10)
    assert solution.Q == pytest.approx(second / evidence, rel=1e-10)


@pytest.mark.parametrize("width", [1, 2, 9])
def test_one_input_dimension_against_the_law_of_the_effective_weight(width: int) -> None:
    # v·w is variance-gamma: its density is a Bessel function, and no Q appears anywhere.
    x, y, T = np.array([0.7, -1.1, 0.4]), np.array([2.0, -1.5, 0.3]), 0.2
    λ0, λ1 = 1.7, 0.6
    order = (width - 1) / 2

    def joint(s: Any, x_power: int = 0) -> float:
        r = max(abs(s), 1e-300)
        log_norm = 0.5 * np.log(np.pi) + order * np.log(2) + gammaln(width / 2)
        prior = r**order * kv(order, r) * np.exp(-log_norm)
        f = s * x / np.sqrt(width * λ0 * λ1)
        return prior * np.prod(norm.pdf(y, f, np.sqrt(T))) * s**x_power

    moments = [
        sum(
            quad(joint, *ends, args=(k,), epsabs=1e-13, epsrel=1e-11, limit=400)[0]
            for ends in ((-60, 0), (0, 5), (5, 60))
        )
        for k in range(3)
    ]
    solution = linear.solve(
        Task(x[:, None], y),
        width=width,
        temperature=T,
        weight_precision=λ0,
        readout_precision=λ1,
    )
    prediction = solution.predict([[1.0]])
    mean, second = (moments[k] / moments[0] / (width * λ0 * λ1) ** (k / 2) for k in (1, 2))
    assert solution.log_evidence == pytest.approx(np.log(moments[0]), abs=1e-9)
    assert prediction.mean[0] == pytest.approx(mean, rel=1e-8)
    assert prediction.total_variance[0] == pytest.approx(second - mean**2, rel=1e-7)
    assert prediction.source_variance[0] == 0
    train = np.mean(y**2 - 2 * y * x * mean + x**2 * second)
    assert solution.train_error == pytest.approx(train, rel=1e-8)


def test_posterior_against_networks_drawn_from_the_prior() -> None:
    rng = np.random.default_rng(5)
    width, T, λ0, λ1, draws = 3, 0.5, 0.8, 1.3, 400_000
    task, x0, y0 = random_task(P=4, N0=2, seed=1), np.array([0.8, -1.2]), 1.0
    w = rng.standard_normal((draws, width, 2)) / np.sqrt(λ0)
    v = rng.standard_normal((draws, width)) / np.sqrt(λ1)
    θ = np.einsum("di,dij->dj", v, w) / np.sqrt(width * 2)
    f, f0 = θ @ task.X.T, θ @ x0
    weights = np.exp(norm.logpdf(task.y, f, np.sqrt(T)).sum(axis=1))
    solution = linear.solve(
        task, width=width, temperature=T, weight_precision=λ0, readout_precision=λ1
    )
    prediction = solution.predict(x0[None], [y0])

    def agrees(values: Any, exact: Any) -> None:
        mean = np.average(values, weights=weights)
        error = np.sqrt((weights**2 * (values - mean) ** 2).sum()) / weights.sum()
        assert abs(mean - exact) < 4 * error
        assert error < 0.02 * max(abs(exact), 0.1)

    Q = λ1 * (v**2).sum(axis=1) / width
    agrees(Q, solution.Q)
    agrees((Q - solution.Q) ** 2, solution.Q_variance)
    agrees(f0, prediction.mean[0])
    agrees((f0 - prediction.mean[0]) ** 2, prediction.total_variance[0])
    agrees((y0 - f0) ** 2, prediction.test_error[0])
    agrees((y0 * f0 < 0).astype(float), prediction.classification_error[0])
    agrees(((task.y - f) ** 2).mean(axis=1), solution.train_error)
    assert solution.log_evidence == pytest.approx(
        np.log(weights.mean()), abs=4 * weights.std() / np.sqrt(draws) / weights.mean()
    )


@pytest.mark.parametrize("P,N0", [(7, 3), (4, 9)])
def test_evidence_against_an_adaptive_integral_over_the_gamma_prior(P: int, N0: int) -> None:
    task, T, width = random_task(P, N0), 0.3, 5
    K = task.X @ task.X.T / N0

    def integrand(Q: Any) -> float:
        likelihood = multivariate_normal.pdf(task.y, np.zeros(P), T * np.eye(P) + Q * K)
        return gamma.pdf(Q, width / 2, scale=2 / width) * likelihood

    evidence = sum(quad(integrand, a, b, epsrel=1e-11)[0] for a, b in ((0, 1), (1, 4), (4, 40)))
    solution = linear.solve(task, width=width, temperature=T)
    assert solution.log_evidence == pytest.approx(np.log(evidence), abs=1e-9)


@pytest.mark.parametrize("width", [1, 2.5, 10, 33, 1e3, 1e5])
def test_at_high_temperature_the_posterior_is_the_prior(width: float) -> None:
    solution = linear.solve(random_task(), width=width, temperature=1e12)
    assert solution.Q == pytest.approx(1, rel=1e-9)
    assert solution.Q_variance == pytest.approx(2 / width, rel=1e-8)
    Q = np.array([[0.3, 1.0], [1.1, 2.5]])
    np.testing.assert_allclose(
        solution.density(Q), gamma.pdf(Q, width / 2, scale=2 / width), rtol=1e-7, atol=1e-300
    )
    noise = norm.logpdf(random_task().y, 0, 1e6).sum()
    assert solution.log_evidence == pytest.approx(noise, abs=1e-10)


@pytest.mark.parametrize("width", [1, 6, 30])
def test_at_zero_temperature_the_law_is_a_generalised_inverse_gaussian(width: int) -> None:
    task = random_task(P=6, N0=15)
    b = task.y @ np.linalg.solve(task.X @ task.X.T / 15, task.y)
    closed = geninvgauss((width - 6) / 2, np.sqrt(width * b), scale=np.sqrt(b / width))
    solution = linear.solve(task, width=width, temperature=1e-11)
    assert solution.Q == pytest.approx(closed.mean(), rel=1e-8)
    assert solution.Q_variance == pytest.approx(closed.var(), rel=1e-7)
    Q = np.geomspace(0.2, 5, 7)
    np.testing.assert_allclose(solution.density(Q), closed.pdf(Q), rtol=1e-7)


@pytest.mark.parametrize("width", [1, 4, 60])
def test_density_integrates_to_one_and_to_the_mean(width: int) -> None:
    solution = linear.solve(random_task(), width=width, temperature=0.05)
    u = np.linspace(-40, 4, 4001)
    Q = np.exp(u)
    mass = solution.density(Q) * Q
    assert np.trapezoid(mass, u) == pytest.approx(1, abs=1e-8)
    assert np.trapezoid(mass * Q, u) == pytest.approx(solution.Q, rel=1e-8)


def test_the_saddle_point_is_the_limit_at_fixed_data_and_its_error_falls_as_one_over_width() -> (
    None
):
    task, x0 = random_task(P=10, N0=4), random_task(seed=3, N0=4).X
    widths = np.array([100, 200, 400, 800, 1600])
    errors = []
    for width in widths:
        exact = linear.solve(task, width=float(width), temperature=0.1)
        saddle = one_task.solve(task, width=width, temperature=0.1, activation="linear")
        p, s = exact.predict(x0, x0[:, 0]), saddle.predict(x0, x0[:, 0])
        errors.append(
            [
                abs(exact.Q - saddle.Q),
                np.abs(p.mean - s.mean).max(),
                np.abs(p.total_variance - s.total_variance).max(),
                np.abs(p.classification_error - s.classification_error).max(),
                abs(exact.train_error - saddle.train_error),
            ]
        )
    slopes = np.diff(np.log(errors), axis=0) / np.diff(np.log(widths))[:, None]
    # At fixed P the mean of Q is one order better: N1 (⟨Q⟩ - 1) is the mean of a function of Q.
    np.testing.assert_allclose(slopes[-1], [-2, -1, -1, -1, -1], atol=0.05)


def test_at_fixed_ratios_the_relative_error_of_the_saddle_point_falls_as_one_over_width() -> None:
    widths, errors = np.array([40, 80, 160, 320]), []
    for width in widths:
        P, N0 = 2 * width, 3 * width  # a spectrum without sampling noise: two eigenvalues
        X = np.zeros((P, N0))
        np.fill_diagonal(X, np.where(np.arange(P) % 2, 0.6, 1.5) * np.sqrt(N0))
        task = Task(X, np.where(np.arange(P) % 3, 1.0, -1.0))
        x0 = np.where(np.arange(N0) % 4 < 2, 1.0, -1.0)[None]
        x0[0, :P] += 3 * task.y / np.sqrt(width)  # so that the mean output stays of order one
        exact = linear.solve(task, width=float(width), temperature=0.2)
        saddle = one_task.solve(task, width=width, temperature=0.2, activation="linear")
        p, s = exact.predict(x0), saddle.predict(x0)
        pairs: list[tuple[Any, Any]] = [
            (exact.Q, saddle.Q),
            (exact.train_error, saddle.train_error),
        ]
        pairs += [(exact.log_evidence, saddle.log_evidence), (p.total_variance, s.total_variance)]
        errors.append([abs(float(np.squeeze(b / a)) - 1) for a, b in pairs])
    slopes = np.diff(np.log(errors), axis=0) / np.log(2)
    np.testing.assert_allclose(slopes[-1], -1, atol=0.05)


def test_infinite_width_is_the_gaussian_process() -> None:
    task, x0 = random_task(P=10, N0=4), random_task(seed=3, N0=4).X
    exact = linear.solve(task, width=np.inf, temperature=0.1)
    process = one_task.solve(task, width=np.inf, temperature=0.1, activation="linear")
    assert (exact.Q, exact.Q_variance) == (1.0, 0.0)
    assert exact.log_evidence == pytest.approx(process.log_evidence, rel=1e-12)
    assert exact.train_error == pytest.approx(process.train_error, rel=1e-10)
    for ours, theirs in zip(
        exact.predict(x0, x0[:, 0]), process.predict(x0, x0[:, 0]), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    wide = linear.solve(task, width=1e9, temperature=0.1)
    assert wide.log_evidence == pytest.approx(exact.log_evidence, abs=1e-7)


@pytest.mark.parametrize("temperature", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("width", [1, 3, 50, 1e3, 1e5])
def test_every_width_and_temperature_is_safe(width: float, temperature: float) -> None:
    rng = np.random.default_rng(2)
    task = Task(rng.standard_normal((200, 80)), np.sign(rng.standard_normal(200)))
    solution = linear.solve(task, width=width, temperature=temperature)
    prediction = solution.predict(task.X[:5], task.y[:5])
    assert solution.converged and solution.residual <= 1e-12
    assert solution.Q_variance > 0 and np.isfinite(solution.log_evidence)
    assert (prediction.total_variance > 0).all() and np.isfinite(np.array(prediction)).all()


@pytest.mark.parametrize("extra", [2.0, 3.0])
def test_both_modes_of_a_bimodal_posterior_count(extra: float) -> None:
    task = bimodal_task(extra)
    solution = linear.solve(task, width=20, temperature=0.01)
    u = np.linspace(-60, 4, 60_001)
    Q = np.exp(u)
    e, y2 = np.append(np.ones(40), 0.005), np.append(np.zeros(40), extra)
    log_density = -0.5 * one_task.effective_action(Q, e, y2, width=20, temperature=0.01)
    mass = np.exp(log_density - log_density.max())
    np.testing.assert_allclose(
        solution.density(Q) * Q, mass / np.trapezoid(mass, u), rtol=1e-6, atol=1e-30
    )
    assert solution.Q == pytest.approx(mass @ Q / mass.sum(), rel=1e-9)
    modes = one_task.saddle_points(e, y2, width=20, temperature=0.01).Q
    collapsed = mass[modes[1] > Q].sum() / mass.sum()
    assert collapsed > 0.99 if extra == 2.0 else collapsed < 0.01


def test_bimodal_posteriors_with_both_modes_alive() -> None:
    # Between the two cases above the modes carry comparable weights: neither can be dropped.
    solution = linear.solve(bimodal_task(2.4), width=20, temperature=0.01)
    u = np.linspace(-60, 4, 60_001)
    Q = np.exp(u)
    mass = solution.density(Q) * Q
    assert np.trapezoid(mass, u) == pytest.approx(1, abs=1e-8)
    assert 0.05 < np.trapezoid(np.where(Q < 0.165, mass, 0), u) < 0.95


def test_answers_do_not_depend_on_the_basis_of_the_inputs() -> None:
    task, x0 = random_task(P=6, N0=8), random_task(seed=3, N0=8).X
    R = ortho_group.rvs(8, random_state=4)
    plain = linear.solve(task, width=4, temperature=0.1)
    rotated = linear.solve(Task(task.X @ R, task.y), width=4, temperature=0.1)
    assert rotated.log_evidence == pytest.approx(plain.log_evidence, rel=1e-12)
    for a, b in zip(plain.predict(x0, x0[:, 0]), rotated.predict(x0 @ R, x0[:, 0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)


def test_predictions_in_chunks_equal_predictions_at_once() -> None:
    solution = linear.solve(random_task(), width=3, temperature=0.1)
    X = np.random.default_rng(0).standard_normal((100_000, 5))
    many = solution.predict(X, X[:, 0])
    few = solution.predict(X[-3:], X[-3:, 0])
    np.testing.assert_allclose(np.array(many)[:, -3:], np.array(few), rtol=1e-12)


@pytest.mark.parametrize(
    "change,error,words",
    [
        ({"width": 0.5}, ValueError, "width .* 0.5"),
        ({"width": np.nan}, ValueError, "width"),
        ({"temperature": 0.0}, ValueError, "temperature .* > 0"),
        ({"weight_precision": -1.0}, ValueError, "weight_precision"),
        ({"readout_precision": np.inf}, ValueError, "readout_precision"),
        ({"width": "3"}, TypeError, "width"),
        ({"task": np.ones((3, 2))}, TypeError, "task"),
    ],
)
def test_bad_arguments_are_named(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    arguments: dict[str, Any] = {"task": random_task(), "width": 3, "temperature": 0.1} | change
    with pytest.raises(error, match=words):
        linear.solve(arguments.pop("task"), **arguments)


def test_bad_calls_on_a_solution_are_named() -> None:
    solution = linear.solve(random_task(), width=3, temperature=0.1)
    with pytest.raises(ValueError, match="Q must be"):
        solution.density([0.5, -0.1])
    with pytest.raises(ValueError, match="N0 = 5"):
        solution.predict(np.ones((2, 4)))
    with pytest.raises(ValueError, match="y must be"):
        solution.predict(np.ones((2, 5)), np.ones(3))
    with pytest.raises(ValueError, match="width must be finite"):
        linear.solve(random_task(), width=np.inf, temperature=0.1).density(1.0)


def test_a_quadrature_that_cannot_settle_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MOST_INTERVALS", 8)
    monkeypatch.setattr(linear, "TOLERANCE", 0.0)
    with pytest.raises(ConvergenceError, match=r"residual of .*width=3"):
        linear.solve(random_task(), width=3, temperature=0.1)
