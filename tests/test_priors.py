"""Priors: what follows the target, richness, changes, and names that are mistyped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.instances import deterministic
from tlnb import RenormalizedGPRegressor, TransferGPRegressor, coupling_sweep, width_sweep
from tlnb.priors import Priors, richness
from tlnb.theory import one_task, transfer
from tlnb.theory.one_task import OneTaskProblem
from tlnb.theory.transfer import TransferProblem


def test_the_source_follows_the_target_unless_told_otherwise() -> None:
    priors = Priors(temperature=0.1, source_weight_precision=2.0, richness=0.5)
    assert (priors.source_temperature, priors.source_richness) == (0.1, 0.5)
    changed = priors.replace(temperature=0.2, weight_precision=3.0, readout_precision=7.0)
    assert (changed.source_temperature, changed.source_weight_precision) == (0.2, 2.0)
    assert (changed.readout_precision, changed.source_readout_precision) == (7.0, 7.0)
    assert changed.richness is None and changed.source_richness is None


def test_richness_is_readout_precision_per_unit() -> None:
    priors = Priors(richness=0.25, source_readout_precision=3.0)
    assert priors.readout_precision is None  # there is none without a width
    resolved = priors.at_width(200)
    assert (resolved.readout_precision, resolved.source_readout_precision) == (50.0, 3.0)
    assert resolved.at_width(10) is resolved
    assert richness(50.0, 200) == 0.25
    with pytest.raises(ValueError, match="width must be finite where a richness is given"):
        priors.at_width(np.inf)


def test_richness_in_every_theory_is_the_readout_precision_of_the_width() -> None:
    source, target, test = deterministic()
    rich, lazy = {"richness": 0.5}, {"readout_precision": 10.0}
    assert one_task.solve(target, width=20, **rich).Q == one_task.solve(target, width=20, **lazy).Q
    one, two = (transfer.solve(source, target, width=20, coupling=1.0, **p) for p in (rich, lazy))
    assert (one.Q_s, one.Q_t, one.Q_st, one.Q_tt) == (two.Q_s, two.Q_t, two.Q_st, two.Q_tt)
    widths = [20, 80]
    table = coupling_sweep(source, target, test, widths=widths, couplings=[0, 2.0, np.inf], **rich)
    for width in widths:
        given: dict[str, Any] = {"couplings": [0, 2.0, np.inf], "readout_precision": width / 2}
        own = coupling_sweep(source, target, test, widths=[width], **given)
        for name in table.data_vars:
            np.testing.assert_allclose(table[name].sel(width=width), own[name][0], rtol=1e-8)
    table = width_sweep(target, test, widths=widths, **rich)
    own = width_sweep(target, test, widths=[80], readout_precision=40.0)
    np.testing.assert_allclose(table.test_error[1], own.test_error[0], rtol=1e-12)


@pytest.mark.parametrize("estimator", [RenormalizedGPRegressor, TransferGPRegressor])
def test_richness_in_estimators(estimator: Any) -> None:
    source, target, test = deterministic()
    given = {} if estimator is RenormalizedGPRegressor else {"source": source}
    rich = estimator(width=20, richness=0.5).fit(target.X, target.y, **given)
    lazy = estimator(width=20, readout_precision=10.0).fit(target.X, target.y, **given)
    np.testing.assert_array_equal(rich.predict(test.X), lazy.predict(test.X))


def test_other_priors_share_what_does_not_depend_on_them() -> None:
    source, target, _ = deterministic()
    problem = TransferProblem(source, target, temperature=0.1)
    plain = problem.solve(width=20, coupling=2.0)
    changes: dict[str, Any] = {
        "temperature": 0.05,
        "readout_precision": 4.0,
        "source_temperature": 0.3,
    }
    other = problem.with_priors(**changes)
    assert other.kernels is problem.kernels
    assert other.source_problem.kernel is problem.source_problem.kernel
    anew = transfer.solve(source, target, width=20, coupling=2.0, **changes)
    shared = other.solve(width=20, coupling=2.0)
    np.testing.assert_allclose(shared.Q_st, anew.Q_st, rtol=1e-12)
    np.testing.assert_allclose(shared.log_evidence, anew.log_evidence, rtol=1e-12)
    back = other.with_priors(temperature=0.1, readout_precision=1.0, source_temperature=None)
    np.testing.assert_allclose(back.solve(width=20, coupling=2.0).Q_t, plain.Q_t, rtol=1e-12)
    stiff = problem.with_priors(weight_precision=2.0, source_weight_precision=1.0)
    assert stiff.source_problem.kernel is problem.source_problem.kernel
    assert stiff.kernels is not problem.kernels
    assert problem.with_priors(activation="relu").source_problem.kernel is not (
        problem.source_problem.kernel
    )
    alone = OneTaskProblem(target, temperature=0.1)
    assert alone.with_priors(temperature=0.2).kernel is alone.kernel
    assert alone.with_priors(weight_precision=2.0).kernel is not alone.kernel


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda s, t, wrong: transfer.solve(s, t, width=20, coupling=1.0, **wrong), "solve"),
        (lambda s, t, wrong: TransferProblem(s, t, **wrong), "TransferProblem"),
        (
            lambda s, t, wrong: TransferProblem(s, t).with_priors(**wrong),
            r"TransferProblem\.with_priors",
        ),
        (
            lambda s, t, wrong: coupling_sweep(s, t, t, widths=[9], couplings=[1], **wrong),
            "coupling_sweep",
        ),
        (lambda s, t, wrong: one_task.solve(t, width=20, **wrong), "solve"),
        (lambda s, t, wrong: width_sweep(t, t, widths=[20], **wrong), "width_sweep"),
        (lambda s, t, wrong: OneTaskProblem(t, **wrong), "OneTaskProblem"),
    ],
)
def test_a_mistyped_prior_is_named_with_its_function(call: Callable, name: str) -> None:
    source, target, _ = deterministic()
    message = rf"{name}\(\) got an unexpected keyword argument 'temprature'; did you mean 'temp"
    with pytest.raises(TypeError, match=message):
        call(source, target, {"temprature": 0.1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"richness": 0.0}, "richness must be a number > 0, got 0.0"),
        ({"richness": 1.0, "readout_precision": 2.0}, "give one or the other, got richness=1.0"),
        (
            {"source_richness": 1.0, "source_readout_precision": 1.0},
            "source_richness is source_readout_precision / width",
        ),
    ],
)
def test_bad_richness(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Priors(**change)
