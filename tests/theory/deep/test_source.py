"""One deep network alone: order 0, its roots, limits and exact averages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from tests.instances import deterministic
from tlnb.errors import CompetingSaddlesWarning
from tlnb.theory import one_task
from tlnb.theory.deep import DeepOneTaskProblem, solve_one_task
from tlnb.theory.deep.source import shared_load, source_action, source_saddle

E = np.random.default_rng(3).exponential(size=12)
Y2 = np.random.default_rng(4).exponential(size=12)
MANY = np.r_[np.full(40, 1.0), 0.005], np.r_[np.zeros(40), 3.0]


@pytest.mark.parametrize("activation", ["linear", "erf", "relu", "tanh"])
def test_one_hidden_layer_is_the_theory_of_chapter_02(activation: str) -> None:
    source, _, test = deterministic()
    given: dict[str, Any] = {"activation": activation, "temperature": 0.1, "weight_precision": 1.3}
    given["readout_precision"] = 0.6
    deep = solve_one_task(source, widths=(20,), **given)
    one = one_task.solve(source, width=20, **given)
    assert deep.R == pytest.approx(one.Q, abs=1e-12) and deep.Q[0] == pytest.approx(one.Q)
    for name in ("action", "log_evidence", "train_error"):
        assert getattr(deep, name) == pytest.approx(getattr(one, name), rel=1e-12)
    pairs = zip(deep.predict(test.X, test.y), one.predict(test.X, test.y), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


@pytest.mark.parametrize("layers", [(5.0,), (8.0, 3.0), (20.0, 4.0, 7.0, 50.0)])
def test_every_factor_is_stationary(layers: tuple[float, ...]) -> None:
    widths = np.array(layers)
    found = source_saddle(E, Y2, widths=widths, temperature=0.1)

    def action(log_Q: float) -> float:
        Q = np.exp(log_Q)
        return source_action(Q.prod(), Q, E, Y2, widths=widths, T=0.1)

    gradient = approx_fprime(np.log(found.Q), action, 1e-6)
    assert abs(gradient).max() < 1e-3 * widths.max()
    assert found.R == pytest.approx(found.Q.prod(), rel=1e-12)
    # Every layer bears the same load.
    load = widths * (found.Q - 1)
    np.testing.assert_allclose(load, load[0], rtol=1e-9)


def test_shared_load_by_its_definition() -> None:
    widths = np.array([3.0, 3.0, 40.0, 1e5])
    log_R = np.linspace(-30, 8, 60)
    load, smallest = shared_load(log_R, widths)
    others = np.log1p(load[:, None] / widths[2:]).sum(1)
    np.testing.assert_allclose(2 * smallest + others, log_R, rtol=1e-12, atol=1e-12)


def test_equal_widths_in_closed_form() -> None:
    load, _ = shared_load(np.array([1.2, -0.7]), np.full(3, 8.0))
    np.testing.assert_allclose(load, 8 * np.expm1(np.array([1.2, -0.7]) / 3), rtol=1e-13)


def test_the_scan_finds_every_root() -> None:
    """The instance with three roots of chapter 02: least action wins, the other is reported."""
    e, y2 = MANY
    with pytest.warns(CompetingSaddlesWarning, match=r"further minima: R = 0.0116") as caught:
        found = source_saddle(e, y2, widths=np.array([20.0]), temperature=0.01)
    assert [warning.filename for warning in caught] == [__file__]
    assert found.R == pytest.approx(2.655, abs=1e-3)
    assert found.competing[0][0] == pytest.approx(0.0116, abs=1e-4)
    with pytest.warns(CompetingSaddlesWarning):
        deep = source_saddle(e, y2, widths=np.array([20.0, 30.0]), temperature=0.01)
    assert all(action >= deep.action for _, action in deep.competing)


def test_a_layer_of_infinite_width_only_maps_kernels() -> None:
    source, _, test = deterministic()
    given: dict[str, Any] = {"activation": "erf", "temperature": 0.1}
    limit = solve_one_task(source, widths=(15, np.inf), **given)
    gaps = []
    for width in (1e4, 1e5):
        wide = solve_one_task(source, widths=(15, width), **given)
        gaps.append(
            [
                wide.R - limit.R,
                *(wide.predict(test.X).mean - limit.predict(test.X).mean),
                wide.log_evidence - limit.log_evidence,
            ]
        )
    np.testing.assert_allclose(np.divide(*gaps), 10, rtol=0.02)
    assert limit.Q[1] == 1
    everything = solve_one_task(source, widths=(np.inf, np.inf), **given)
    assert everything.R == 1


def test_order_of_layers_does_not_matter_alone() -> None:
    source, _, _ = deterministic()
    problem = DeepOneTaskProblem(source, depth=3, activation="erf", temperature=0.1)
    one, other = (problem.solve(widths=w) for w in ((10, 20, 40), (40, 10, 20)))
    assert one.R == pytest.approx(other.R, rel=1e-12)
    np.testing.assert_allclose(np.sort(one.Q), np.sort(other.Q), rtol=1e-12)


def test_training_error_is_the_error_at_the_training_inputs() -> None:
    source, _, _ = deterministic()
    solved = solve_one_task(source, widths=(10, 30), activation="relu", temperature=0.1)
    at_training = solved.predict(source.X, source.y)
    assert solved.train_error == pytest.approx(at_training.test_error.mean(), rel=1e-8)


@pytest.mark.parametrize(
    ("widths", "error"),
    [((), ValueError), (20, TypeError), ((3, 0), ValueError), ("ab", TypeError)],
)
def test_bad_widths(widths: int | str | tuple, error: type[Exception]) -> None:
    source, _, _ = deterministic()
    with pytest.raises(error, match="widths"):
        solve_one_task(source, widths=widths)
