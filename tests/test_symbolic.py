"""Symbolic objects against brute force, and the package's numerics against symbolic objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from tlnb import Task
from tlnb import symbolic as sym
from tlnb.kernels import get_activation
from tlnb.priors import Priors
from tlnb.symbolic import ReplicaMatrix
from tlnb.theory import one_task, transfer
from tlnb.theory.transfer import TransferProblem

n = sp.Symbol("n", positive=True)
N1, T, T_s, T_t = sp.symbols("N1 T T_s T_t", positive=True)
Q_s, Q_st, Q_t, Q_tt = sp.symbols("Q_s Q_st Q_t Q_tt", positive=True)
OVERLAPS = sym.ReplicaMatrix(Q_s, Q_st, Q_t, Q_tt)
PRIORS: dict[str, Any] = {
    "temperature": 0.2,
    "source_temperature": 0.3,
    "weight_precision": 1.5,
    "source_weight_precision": 0.8,
    "readout_precision": 0.7,
    "source_readout_precision": 1.3,
}


def exact(array: Any) -> sp.Matrix:
    """A numpy array as a sympy matrix of 30-digit floats."""
    array = np.asarray(array, dtype=float)
    return sp.Matrix(array.reshape(len(array), -1)).applyfunc(lambda x: sp.Float(x, 30))


def number(expression: Any) -> float:
    return float(sp.sympify(expression).evalf(30))


def random_blocks(rng: np.random.Generator, P_s: int = 3, P_t: int = 2) -> ReplicaMatrix:
    """Kernel blocks that are a covariance for every number of replicas."""
    shared = rng.standard_normal((P_s + P_t, 8)) / np.sqrt(8)
    own = rng.standard_normal((P_t, 8)) / np.sqrt(8)
    C = shared @ shared.T
    return sym.ReplicaMatrix(
        exact(C[:P_s, :P_s]),
        exact(0.6 * C[:P_s, P_s:]),
        exact(C[P_s:, P_s:] + own @ own.T),
        exact(0.6 * C[P_s:, P_s:]),
    )


def random_case(
    seed: int, P_s: int = 3, P_t: int = 2, Q_tt: float = 0.3
) -> tuple[ReplicaMatrix, Any, ReplicaMatrix, Any, Any]:
    """Overlaps, G, labels: the replicated Gaussian process at random, admissible overlaps."""
    rng = np.random.default_rng(seed)
    overlaps = sym.ReplicaMatrix(*map(sp.Float, (1.3, 0.35, 1.1, Q_tt)))
    kernels = random_blocks(rng, P_s, P_t)
    G = sym.covariance(
        overlaps, kernels, source_temperature=sp.Float(0.7), target_temperature=sp.Float(0.4)
    )
    return overlaps, kernels, G, exact(rng.standard_normal(P_s)), exact(rng.standard_normal(P_t))


def brute_force_action(
    replicas: int, overlaps: ReplicaMatrix, G: ReplicaMatrix, y_s: Any, y_t: Any, width: float
) -> float:
    Q = np.array(overlaps.explicit(replicas), dtype=float)
    M = np.array(G.explicit(replicas), dtype=float)
    Y = np.array([*y_s, *(list(y_t) * replicas)], dtype=float)
    prior = width * (np.trace(Q) - np.linalg.slogdet(Q)[1])
    return prior + np.linalg.slogdet(M)[1] + Y @ np.linalg.solve(M, Y)


# One task


@pytest.mark.parametrize(("P", "units"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_readouts_integrated_one_by_one_give_the_gaussian_density(P: int, units: int) -> None:
    features = sp.Matrix(P, units, sp.symbols(f"phi1:{P * units + 1}", real=True))
    y = sp.Matrix(sp.symbols(f"y1:{P + 1}", real=True))
    temperature, precision = sp.symbols("T lambda1", positive=True)
    integral = sym.integrate_readouts(
        features, y, temperature=temperature, readout_precision=precision
    )
    closed = sym.log_gaussian(
        y, temperature * sp.eye(P) + features * features.T / precision / units
    )
    difference = sp.expand_log(integral - closed, force=True)
    assert sp.simplify(sp.logcombine(difference, force=True)) == 0


def test_single_task_action_and_its_slope_are_those_of_the_package() -> None:
    rng = np.random.default_rng(1)
    F = rng.standard_normal((3, 4))
    K, y = F @ F.T, rng.standard_normal(3)
    Q = sp.Symbol("Q", positive=True)
    A = sym.effective_action(Q, exact(K), exact(y), width=sp.Integer(7), temperature=sp.Float(0.3))
    action = sp.lambdify(Q, A)
    slope = sp.lambdify(Q, Q * sp.diff(A, Q) / 7)
    e, U = np.linalg.eigh(K)
    arguments = (e, (U.T @ y) ** 2)
    at = np.geomspace(0.05, 20, 7)
    coded = one_task.effective_action(at, *arguments, width=7, temperature=0.3)
    np.testing.assert_allclose(coded, [float(action(q)) for q in at], rtol=1e-12)
    coded = one_task.stationarity(at, *arguments, width=7, temperature=0.3)
    np.testing.assert_allclose(coded, [float(slope(q)) for q in at], rtol=1e-10, atol=1e-12)


def test_log_evidence_is_the_action_with_the_constants_of_normalised_priors() -> None:
    rng = np.random.default_rng(2)
    task = Task(rng.standard_normal((4, 6)), rng.standard_normal(4))
    solution = one_task.solve(task, width=9, activation="erf", temperature=0.2)
    z = np.einsum("ij,ij->i", task.X, task.X) / 6
    K = exact(get_activation("erf").dual(z, task.X @ task.X.T / 6, z))
    Q, y = sp.Float(solution.Q, 30), exact(task.y)
    covariance = sp.Float(0.2, 30) * sp.eye(4) + Q * K
    evidence = sym.log_gaussian(y, covariance) - sp.Rational(9, 2) * (Q - 1 - sp.log(Q))
    assert solution.log_evidence == pytest.approx(number(evidence), rel=1e-12)


# Replica-symmetric matrices


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_replica_determinant_and_inverse_against_brute_force(replicas: int) -> None:
    G = random_case(3)[2]
    M = np.array(G.explicit(replicas), dtype=float)
    assert number(G.log_det(replicas)) == pytest.approx(np.linalg.slogdet(M)[1], rel=1e-12)
    P = np.array(G.inverse(replicas).explicit(replicas), dtype=float)
    np.testing.assert_allclose(M @ P, np.eye(len(M)), atol=1e-12)
    spectrum = np.linalg.eigvalsh(M)
    sectors = np.linalg.eigvals(np.array(G.sector(replicas), dtype=float)).real.tolist()
    sectors += np.linalg.eigvalsh(np.array(G.difference, dtype=float)).tolist() * (replicas - 1)
    np.testing.assert_allclose(np.sort(sectors), spectrum, rtol=1e-10)


def test_replica_inverse_inverts_both_sectors_for_symbolic_n() -> None:
    P = OVERLAPS.inverse(n)
    assert sp.simplify(P.difference * OVERLAPS.difference - sp.eye(1)) == sp.zeros(1)
    assert sp.simplify(P.sector(n) * OVERLAPS.sector(n) - sp.eye(2)) == sp.zeros(2)


def test_replica_quadratic_form_and_trace_against_brute_force() -> None:
    _, _, G, y_s, y_t = random_case(4)
    for replicas in (1, 2, 3):
        M = np.array(G.explicit(replicas), dtype=float)
        Y = np.array([*y_s, *(list(y_t) * replicas)], dtype=float)
        assert number(G.quadratic(y_s, y_t, replicas)) == pytest.approx(Y @ M @ Y, rel=1e-12)
        assert number(G.trace(replicas)) == pytest.approx(np.trace(M), rel=1e-12)


def test_coupled_weight_covariances_do_not_depend_on_the_number_of_replicas() -> None:
    gamma, source, target = sp.symbols("gamma lambda_s lambda_t", positive=True)
    arguments: dict[str, Any] = dict(
        coupling=gamma, source_precision=source, target_precision=target
    )
    c = sym.coupled_weights(n, **arguments).inverse(n)
    raw = sym.coupled_weights(n, **arguments, normalised=False).inverse(n)
    values = {gamma: 2.5, source: 0.8, target: 1.5}
    coded = transfer.weight_covariances(
        2.5, source_weight_precision=0.8, target_weight_precision=1.5
    )
    for name, field in zip("sxdo", ("c_s", "c_st", "c_t", "c_tt"), strict=True):
        entry = sp.simplify(getattr(c, name)[0])
        assert n not in entry.free_symbols
        assert float(entry.subs(values)) == pytest.approx(getattr(coded, field), rel=1e-12)
        unnormalised = getattr(raw, name)[0]
        assert sp.simplify(unnormalised.subs(n, 0) - entry) == 0
        assert sp.simplify(sp.diff(unnormalised, n)) != 0


# The action


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_replicated_action_against_brute_force(replicas: int) -> None:
    overlaps, _, G, y_s, y_t = random_case(5)
    formula = number(sym.replicated_action(replicas, overlaps, G, y_s, y_t, width=6))
    assert formula == pytest.approx(
        brute_force_action(replicas, overlaps, G, y_s, y_t, 6), rel=1e-12
    )


def test_the_order_n_coefficient_is_the_franz_parisi_action_for_scalar_blocks() -> None:
    K = sym.ReplicaMatrix(*sp.symbols("K_s K_st K_t K_tt", positive=True))
    y_s, y_t = sp.symbols("y_s y_t", real=True)
    G = sym.covariance(OVERLAPS, K, source_temperature=T_s, target_temperature=T_t)
    S = sym.replicated_action(n, OVERLAPS, G, y_s, y_t, width=N1)
    limit = sym.order_n(S, n)
    closed = sym.franz_parisi_action(OVERLAPS, G, y_s, y_t, width=N1)
    assert sp.simplify(limit - closed) == 0
    source = sym.effective_action(Q_s, K.s, y_s, width=N1, temperature=T_s)
    assert sp.simplify(sp.logcombine(S.subs(n, 0) - source, force=True)) == 0


def test_the_order_n_coefficient_is_the_franz_parisi_action_for_matrix_blocks() -> None:
    overlaps, _, G, y_s, y_t = random_case(6, P_s=2)
    limit = sym.order_n(sym.replicated_action(n, overlaps, G, y_s, y_t, width=6), n)
    closed = sym.franz_parisi_action(overlaps, G, y_s, y_t, width=6)
    assert number(limit) == pytest.approx(number(closed), rel=1e-12)


def test_brute_force_numbers_extrapolate_to_the_franz_parisi_action() -> None:
    # Newton's series through n = 0, 1, ..., m has slope Σ (-1)^(k+1) Δᵏ S(0)/k at n = 0.
    overlaps, _, G, y_s, y_t = random_case(7, Q_tt=0.15)
    S = np.array([brute_force_action(r, overlaps, G, y_s, y_t, 2.0) for r in range(14)])
    differences = [np.diff(S, k)[0] for k in range(1, len(S))]
    slopes = np.cumsum([(-1) ** (k + 1) * d / k for k, d in enumerate(differences, 1)])
    closed = number(sym.franz_parisi_action(overlaps, G, y_s, y_t, width=2))
    errors = np.abs(slopes - closed)
    assert errors[-1] < 1e-4 * errors[0]
    assert slopes[-1] == pytest.approx(closed, rel=1e-5)


# The package's transfer theory


def small_tasks(seed: int = 0) -> tuple[Any, Any, np.ndarray]:
    rng = np.random.default_rng(seed)
    source = Task(rng.standard_normal((4, 5)), rng.standard_normal(4))
    target = Task(rng.standard_normal((3, 5)), rng.standard_normal(3))
    return source, target, rng.standard_normal((2, 5))


def kernels_at(
    source: Task, target: Task, X: np.ndarray, coupling: float, activation: str
) -> tuple[ReplicaMatrix, tuple[Any, Any, Any], tuple[Any, Any]]:
    """Training blocks, test columns and diagonals from the covariances that sympy gives."""
    c = sym.coupled_weights(
        2,
        coupling=coupling,
        source_precision=PRIORS["source_weight_precision"],
        target_precision=PRIORS["weight_precision"],
    ).inverse(2)
    c_s, c_st, c_t, c_tt = (float(block[0]) for block in (c.s, c.x, c.d, c.o))
    sigma = get_activation(activation)
    one, two = PRIORS["source_readout_precision"], PRIORS["readout_precision"]

    def block(A: np.ndarray, B: np.ndarray, c_a: Any, c_ab: Any, c_b: Any, precision: float) -> Any:
        z_a, z_b = ((Z**2).mean(1) for Z in (A, B))
        return exact(sigma.dual(c_a * z_a, c_ab * A @ B.T / 5, c_b * z_b) / precision)

    cross = np.sqrt(one * two)
    train = sym.ReplicaMatrix(
        block(source.X, source.X, c_s, c_s, c_s, one),
        block(source.X, target.X, c_s, c_st, c_t, cross),
        block(target.X, target.X, c_t, c_t, c_t, two),
        block(target.X, target.X, c_t, c_tt, c_t, two),
    )
    columns = (
        block(source.X, X, c_s, c_st, c_t, cross),
        block(target.X, X, c_t, c_t, c_t, two),
        block(target.X, X, c_t, c_tt, c_t, two),
    )
    itself = block(X, X, c_t, c_t, c_t, two)[0], block(X, X, c_t, c_tt, c_t, two)[0]
    return train, columns, itself


@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.parametrize("coupling", [0.3, 4.0])
def test_package_action_gradient_and_solution_against_sympy(
    activation: str, coupling: float
) -> None:
    source, target, X = small_tasks()
    width = 6
    solution = transfer.solve(
        source, target, width=width, coupling=coupling, activation=activation, **PRIORS
    )
    train, _, _ = kernels_at(source, target, X[:1], coupling, activation)
    overlaps = sym.ReplicaMatrix(sp.Float(solution.Q_s, 30), Q_st, Q_t, Q_tt)
    G = sym.covariance(
        overlaps,
        train,
        source_temperature=sp.Float(PRIORS["source_temperature"], 30),
        target_temperature=sp.Float(PRIORS["temperature"], 30),
    )
    S = sym.franz_parisi_action(overlaps, G, exact(source.y), exact(target.y), width=width)
    unknowns = (Q_t, Q_tt, Q_st)
    action = sp.lambdify(unknowns, S)
    gradient = sp.lambdify(unknowns, [sp.diff(S, Q) for Q in unknowns])
    saddle = solution.Q_t, solution.Q_tt, solution.Q_st
    assert solution.action == pytest.approx(float(action(*saddle)), rel=1e-12)
    np.testing.assert_allclose(np.array(gradient(*saddle), dtype=float), 0, atol=1e-8)

    # Away from the saddle too, with Q_st at its own stationary value.
    tasks = TransferProblem(source, target, Priors(activation=activation, **PRIORS))
    blocks = tasks.blocks(width, coupling)
    for D, shared in ((0.4, 0.2), (0.9, 0.5), (1.4, 0.05)):
        point = transfer.expand(D, shared, blocks)
        at = D + shared, shared, point.Q_st
        # The blocks are in units of the readouts' prior.
        volume = len(target.y) * np.log(PRIORS["readout_precision"])
        assert transfer.franz_parisi_action(*at, blocks) - volume == pytest.approx(
            float(action(*at)), rel=1e-12
        )
        dS_t, dS_tt, dS_st = (float(value) for value in gradient(*at))
        assert dS_st == pytest.approx(0, abs=1e-10)
        np.testing.assert_allclose(point.gradient, [dS_t, dS_t + dS_tt], rtol=1e-9)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_package_predictor_against_replicas_and_conditioning(activation: str) -> None:
    source, target, X = small_tasks(1)
    solution = transfer.solve(
        source, target, width=6, coupling=2.0, activation=activation, **PRIORS
    )
    coded = solution.predict(X)
    numbers = [
        sp.Float(value, 30) for value in (solution.Q_s, solution.Q_st, solution.Q_t, solution.Q_tt)
    ]
    overlaps = sym.ReplicaMatrix(*numbers)
    y_s, y_t = exact(source.y), exact(target.y)
    for i in range(len(X)):
        train, (k_s, k_t, k_tt), (k_00, k_00tt) = kernels_at(
            source, target, X[i : i + 1], 2.0, activation
        )
        G = sym.covariance(
            overlaps,
            train,
            source_temperature=sp.Float(PRIORS["source_temperature"], 30),
            target_temperature=sp.Float(PRIORS["temperature"], 30),
        )
        k = overlaps.x[0] * k_s, overlaps.d[0] * k_t, overlaps.o[0] * k_tt
        itself = overlaps.d[0] * k_00, overlaps.o[0] * k_00tt
        replicas = sym.replicated_predictor(0, G, k, itself, y_s, y_t)
        conditioned = sym.conditioned_predictor(G, k, itself, y_s, y_t)
        for name in sym.Predictor._fields:
            value = number(getattr(conditioned, name))
            assert number(getattr(replicas, name)) == pytest.approx(value, rel=1e-12)
            assert getattr(coded, name)[i] == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize("replicas", [2, 3])
def test_replicated_predictor_against_brute_force(replicas: int) -> None:
    _, _, G, y_s, y_t = random_case(8)
    rng = np.random.default_rng(9)
    columns = [rng.standard_normal((len(y), 1)) for y in (y_s, y_t, y_t)]
    moments = sym.replicated_predictor(
        replicas, G, tuple(map(exact, columns)), (sp.Float(2), sp.Float(1)), y_s, y_t
    )
    k_s, k_t, k_tt = columns
    M = np.array(G.explicit(replicas), dtype=float)
    first = np.vstack([k_s, k_t] + [k_tt] * (replicas - 1))
    second = np.vstack([k_s, k_tt, k_t] + [k_tt] * (replicas - 2))
    Y = np.array([*y_s, *(list(y_t) * replicas)], dtype=float)
    solved = np.linalg.solve(M, first)
    assert number(moments.mean) == pytest.approx((solved.T @ Y).item(), rel=1e-10)
    assert number(moments.total_variance) == pytest.approx(2 - (first.T @ solved).item(), rel=1e-10)
    assert number(moments.source_variance) == pytest.approx(
        1 - (second.T @ solved).item(), rel=1e-10
    )
