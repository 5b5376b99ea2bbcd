"""Transfer: known numbers, limits, symmetries, the predictor, sweeps and their controls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.instances import KNOWN, UNEQUAL, deterministic, linear_teachers
from tlnb import Task, coupling_sweep
from tlnb.kernels import kernel
from tlnb.theory import factors, one_task, transfer
from tlnb.theory.transfer import solve, weight_covariances
from tlnb.theory.transfer.direct import DirectSource

QUANTITIES = ("Q_s", "Q_t", "Q_st", "Q_tt")


@pytest.mark.parametrize("case", KNOWN)
def test_numbers_of_an_independent_implementation(case: Any) -> None:
    activation, coupling, *expected = case
    source, target, test = deterministic()
    solution = solve(
        source, target, width=20, coupling=coupling, activation=activation, temperature=0.1
    )
    outcome = solution.predict(test.X, test.y)
    found = [getattr(solution, name) for name in QUANTITIES]
    found += [outcome.mean[0], outcome.total_variance[0], outcome.source_variance[0]]
    np.testing.assert_allclose([*found, outcome.test_error.mean()], expected, atol=1e-8)


@given(
    coupling=st.floats(0, 1e8),
    source_precision=st.floats(0.1, 10),
    target_precision=st.floats(0.1, 10),
)
def test_weight_covariances_are_those_of_the_coupled_prior(
    coupling: float, source_precision: float, target_precision: float
) -> None:
    """The joint precision of (w_s, w_t, w_t') inverted, each w_t's normalisation included."""
    given_precisions: dict[str, Any] = {
        "source_weight_precision": source_precision,
        "target_weight_precision": target_precision,
    }
    c = weight_covariances(coupling, **given_precisions)
    a, b = target_precision + coupling, coupling / (target_precision + coupling)
    precision = np.array(
        [[source_precision + 2 * a * b**2, -a * b, -a * b], [-a * b, a, 0], [-a * b, 0, a]]
    )
    joint = np.array([[c.c_s, c.c_st, c.c_st], [c.c_st, c.c_t, c.c_tt], [c.c_st, c.c_tt, c.c_t]])
    np.testing.assert_allclose(joint @ precision, np.eye(3), atol=1e-6 * (1 + coupling) ** 0.5)
    kept = weight_covariances(coupling, scheme="variance-preserving", **given_precisions)
    np.testing.assert_allclose(kept.c_t, kept.c_s, rtol=1e-9)
    assert 0 <= kept.c_st <= kept.c_s * (1 + 1e-12)


@pytest.mark.parametrize("scheme", transfer.SCHEMES)
def test_covariances_at_infinite_coupling_are_the_limit(scheme: str) -> None:
    given_precisions: dict[str, Any] = {
        "source_weight_precision": 0.5,
        "target_weight_precision": 3.0,
        "scheme": scheme,
    }
    limit = weight_covariances(np.inf, **given_precisions)
    assert limit == (2.0, 2.0, 2.0, 2.0)
    np.testing.assert_allclose(weight_covariances(1e9, **given_precisions), limit, rtol=1e-8)


@pytest.mark.parametrize("activation", ["erf", "relu", "tanh", "linear"])
def test_zero_coupling_is_the_target_alone(activation: str) -> None:
    source, target, test = deterministic()
    given_: dict[str, Any] = {"activation": activation, "temperature": 0.1, "width": 20}
    coupled = solve(source, target, coupling=0, **given_)
    alone = one_task.solve(target, **given_)
    assert (coupled.Q_t, coupled.Q_st, coupled.Q_tt) == (alone.Q, 0.0, 0.0)
    assert coupled.log_evidence == alone.log_evidence
    np.testing.assert_array_equal(coupled.predict(test.X).mean, alone.predict(test.X).mean)


@pytest.mark.parametrize(("activation", "order"), [("erf", 0), ("relu", 1)])
def test_small_couplings_lead_back_to_the_target_alone(activation: str, order: int) -> None:
    """For odd σ the limit is exact; otherwise overlaps of order 1/N1 remain: finite and small."""
    source, target, _ = deterministic()
    given_: dict[str, Any] = {"activation": activation, "temperature": 0.1}
    overlaps = []
    for width in (100, 1000):
        close = solve(source, target, width=width, coupling=1e-7, **given_)
        scratch = solve(source, target, width=width, coupling=0, **given_)
        overlaps.append(close.Q_tt)
        bound = 1e-6 if order == 0 else 5 / width
        assert abs(close.Q_t - scratch.Q_t) < bound and abs(close.Q_tt) < bound
    if order == 1:
        np.testing.assert_allclose(overlaps[0] / overlaps[1], 10, rtol=0.1)


@pytest.mark.parametrize("coupling", [1.0, np.inf])
def test_overlaps_with_the_source_die_as_one_over_width(coupling: float) -> None:
    source, target, test = deterministic()
    given_: dict[str, Any] = {"coupling": coupling, "temperature": 0.1}
    limit = solve(source, target, width=np.inf, **given_)
    assert limit.Q_st == 0 and limit.Q_tt == 0 and limit.Q_t == 1
    far = [solve(source, target, width=width, **given_) for width in (1e4, 1e5)]
    np.testing.assert_allclose(far[0].Q_st / far[1].Q_st, 10, rtol=0.02)
    gaps = [s.predict(test.X).mean - limit.predict(test.X).mean for s in far]
    np.testing.assert_allclose(gaps[0] / gaps[1], 10, rtol=0.05)
    evidence = [s.log_evidence - limit.log_evidence for s in far]
    np.testing.assert_allclose(evidence[0] / evidence[1], 10, rtol=0.05)


def test_at_infinite_width_the_coupled_prior_is_all_that_is_left() -> None:
    source, target, test = deterministic()
    c_t = weight_covariances(2.0, source_weight_precision=0.8, target_weight_precision=1.5).c_t
    coupled = solve(source, target, width=np.inf, coupling=2.0, **UNEQUAL)
    matched = one_task.solve(
        target, width=np.inf, temperature=0.2, weight_precision=1 / c_t, readout_precision=0.7
    )
    for one, other in zip(
        coupled.predict(test.X, test.y), matched.predict(test.X, test.y), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.parametrize("coupling", [0.5, 20.0, np.inf])
def test_training_error_is_the_test_error_at_the_training_inputs(
    activation: str, coupling: float
) -> None:
    source, target, _ = deterministic()
    solution = solve(source, target, width=15, coupling=coupling, activation=activation, **UNEQUAL)
    at_training = solution.predict(target.X, target.y)
    np.testing.assert_allclose(solution.train_error, at_training.test_error.mean(), rtol=1e-7)


@given(
    seed=st.integers(0, 1000),
    width=st.floats(2, 300),
    log_coupling=st.floats(-2, 3),
    overlap=st.floats(-1, 1),
)
def test_variances_are_ordered(
    seed: int, width: float, log_coupling: float, overlap: float
) -> None:
    source, target, test = linear_teachers(seed, 30, 10, n_features=8, overlap=overlap)
    solution = solve(source, target, width=width, coupling=10.0**log_coupling, temperature=0.1)
    outcome = solution.predict(test.X, test.y)
    assert (outcome.total_variance >= outcome.source_variance).all()
    assert (outcome.source_variance >= 0).all()
    assert solution.Q_t >= solution.Q_tt >= solution.Q_st**2 / solution.Q_s
    assert solution.converged


@pytest.mark.parametrize("coupling", [0.7, np.inf])
@pytest.mark.parametrize("scheme", transfer.SCHEMES)
def test_symmetries_of_units(coupling: float, scheme: str) -> None:
    """Inputs, source outputs and target outputs can each be measured in other units."""
    source, target, test = deterministic()
    given_: dict[str, Any] = {"width": 20, "activation": "erf", "coupling_scheme": scheme}
    plain = solve(source, target, coupling=coupling, **given_, **UNEQUAL)

    def rescaled(task: Task, inputs: float = 1.0, labels: float = 1.0) -> Task:
        return Task(inputs * task.X, labels * task.y)

    by_source = UNEQUAL | {"source_temperature": 9 * 0.05, "source_readout_precision": 1.9 / 9}
    by_target = UNEQUAL | {"temperature": 4 * 0.2, "readout_precision": 0.7 / 4}
    by_inputs = UNEQUAL | {"weight_precision": 25 * 1.5, "source_weight_precision": 25 * 0.8}
    cases = [
        (rescaled(source, labels=3), target, test.X, 1, coupling, by_source),
        (source, rescaled(target, labels=2), test.X, 2, coupling, by_target),
        (rescaled(source, 5), rescaled(target, 5), 5 * test.X, 1, 25 * coupling, by_inputs),
    ]
    for of_source, of_target, X, factor, at, priors in cases:
        other = solve(of_source, of_target, coupling=at, **given_, **priors)
        for name in QUANTITIES:
            np.testing.assert_allclose(getattr(other, name), getattr(plain, name), rtol=1e-8)
        one, two = plain.predict(test.X), other.predict(X)
        np.testing.assert_allclose(two.mean, factor * one.mean, rtol=1e-8)
        np.testing.assert_allclose(two.total_variance, factor**2 * one.total_variance, rtol=1e-8)
        np.testing.assert_allclose(two.source_variance, factor**2 * one.source_variance, rtol=1e-8)


@pytest.mark.parametrize("coupling", [2.0, np.inf])
def test_predictor_with_plain_solves(coupling: float) -> None:
    """Mean and variances from the formulas with dense matrices, no eigenbasis."""
    source, target, test = deterministic()
    solution = solve(source, target, width=20, coupling=coupling, activation="relu", **UNEQUAL)
    c_s, c_st, c_t, c_tt = weight_covariances(
        coupling, source_weight_precision=0.8, target_weight_precision=1.5
    )

    def block(
        X: np.ndarray, Z: np.ndarray, left: Any, cross: Any, right: Any, precision: float
    ) -> np.ndarray:
        # One coupled pair of systems, read off a kernel of stacked inputs by scaling them.
        from tlnb.kernels import InnerProducts, get_activation

        return InnerProducts.between(X, Z).dual(
            get_activation("relu"), left, cross, right, precision
        )

    both, own = np.sqrt(1.9 * 0.7), 0.7
    K_s = kernel(source.X, activation="relu", weight_variance=c_s, readout_precision=1.9)
    K_st = block(source.X, target.X, c_s, c_st, c_t, both)
    k_s = solution.Q_st * block(source.X, test.X, c_s, c_st, c_t, both)
    K_t, K_tt = (block(target.X, target.X, c_t, c, c_t, own) for c in (c_t, c_tt))
    k_t = solution.Q_t * block(target.X, test.X, c_t, c_t, c_t, own)
    k_tt = solution.Q_tt * block(target.X, test.X, c_t, c_tt, c_t, own)
    prior, shared = (np.diagonal(block(test.X, test.X, c_t, c, c_t, own)) for c in (c_t, c_tt))
    G_s = 0.05 * np.eye(30) + solution.Q_s * K_s
    D = solution.Q_t - solution.Q_tt
    Delta = 0.2 * np.eye(8) + D * K_t + solution.Q_tt * (K_t - K_tt)
    known = np.linalg.solve(G_s, k_s)
    E = solution.Q_tt * K_tt - solution.Q_st**2 * K_st.T @ np.linalg.solve(G_s, K_st)
    r = target.y - solution.Q_st * K_st.T @ np.linalg.solve(G_s, source.y)
    delta, epsilon = k_t - k_tt, k_tt - solution.Q_st * K_st.T @ known
    W_delta = np.linalg.solve(Delta, delta)
    mean = known.T @ source.y + W_delta.T @ r
    from_source = (k_s * known).sum(0) + ((2 * epsilon - E @ W_delta) * W_delta).sum(0)
    total = solution.Q_t * prior - from_source - (delta * W_delta).sum(0)
    outcome = solution.predict(test.X)
    np.testing.assert_allclose(outcome.mean, mean, rtol=1e-8)
    np.testing.assert_allclose(outcome.total_variance, total, rtol=1e-8)
    np.testing.assert_allclose(
        outcome.source_variance, solution.Q_tt * shared - from_source, rtol=1e-7
    )


def test_transfer_is_plain_to_see_where_both_tasks_share_a_teacher() -> None:
    """Errors fall with the coupling at small width and hardly move at infinite width."""
    source, target, test = linear_teachers(1, 80, 15, n_test=500)
    table = coupling_sweep(
        source,
        target,
        test,
        widths=[40, np.inf],
        couplings=[0, 2, np.inf],
        temperature=0.1,
    )
    narrow, wide = table.test_error.values
    assert narrow[2] < narrow[1] < 0.85 * narrow[0]
    assert np.ptp(wide) < 0.1 * wide[0]


@pytest.mark.parametrize("widths", [[10, np.inf, 40], [np.inf, 20]])
def test_sweep_equals_single_solutions(widths: list[float]) -> None:
    """Of one finite width it predicts directly, of several by the source's eigenvectors."""
    source, target, test = deterministic()
    couplings = [10.0, 0.0, np.inf, 0.3]
    table = coupling_sweep(
        source, target, test, widths=widths, couplings=couplings, activation="relu", **UNEQUAL
    )
    assert set(table.data_vars) == {
        *QUANTITIES, "train_error", "squared_bias", "total_variance", "source_variance",
        "test_error", "classification_error", "log_evidence", "residual",
    }  # fmt: skip
    for width in widths:
        for coupling in couplings:
            solution = solve(
                source, target, width=width, coupling=coupling, activation="relu", **UNEQUAL
            )
            outcome = solution.predict(test.X, test.y)
            cell = table.sel(width=width, coupling=coupling)
            for name in (*QUANTITIES, "train_error", "log_evidence"):
                np.testing.assert_allclose(cell[name], getattr(solution, name), atol=1e-8)
            for name in (*one_task.AVERAGED, "source_variance"):
                np.testing.assert_allclose(cell[name], getattr(outcome, name).mean(), atol=1e-8)


def test_baselines() -> None:
    source, target, test = deterministic()
    given_: dict[str, Any] = {"widths": [20], "couplings": [0, 1, np.inf], "temperature": 0.1}
    scratch = coupling_sweep(source, target, test, baseline="scratch", **given_)
    matched = coupling_sweep(source, target, test, baseline="matched-prior", **given_)
    alone = one_task.solve(target, width=20, temperature=0.1).predict(test.X, test.y)
    np.testing.assert_allclose(scratch.test_error, [[alone.test_error.mean()] * 3], rtol=1e-12)
    np.testing.assert_allclose(matched.test_error[0, [0, 2]], scratch.test_error[0, [0, 2]])
    c_t = weight_covariances(1.0).c_t
    regularised = one_task.solve(target, width=20, temperature=0.1, weight_precision=1 / c_t)
    np.testing.assert_allclose(
        matched.test_error[0, 1], regularised.predict(test.X, test.y).test_error.mean(), rtol=1e-12
    )
    kept = coupling_sweep(
        source,
        target,
        test,
        baseline="matched-prior",
        coupling_scheme="variance-preserving",
        **given_,
    )
    np.testing.assert_allclose(kept.test_error, scratch.test_error, rtol=1e-9)


def test_one_large_factorisation_serves_the_whole_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, test = deterministic()
    sizes = []
    original = factors.eigh

    def counting(K: np.ndarray, **options: Any) -> Any:
        sizes.append(len(K))
        return original(K, **options)

    monkeypatch.setattr(factors, "eigh", counting)
    coupling_sweep(source, target, test, widths=[10, 20], couplings=[0, 1, 10, np.inf])
    assert sizes.count(source.n_examples) == 1
    assert sizes.count(target.n_examples) == 1  # from scratch: for every width


def test_test_points_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, test = deterministic()
    given_: dict[str, Any] = {"widths": [20], "couplings": [0, 3, np.inf], "temperature": 0.1}
    solution = solve(source, target, width=20, coupling=3, temperature=0.1)
    whole, table = solution.predict(test.X, test.y), coupling_sweep(source, target, test, **given_)
    one_by_one = lambda n, *_: (slice(i, i + 1) for i in range(n))  # noqa: E731
    for module in ("transfer.kernels", "one_task.problem", "one_task.solution"):
        monkeypatch.setattr(f"tlnb.theory.{module}.chunks", one_by_one)
    for one, other in zip(whole, solution.predict(test.X, test.y), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)
    pieces = coupling_sweep(source, target, test, **given_)
    for name in table.data_vars:
        np.testing.assert_allclose(pieces[name], table[name], rtol=1e-10)


@pytest.mark.parametrize("coupling", [2.0, np.inf])
def test_direct_predictions_are_those_by_eigenvectors(coupling: float) -> None:
    source, target, test = deterministic()
    problem = transfer.TransferProblem(source, target, **UNEQUAL)
    saddle, blocks = problem.saddle(20, coupling), problem.blocks(20, coupling)
    rotated = problem.predictor(saddle, blocks, coupling)
    direct = DirectSource.of(problem, 20).predictor(problem, saddle, blocks, coupling)
    products = problem.kernels.products(test.X)
    pairs = [
        (
            rotated(problem.kernels.test(products, coupling), test.y),
            direct(problem.kernels.test(products, coupling, rotated=False), test.y),
        ),
        (rotated.leave_one_out(), direct.leave_one_out()),
    ]
    for one, other in pairs:
        for theirs, ours in zip(one, other, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    # Kernels asked for after others were made are made again.
    problem.blocks(20, 0.5)
    np.testing.assert_array_equal(problem.kernels.source_target(coupling), direct.K_st)


@pytest.mark.parametrize("seed", [0, 5])
def test_evidence_takes_the_maximum_over_a_fine_grid(seed: int) -> None:
    source, target, _ = linear_teachers(seed, 80, 15)
    given_: dict[str, Any] = {"width": 40, "temperature": 0.1}
    chosen = solve(source, target, coupling="evidence", **given_)
    grid = [0, *np.geomspace(1e-2, 1e4, 80), np.inf]
    tasks = transfer.TransferProblem(source, target, transfer.Priors(temperature=0.1))
    evidence = [tasks.solve(width=40, coupling=coupling).log_evidence for coupling in grid]
    assert chosen.log_evidence >= max(evidence) - 1e-6
    assert chosen.coupling > 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"coupling": -1.0}, ValueError, "coupling must be a number >= 0 or infinity, got -1.0"),
        ({"coupling": np.nan}, ValueError, "coupling must be a number >= 0"),
        (
            {"coupling": "best"},
            ValueError,
            "coupling must be one of 'evidence', 'leave-one-out', got 'best'",
        ),
        ({"width": 0}, ValueError, "width must be a number >= 1 or infinity, got 0"),
        ({"source_temperature": 0.0}, ValueError, "source_temperature must be a number > 0"),
        ({"source_weight_precision": -1}, ValueError, "source_weight_precision must be"),
        ({"source_readout_precision": "1"}, TypeError, "source_readout_precision must be"),
        ({"coupling_scheme": "rigid"}, ValueError, "coupling_scheme must be one of 'elastic'"),
    ],
)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], message: str) -> None:
    source, target, _ = deterministic()
    with pytest.raises(error, match=message):
        solve(source, target, **({"width": 20, "coupling": 1.0} | change))


def test_bad_tasks() -> None:
    source, target, test = deterministic()
    other = Task(np.ones((3, 5)), np.ones(3))
    with pytest.raises(ValueError, match=r"target\.X must have N0 = 12 columns, got shape"):
        solve(source, other, width=20, coupling=1)
    with pytest.raises(ValueError, match=r"test\.X must have N0 = 12 columns"):
        coupling_sweep(source, target, other, widths=[20], couplings=[1])
    with pytest.raises(TypeError, match=r"source must be a tlnb\.Task, got tuple"):
        solve((source.X, source.y), target, width=20, coupling=1)
    with pytest.raises(ValueError, match="baseline must be one of 'scratch', 'matched-prior'"):
        coupling_sweep(source, target, test, widths=[20], couplings=[1], baseline="none")
    twice = Task(np.vstack([target.X, target.X]), np.concatenate([target.y, -target.y]))
    with pytest.raises(ValueError, match="temperature must exceed"):
        solve(source, twice, width=20, coupling=1, temperature=1e-16, source_temperature=0.1)
