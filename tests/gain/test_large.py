"""The tool with sources that are never factorised: the dense verdict within what is stated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlnb import Task
from tlnb.errors import ConvergenceError
from tlnb.gain import transfer_gain
from tlnb.gain.candidates import Candidates, Errors, Grid, together
from tlnb.gain.large import coupled_to
from tlnb.gain.report import as_dict, text, write_json
from tlnb.gain.verdict import expected_gain, judge
from tlnb.theory.factors import Eigenbasis
from tlnb.theory.large.kernel import LargeOptions
from tlnb.theory.transfer import TransferProblem

P_S, P_T, N_0 = 240, 24, 150
GIVEN: dict[str, Any] = {"couplings": (0, 1, 10, np.inf), "width": 50, "widths": (50,)}
GIVEN |= {"temperatures": (0.01, 0.1), "richness": (0.1, 1.0, 10.0)}
FEW = LargeOptions(screen=120, finalists=3, tile=100)


def tasks(n_classes: int = 2, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((P_S + P_T + N_0, 20))
    scores = X @ rng.standard_normal((20, 1 if n_classes == 2 else n_classes))
    signs = np.sign(scores)
    if n_classes > 2:
        signs = np.where(scores == scores.max(axis=1, keepdims=True), 1.0, -1.0)
    parts = np.split(np.arange(len(X)), [P_S, P_S + P_T])
    found = [[Task(X[p], signs[p, c]) for c in range(signs.shape[1])] for p in parts]
    return [one[0] if n_classes == 2 else one for one in found]


@pytest.fixture
def never_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources above 200 examples are large, and nothing of their size is decomposed."""
    decompose = Eigenbasis.of

    def of_few(K: np.ndarray) -> Eigenbasis:
        assert len(K) < P_S, "the source's kernel is not decomposed"
        return decompose(K)

    monkeypatch.setattr("tlnb.theory.large.problem.DENSE_UP_TO", 200)
    monkeypatch.setattr("tlnb.theory.one_task.kernel.Eigenbasis.of", of_few)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("with_test", [True, False])
def test_the_verdict_is_the_dense_one(
    n_classes: int, with_test: bool, request: pytest.FixtureRequest
) -> None:
    given = tasks(n_classes) if with_test else tasks(n_classes)[:2]
    dense = transfer_gain(*given, **GIVEN)
    assert dense.screening is None
    request.getfixturevalue("never_dense")
    found = transfer_gain(*given, **GIVEN, options=FEW)
    assert found.screening[:3] == (120, 6, 3) and found.screening.missed < 0.05
    assert found.chosen == dense.chosen and found.verdict == dense.verdict
    assert found.left_out.verdict == dense.left_out.verdict
    assert found.test_error == pytest.approx(dense.test_error, rel=2e-3)
    assert found.expected_gain == pytest.approx(dense.expected_gain, abs=0.02)
    np.testing.assert_allclose(found.opponents.test_error, dense.opponents.test_error, rtol=2e-3)
    np.testing.assert_allclose(
        found.opponents.standard_error, dense.opponents.standard_error, rtol=2e-2, atol=2e-3
    )
    # Candidates that both have agree one by one.
    keys = ["coupling", "temperature", "richness"]
    both = found.candidates.merge(dense.candidates, on=keys, suffixes=("", "_dense"))
    assert len(both) == len(found.candidates) == 3 * 3 + 6
    np.testing.assert_allclose(both.test_error, both.test_error_dense, rtol=3e-3)
    coupled = both[both.coupling > 0]
    off = np.abs(coupled.test_error - coupled.test_error_dense)
    assert (off < 4 * coupled.solver_error + 1e-4 * coupled.test_error).all()
    assert (both.solver_error[both.coupling == 0] == 0).all()
    assert (coupled.solver_error < 1e-2 * coupled.test_error).all()
    if with_test:
        off = np.abs(coupled.on_test_test_error - coupled.on_test_test_error_dense)
        assert (off < 4 * coupled.on_test_solver_error + 1e-4).all()
        np.testing.assert_allclose(
            both.on_test_test_error, both.on_test_test_error_dense, rtol=3e-3
        )


