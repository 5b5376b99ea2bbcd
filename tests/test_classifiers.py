"""Classifiers and regressors of several outputs: contract, the theory behind, classes and codes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

from tests.instances import deterministic, linear_teachers
from tlnb import (
    RenormalizedGPClassifier,
    RenormalizedGPRegressor,
    Task,
    TransferGPClassifier,
    TransferGPRegressor,
)
from tlnb.data.outputs import MultiOutputTask, class_codes
from tlnb.theory import outputs

GIVEN: dict[str, Any] = {"width": 20, "temperature": 0.1}


def three_classes() -> tuple[MultiOutputTask, np.ndarray, np.ndarray, np.ndarray]:
    """Target inputs with their largest teacher output as class, a source, and test inputs."""
    source, target, test = linear_teachers(3, 40, 20)
    teachers = np.random.default_rng(0).standard_normal((source.n_features, 3))
    of = [np.array(["a", "b", "c"])[(task.X @ teachers).argmax(1)] for task in (source, target)]
    return MultiOutputTask(source.X, class_codes(of[0])[0]), target.X, of[1], test.X


@pytest.mark.parametrize("estimator", [RenormalizedGPClassifier(), TransferGPClassifier()])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_contract(estimator: Any) -> None:
    check_estimator(estimator)


def test_two_classes_are_one_output() -> None:
    _, target, test = deterministic()
    names = np.where(target.y > 0, "yes", "no")
    classifier = RenormalizedGPClassifier(**GIVEN).fit(target.X, names)
    regressor = RenormalizedGPRegressor(**GIVEN).fit(target.X, target.y)
    mean, deviation = regressor.predict(test.X, return_std=True)
    np.testing.assert_array_equal(classifier.decision_function(test.X), mean)
    assert classifier.predict(test.X).tolist() == np.where(mean > 0, "yes", "no").tolist()
    shares = classifier.predict_proba(test.X)
    np.testing.assert_allclose(shares[:, 1], ndtr(mean / deviation))
    np.testing.assert_allclose(shares.sum(1), 1)


@pytest.mark.parametrize("coupling", [0.0, 2.0, np.inf, "leave-one-out"])
def test_three_classes_are_the_theory_of_three_outputs(coupling: float | str) -> None:
    source, X, classes, X_0 = three_classes()
    given: dict[str, Any] = GIVEN | {"coupling": coupling}
    classifier = TransferGPClassifier(**given).fit(X, classes, source=source)
    solution = outputs.solve_transfer(source, MultiOutputTask(X, class_codes(classes)[0]), **given)
    outcome = solution.predict(X_0)
    np.testing.assert_array_equal(classifier.decision_function(X_0), outcome.mean)
    np.testing.assert_array_equal(classifier.predict_proba(X_0), outcome.votes())
    assert (classifier.predict(X_0) == np.array(["a", "b", "c"])[outcome.mean.argmax(1)]).all()
    order = classifier.regressor_.order_parameters_
    np.testing.assert_array_equal(order.Q_st, solution.Q_st)
    assert classifier.regressor_.coupling_ == solution.coupling
    alone = TransferGPClassifier(**GIVEN).fit(X, classes)
    assert alone.regressor_.coupling_ == 0 and alone.regressor_.order_parameters_.Q_t.shape == (
        3,
        3,
    )


def test_a_class_with_one_member_and_strange_labels() -> None:
    _, X, classes, X_0 = three_classes()
    few = np.concatenate([classes[:-1], ["rare"]])
    fitted = RenormalizedGPClassifier(**GIVEN).fit(X, few)
    assert fitted.classes_.tolist() == ["a", "b", "c", "rare"]
    assert fitted.predict(X[-1:]).tolist() == ["rare"]
    assert fitted.predict_proba(X_0).shape == (len(X_0), 4)
    with pytest.raises(ValueError, match="at least two classes, got one class: 'a'"):
        RenormalizedGPClassifier().fit(X, np.full(len(X), "a"))
    with pytest.raises(ValueError, match="Unknown label type"):
        RenormalizedGPClassifier().fit(X, X[:, 0])


def test_regressors_take_several_outputs() -> None:
    source, target, test = deterministic()
    Y, Y_s = target.X[:, :3], source.X[:, :2]
    fitted = TransferGPRegressor(coupling=2.0, **GIVEN).fit(
        target.X, Y, source=MultiOutputTask(source.X, Y_s)
    )
    solution = outputs.solve_transfer(
        MultiOutputTask(source.X, Y_s), MultiOutputTask(target.X, Y), coupling=2.0, **GIVEN
    )
    mean, deviation = fitted.predict(test.X, return_std=True)
    outcome = solution.predict(test.X)
    np.testing.assert_array_equal(mean, outcome.mean)
    np.testing.assert_array_equal(deviation, np.sqrt(outcome.total_variance))
    assert fitted.order_parameters_.Q_st.shape == (2, 3)
    assert fitted.decompose(test.X, test.X[:, :3]).test_error.shape == (5, 3)
    alone = RenormalizedGPRegressor(**GIVEN).fit(target.X, Y)
    np.testing.assert_array_equal(
        alone.predict(test.X),
        outputs.solve(MultiOutputTask(target.X, Y), **GIVEN).predict(test.X).mean,
    )
    # One column is one output, and looks like it.
    column = RenormalizedGPRegressor(**GIVEN).fit(target.X, Y[:, :1]).predict(test.X)
    flat = RenormalizedGPRegressor(**GIVEN).fit(target.X, Y[:, 0]).predict(test.X)
    np.testing.assert_allclose(column[:, 0], flat, rtol=1e-10)


def test_one_number_after_a_source_of_several_outputs() -> None:
    source, target, test = deterministic()
    fitted = TransferGPRegressor(**GIVEN)
    fitted.fit(target.X, target.y, source=MultiOutputTask(source.X, source.X[:, :2]))
    mean, deviation = fitted.predict(test.X, return_std=True)
    assert mean.shape == deviation.shape == (5,)
    assert fitted.order_parameters_.Q_st.shape == (2, 1)


def test_several_outputs_have_the_scalar_theory_alone() -> None:
    _, target, _ = deterministic()
    for estimator in (RenormalizedGPRegressor, TransferGPRegressor):
        with pytest.raises(ValueError, match="theory must be 'scalar' with several outputs"):
            estimator(theory="unit-law", **GIVEN).fit(target.X, target.X[:, :2])
    with pytest.raises(ValueError, match="theory must be 'scalar' with several outputs"):
        TransferGPRegressor(theory="unit-law", **GIVEN).fit(
            target.X, target.X[:, :2], source=Task(target.X, target.y)
        )


def test_several_outputs_have_no_iterative_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, _ = deterministic()
    two = MultiOutputTask(source.X, source.X[:, :2])
    says = "solver must be 'dense' with several outputs"
    for solver in ("iterative", "auto"):
        with pytest.raises(ValueError, match=says):
            RenormalizedGPRegressor(solver=solver, **GIVEN).fit(two.X, two.y)
        for given in (two, source):
            with pytest.raises(ValueError, match=says):
                TransferGPRegressor(solver=solver, **GIVEN).fit(
                    target.X, target.X[:, :2], source=given
                )
        monkeypatch.setattr("tlnb.theory.large.problem.DENSE_UP_TO", source.n_examples - 1)
    three, X, classes, _ = three_classes()
    with pytest.raises(ValueError, match="OneVsRestClassifier"):
        TransferGPClassifier(**GIVEN).fit(X, classes, source=three)
    dense = TransferGPRegressor(solver="dense", **GIVEN)
    assert dense.fit(target.X, target.X[:, :2], source=two).predict(target.X).shape == (8, 2)


def test_grid_search_and_pickle() -> None:
    source, X, classes, X_0 = three_classes()
    search = GridSearchCV(TransferGPClassifier(**GIVEN), {"coupling": [0.0, 2.0, np.inf]}, cv=2)
    search.fit(X, classes, source=source)
    best = clone(search.best_estimator_).fit(X, classes, source=source)
    np.testing.assert_array_equal(search.predict(X_0), best.predict(X_0))
    again = pickle.loads(pickle.dumps(best))
    np.testing.assert_array_equal(again.predict_proba(X_0), best.predict_proba(X_0))
