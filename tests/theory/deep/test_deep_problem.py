"""Deep transfer: one layer, limits of widths and couplings, exact answers, symmetries, sweeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.instances import KNOWN, UNEQUAL, deterministic, linear_teachers
from tlnb import Task
from tlnb.errors import ConvergenceError
from tlnb.theory import deep, transfer

QUANTITIES = ("Q_s", "Q_t", "Q_st", "Q_tt", "action", "log_evidence", "train_error")


@pytest.mark.parametrize("case", KNOWN)
def test_one_layer_by_the_numbers_of_an_independent_implementation(case: Any) -> None:
    activation, coupling, *expected = case
    source, target, test = deterministic()
    given: dict[str, Any] = {"activation": activation, "temperature": 0.1}
    solved = deep.solve(source, target, widths=(20,), couplings=coupling, **given)
    outcome = solved.predict(test.X, test.y)
    found = [getattr(solved, name) for name in QUANTITIES[:4]]
    found += [outcome.mean[0], outcome.total_variance[0], outcome.source_variance[0]]
    np.testing.assert_allclose([*found, outcome.test_error.mean()], expected, atol=1e-8)


@pytest.mark.parametrize("activation", ["linear", "erf", "relu", "tanh"])
@pytest.mark.parametrize("priors", [{"temperature": 0.1}, UNEQUAL])
def test_one_layer_is_the_theory_of_chapter_05(activation: str, priors: dict[str, Any]) -> None:
    source, target, test = deterministic()
    priors = priors | {"activation": activation}
    problem = deep.DeepTransferProblem(source, target, depth=1, **priors)
    for coupling in (0, 1e-3, 1, 10, 1e7, np.inf) if activation != "tanh" else (0, 1, np.inf):
        one = transfer.solve(source, target, width=20, coupling=coupling, **priors)
        other = problem.solve(widths=(20,), couplings=coupling)
        for name in QUANTITIES:
            assert getattr(other, name) == pytest.approx(getattr(one, name), abs=1e-10)
        pairs = zip(other.predict(test.X, test.y), one.predict(test.X, test.y), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, atol=1e-10)
        pairs = zip(other.leave_one_out(), one.leave_one_out(), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("couplings", [0.0, (2.0, 9.0), (np.inf, 0.0)])
def test_leaving_one_out_is_leaving_one_out(couplings: float | tuple[float, float]) -> None:
    """The predictor without one example, overlaps held, by the same code on smaller blocks."""
    source, target, _ = deterministic()
    problem = deep.DeepTransferProblem(source, target, depth=2, **UNEQUAL)
    found = problem.solve(widths=(20, 15), couplings=couplings)
    closed = found.leave_one_out()
    for mu in (0, 5):
        kept = np.arange(8) != mu
        rest = Task(target.X[kept], target.y[kept])
        held = problem.with_target(rest)
        if couplings == 0:
            overlaps = found._predictor.R
            one = deep.DeepOneTaskProblem(
                rest,
                problem.alone((0.0, 0.0)).priors,
                depth=2,
                variances=problem.alone((0.0, 0.0)).process.variances,
            )
            left: Any = replace(one.solve(widths=(20, 15)), R=overlaps)
        else:
            at = problem.capped(tuple(map(float, couplings)), np.inf)
            z, widths = found._predictor.z, (20.0, 15.0)
            predictor = held.predictor(widths, at, z, held.blocks(widths, at))
            left = replace(found, _predictor=predictor)
        outcome = left.predict(target.X[[mu]], target.y[[mu]])
        assert closed.residual[mu] == pytest.approx(target.y[mu] - outcome.mean[0], abs=1e-9)
        assert closed.total_variance[mu] == pytest.approx(outcome.total_variance[0], abs=1e-9)
        assert closed.source_variance[mu] == pytest.approx(outcome.source_variance[0], abs=1e-9)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_layer_of_infinite_width_only_maps_kernels(position: int) -> None:
    """The limit is taken exactly, and wide layers approach it as 1/N."""
    source, target, test = deterministic()
    problem = deep.DeepTransferProblem(source, target, depth=3, activation="erf", temperature=0.1)

    def at(width: float) -> np.ndarray:
        widths = [20.0, 20.0, 20.0]
        widths[position] = width
        solved = problem.solve(widths=widths, couplings=(2.0, 5.0, 1.0))
        outcome = solved.predict(test.X, test.y)
        values = [*solved.overlaps[:, 1:].ravel(), solved.log_evidence]
        return np.concatenate([values, *outcome])

    limit = at(np.inf)
    gaps = [at(width) - limit for width in (2e3, 2e4)]
    np.testing.assert_allclose(gaps[0], 10 * gaps[1], atol=0.03 * abs(gaps[0]).max())
    assert abs(gaps[0]).max() > 1e-4


def test_with_all_layers_infinite_the_coupled_prior_is_left() -> None:
    source, target, test = deterministic()
    problem = deep.DeepTransferProblem(source, target, depth=2, temperature=0.1)
    wide = problem.solve(widths=(np.inf, np.inf), couplings=3.0)
    np.testing.assert_array_equal(wide.overlaps[:, [1, 3]], 0)
    assert wide.Q_t == 1
    gaps = []
    for width in (1e4, 1e5):
        near = problem.solve(widths=(width, width), couplings=3.0)
        gaps.append(near.predict(test.X).mean - wide.predict(test.X).mean)
    np.testing.assert_allclose(np.divide(*gaps), 10, rtol=0.05)


@pytest.mark.parametrize("activation", ["linear", "erf"])
def test_small_couplings_lead_back_to_the_target_alone(activation: str) -> None:
    source, target, test = deterministic()
    given: dict[str, Any] = {"activation": activation, "temperature": 0.1, "widths": (20, 30, 15)}
    alone = deep.solve(source, target, couplings=0, **given)
    scratch = deep.solve_one_task(target, **given)
    assert alone.log_evidence == scratch.log_evidence
    np.testing.assert_array_equal(alone.predict(test.X).mean, scratch.predict(test.X).mean)
    close = deep.solve(source, target, couplings=1e-7, **given)
    np.testing.assert_allclose(close.overlaps, alone.overlaps, atol=1e-6)
    assert close.log_evidence == pytest.approx(alone.log_evidence, abs=1e-5)


@pytest.mark.parametrize("activation", ["linear", "erf"])
def test_one_uncoupled_layer_is_the_limit_of_small_couplings(activation: str) -> None:
    source, target, test = deterministic()
    given: dict[str, Any] = {"activation": activation, "temperature": 0.1, "depth": 2}
    problem = deep.DeepTransferProblem(source, target, **given)
    for frozen in (0, 1):
        couplings = [0.0, 0.0]
        couplings[frozen] = np.inf
        limit = problem.solve(widths=(20, 30), couplings=couplings)
        couplings[1 - frozen] = 1e-6
        near = problem.solve(widths=(20, 30), couplings=couplings)
        np.testing.assert_allclose(near.overlaps, limit.overlaps, atol=1e-5)
        pairs = zip(near.predict(test.X, test.y), limit.predict(test.X, test.y), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_without_the_first_layer_a_linear_network_receives_nothing() -> None:
    """Its inputs to the second layer are drawn anew: a rotation that no coupling above undoes."""
    source, target, test = linear_teachers(0, 80, 15)
    problem = deep.DeepTransferProblem(source, target, depth=2, activation="linear")
    above = problem.solve(widths=(40, 40), couplings=(0.0, np.inf))
    alone = problem.solve(widths=(40, 40), couplings=0.0)
    np.testing.assert_allclose(above.predict(test.X).mean, alone.predict(test.X).mean, rtol=1e-6)
    below = problem.solve(widths=(40, 40), couplings=(np.inf, 0.0))
    errors = [s.predict(test.X, test.y).test_error.mean() for s in (below, alone)]
    assert errors[0] < 0.9 * errors[1]


def test_layers_of_a_linear_network_may_be_merged() -> None:
    """N_2 → ∞ with its weights frozen changes nothing: the network of one layer less."""
    source, target, test = deterministic()
    given: dict[str, Any] = {"activation": "linear", "temperature": 0.1}
    two = deep.solve(source, target, widths=(20, np.inf), couplings=(4.0, np.inf), **given)
    one = deep.solve(source, target, widths=(20,), couplings=4.0, **given)
    np.testing.assert_allclose(two.overlaps[0], one.overlaps[0], rtol=1e-8)
    np.testing.assert_allclose(two.predict(test.X).mean, one.predict(test.X).mean, rtol=1e-8)


@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.parametrize("couplings", [(3.0, 20.0), (np.inf, 8.0), np.inf])
def test_training_error_is_the_test_error_at_the_training_inputs(
    activation: str, couplings: tuple[float, float] | float
) -> None:
    source, target, _ = deterministic()
    given: dict[str, Any] = UNEQUAL | {"activation": activation, "widths": (60, 80)}
    solved = deep.solve(source, target, couplings=couplings, **given)
    at_training = solved.predict(target.X, target.y)
    assert solved.train_error == pytest.approx(at_training.test_error.mean(), rel=1e-7)
    assert (at_training.total_variance >= at_training.source_variance).all()


def test_symmetries() -> None:
    source, target, test = deterministic()
    given: dict[str, Any] = {"widths": (20, 15), "couplings": (1.0, 3.0)}
    solved = deep.solve(source, target, **given, **UNEQUAL)
    # The sign of the source's labels.
    flipped = deep.solve(Task(source.X, -source.y), target, **given, **UNEQUAL)
    np.testing.assert_allclose(flipped.Q_st, -solved.Q_st, rtol=1e-9)
    np.testing.assert_allclose(flipped.Q_tt, solved.Q_tt, rtol=1e-9)
    # Units of the outputs: labels, readouts and noise together.
    a = 3.0
    scaled: dict[str, Any] = UNEQUAL | {
        "temperature": a**2 * 0.2,
        "source_temperature": a**2 * 0.05,
    }
    scaled |= {"readout_precision": 0.7 / a**2, "source_readout_precision": 1.9 / a**2}
    larger = deep.solve(
        Task(source.X, a * source.y), Task(target.X, a * target.y), **given, **scaled
    )
    np.testing.assert_allclose(larger.overlaps, solved.overlaps, rtol=1e-8)
    np.testing.assert_allclose(
        larger.predict(test.X).mean, a * solved.predict(test.X).mean, rtol=1e-8
    )
    # Units of the inputs and of the first layer's weights are no symmetry with equal precisions;
    # the order of examples is one.
    shuffled = Task(target.X[::-1], target.y[::-1])
    other = deep.solve(source, shuffled, **given, **UNEQUAL)
    np.testing.assert_allclose(other.overlaps, solved.overlaps, rtol=1e-8)


def test_activations_that_are_not_odd_need_couplings() -> None:
    source, target, _ = deterministic()
    problem = deep.DeepTransferProblem(source, target, depth=2, activation="relu", temperature=0.1)
    assert problem.solve(widths=(20, 20), couplings=10.0).converged
    with pytest.raises(ValueError, match=r"couplings must be > 0 in every layer.*'relu'"):
        problem.solve(widths=(20, 20), couplings=(np.inf, 0.0))
    with pytest.raises(ConvergenceError, match="not odd"):
        problem.solve(widths=(20, 20), couplings=0.1)
    assert problem.solve(widths=(20, 20), couplings=0.0).Q_st == 0


def test_sweep_is_its_solutions() -> None:
    source, target, test = deterministic()
    given: dict[str, Any] = {"widths": (20, 30), "temperature": 0.1}
    couplings = [np.inf, 0.0, (np.inf, 0.0), (0.5, 2.0)]
    table = deep.coupling_sweep(source, target, test, couplings=couplings, **given)
    assert table.A_tt.dims == ("coupling", "layer")
    for i, coupling in enumerate(couplings):
        solved = deep.solve(source, target, couplings=coupling, **given)
        outcome = solved.predict(test.X, test.y)
        row = table.isel(coupling=i)
        np.testing.assert_allclose(row.Q_st, solved.Q_st, atol=1e-10)
        np.testing.assert_allclose(row.A_tt, solved.overlaps[:, 3], rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(row.test_error, outcome.test_error.mean(), rtol=1e-9)
        np.testing.assert_allclose(row.layer_coupling, np.broadcast_to(coupling, 2))
    numbers = deep.coupling_sweep(source, target, test, couplings=[1.0, 0.0], **given)
    assert numbers.coupling.values.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("couplings", "error"), [((1.0,), ValueError), (-1.0, ValueError), ((1.0, "a"), TypeError)]
)
def test_bad_couplings(couplings: float | tuple, error: type[Exception]) -> None:
    source, target, _ = deterministic()
    with pytest.raises(error, match="couplings"):
        deep.solve(source, target, widths=(20, 20), couplings=couplings)


def test_another_target_keeps_the_decomposition() -> None:
    source, target, test = deterministic()
    problem = deep.DeepTransferProblem(source, target, depth=2, temperature=0.1)
    other = problem.with_target(Task(target.X[:5], target.y[:5]))
    assert other.source_problem is problem.source_problem
    found = other.solve(widths=(9, 9), couplings=1.0)
    fresh = deep.solve(
        source, other.target, widths=(9, 9), couplings=1.0, temperature=0.1, activation="erf"
    )
    np.testing.assert_allclose(found.overlaps, fresh.overlaps, rtol=1e-10)
    np.testing.assert_allclose(found.predict(test.X).mean, fresh.predict(test.X).mean, rtol=1e-10)