def test_what_is_said_of_the_screening(never_dense: None, tmp_path: Path) -> None:
    found = transfer_gain(*tasks(), **GIVEN, options=FEW)
    assert "6 temperatures and richness screened on 120 examples" in text(found)
    write_json(found, tmp_path / "gain.json")
    read = json.loads((tmp_path / "gain.json").read_text())
    assert read["screening"] == as_dict(found)["screening"]
    assert read["screening"]["kept"] == 3
    every = transfer_gain(*tasks(), **GIVEN, options=LargeOptions(screen=120, finalists=6))
    assert every.screening == (240, 6, 6, 0.0, 0.0)
    assert "all 6 temperatures" in text(every)
    assert every.chosen == found.chosen
    # An infinitely wide network knows nothing of its source.
    wide = transfer_gain(*tasks(), **GIVEN | {"width": np.inf}, options=FEW)
    assert wide.screening is None


def test_every_candidate_of_the_screening_is_counted(never_dense: None) -> None:
    ticks: list[int] = []
    source, target, test = tasks()
    from tlnb.theory.large.problem import LargeTransferProblem

    grid = Grid(*(np.array(GIVEN[k]) for k in ("temperatures", "richness", "couplings")), 50)
    for finalists in (2, 6):
        problem = LargeTransferProblem(
            source, target, options=LargeOptions(screen=120, finalists=finalists)
        )
        before = len(ticks)
        found = coupled_to([problem], [test], grid, lambda: ticks.append(0))
        assert len(ticks) - before == 6 * 3
        assert len(found.candidates) == 3 * finalists == len(found.candidates.noise)
        assert len(found.dropped) == 3 * (6 - finalists)


def test_points_that_fail_are_left_out_and_counted(never_dense: None) -> None:
    cold: dict[str, Any] = GIVEN | {"temperatures": (1e-9, 0.1), "richness": (0.1,)}
    found = transfer_gain(*tasks(), **cold, options=FEW)
    assert found.failures == 3 and found.chosen["temperature"] == 0.1
    with pytest.raises(ConvergenceError, match="no candidate converged"):
        transfer_gain(*tasks(), **GIVEN | {"temperatures": (1e-9,)}, options=FEW)


def test_errors_of_the_solver_are_part_of_the_standard_errors() -> None:
    table = tasks()
    source, target, test = table
    grid = Grid(np.array([0.1]), np.array([1.0]), np.array([1.0]), 50)
    network = coupled_to([TransferProblem(source, target)], [test], grid).candidates
    assert network.noise is None and judge(network).noise == 0
    noisy = Candidates(network.table, network.left_out, network.test, noise=np.array([[0.3, 0.4]]))
    assert judge(noisy).noise == 0.4
    blind = Candidates(network.table, network.left_out, None, noise=noisy.noise)
    assert judge(blind).noise == 0.3
    both = together([network, noisy])
    np.testing.assert_array_equal(both.noise, [[0, 0], [0.3, 0.4]])
    assert together([network, network]).noise is None
    np.testing.assert_array_equal(both.where(np.array([1])).noise, noisy.noise)


def test_dropped_points_count_in_what_is_to_be_expected() -> None:
    def of(errors: list[float]) -> Candidates:
        E = np.asarray(errors)[:, None] + np.linspace(-0.1, 0.1, 5)
        return Candidates(None, Errors(E, E, E), None)

    opponent = of([1.0, 1.2])
    assert (
        expected_gain(opponent, of([0.5, 0.52]))
        > expected_gain(opponent, of([0.5]), [0.52]) - 1e-12
    )
    assert expected_gain(opponent, of([0.5, 0.52])) == pytest.approx(
        expected_gain(opponent, of([0.5]), [0.52])
    )
    assert expected_gain(opponent, of([0.5]), [0.52]) < expected_gain(opponent, of([0.5]))


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [({"tolerance": 0.1}, TypeError, "LargeOptions"), (3, TypeError, "LargeOptions")],
)
def test_bad_options(options: dict[str, Any] | int, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        transfer_gain(*tasks(), **GIVEN, options=options)
    for bad in ({"screen": 0}, {"finalists": 0}, {"finalists": 1.5}, {"screen": -3}):
        with pytest.raises((ValueError, TypeError), match=next(iter(bad))):
            LargeOptions(**bad)


def test_the_law_of_a_unit_takes_no_large_source(never_dense: None) -> None:
    with pytest.raises(ValueError, match="theory must be 'scalar' with 240 source examples"):
        transfer_gain(*tasks(), **GIVEN, theory="unit-law")
