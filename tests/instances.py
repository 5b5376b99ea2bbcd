"""Small instances that several tests share: the deterministic one, and random ones."""

from __future__ import annotations

import numpy as np

from tlnb import Task

# Priors of which no two are alike.
UNEQUAL = {
    "temperature": 0.2,
    "weight_precision": 1.5,
    "readout_precision": 0.7,
    "source_temperature": 0.05,
    "source_weight_precision": 0.8,
    "source_readout_precision": 1.9,
}


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
