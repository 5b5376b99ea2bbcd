"""Correlated hidden manifolds: every knob does what it says, and nothing else."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import tlnb
from tlnb import CorrelatedHiddenManifold

BASE = CorrelatedHiddenManifold(30, 20, random_state=3)
KNOBS: dict[str, Any] = {
    "teacher_overlap": 0.4,
    "feature_overlap": -0.3,
    "replaced_fraction": 0.35,
    "target_latent_dim": 27,
}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)


def mean_and_error(values: Any) -> tuple[float, float]:
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


def test_defaults_are_the_identity() -> None:
    assert_array_equal(BASE.F_target, BASE.F_source)
    assert_array_equal(BASE.theta_target, BASE.theta_source)
    source, target = BASE.sample_source(50, 1), BASE.sample_target(50, 1)
    assert_array_equal(source.X, target.X)
    assert_array_equal(source.y, target.y)
    assert (source.name, target.name) == ("source", "target")
    assert replace(BASE, target_latent_dim=20).F_target.shape == (20, 30)


def test_entries_are_standard_gaussians() -> None:
    m = CorrelatedHiddenManifold(300, 200, feature_overlap=0.6, teacher_overlap=0.6, random_state=1)
    for F in (m.F_source, m.F_target):
        moments = [np.mean(F**k) for k in (1, 2, 3, 4)]
        errors = np.sqrt(np.array([1, 2, 15, 96]) / F.size)
        assert (abs(np.array(moments) - [0, 1, 0, 3]) < 4 * errors).all()
    thetas = [replace(m, random_state=k, latent_dim=50).theta_target for k in range(40)]
    assert abs(np.var(thetas) - 1) < 4 * np.sqrt(2 / 2000)


@pytest.mark.parametrize("overlap", [-1.0, -0.5, 0.0, 0.3, 0.8, 1.0])
def test_overlaps_are_those_asked_for(overlap: float) -> None:
    pairs = [
        CorrelatedHiddenManifold(
            40, 50, teacher_overlap=overlap, feature_overlap=overlap, random_state=seed
        )
        for seed in range(60)
    ]
    for teacher, entries in ((True, 50), (False, 2000)):
        overlaps = [
            cosine(m.theta_source, m.theta_target) if teacher else cosine(m.F_source, m.F_target)
            for m in pairs
        ]
        mean, error = mean_and_error(overlaps)
        # the cosine of two vectors of n entries is biased by q(1-q²)/2n
        assert abs(mean - overlap) < 4 * error + 0.2 / entries + 1e-12
        assert_allclose(np.std(overlaps), (1 - overlap**2) / np.sqrt(entries), rtol=0.4, atol=1e-9)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.35, 0.5, 1.0])
def test_replaced_rows_are_counted_exactly_and_nested(fraction: float) -> None:
    m = replace(BASE, replaced_fraction=fraction)
    new = (m.F_target != m.F_source).all(axis=1)
    assert_array_equal(m.F_target[~new], m.F_source[~new])
    assert new.sum() == round(fraction * 20)
    assert_array_equal(m.theta_target, m.theta_source)
    more = replace(BASE, replaced_fraction=min(1.0, fraction + 0.25))
    assert_array_equal(more.F_target[new], m.F_target[new])
    if fraction > 0:
        assert abs(cosine(m.F_target[new], m.F_source[new])) < 4 / np.sqrt(30 * new.sum())


@pytest.mark.parametrize("D_t", [1, 7, 20, 33])
def test_shared_latent_dimensions_are_shared_exactly(D_t: int) -> None:
    m = replace(BASE, target_latent_dim=D_t)
    shared = min(D_t, 20)
    assert m.F_target.shape == (D_t, 30) and m.theta_target.shape == (D_t,)
    assert_array_equal(m.F_target[:shared], m.F_source[:shared])
    assert_array_equal(m.theta_target[:shared], m.theta_source[:shared])
    assert m.target.latent_dim == D_t
    # the target's own normalisation: fields and preactivations keep their variance
    c = np.random.default_rng(0).standard_normal((20_000, D_t))
    assert_allclose(m.target.field(c).var(), m.target.teacher_variance, rtol=0.06)
    assert_allclose(m.target.inputs(c) ** 2, 1.0)
    larger = replace(BASE, target_latent_dim=D_t + 4)
    assert_array_equal(larger.F_target[:D_t], m.F_target)


@pytest.mark.parametrize("name", KNOBS)
def test_a_knob_changes_what_it_is_about_and_never_the_source(name: str) -> None:
    others = {key: value for key, value in KNOBS.items() if key != name}
    a, b = replace(BASE, **others), replace(BASE, **KNOBS)
    for m in (a, b):
        assert_array_equal(m.F_source, BASE.F_source)
        assert_array_equal(m.theta_source, BASE.theta_source)
    same_F = np.array_equal(a.F_target[:20], b.F_target[:20])
    same_theta = np.array_equal(a.theta_target[:20], b.theta_target[:20])
    assert same_F == (name in ("teacher_overlap", "target_latent_dim"))
    assert same_theta == (name != "teacher_overlap")
    assert (len(a.F_target) == len(b.F_target)) == (name != "target_latent_dim")


def test_the_same_latent_vectors_are_labelled_alike_up_to_the_angle_of_the_teachers() -> None:
    c = np.random.default_rng(2).standard_normal((100_000, 20))
    for q in (0.9, 0.3, -0.5):
        m = replace(BASE, teacher_overlap=q)
        differ = np.mean(m.source.field(c) * m.target.field(c) < 0)
        expected = np.arccos(cosine(m.theta_source, m.theta_target)) / np.pi
        assert abs(differ - expected) < 4 * np.sqrt(expected * (1 - expected) / len(c))


def test_sign_inputs_of_the_same_latent_vectors_have_the_arcsine_overlap() -> None:
    m = CorrelatedHiddenManifold(2000, 200, feature_overlap=0.7, random_state=5)
    c = np.random.default_rng(2).standard_normal((50, 200))
    overlap = np.mean(m.source.inputs(c) * m.target.inputs(c))
    assert abs(overlap - 2 / np.pi * np.arcsin(0.7)) < 0.01


@pytest.mark.parametrize("labels", ["sign", "linear"])
def test_a_draw_is_the_model_written_out(labels: str) -> None:
    m = replace(BASE, labels=labels, target_latent_dim=9, nonlinearity="tanh")
    task = m.sample_target(40, np.random.default_rng(7))
    c = np.random.default_rng(7).standard_normal((40, 9))
    assert_allclose(task.X, np.tanh(c @ m.F_target / 3), rtol=1e-14)
    field = c @ m.theta_target / 3
    assert_allclose(task.y, np.sign(field) if labels == "sign" else field, rtol=1e-14)


def test_label_noise_is_added_to_the_field() -> None:
    noisy = replace(BASE, label_noise=0.5)
    clean, linear = BASE.sample_target(50_000, 1), replace(noisy, labels="linear")
    task = noisy.sample_target(50_000, 1)
    assert_array_equal(task.X, clean.X)
    # (ν, ν + noise) are Gaussian: their signs differ with probability angle/π
    ρ = BASE.target.teacher_variance
    expected = np.arctan(0.5 / np.sqrt(ρ)) / np.pi
    flipped = np.mean(task.y != clean.y)
    assert abs(flipped - expected) < 4 * np.sqrt(expected * (1 - expected) / 50_000)
    field = linear.target.field(np.random.default_rng(1).standard_normal((50_000, 20)))
    residual = linear.sample_target(50_000, 1).y - field
    assert abs(residual.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * 50_000)
    assert_allclose(noisy.target.teacher_variance, ρ + 0.25)


@pytest.mark.parametrize(
    "nonlinearity", ["linear", "tanh", "sign", np.sin, tlnb.Activation("cube", lambda z: z**3)]
)
def test_nonlinearities(nonlinearity: str) -> None:
    m = replace(BASE, nonlinearity=nonlinearity)
    c = np.random.default_rng(0).standard_normal((5, 20))
    expected = m.nonlinearity(c @ m.F_source / np.sqrt(20))
    assert_allclose(m.source.inputs(c), expected, rtol=1e-14)
    assert set(m.sample_source(1, 0).y) <= {-1.0, 1.0}  # one class is no error


def test_a_large_draw_is_made_in_parts() -> None:
    m = CorrelatedHiddenManifold(3000, 2, nonlinearity="linear", random_state=0)
    c = np.random.default_rng(0).standard_normal((3001, 2))
    assert_allclose(m.source.inputs(c), c @ m.F_source / np.sqrt(2), rtol=1e-12)


def test_random_states() -> None:
    again = CorrelatedHiddenManifold(30, 20, random_state=3)
    assert_array_equal(again.F_source, BASE.F_source)
    assert_array_equal(pickle.loads(pickle.dumps(BASE)).theta_target, BASE.theta_target)
    one, other = CorrelatedHiddenManifold(3, 2), CorrelatedHiddenManifold(3, 2)
    assert not np.array_equal(one.F_source, other.F_source)
    # even unseeded, a copy with another knob has the same source
    assert_array_equal(replace(one, teacher_overlap=0.0).F_source, one.F_source)
    with pytest.raises(ValueError, match="read-only"):
        BASE.F_source[0] = 0


@pytest.mark.parametrize(
    "knobs, error, message",
    [
        ({"n_features": 0}, ValueError, "n_features must be an integer >= 1, got 0"),
        ({"latent_dim": 2.5}, TypeError, "latent_dim must be an integer >= 1, got 2.5"),
        ({"target_latent_dim": 0}, ValueError, "target_latent_dim must be an integer >= 1"),
        ({"teacher_overlap": 1.01}, ValueError, "teacher_overlap must be .* from -1 to 1, got 1.0"),
        ({"teacher_overlap": np.nan}, ValueError, "teacher_overlap must be .*, got nan"),
        ({"feature_overlap": -2}, ValueError, "feature_overlap must be .* from -1 to 1, got -2"),
        ({"feature_overlap": "1"}, TypeError, "feature_overlap must be .*, got '1'"),
        ({"replaced_fraction": -0.1}, ValueError, "replaced_fraction must be .* 0 to 1, got -0.1"),
        ({"replaced_fraction": 1.5}, ValueError, "replaced_fraction must be .* 0 to 1, got 1.5"),
        ({"labels": "class"}, ValueError, "labels must be one of 'sign', 'linear', got 'class'"),
        ({"label_noise": -1}, ValueError, "label_noise must be a number >= 0, got -1"),
        ({"label_noise": np.inf}, ValueError, "label_noise must be a number >= 0, got inf"),
        ({"nonlinearity": "step"}, ValueError, "nonlinearity .* one of 'linear'.* got 'step'"),
        ({"nonlinearity": 3}, TypeError, "nonlinearity .* got 3"),
        ({"nonlinearity": np.log}, ValueError, "nonlinearity .* finite"),
        ({"random_state": -1}, ValueError, "random_state must be an integer >= 0, got -1"),
        ({"random_state": "a"}, TypeError, "random_state must be an integer >= 0, got 'a'"),
    ],
)
def test_impossible_knobs_are_refused(
    knobs: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CorrelatedHiddenManifold(**{"n_features": 5, "latent_dim": 4} | knobs)


def test_impossible_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="n must be an integer >= 1, got 0"):
        BASE.sample_source(0, 1)
    with pytest.raises(ValueError, match="rng must be an integer >= 0 or a Generator, got -1"):
        BASE.sample_target(3, -1)
    with pytest.raises(ValueError, match=r"c must have D = 20 columns, got shape \(3, 4\)"):
        BASE.source.field(np.ones((3, 4)))
