"""The verdict against tasks of known answer, and against the choices it is made of."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from tlnb.data.tables import LabelledData, class_tasks
from tlnb.data.task import Task
from tlnb.gain import transfer_gain
from tlnb.theory.factors import Eigenbasis
from tlnb.theory.transfer import TransferProblem

N0 = 20


def teacher(seed: int) -> np.ndarray:
    θ = np.random.default_rng(seed).standard_normal(N0)
    return θ / np.linalg.norm(θ)


def linear_task(n: int, θ: Any, seed: int, noise: float = 0.0) -> Task:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, N0))
    return Task(X, X @ θ + noise * rng.standard_normal(n))


SOURCE, TARGET, TEST = (linear_task(n, teacher(0), n) for n in (80, 20, 200))
FEW: dict[str, Any] = {"couplings": (0, 1, np.inf), "widths": (20, np.inf), "width": 40}
FEW |= {"temperatures": (0.01, 0.1), "richness": (0.1, 1.0)}


def test_large_sources_give_the_same_choice_without_a_decomposition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few: dict[str, Any] = FEW | {"richness": (1.0,), "couplings": (0, 1)}
    dense = transfer_gain(SOURCE, TARGET, TEST, **few)
    monkeypatch.setattr("tlnb.theory.large.problem.DENSE_UP_TO", 79)
    monkeypatch.setattr("tlnb.theory.one_task.kernel.Eigenbasis.of", _of_few)
    large = transfer_gain(SOURCE, TARGET, TEST, **few)
    assert large.chosen == dense.chosen
    assert large.test_error == pytest.approx(dense.test_error, rel=2e-3)


def _of_few(K: np.ndarray, _of: Any = Eigenbasis.of) -> Any:
    assert len(K) < 80, "the source's kernel is not decomposed"
    return _of(K)


def test_choices_are_those_of_leave_one_out() -> None:
    gain = transfer_gain(SOURCE, TARGET, TEST, **FEW)
    problem = TransferProblem(SOURCE, TARGET)
    grid = {name: FEW[name] for name in ("couplings", "temperatures", "richness")}
    choice = problem.choose(widths=[40], **grid)
    assert gain.chosen["coupling"] == choice.coupling
    assert gain.chosen["temperature"] == choice.temperature
    assert gain.chosen["readout_precision"] == pytest.approx(choice.readout_precision)
    network = choice.problem.solve(width=40, coupling=choice.coupling)
    outcome = network.predict(TEST.X, TEST.y)
    assert gain.test_error == pytest.approx(outcome.test_error.mean(), rel=1e-7)
    assert gain.squared_bias == pytest.approx(outcome.squared_bias.mean(), rel=1e-7)
    expected = outcome.test_error.std(ddof=1) / np.sqrt(200)
    assert gain.test_error_se == pytest.approx(expected, rel=1e-7)
    rows = gain.opponents.set_index("opponent")
    for name, baseline, options in [
        ("scratch", "scratch", {"widths": [40], "couplings": [0]}),
        ("best width", "scratch", {"widths": [20, 40, np.inf], "couplings": [0]}),
        ("matched prior", "matched-prior", {"widths": [40], "couplings": [1, np.inf]}),
    ]:
        if name == "best width":  # at infinite width the tool takes the precision of its own width
            continue
        alone = problem.choose(baseline=baseline, **(grid | options))
        found = rows.loc[name]
        assert (found.width, found.temperature) == (alone.width, alone.temperature)
        mine = alone.problem.alone(alone.coupling).solve(width=alone.width)
        error = mine.predict(TEST.X, TEST.y).test_error
        assert found.test_error == pytest.approx(error.mean(), rel=1e-7)
        assert found.gain == pytest.approx(
            np.mean(error - network_errors(gain, problem)), rel=1e-6, abs=1e-9
        )
    assert rows.loc["best width", "test_error"] <= rows.test_error.max()
    on_test = gain.candidates.on_test_test_error
    assert gain.regret == pytest.approx(gain.test_error / on_test.min() - 1, abs=1e-9)


def network_errors(gain: Any, problem: Any) -> Any:
    point = gain.coupled
    at: dict[str, Any] = {
        "temperature": point["temperature"],
        "readout_precision": point["readout_precision"],
    }
    network = problem.with_priors(**at).solve(width=40, coupling=point["coupling"])
    return network.predict(TEST.X, TEST.y).test_error


def test_both_verdicts_come_from_the_same_candidates() -> None:
    judged, blind = (transfer_gain(SOURCE, TARGET, test, **FEW, rng=3) for test in (TEST, None))
    assert judged.left_out == (blind.verdict, blind.action, blind.reason, blind.more_examples)
    assert judged.left_out == blind.left_out and judged.reason != blind.reason


def test_test_labels_choose_nothing() -> None:
    wrong = Task(TEST.X, -5 * TEST.y)
    a, b = (transfer_gain(SOURCE, TARGET, test, **FEW) for test in (TEST, wrong))
    assert a.chosen == b.chosen and a.test_error < b.test_error
    np.testing.assert_array_equal(a.curve.test_error, b.curve.test_error)
    names = ["width", "coupling", "temperature", "richness"]
    assert a.opponents[names].equals(b.opponents[names])


def test_a_shared_teacher_helps_and_training_agrees() -> None:
    target, test = linear_task(15, teacher(0), 5), linear_task(300, teacher(0), 6)
    gain = transfer_gain(SOURCE, target, test, width=40, train=2)
    assert gain.verdict == "helps" and gain.chosen["coupling"] > 0 and gain.regret < 0.1
    trained = gain.trained.groupby("way").squared_error.mean()
    assert trained["fine-tuned"] < 0.8 * trained["scratch"]
    assert gain.trained.converged.all() and len(gain.trained) == 6
    point, row = gain.coupled, gain.trained[gain.trained.way == "fine-tuned"].iloc[0]
    assert row.elastic_decay == point["temperature"] * point["coupling"]
    assert row.readout_decay == pytest.approx(point["temperature"] * point["readout_precision"])


def test_frozen_features_of_a_wrong_source_hurt() -> None:
    rng = np.random.default_rng(8)
    source = Task(SOURCE.X, 6 * np.sign(rng.standard_normal(80)))
    target, test = linear_task(30, teacher(0), 5), linear_task(300, teacher(0), 6)
    gain = transfer_gain(source, target, test, width=40, couplings=[0, np.inf])
    assert gain.verdict == "hurts" and gain.chosen["coupling"] == 0
    assert gain.action.startswith("do not transfer")


def test_unrelated_sources_rarely_help() -> None:
    verdicts = []
    for seed in range(8):
        source = linear_task(60, teacher(100 + seed), seed)
        target = linear_task(20, teacher(200 + seed), 50 + seed, noise=0.3)
        verdicts.append(transfer_gain(source, target, **FEW, rng=seed).verdict)
    assert verdicts.count("helps") == 0


def test_at_infinite_width_nothing_is_transferred() -> None:
    # no label of the source arrives: the coupled network is a matched prior
    gain = transfer_gain(SOURCE, TARGET, TEST, **(FEW | {"width": np.inf}))
    assert gain.verdict != "helps"
    assert gain.opponents.gain[1] == pytest.approx(0, abs=1e-12)


def test_no_coupling_is_no_gain() -> None:
    gain = transfer_gain(SOURCE, TARGET, **(FEW | {"couplings": [0]}))
    assert gain.verdict == "undecided" and "no coupling is among the candidates" in gain.action
    assert gain.opponents.gain[0] == 0


def test_three_classes_need_one_decomposition_and_know_them() -> None:
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((3, N0))

    def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        y = np.arange(n) % 3
        return centres[y] + 1.2 * rng.standard_normal((n, N0)), y

    source, _, _ = class_tasks(LabelledData(*drawn(90, 2)))
    target, test, classes = class_tasks(LabelledData(*drawn(12, 3), *drawn(150, 4)))
    gain = transfer_gain(source, target, test, **FEW, train=1)
    assert gain.classes == 3 and list(classes) == [0, 1, 2]
    assert gain.classification_error < 0.35 and gain.opponents.classification_gain[0] > 0
    assert gain.trained.classification_error.max() < 0.5
    single = transfer_gain(source[0], target, test, **FEW)  # one source for every class
    assert single.test_error > gain.test_error


def test_it_reproduces_by_its_seed_and_takes_couplings_in_any_order() -> None:
    a, b = (transfer_gain(SOURCE, TARGET, **FEW, rng=seed) for seed in (1, 1))
    assert a.opponents.equals(b.opponents) and a.reason == b.reason
    c = transfer_gain(SOURCE, TARGET, **(FEW | {"couplings": (np.inf, 1, 0, 1)}), rng=1)
    assert c.opponents.equals(a.opponents) and list(c.curve.coupling) == [0, 1, np.inf]


def test_decay_to_zero_is_the_mode_and_to_the_start_keeps_it() -> None:
    found = {
        decay_to: transfer_gain(SOURCE, TARGET, TEST, **FEW, train=1, decay_to=decay_to).trained
        for decay_to in ("start", "zero")
    }
    assert (found["start"].weight_decay == found["zero"].weight_decay).all()
    assert (found["start"].squared_error != found["zero"].squared_error).all()


def test_a_choice_among_84_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1560, 196))
    y = np.sign(X[:, 0])
    started = time.process_time()
    transfer_gain(Task(X[:1000], y[:1000]), Task(X[1000:1060], y[1000:1060]), width=100)
    assert time.process_time() - started < 20


def test_bad_arguments() -> None:
    for options, message in [
        ({"width": 0}, "width must be .* got 0"),
        ({"couplings": [-1]}, "couplings must be .* got -1"),
        ({"couplings": []}, "couplings must name at least one candidate, got none"),
        ({"temperatures": []}, "temperatures must name at least one candidate, got none"),
        ({"richness": []}, "richness must name at least one candidate, got none"),
        ({"richness": None, "readout_precisions": []}, "readout_precisions must name at least one"),
        ({"readout_precisions": [1]}, "give richness or readout_precisions, not both"),
        ({"temperatures": [0]}, "temperatures must be a number > 0, got 0"),
        ({"widths": [0.5]}, "widths must be .* got 0.5"),
        ({"train": -1}, "train must be an integer >= 0, got -1"),
        ({"train": 1}, "train needs a test set and a finite width"),
        ({"decay_to": "one"}, "decay_to must be one of 'start', 'zero', got 'one'"),
        ({"temperature": 0.1}, "priors must be one of .* got 'temperature'"),
        ({"rng": "a"}, "rng must be"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            transfer_gain(SOURCE, TARGET, **(FEW | options))
    for n in (1, 4):
        few = Task(TARGET.X[:n], TARGET.y[:n])
        with pytest.raises(ValueError, match=f"target must have at least 5 examples, got {n}"):
            transfer_gain(SOURCE, few, **FEW)
    with pytest.raises(ValueError, match=r"target\.y must hold two labels at least, all are 1"):
        transfer_gain(SOURCE, Task(TARGET.X, np.ones(20)), **FEW)
    with pytest.raises(ValueError, match="test must have at least 2 examples, got 1"):
        transfer_gain(SOURCE, TARGET, Task(TEST.X[:1], TEST.y[:1]), **FEW)
    with pytest.raises(ValueError, match=r"target\.X must have N0 = 20 columns"):
        transfer_gain(SOURCE, Task(np.ones((9, 3)), np.arange(9)), **FEW)
    with pytest.raises(ValueError, match="target must be a Task or a sequence of them, got none"):
        transfer_gain(SOURCE, [], **FEW)
    with pytest.raises(ValueError, match="target must have the same inputs in the tasks of all"):
        transfer_gain(SOURCE, [TARGET, Task(-TARGET.X, TARGET.y)], **FEW)
    with pytest.raises(ValueError, match="test must have as many tasks"):
        transfer_gain(SOURCE, [TARGET, TARGET], TEST, **FEW)
    for tasks, name in [((TEST.X, TARGET), "source"), ((SOURCE, TEST.X), "target")]:
        with pytest.raises(TypeError, match=f"{name} must be a tlnb.Task, got ndarray"):
            transfer_gain(*tasks, **FEW)
    for name, each in {
        "source": (Task(SOURCE.X, 1e200 * SOURCE.y), TARGET),
        "target": (SOURCE, Task(TARGET.X, 1e200 * TARGET.y)),
        "test": (SOURCE, TARGET, Task(TEST.X, 1e200 * TEST.y)),
    }.items():
        with pytest.raises(ValueError, match=rf"{name}\.y must be at most 1e\+100 in size, got \d"):
            transfer_gain(*each, **FEW)
