"""The verdict against tasks of known answer; the curve against the sweeps; the errors by hand."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from tlnb import gain as g
from tlnb.data.task import Task
from tlnb.theory.one_task import width_sweep
from tlnb.theory.transfer import coupling_sweep

N0 = 20


def teacher(seed):
    θ = np.random.default_rng(seed).standard_normal(N0)
    return θ / np.linalg.norm(θ)


def linear_task(n, θ, seed, noise=0.0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, N0))
    return Task(X, X @ θ + noise * rng.standard_normal(n))


SOURCE, TARGET, TEST = (linear_task(n, teacher(0), n) for n in (80, 20, 200))
FEW = {"couplings": (0, 1, np.inf), "widths": (20, np.inf), "width": 40, "splits": 4}


@pytest.mark.parametrize("test", [TEST, None], ids=["test set", "splits"])
def test_the_curve_is_that_of_the_sweeps(test):
    gain = g.transfer_gain(SOURCE, TARGET, test, **FEW, seed=3)
    curves, controls, alone = [], [], []
    for train, held_out in g._splits(TARGET, test, 4, np.random.default_rng(3)):
        tasks, given = (SOURCE, train, held_out), {"widths": [40], "temperature": 0.1}
        curves.append(coupling_sweep(*tasks, couplings=FEW["couplings"], **given).isel(width=0))
        controls.append(
            coupling_sweep(
                *tasks, couplings=FEW["couplings"], **given, baseline="matched-prior"
            ).isel(width=0)
        )
        alone.append(width_sweep(train, held_out, widths=[20, 40, np.inf], temperature=0.1))
    error, prior = (np.array([c.test_error for c in set_]) for set_ in (curves, controls))
    scratch = np.array([a.test_error for a in alone])
    evidence = np.array([c.log_evidence for c in curves])
    np.testing.assert_array_equal(gain.scratch.width, [20, 40, np.inf])
    np.testing.assert_allclose(gain.scratch.test_error, scratch.mean(0), rtol=1e-9)
    for name, values in (
        ("test_error", error),
        ("log_evidence", evidence),
        ("gain_scratch", scratch[:, [1]] - error),
        ("gain_prior", prior - error),
    ):
        np.testing.assert_allclose(gain.curve[name], values.mean(0), rtol=1e-7, atol=1e-10)
    choice = evidence.argmax(1)
    np.testing.assert_array_equal(gain.curve.chosen, np.bincount(choice, minlength=3))
    at_choice = error[range(4), choice]
    np.testing.assert_allclose(gain.chosen_error, at_choice.mean(), rtol=1e-7)
    opponents = (scratch[:, 1], prior[range(4), choice], scratch[:, scratch.mean(0).argmin()])
    for found, opponent in zip(gain.comparisons.gain, opponents, strict=True):
        np.testing.assert_allclose(found, np.mean(opponent - at_choice), rtol=1e-7)
    if test is None:
        assert (gain.n_train, gain.n_test, gain.fixed_test) == (16, 4, False)
        expected = np.sqrt((1 / 4 + 4 / 16) * np.var(scratch[:, 1] - at_choice, ddof=1))
        np.testing.assert_allclose(gain.comparisons.standard_error[0], expected, rtol=1e-7)
    else:
        assert (gain.n_train, gain.n_test, gain.fixed_test) == (16, 200, True)


def test_splits_are_disjoint_and_cover_the_target():
    labelled = Task(np.arange(20.0)[:, None], np.arange(20))
    seen = []
    for train, held_out in g._splits(labelled, None, 6, np.random.default_rng(0)):
        assert sorted([*train.y, *held_out.y]) == list(range(20))
        np.testing.assert_array_equal(train.X[:, 0], train.y)
        seen.append(tuple(sorted(held_out.y)))
    assert len(set(seen)) == 6


def test_jackknife_gives_the_error_of_a_mean():
    # for the mean of n numbers the delete-d jackknife is unbiased for variance/n
    rng = np.random.default_rng(2)
    values = rng.standard_normal(40)
    means = np.array([rng.permutation(values)[:32].mean() for _ in range(20_000)])
    _, error = g._gain(32, 8, True, np.repeat(means[:, None], 3, axis=1))
    np.testing.assert_allclose(error, values.std(ddof=1) / np.sqrt(40), rtol=0.03)


def test_a_test_set_adds_its_sampling_error():
    per_example = np.random.default_rng(0).standard_normal(50)
    mean, error = g._gain(32, 8, True, np.tile(per_example, (5, 1)))
    np.testing.assert_allclose(mean, per_example.mean())
    np.testing.assert_allclose(error, per_example.std(ddof=1) / np.sqrt(50))


def test_a_shared_teacher_helps_a_narrow_network():
    target, test = linear_task(15, teacher(0), 5), linear_task(300, teacher(0), 6)
    gain = g.transfer_gain(SOURCE, target, test, width=40, widths=(20, 40, 200, np.inf))
    assert gain.verdict == "helps" and (gain.curve.coupling[gain.curve.chosen > 0] > 1).all()
    assert all(c.gain > 2 * c.standard_error > 0 for c in gain.comparisons.itertuples())


def test_frozen_features_of_a_wrong_source_hurt():
    rng = np.random.default_rng(8)
    source = Task(SOURCE.X, 6 * np.sign(rng.standard_normal(80)))
    target, test = linear_task(30, teacher(0), 5), linear_task(300, teacher(0), 6)
    gain = g.transfer_gain(source, target, test, width=40, couplings=[np.inf])
    assert gain.verdict == "hurts"
    assert "worse than scratch" in gain.reason


def test_evidence_rarely_lets_unrelated_sources_help():
    verdicts = []
    for seed in range(6):
        source = linear_task(60, teacher(100 + seed), seed)
        target = linear_task(20, teacher(200 + seed), 50 + seed, noise=0.3)
        gain = g.transfer_gain(source, target, **FEW, seed=seed)
        verdicts.append(gain.verdict)
    assert verdicts.count("helps") == 0


def test_at_infinite_width_nothing_is_transferred():
    # no label of the source arrives: coupled network and matched prior are the same
    noisy = linear_task(20, teacher(0), 5, noise=1.0)
    gain = g.transfer_gain(SOURCE, noisy, TEST, width=np.inf, couplings=[1])
    np.testing.assert_array_equal(gain.curve.gain_prior, 0)
    assert gain.comparisons.beaten[0] and gain.verdict == "undecided"
    assert gain.reason == "the matched prior explains the gain: regularisation, not transfer"


def test_no_coupling_is_no_gain():
    gain = g.transfer_gain(SOURCE, TARGET, **(FEW | {"couplings": [0]}))
    assert gain.verdict == "undecided" and "chose no coupling" in gain.reason
    assert gain.comparisons.gain[0] == gain.comparisons.standard_error[0] == 0


@pytest.mark.parametrize(
    "gains, verdict, reason",
    [
        ((3, 3, 3), "helps", "better than"),
        ((3, 1, 3), "undecided", "regularisation, not transfer"),
        ((3, 3, 1), "undecided", "width 10 from scratch explains the gain: .* width 5"),
        ((1, 3, 3), "undecided", "is within 2"),
        ((-1, 3, 3), "undecided", "is within 2"),
        ((-3, 3, 3), "hurts", "worse than scratch"),
    ],
)
def test_the_verdict_follows_its_rule(gains, verdict, reason):
    table = {"width": (5, 5, 10), "gain": gains, "standard_error": 1}
    comparisons = pd.DataFrame(table).assign(beaten=np.array(gains) > 2)
    found = g._verdict(comparisons, any_coupling=True)
    assert found[0] == verdict and re.search(reason, found[1])


def test_test_labels_do_not_choose_the_coupling():
    wrong = Task(TEST.X, -5 * TEST.y)
    a, b = (g.transfer_gain(SOURCE, TARGET, test, **FEW) for test in (TEST, wrong))
    np.testing.assert_array_equal(a.curve.chosen, b.curve.chosen)
    np.testing.assert_array_equal(a.curve.log_evidence, b.curve.log_evidence)
    assert a.chosen_error < b.chosen_error


def test_it_reproduces_by_seed():
    a, b, c = (g.transfer_gain(SOURCE, TARGET, **FEW, seed=seed) for seed in (1, 1, 2))
    assert a.comparisons.equals(b.comparisons) and not a.comparisons.equals(c.comparisons)


def test_couplings_are_taken_once_in_ascending_order():
    gain = g.transfer_gain(SOURCE, TARGET, **(FEW | {"couplings": (np.inf, 1, 0, 1)}))
    np.testing.assert_array_equal(gain.curve.coupling, [0, 1, np.inf])
    assert gain.curve.chosen.sum() == 4


def test_bad_arguments():
    for options, message in [
        ({"width": 0}, "width must be .* got 0"),
        ({"couplings": [-1]}, "couplings must be .* got -1"),
        ({"couplings": []}, "at least one"),
        ({"widths": [0.5]}, "widths must be .* got 0.5"),
        ({"splits": 1}, "splits must be an integer >= 2, got 1"),
        ({"splits": 2.5}, "splits must be an integer >= 2, got 2.5"),
        ({"seed": -1}, "seed must be an integer >= 0 or a Generator, got -1"),
        ({"seed": "a"}, "seed must be an integer >= 0 or a Generator, got 'a'"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            g.transfer_gain(SOURCE, TARGET, **(FEW | options))
    few = Task(TARGET.X[:4], TARGET.y[:4])
    with pytest.raises(ValueError, match="target must have at least 5 examples, got 4"):
        g.transfer_gain(SOURCE, few, **FEW)
    with pytest.raises(ValueError, match="test must have at least 2 examples, got 1"):
        g.transfer_gain(SOURCE, TARGET, Task(TEST.X[:1], TEST.y[:1]), **FEW)
    with pytest.raises(ValueError, match=r"target\.X must have N0 = 20 columns"):
        g.transfer_gain(SOURCE, Task(np.ones((9, 3)), np.ones(9)), **FEW)
    for tasks, name in [((TEST.X, TARGET), "source"), ((SOURCE, TEST.X), "target")]:
        with pytest.raises(TypeError, match=f"{name} must be a tlnb.Task, got ndarray"):
            g.transfer_gain(*tasks, **FEW)
    for name, tasks in {
        "source": (Task(SOURCE.X, 1e200 * SOURCE.y), TARGET),
        "target": (SOURCE, Task(TARGET.X, 1e200 * TARGET.y)),
        "test": (SOURCE, TARGET, Task(TEST.X, 1e200 * TEST.y)),
    }.items():
        with pytest.raises(ValueError, match=rf"{name}\.y must be at most 1e\+100 in size, got \d"):
            g.transfer_gain(*tasks, **FEW)
    with pytest.raises(TypeError, match=r"test must be a tlnb\.Task, got ndarray"):
        g.transfer_gain(SOURCE, TARGET, TEST.X, **FEW)
