"""The theory as sympy objects: what the chapters derive with and the tests hold the numerics to.

A replica-symmetric matrix over one source and n target replicas,

    M = [[s, x 1ᵀ], [1 xᵀ, (d - o) I + o 11ᵀ]],

has two invariant subspaces. Vectors (0, v) with Σ_a v_a = 0 see only d - o, n - 1 times over;
vectors (a, c 1) see the sector [[s, n x], [xᵀ, (d - o) + n o]]. Both hold for block entries, that
is where s is P_s × P_s, x is P_s × P_t, d and o are P_t × P_t, and both are analytic in n. So every
quantity of the replicated action is known for symbolic n, and n → 0 is a derivative.

Sources: Pacelli et al. (2023) for one task, Ingrosso et al. (2025) for transfer. Kernels carry
their readout precisions, as everywhere in the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tlnb.errors import needs

with needs("symbolic"):
    import sympy as sp


def as_block(entry: object) -> sp.Matrix:
    """A scalar as a 1×1 matrix, anything with rows as a sympy matrix."""
    return sp.Matrix(entry) if hasattr(entry, "__len__") else sp.Matrix([[entry]])


def inverse(matrix: sp.Matrix) -> sp.Matrix:
    """Adjugate over determinant: exact, and quick for the few rows that are used here."""
    return matrix.inv(method="ADJ")


def log_det(matrix: sp.Matrix) -> sp.Expr:
    """Logarithm of the determinant, without simplification."""
    return sp.log(matrix.det(method="berkowitz"))


def quadratic(y: sp.Matrix, matrix: sp.Matrix) -> sp.Expr:
    """yᵀ M⁻¹ y for a column y."""
    return (y.T * inverse(matrix) * y)[0, 0]


# One task


def log_gaussian(y: sp.Matrix, covariance: sp.Matrix) -> sp.Expr:
    """Logarithm of the density of N(0, covariance) at the column y."""
    return -(len(y) * sp.log(2 * sp.pi) + log_det(covariance) + quadratic(y, covariance)) / 2


def integrate_readouts(
    features: sp.Matrix, y: sp.Matrix, *, temperature: sp.Expr, readout_precision: sp.Expr
) -> sp.Expr:
    """Log likelihood of y with the readouts integrated out one after the other.

    ``features`` holds σ(h_i) of example μ at [μ, i]; the network is f = features v / sqrt(N1), the
    prior v_i ~ N(0, 1/λ1), the likelihood Π_μ N(y_μ | f_μ, T). Each step is one sympy integral of
    exp(-a v²/2 + b v). No determinant enters, so that it checks `log_gaussian`.

    Examples
    --------
    One unit and one example: a Gaussian of variance T + s²/λ1 = 11/4.

    >>> import sympy as sp
    >>> from tlnb.symbolic import integrate_readouts
    >>> half, s, y = sp.Rational(1, 2), sp.Matrix([[3]]), sp.Matrix([2])
    >>> found = integrate_readouts(s, y, temperature=half, readout_precision=sp.Integer(4))
    >>> direct = -sp.log(2 * sp.pi * sp.Rational(11, 4)) / 2 - 2 / sp.Rational(11, 4)
    >>> bool(abs(sp.N(found - direct)) < 1e-12)
    True
    """
    a, b, u = sp.Dummy(positive=True), sp.Dummy(real=True), sp.Dummy(real=True)
    integral = sp.integrate(sp.exp(-a * u**2 / 2 + b * u), (u, -sp.oo, sp.oo))
    step = sp.expand_log(sp.log(sp.simplify(integral)))
    v = sp.symbols(f"v1:{features.cols + 1}", real=True)
    residual = y - features * sp.Matrix(v) / sp.sqrt(features.cols)
    value = -residual.dot(residual) / (2 * temperature)
    value -= sp.log(2 * sp.pi * temperature) * len(y) / 2
    for v_i in v:
        value += sp.log(readout_precision / (2 * sp.pi)) / 2 - readout_precision * v_i**2 / 2
    for v_i in v:
        constant, linear, square = (value.expand().coeff(v_i, power) for power in range(3))
        value = constant + step.subs({a: -2 * square, b: linear})
    return value


def effective_action(
    Q: sp.Expr, K: object, y: object, *, width: sp.Expr, temperature: sp.Expr
) -> sp.Expr:
    """A(Q) = N1 (Q - ln Q) + ln det(T + Q K) + yᵀ (T + Q K)⁻¹ y; the weight of Q is exp(-A/2).

    A matrix Q is that of several outputs: N1 (Tr Q - ln det Q) and Q⊗K, with the labels of one
    output below those of the other in the column y.

    Examples
    --------
    >>> import sympy as sp
    >>> from tlnb.symbolic import effective_action
    >>> Q, k, y, N, T = sp.symbols("Q k y N T", positive=True)
    >>> action = effective_action(Q, k, y, width=N, temperature=T)
    >>> action - sp.log(T + Q * k) - y**2 / (T + Q * k)
    N*(Q - log(Q))
    """
    overlap, kernel = as_block(Q), as_block(K)
    noise = temperature * sp.eye(overlap.rows * kernel.rows)
    covariance = noise + sp.kronecker_product(overlap, kernel)
    prior = width * (overlap.trace() - log_det(overlap))
    return prior + log_det(covariance) + quadratic(as_block(y), covariance)


# Replica-symmetric matrices


@dataclass(frozen=True)
class ReplicaMatrix:
    """[[s, x 1ᵀ], [1 xᵀ, (d - o) I + o 11ᵀ]] for one source and n target replicas.

    Parameters
    ----------
    s : source block, (P_s, P_s)
    x : source-target block, (P_s, P_t)
    d : target block of one replica, (P_t, P_t)
    o : target block of two different replicas, (P_t, P_t)

    Scalars stand for 1×1 blocks. n may be a symbol wherever it is an argument, except in
    `explicit`.

    Examples
    --------
    The determinant, for any number n of replicas, from blocks of one:

    >>> import sympy as sp
    >>> from tlnb.symbolic import ReplicaMatrix
    >>> G = ReplicaMatrix(s=sp.Integer(4), x=sp.Integer(1), d=sp.Integer(3), o=sp.Integer(2))
    >>> G.explicit(3).det(), sp.exp(G.log_det(3))
    (25, 25)
    """

    s: sp.Matrix
    x: sp.Matrix
    d: sp.Matrix
    o: sp.Matrix

    def __post_init__(self) -> None:
        for name in ("s", "x", "d", "o"):
            object.__setattr__(self, name, as_block(getattr(self, name)))

    def explicit(self, n: int) -> sp.Matrix:
        """The matrix itself, of 1 + n blocks on a side: the brute force of every check."""
        rows = [[self.s] + [self.x] * n]
        for a in range(n):
            rows.append([self.x.T] + [self.d if a == b else self.o for b in range(n)])
        return sp.Matrix(sp.BlockMatrix(rows))

    @property
    def difference(self) -> sp.Matrix:
        """d - o, on the vectors that sum to zero over the replicas (multiplicity n - 1)."""
        return self.d - self.o

    def sector(self, n: sp.Expr) -> sp.Matrix:
        """[[s, n x], [xᵀ, d - o + n o]], the action on the replica-symmetric vectors (a, c 1)."""
        top = sp.Matrix.hstack(self.s, n * self.x)
        return sp.Matrix.vstack(top, sp.Matrix.hstack(self.x.T, self.difference + n * self.o))

    def log_det(self, n: sp.Expr) -> sp.Expr:
        """(n - 1) ln det(d - o) + ln det sector(n)."""
        return (n - 1) * log_det(self.difference) + log_det(self.sector(n))

    def trace(self, n: sp.Expr) -> sp.Expr:
        """Tr s + n Tr d."""
        return self.s.trace() + n * self.d.trace()

    def inverse(self, n: sp.Expr) -> ReplicaMatrix:
        """The inverse, replica symmetric too, from the Schur complement of the source.

        With Δ = d - o, E = o - xᵀ s⁻¹ x and R = (Δ + n E)⁻¹ its blocks are s⁻¹ + n s⁻¹x R xᵀs⁻¹,
        -s⁻¹x R, Δ⁻¹ + o' and o' = -Δ⁻¹ E R: no division by n, so that n = 0 can be put in.
        """
        s_inverse, d_inverse = inverse(self.s), inverse(self.difference)
        E = self.o - self.x.T * s_inverse * self.x
        R = inverse(self.difference + n * E)
        across = s_inverse * self.x
        off = -d_inverse * E * R
        return ReplicaMatrix(
            s_inverse + n * across * R * across.T, -across * R, d_inverse + off, off
        )

    def quadratic(self, y_s: sp.Matrix, y_t: sp.Matrix, n: sp.Expr) -> sp.Expr:
        """Yᵀ M Y for Y = (y_s, y_t, ..., y_t), the same target labels in each replica."""
        value = y_s.T * self.s * y_s + 2 * n * y_s.T * self.x * y_t
        value += n * y_t.T * (self.d + (n - 1) * self.o) * y_t
        return value[0, 0]


def coupled_weights(
    n: sp.Expr,
    *,
    coupling: sp.Expr,
    source_precision: sp.Expr,
    target_precision: sp.Expr,
    normalised: bool = True,
) -> ReplicaMatrix:
    """Precision matrix of one source weight and the n target weights coupled to it.

    The source is N(0, 1/λ0s); each target weight has the factor exp(-λ0t w²/2 - γ(w - w_s)²/2),
    divided by its integral over w if ``normalised``. The inverse holds c_s, c_st, c_t and c_tt'.
    """
    total = target_precision + coupling
    pull = coupling**2 / total if normalised else coupling
    return ReplicaMatrix(source_precision + n * pull, -coupling, total, 0)


# Transfer


def covariance(
    overlaps: ReplicaMatrix,
    kernels: ReplicaMatrix,
    *,
    source_temperature: sp.Expr,
    target_temperature: sp.Expr,
) -> ReplicaMatrix:
    """G = T + Q̄∘K: overlaps (Q_s, Q_st, Q_t, Q_tt), kernel blocks (K_s, K_st, K_t, K_tt').

    Overlaps of several outputs are matrices, and their products with the kernels are Kronecker's.
    """
    s, x, d, o = (
        sp.kronecker_product(getattr(overlaps, name), getattr(kernels, name)) for name in "sxdo"
    )
    return ReplicaMatrix(
        source_temperature * sp.eye(s.rows) + s, x, target_temperature * sp.eye(d.rows) + d, o
    )


def replicated_action(
    n: sp.Expr,
    overlaps: ReplicaMatrix,
    G: ReplicaMatrix,
    y_s: object,
    y_t: object,
    *,
    width: sp.Expr,
) -> sp.Expr:
    """N1 (Tr Q̄ - ln det Q̄) + ln det G + Yᵀ G⁻¹ Y with Y = (y_s, y_t, ..., y_t), n symbolic."""
    prior = width * (overlaps.trace(n) - overlaps.log_det(n))
    return prior + G.log_det(n) + G.inverse(n).quadratic(as_block(y_s), as_block(y_t), n)


def order_n(expression: sp.Expr, n: sp.Symbol) -> sp.Expr:
    """The coefficient of n at n = 0, for an expression that is analytic there."""
    return sp.diff(expression, n).subs(n, 0)


class Conditioned(NamedTuple):
    """What the target sees of the source, once the source posterior is known.

    The target outputs are g + h: g is what all targets of one source share, of posterior mean
    ``mean`` and covariance ``spread`` = E; h + noise is each target's own, of covariance
    ``private`` = Δ.
    """

    mean: sp.Matrix
    spread: sp.Matrix
    private: sp.Matrix


def condition_on_source(G: ReplicaMatrix, y_s: object) -> Conditioned:
    """Condition the shared part on y_s: mean xᵀ s⁻¹ y_s, E = o - xᵀ s⁻¹ x, Δ = d - o."""
    across = G.x.T * inverse(G.s)
    return Conditioned(across * as_block(y_s), G.o - across * G.x, G.difference)


def franz_parisi_action(
    overlaps: ReplicaMatrix, G: ReplicaMatrix, y_s: object, y_t: object, *, width: sp.Expr
) -> sp.Expr:
    """S_FP = N1 [Q_t - ln D - (Q_tt - Q_st²/Q_s)/D] + ln det Δ + Tr Δ⁻¹E + rᵀ Δ⁻¹ r.

    With several outputs: Tr Q_t - ln det D - Tr D⁻¹(Q_tt - Q_stᵀQ_s⁻¹Q_st) in the brackets.
    """
    mean, spread, private = condition_on_source(G, y_s)
    D = overlaps.difference
    shared = condition_on_source(overlaps, sp.zeros(overlaps.s.rows, 1)).spread
    prior = width * (overlaps.d.trace() - log_det(D) - (inverse(D) * shared).trace())
    trace = (inverse(private) * spread).trace()
    return prior + log_det(private) + trace + quadratic(as_block(y_t) - mean, private)


class Predictor(NamedTuple):
    """Mean, total variance and the part of it that two targets of one source have in common."""

    mean: sp.Expr
    total_variance: sp.Expr
    source_variance: sp.Expr


def replicated_predictor(
    n: sp.Expr,
    G: ReplicaMatrix,
    k: tuple[object, object, object],
    k_00: tuple[sp.Expr, sp.Expr],
    y_s: object,
    y_t: object,
) -> Predictor:
    """Moments of f_1(x) and f_2(x), test outputs of two of n target replicas, for symbolic n.

    ``k`` holds the columns Q_st K_st(., x), Q_t K_t(., x), Q_tt K_tt'(., x) against the training
    inputs, ``k_00`` their target values Q_t K_t(x, x), Q_tt K_tt'(x, x). Replica 1 sees its own
    training inputs through the second column, those of the n - 1 others through the third.
    """
    k_s, k_t, k_tt = map(as_block, k)
    y_s, y_t = as_block(y_s), as_block(y_t)
    P = G.inverse(n)
    total = k_t + (n - 1) * k_tt
    mean = k_s.T * (P.s * y_s + n * P.x * y_t)
    mean += total.T * (P.x.T * y_s + (P.difference + n * P.o) * y_t)
    common = k_s.T * P.s * k_s + 2 * k_s.T * P.x * total + total.T * P.o * total
    own = k_t.T * P.difference * k_t + (n - 1) * k_tt.T * P.difference * k_tt
    crossed = 2 * k_t.T * P.difference * k_tt + (n - 2) * k_tt.T * P.difference * k_tt
    return Predictor(mean[0, 0], k_00[0] - (common + own)[0, 0], k_00[1] - (common + crossed)[0, 0])


def conditioned_predictor(
    G: ReplicaMatrix,
    k: tuple[object, object, object],
    k_00: tuple[sp.Expr, sp.Expr],
    y_s: object,
    y_t: object,
) -> Predictor:
    """The predictor without replicas: the shared part is drawn from the source posterior first.

    Given g the target is a Gaussian process around it, f(x) = g(x) + δ Δ⁻¹ (y_t - g) on average,
    with δ the private kernel; its variance is the target's own. The spread of that average over g
    is the source variance. Arguments as in `replicated_predictor`.
    """
    k_s, k_t, k_tt = map(as_block, k)
    wide = ReplicaMatrix(
        G.s,
        sp.Matrix.hstack(G.x, k_s),
        sp.zeros(G.d.rows + 1),
        sp.Matrix(sp.BlockMatrix([[G.o, k_tt], [k_tt.T, sp.Matrix([[k_00[1]]])]])),
    )
    mean, spread, _ = condition_on_source(wide, y_s)
    delta = k_t - k_tt
    gain = delta.T * inverse(G.difference)
    weights = sp.Matrix.hstack(-gain, sp.ones(1, 1))
    source = (weights * spread * weights.T)[0, 0]
    own = k_00[0] - k_00[1] - (gain * delta)[0, 0]
    return Predictor((weights * mean + gain * as_block(y_t))[0, 0], own + source, source)


class LeftOut(NamedTuple):
    """Residual and variances at a training example that a network has not seen."""

    residual: sp.Expr
    total_variance: sp.Expr
    source_variance: sp.Expr


def drop_example(
    G: ReplicaMatrix, y_s: object, y_t: object, index: int, *, temperature: sp.Expr
) -> LeftOut:
    """Leave a target example out by dropping its rows: the brute force.

    What is left of ``G`` (see `covariance`) conditions the dropped example as a new input, by
    `conditioned_predictor`, with the overlaps held.
    """
    labels = as_block(y_t)
    rest = [row for row in range(G.d.rows) if row != index]
    kept = ReplicaMatrix(
        G.s, G.x.extract(list(range(G.s.rows)), rest), G.d.extract(rest, rest),
        G.o.extract(rest, rest),
    )  # fmt: skip
    k = G.x[:, index], G.d.extract(rest, [index]), G.o.extract(rest, [index])
    k_00 = G.d[index, index] - temperature, G.o[index, index]
    mean, total, source = conditioned_predictor(kept, k, k_00, y_s, labels.extract(rest, [0]))
    return LeftOut(labels[index] - mean, total, source)


def leave_one_out(
    G: ReplicaMatrix, y_s: object, y_t: object, index: int, *, temperature: sp.Expr
) -> LeftOut:
    """The same by the Schur complement, without dropping anything.

    With W = Δ⁻¹ and r = y_t - Q_st u the residual is (Wr)_μ/W_μμ, the source variance
    (WEW)_μμ/W_μμ², and the total variance adds 1/W_μμ - T.
    """
    mean, spread, private = condition_on_source(G, y_s)
    W = inverse(private)
    share = W[index, index]
    source = (W * spread * W)[index, index] / share**2
    residual = (W * (as_block(y_t) - mean))[index] / share
    return LeftOut(residual, 1 / share - temperature + source, source)
