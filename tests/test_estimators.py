"""The scikit-learn faces: contract, pipelines, grid search over the coupling, the source."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from tests.instances import deterministic, linear_teachers
from tlnb import RenormalizedGPRegressor, Task, TransferGPRegressor
from tlnb.theory import one_task, transfer

BOTH = pytest.mark.parametrize("estimator", [RenormalizedGPRegressor(), TransferGPRegressor()])


@BOTH
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_contract(estimator: Any) -> None:
    assert issubclass(SkipTestWarning, UserWarning)
    check_estimator(estimator)


def test_renormalized_is_the_theory() -> None:
    source, _, test = deterministic()
    parameters: dict[str, Any] = {
        "width": 15,
        "activation": "relu",
        "temperature": 0.1,
        "readout_precision": 2.0,
    }
    fitted = RenormalizedGPRegressor(**parameters).fit(source.X, source.y)
    solution = one_task.solve(source, **parameters)
    mean, deviation = fitted.predict(test.X, return_std=True)
    outcome = solution.predict(test.X, test.y)
    np.testing.assert_array_equal(mean, outcome.mean)
    np.testing.assert_array_equal(deviation, np.sqrt(outcome.total_variance))
    np.testing.assert_array_equal(fitted.decompose(test.X, test.y).test_error, outcome.test_error)
    assert fitted.order_parameters_ == (solution.Q,)
    assert fitted.log_evidence_ == solution.log_evidence


@pytest.mark.parametrize("coupling", [0, 2.0, np.inf, "evidence", "leave-one-out"])
def test_transfer_is_the_theory(coupling: float | str) -> None:
    source, target, test = deterministic()
    parameters: dict[str, Any] = {
        "width": 20,
        "coupling": coupling,
        "temperature": 0.1,
        "source_temperature": 0.2,
    }
    fitted = TransferGPRegressor(**parameters).fit(target.X, target.y, source=source)
    solution = transfer.solve(source, target, **parameters)
    np.testing.assert_array_equal(fitted.predict(test.X), solution.predict(test.X).mean)
    order = fitted.order_parameters_
    assert (order.Q_s, order.Q_t, order.Q_st, order.Q_tt) == (
        solution.Q_s, solution.Q_t, solution.Q_st, solution.Q_tt,
    )  # fmt: skip
    assert fitted.coupling_ == solution.coupling
    assert fitted.log_evidence_ == solution.log_evidence
    without_labels = fitted.decompose(test.X)
    assert without_labels.test_error is None and without_labels.source_variance is not None


def test_without_a_source_it_is_training_from_scratch() -> None:
    _, target, test = deterministic()
    transferred = TransferGPRegressor(width=20).fit(target.X, target.y)
    alone = RenormalizedGPRegressor(width=20).fit(target.X, target.y)
    np.testing.assert_array_equal(transferred.predict(test.X), alone.predict(test.X))
    assert transferred.coupling_ == 0
    assert np.isnan(transferred.order_parameters_.Q_s)
    assert transferred.order_parameters_[1:] == (alone.order_parameters_.Q, 0.0, 0.0)


@pytest.mark.parametrize("n_source", [15, 60])  # as many as the target has, and more
def test_grid_search_over_the_coupling_never_slices_the_source(n_source: int) -> None:
    source, target, test = linear_teachers(1, n_source, 15)
    grid = [0.0, 1.0, np.inf]
    search = GridSearchCV(
        TransferGPRegressor(width=40, temperature=0.1),
        {"coupling": grid},
        cv=3,
        scoring="neg_mean_squared_error",
        error_score="raise",
    ).fit(target.X, target.y, source=source)
    assert search.best_params_["coupling"] in grid
    refitted = clone(search.best_estimator_).fit(target.X, target.y, source=source)
    np.testing.assert_array_equal(search.predict(test.X), refitted.predict(test.X))
    # One fold by hand: the whole source, two thirds of the target.
    train, held_out = np.arange(5, 15), np.arange(5)
    by_hand = TransferGPRegressor(width=40, temperature=0.1, coupling=1.0)
    by_hand.fit(target.X[train], target.y[train], source=source)
    error = np.mean((by_hand.predict(target.X[held_out]) - target.y[held_out]) ** 2)
    at = grid.index(1.0)
    np.testing.assert_allclose(-search.cv_results_["split0_test_score"][at], error, rtol=1e-10)


def test_pipeline_and_cross_validation() -> None:
    source, target, test = linear_teachers(2, 40, 30)
    pipeline = make_pipeline(StandardScaler(), TransferGPRegressor(width=40, temperature=0.1))
    pipeline.fit(target.X, target.y, transfergpregressor__source=source)
    scaled = pipeline[0].transform(target.X)
    by_hand = TransferGPRegressor(width=40, temperature=0.1).fit(scaled, target.y, source=source)
    np.testing.assert_allclose(
        pipeline.predict(test.X), by_hand.predict(pipeline[0].transform(test.X))
    )
    scores = cross_val_score(
        TransferGPRegressor(width=40, temperature=0.1),
        target.X,
        target.y,
        cv=3,
        params={"source": source},
    )
    assert np.isfinite(scores).all() and scores.mean() > 0.5


def test_pickle_and_clone() -> None:
    source, target, test = deterministic()
    for activation in ("relu", "tanh"):
        fitted = TransferGPRegressor(width=20, activation=activation, coupling=3.0)
        fitted.fit(target.X, target.y, source=source)
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.predict(test.X), fitted.predict(test.X))
        assert clone(fitted).get_params() == fitted.get_params()


@BOTH
def test_use_before_fit(estimator: Any) -> None:
    with pytest.raises(NotFittedError):
        estimator.predict(np.ones((2, 3)))


@pytest.mark.parametrize("source", [None, "given"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coupling": -0.5}, "coupling must be a number >= 0 or infinity, got -0.5"),
        ({"coupling": "cv"}, "coupling must be one of 'evidence', 'leave-one-out', got 'cv'"),
        ({"width": 0.0}, "width must be a number >= 1 or infinity, got 0.0"),
        ({"temperature": -1.0}, "temperature must be a number > 0, got -1.0"),
        ({"source_readout_precision": 0.0}, "source_readout_precision must be a number > 0"),
        ({"coupling_scheme": "soft"}, "coupling_scheme must be one of"),
        ({"activation": "swish"}, "swish"),
    ],
)
def test_bad_parameters_with_and_without_a_source(
    source: str | None, change: dict[str, Any], message: str
) -> None:
    task, target, _ = deterministic()
    with pytest.raises(ValueError, match=message):
        TransferGPRegressor(**change).fit(target.X, target.y, source=source and task)


def test_bad_sources() -> None:
    _, target, _ = deterministic()
    with pytest.raises(TypeError, match=r"source must be a tlnb\.Task, got tuple"):
        TransferGPRegressor().fit(target.X, target.y, source=(target.X, target.y))
    other = Task(np.ones((4, 3)), np.ones(4))
    with pytest.raises(ValueError, match="N0"):
        TransferGPRegressor().fit(target.X, target.y, source=other)
