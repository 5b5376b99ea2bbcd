"""scikit-learn classifiers: the sign of one output, or the largest of C outputs of one network.

Two classes are ±1, and the theory is that of one output. More have an output each, with the simplex
code of `tlnb.data.outputs`, and order parameters that are matrices. ``predict`` says the class of
the mean output. ``predict_proba`` says what share of the networks drawn from the posterior vote for
each class: how far they agree, not how often they are right. No label noise enters, and nothing
makes the shares calibrated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tlnb.data.outputs import MultiOutputTask, class_codes
from tlnb.data.task import Task
from tlnb.estimators import RenormalizedGPRegressor, TransferGPRegressor
from tlnb.kernels import Activation
from tlnb.theory.outputs import votes

Array = NDArray[np.float64]


class _NetworkClassifier(ClassifierMixin, BaseEstimator):
    """What both classifiers do with the regressor of the same parameters."""

    _regressor: type
    classes_: NDArray[Any]
    regressor_: Any

    def _fit(self, X: ArrayLike, y: ArrayLike, **source: Any) -> None:
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        classes, members = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"y must have at least two classes, got one class: {classes.tolist()[0]!r}"
            )
        if len(classes) == 2:
            codes = 2.0 * members - 1
        else:
            codes, _ = class_codes(members)
        self.classes_ = classes
        self.regressor_ = self._regressor(**self.get_params()).fit(X, codes, **source)

    def decision_function(self, X: ArrayLike) -> Array:
        """Mean outputs: (n,) for two classes, positive for the second one; else (n, C)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self.regressor_.predict(X)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of the mean output at inputs ``X`` (n, N0)."""
        mean = self.decision_function(X)
        return self.classes_[(mean > 0).astype(int) if mean.ndim == 1 else mean.argmax(1)]

    def predict_proba(self, X: ArrayLike) -> Array:
        """The share of networks that vote for each class, of shape (n, C).

        The posterior's outputs being Gaussian, it is Φ(mean/deviation) for two classes and
        `tlnb.theory.outputs.votes` for more. Where the outputs' variances differ, most networks
        can vote for another class than that of the mean output.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        if len(self.classes_) > 2:
            outcome = self.regressor_.decompose(X)
            return votes(outcome.mean, outcome.covariance)
        mean, deviation = self.regressor_.predict(X, return_std=True)
        certain = np.where(mean == 0, 0.0, np.copysign(np.inf, mean))
        second = ndtr(np.divide(mean, deviation, out=certain, where=deviation > 0))
        return np.column_stack([1 - second, second])


class RenormalizedGPClassifier(_NetworkClassifier):
    """One network of finite width as a classifier.

    Parameters
    ----------
    width, activation, temperature, weight_precision, readout_precision, richness
        As in `tlnb.estimators.RenormalizedGPRegressor`.

    Attributes
    ----------
    classes_ : array of shape (C,)
    regressor_ : RenormalizedGPRegressor
        Of the codes, with the order parameters and the evidence.
    n_features_in_ : int

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from tlnb.classifiers import RenormalizedGPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RenormalizedGPClassifier(width=50, temperature=0.1).fit(scale(X), y)
    >>> model.regressor_.order_parameters_.Q.shape
    (3, 3)
    """

    _regressor = RenormalizedGPRegressor

    def __init__(
        self,
        width: float = 200,
        activation: str | Activation = "erf",
        temperature: float = 0.01,
        weight_precision: float = 1.0,
        readout_precision: float = 1.0,
        richness: float | None = None,
    ) -> None:
        self.width = width
        self.activation = activation
        self.temperature = temperature
        self.weight_precision = weight_precision
        self.readout_precision = readout_precision
        self.richness = richness

    def fit(self, X: ArrayLike, y: ArrayLike) -> RenormalizedGPClassifier:
        """Solve the saddle point for inputs ``X`` (P, N0) and classes ``y`` (P,)."""
        self._fit(X, y)
        return self


class TransferGPClassifier(_NetworkClassifier):
    """A classifier whose hidden weights are coupled to those of a network trained on a source.

    Parameters
    ----------
    width, coupling, activation, temperature, weight_precision, readout_precision
    source_temperature, source_weight_precision, source_readout_precision, coupling_scheme
    richness, source_richness
        As in `tlnb.estimators.TransferGPRegressor`.

    Attributes
    ----------
    classes_ : array of shape (C,)
    regressor_ : TransferGPRegressor
        Of the codes, with the order parameters, the coupling and the evidence.
    n_features_in_ : int

    Notes
    -----
    The source's classes are given as codes, and need not be the target's:
    ``source=MultiOutputTask(X_s, class_codes(labels)[0])``, or a `Task` of ±1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from tlnb.classifiers import TransferGPClassifier
    >>> from tlnb.data.outputs import MultiOutputTask, class_codes
    >>> X, y = load_iris(return_X_y=True)
    >>> source = MultiOutputTask(scale(X)[::2], class_codes(y[::2])[0])
    >>> model = TransferGPClassifier(width=50, temperature=0.1)
    >>> model.fit(scale(X)[1::10], y[1::10], source=source).predict_proba(scale(X)[:2]).shape
    (2, 3)
    """

    _regressor = TransferGPRegressor

    def __init__(
        self,
        width: float = 200,
        coupling: float | str = 1.0,
        activation: str | Activation = "erf",
        temperature: float = 0.01,
        weight_precision: float = 1.0,
        readout_precision: float = 1.0,
        source_temperature: float | None = None,
        source_weight_precision: float | None = None,
        source_readout_precision: float | None = None,
        coupling_scheme: str = "elastic",
        richness: float | None = None,
        source_richness: float | None = None,
    ) -> None:
        self.width = width
        self.coupling = coupling
        self.activation = activation
        self.temperature = temperature
        self.weight_precision = weight_precision
        self.readout_precision = readout_precision
        self.source_temperature = source_temperature
        self.source_weight_precision = source_weight_precision
        self.source_readout_precision = source_readout_precision
        self.coupling_scheme = coupling_scheme
        self.richness = richness
        self.source_richness = source_richness

    def fit(
        self, X: ArrayLike, y: ArrayLike, source: Task | MultiOutputTask | None = None
    ) -> TransferGPClassifier:
        """Solve the saddle point for inputs ``X`` (P_t, N0), classes ``y`` (P_t,) and a source.

        Without a source the target is trained from scratch.
        """
        self._fit(X, y, source=source)
        return self
