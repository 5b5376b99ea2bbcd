"""Small instances that several tests share: the deterministic one, and random ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlnb import Task

# Priors of which no two are alike.
UNEQUAL: dict[str, Any] = {
    "temperature": 0.2,
    "weight_precision": 1.5,
    "readout_precision": 0.7,
    "source_temperature": 0.05,
    "source_weight_precision": 0.8,
    "source_readout_precision": 1.9,
}

# Computed apart from this package from the equations of chapters 05 and 06, on `deterministic()`,
# N1 = 20, T = 0.1, precisions 1: activation, coupling, Q_s, Q_t, Q_st, Q_tt; mean, total and source
# variance at the first test point; mean test error.
KNOWN = [
    ("erf", 0, 1.3388211348, 1.0622994430, 0, 0, 0.7571466689, 0.1854166574, 0, 1.9477377628),
    ("erf", 1, 1.3388211348, 1.0952507339, 0.0293189767, 0.1120493544, 0.7360122268, 0.1685158421,
     0.0035280786, 1.9125503435),
    ("erf", np.inf, 1.3388211348, 1.1395593073, 0.0605473599, 0.4206603667, 0.6680408699,
     0.1974114674, 0.0581180631, 1.8220588658),
    ("relu", 10, 1.4754983245, 1.2564148139, 0.1295090008, 0.4528401155, 0.5108614278,
     0.1903272689, 0.0447446984, 1.7201111097),
]  # fmt: skip


def _inputs(n: int, start: float, n_features: int = 12) -> np.ndarray:
    mu, i = np.arange(n)[:, None], np.arange(n_features)
    phase = start + np.sqrt(2) * (mu + 1) + np.sqrt(3) * (i + 1)
    return np.sqrt(2) * np.cos(phase**2)


def deterministic() -> tuple[Task, Task, Task]:
    """Source (P = 30), target (P = 8) and test (5 points) in N0 = 12, without any randomness."""
    teacher_s, teacher_t = np.cos(0.9 * np.arange(12)), np.cos(0.9 * np.arange(12) + 0.3)
    X_s, X_t, X_0 = _inputs(30, 0), _inputs(8, 100), _inputs(5, 200)
    return (
        Task(X_s, np.sign(X_s @ teacher_s)),
        Task(X_t, np.sign(X_t @ teacher_t)),
        Task(X_0, np.sign(X_0 @ teacher_t)),
    )


def linear_teachers(
    seed: int,
    n_source: int,
    n_target: int,
    *,
    n_features: int = 20,
    n_test: int = 50,
    overlap: float = 1.0,
) -> tuple[Task, Task, Task]:
    """Gaussian inputs, y = θ·x/‖θ‖, the target's teacher with the given overlap."""
    rng = np.random.default_rng(seed)
    theta, other = rng.standard_normal((2, n_features))
    theta_t = overlap * theta + np.sqrt(1 - overlap**2) * other
    tasks = []
    for n, teacher in ((n_source, theta), (n_target, theta_t), (n_test, theta_t)):
        X = rng.standard_normal((n, n_features))
        tasks.append(Task(X, X @ teacher / np.linalg.norm(teacher)))
    return tuple(tasks)


def noisy_teacher(P: int = 12, N0: int = 5, n_test: int = 4, seed: int = 0) -> tuple[Task, Task]:
    """Training and test task: Gaussian inputs, a linear teacher, noise on the training labels."""
    rng = np.random.default_rng(seed)
    X, X_0 = rng.standard_normal((P, N0)), rng.standard_normal((n_test, N0))
    teacher = rng.standard_normal(N0) / np.sqrt(N0)
    noise = 0.3 * rng.standard_normal(P)
    return Task(X, 1.3 * (X @ teacher) + noise), Task(X_0, X_0 @ teacher)
