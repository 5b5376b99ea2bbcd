"""What a deep target is without its source, and hidden layers of their own precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.instances import UNEQUAL, deterministic, linear_teachers
from tlnb import coupling_sweep
from tlnb.theory import deep

WIDTHS = (20, 15)


@pytest.mark.parametrize("baseline", [None, "scratch", "matched-prior"])
@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.parametrize("priors", [{"temperature": 0.1}, UNEQUAL])
def test_one_layer_is_the_curve_of_chapter_06(
    baseline: str | None, activation: str, priors: Any
) -> None:
    tasks = deterministic()
    given: dict[str, Any] = {
        "couplings": [0.0, 1.0, np.inf],
        "baseline": baseline,
        "activation": activation,
    }
    given |= priors
    shallow = coupling_sweep(*tasks, widths=[20], **given).isel(width=0)
    found = deep.coupling_sweep(*tasks, widths=(20,), **given)
    assert found.attrs["baseline"] == shallow.attrs["baseline"]
    for name in shallow.data_vars:
        if name != "residual":
            np.testing.assert_allclose(found[name], shallow[name], atol=1e-10, err_msg=str(name))


def test_baselines_know_no_label_of_the_source() -> None:
    source, target, test = deterministic()
    other = type(source)(source.X, -2 * source.y)
    given: dict[str, Any] = {
        "widths": WIDTHS,
        "couplings": [(2.0, 0.0), np.inf],
        "temperature": 0.1,
    }
    for baseline in ("scratch", "matched-prior"):
        one, two = (
            deep.coupling_sweep(s, target, test, baseline=baseline, **given)
            for s in (source, other)
        )
        np.testing.assert_array_equal(one.test_error, two.test_error)
        np.testing.assert_array_equal(one.Q_st, 0)
        np.testing.assert_array_equal(one.A_tt, 0)
        assert (abs(one.Q_s - two.Q_s) > 1e-3).all()
        alone = deep.solve_one_task(target, widths=WIDTHS, temperature=0.1)
        expected = alone.predict(test.X, test.y).test_error.mean()
        same = np.allclose(one.test_error, expected)
        # Frozen features have the source's prior variance, here that of scratch.
        assert same == (baseline == "scratch") and np.isclose(one.test_error[1], expected)


def test_the_matched_prior_is_that_of_the_layers_a_coupling_acts_on() -> None:
    source, target, test = deterministic()
    problem = deep.DeepTransferProblem(source, target, depth=2, temperature=0.1)
    curve = problem.sweep(
        test, widths=WIDTHS, couplings=[(3.0, 0.0), (3.0, 1.0)], baseline="matched-prior"
    )
    for i, couplings in enumerate([(3.0, 0.0), (3.0, 1.0)]):
        variances = [c.c_t for c in problem.kernels.covariances(couplings)]
        alone = deep.solve_one_task(
            target, widths=WIDTHS, weight_precisions=1 / np.array(variances), temperature=0.1
        )
        found = curve.isel(coupling=i)
        expected = alone.predict(test.X, test.y)
        assert found.test_error.item() == pytest.approx(expected.test_error.mean(), abs=1e-10)
        assert found.Q_t.item() == pytest.approx(alone.Q[-1], abs=1e-10)
        assert found.log_evidence.item() == pytest.approx(alone.log_evidence, abs=1e-8)


def test_at_infinite_widths_the_matched_prior_is_all_there_is() -> None:
    tasks = deterministic()
    given: dict[str, Any] = {
        "widths": (np.inf, np.inf),
        "couplings": [1.0, (4.0, 0.5)],
        "temperature": 0.1,
    }
    curve, matched = (
        deep.coupling_sweep(*tasks, baseline=baseline, **given)
        for baseline in (None, "matched-prior")
    )
    np.testing.assert_allclose(matched.test_error, curve.test_error, rtol=1e-12)


def test_what_preserves_the_variance_leaves_nothing_to_match() -> None:
    tasks = deterministic()
    given: dict[str, Any] = {"widths": WIDTHS, "couplings": [0.7, (5.0, 0.0)], "temperature": 0.1}
    given |= {"coupling_scheme": "variance-preserving"}
    scratch, matched = (
        deep.coupling_sweep(*tasks, baseline=baseline, **given)
        for baseline in ("scratch", "matched-prior")
    )
    np.testing.assert_allclose(matched.test_error, scratch.test_error, rtol=1e-10)


# precisions of the layers


def test_equal_precisions_are_the_common_one() -> None:
    tasks = deterministic()
    given: dict[str, Any] = {
        "widths": WIDTHS,
        "couplings": [1.0, (np.inf, 0.0)],
        "temperature": 0.1,
    }
    common = deep.coupling_sweep(*tasks, weight_precision=1.7, source_weight_precision=0.6, **given)
    each = deep.coupling_sweep(
        *tasks, weight_precisions=(1.7, 1.7), source_weight_precisions=[0.6, 0.6], **given
    )
    for name in common.data_vars:
        if name != "residual":
            np.testing.assert_allclose(each[name], common[name], rtol=1e-9, atol=1e-12)


def test_only_the_product_of_precisions_counts_in_linear_networks() -> None:
    """W_l → a W_l, W_k → W_k/a: the same network, its couplings scaled with the precisions."""
    source, target, test = linear_teachers(0, 40, 10)
    a, given = 2.5, {"widths": (20, 30, 15), "activation": "linear", "temperature": 0.1}
    of_source, own, couplings = (1.3, 0.7, 1.1), (0.8, 1.6, 1.2), (0.5, np.inf, 4.0)
    scale = np.array([a, 1 / a, 1.0])
    one, two = (
        deep.solve(
            source,
            target,
            weight_precisions=np.array(own) * s,
            source_weight_precisions=np.array(of_source) * s,
            couplings=tuple(np.array(couplings) * s),
            **given,
        )
        for s in (np.ones(3), scale)
    )
    np.testing.assert_allclose(two.overlaps[-1], one.overlaps[-1], rtol=1e-8)
    for ours, theirs in zip(two.predict(test.X, test.y), one.predict(test.X, test.y), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8)
    assert two.log_evidence == pytest.approx(one.log_evidence, abs=1e-8)
    shuffled = deep.solve(
        source, target, weight_precisions=own, source_weight_precisions=own[::-1],
        couplings=couplings, **given,
    )  # fmt: skip
    assert abs(shuffled.Q_s - one.Q_s) > 1e-4


def test_precisions_act_on_their_own_layer() -> None:
    """A first layer whose weights are tiny sees its inputs linearly, the second does not."""
    source, target, _ = deterministic()
    given: dict[str, Any] = {"widths": (np.inf, np.inf), "temperature": 0.1}
    first, second = (
        deep.solve_one_task(target, weight_precisions=precisions, **given)
        for precisions in ((4.0, 1.0), (1.0, 4.0))
    )
    assert abs(first.log_evidence - second.log_evidence) > 1e-2
    problem = deep.DeepTransferProblem(source, target, depth=2, weight_precisions=(4.0, 1.0))
    assert problem.source_problem.process.variances == (0.25, 1.0)
    problem = deep.DeepTransferProblem(
        source, target, depth=2, weight_precisions=(4.0, 1.0), source_weight_precision=2.0
    )
    assert problem.source_problem.process.variances == (0.5, 0.5)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"weight_precisions": (1.0,)}, ValueError, "one a layer, got 1"),
        ({"weight_precisions": (1.0, 0.0)}, ValueError, "weight_precisions must be"),
        ({"weight_precisions": (1.0, np.nan)}, ValueError, "weight_precisions must be"),
        ({"weight_precisions": "12"}, TypeError, "sequence of 2 numbers"),
        ({"weight_precisions": 2.0}, TypeError, "sequence of 2 numbers"),
        ({"source_weight_precisions": (1.0, "a")}, TypeError, "source_weight_precisions"),
        ({"weight_precisions": (1.0, 2.0), "weight_precision": 2.0}, ValueError, "or weight_prec"),
        ({"baseline": "nothing"}, ValueError, "baseline"),
        ({"couplings": []}, ValueError, "at least one entry"),
    ],
)
def test_bad_precisions_and_baselines(
    given: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        deep.coupling_sweep(*deterministic(), widths=WIDTHS, **({"couplings": [1.0]} | given))
