r"""Transfer between networks with several outputs: prepared problem, solution and predictor.

The target's outputs are g + h: g ~ N(Σ_a x_a⊗u_a, E) is what all targets of one source share, h
has the covariance Δ - T. Given the training labels the output at a new x is g(x) + δᵀW(y - g), with
the private kernel δ = D⊗K_t(x) + Q_tt⊗(K_t - K_tt)(x), C columns for every x. Its covariance is
that of h given the labels plus the spread of g(x) - (Wδ)ᵀg over the sources.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tlnb.data.outputs import MultiOutputTask, check_outputs_task
from tlnb.data.task import Task
from tlnb.priors import PriorOptions, Priors, check_options
from tlnb.theory.branch import Branch
from tlnb.theory.factors import Cholesky
from tlnb.theory.outputs.prediction import (
    OutputsLeaveOneOut,
    OutputsPrediction,
    in_parts,
    leave_one_out,
    outputs_prediction,
)
from tlnb.theory.outputs.problem import OutputsProblem
from tlnb.theory.outputs.solution import OutputsSolution
from tlnb.theory.outputs.transfer_action import (
    OutputBlocks,
    delta,
    franz_parisi_action,
    shared_covariance,
)
from tlnb.theory.outputs.transfer_saddle import OutputOverlaps, branch, frozen_saddle
from tlnb.theory.transfer.choice import CRITERIA, check_coupling
from tlnb.theory.transfer.kernels import CoupledKernels, TestKernels
from tlnb.validation import (
    check_width,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OutputsPredictor:
    """The coupled target's predictor at one saddle point, in units of its readouts' prior.

    ``V`` (P_s, P): UᵀK_st; ``noise`` and ``labels`` (P_s, C_s): T_s + e_k q_a and the source's
    labels in the eigenbases of K_s and Q_s; ``W`` (C P, C P) and ``w`` = Wr (C, P).
    """

    overlaps: OutputOverlaps
    blocks: OutputBlocks
    V: Array
    noise: Array
    labels: Array
    readout_precision: float
    W: Array
    w: Array

    @classmethod
    def at(
        cls, overlaps: OutputOverlaps, blocks: OutputBlocks, V: Array, noise: Array, labels: Array,
        readout_precision: float,
    ) -> OutputsPredictor:  # fmt: skip
        """Factorise Δ once for all new inputs."""
        factor = Cholesky.of(delta(overlaps.D, overlaps.Q_tt, blocks))
        r = blocks.y - overlaps.x.T @ blocks.u
        W = factor.solve(np.eye(r.size))
        w = factor.solve(r.ravel()).reshape(r.shape)
        return cls(overlaps, blocks, V, noise, labels, readout_precision, W, w)

    def leave_one_out(self) -> OutputsLeaveOneOut:
        """The closed form of `tlnb.theory.outputs.prediction`, an example with all its outputs."""
        (C, P), overlaps = self.w.shape, self.overlaps
        WEW = self.W @ shared_covariance(overlaps.Q_tt, overlaps.x, self.blocks) @ self.W
        blocks, spread = (
            np.einsum("cidi->icd", each.reshape(C, P, C, P)) for each in (self.W, WEW)
        )
        return leave_one_out(
            self.w.T, blocks, spread, self.blocks.temperature, self.readout_precision
        )

    def __call__(self, test: TestKernels, y: Array | None = None) -> OutputsPrediction:
        """The prediction from the kernel blocks with n new inputs."""
        D, Q_tt, x = self.overlaps.D, self.overlaps.Q_tt, self.overlaps.x
        (C, P), n = self.w.shape, test.V.shape[1]
        private = test.K_t - test.K_tt  # (P, n)
        # δ and a = Wδ, [e, i, c, x]: what training output e at i says of output c at x.
        of_x = np.einsum("ec,ix->eicx", D, test.K_t) + np.einsum("ec,ix->eicx", Q_tt, private)
        a = (self.W @ of_x.reshape(C * P, C * n)).reshape(C, P, C, n)
        mean = np.einsum("ei,eicx->xc", self.w, of_x, optimize=True)
        mean += test.V.T @ (self.labels / self.noise) @ x
        own = np.einsum("cd,x->xcd", D, test.k_t)
        own += np.einsum("cd,x->xcd", Q_tt, test.k_t - test.k_tt)
        own -= np.einsum("eicx,eidx->xcd", of_x, a, optimize=True)
        shared = np.einsum("cd,x->xcd", Q_tt, test.k_tt)
        cross = np.einsum("ce,ix,eidx->xcd", Q_tt, test.K_tt, a, optimize=True)
        shared -= cross + cross.swapaxes(1, 2)
        weighed = np.tensordot(self.blocks.K_tt, a, axes=(1, 1))  # [j, e, c, x]
        shared += np.einsum("fe,jecx,fjdx->xcd", Q_tt, weighed, a, optimize=True)
        known = np.tensordot(self.V, a, axes=(1, 1))  # [k, e, c, x]
        for x_a, noise in zip(x, self.noise.T, strict=True):
            h = np.einsum("c,kx->kcx", x_a, test.V) - np.tensordot(x_a, known, axes=(0, 1))
            h /= np.sqrt(noise)[:, None, None]
            shared -= np.einsum("kcx,kdx->xcd", h, h, optimize=True)
        unit = self.readout_precision
        return outputs_prediction(mean / np.sqrt(unit), (own + shared) / unit, shared / unit, y)


@dataclass(frozen=True, eq=False)
class OutputsTransferSolution:
    """The saddle point of a coupled target with several outputs and what follows from it.

    Attributes
    ----------
    width, coupling : N1 and γ.
    Q_s, Q_t, Q_st, Q_tt : arrays of shape (C_s, C_s), (C, C), (C_s, C), (C, C)
        Overlaps of readouts, as in `tlnb.theory.transfer.TransferSolution`.
    action : S_FP at the saddle; without its first term at infinite width.
    log_evidence : leading order of the target's log evidence, averaged over the source posterior.
    train_error : ⟨(y - f)²⟩ averaged over the target's training examples and outputs.
    residual, iterations, converged : of the solver; the residual is undamped and scaled.
    """

    width: float
    coupling: float
    Q_s: Array
    Q_t: Array
    Q_st: Array
    Q_tt: Array
    action: float
    log_evidence: float
    train_error: float
    residual: float
    iterations: int
    converged: bool
    _kernels: CoupledKernels = field(repr=False)
    _predictor: OutputsPredictor | OutputsSolution = field(repr=False)

    @property
    def n_outputs(self) -> int:
        """C of the target."""
        return len(self.Q_t)

    def leave_one_out(self) -> OutputsLeaveOneOut:
        """What the target would say of each training example had it not seen it."""
        return self._predictor.leave_one_out()

    def predict(self, X: ArrayLike, y: ArrayLike | None = None) -> OutputsPrediction:
        """Mean and covariance of the outputs at inputs ``X`` (n, N0), errors given ``y`` (n, C).

        Memory is bounded: the test points are taken in chunks.
        """
        predictor, kernels, C = self._predictor, self._kernels, self.n_outputs
        if isinstance(predictor, OutputsSolution):
            return predictor.predict(X, y)
        return in_parts(
            X,
            y,
            kernels.X.shape[1],
            C,
            4 * len(kernels.X) * C**2 + 3 * len(kernels.source.X) * C**2,
            lambda X, y: predictor(kernels.test(kernels.products(X), self.coupling), y),
        )


class OutputsTransferProblem:
    """A source, a target with several outputs, and their priors, prepared.

    Parameters
    ----------
    source, target : MultiOutputTask or Task
        Of C_s and C outputs; the numbers may differ.
    **options
        As in `tlnb.theory.transfer.TransferProblem`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.

    Examples
    --------
    One decomposition of the source for all couplings; the training data choose among them:

    >>> import numpy as np
    >>> from tlnb.data.outputs import MultiOutputTask
    >>> from tlnb.theory.outputs import OutputsTransferProblem
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> source = MultiOutputTask(X[:32], X[:32, :2])
    >>> target = MultiOutputTask(X[32:], X[32:, :2])
    >>> problem = OutputsTransferProblem(source, target, temperature=0.1)
    >>> left_out = [problem.leave_one_out(20, g).test_error.mean() for g in (0.0, 10.0)]
    >>> bool(left_out[1] < left_out[0])
    True
    """

    def __init__(
        self,
        source: MultiOutputTask | Task,
        target: MultiOutputTask | Task,
        **options: Unpack[PriorOptions],
    ) -> None:
        check_options(type(self).__name__, options, PriorOptions)
        self.source = check_outputs_task("source", source)
        self.target = check_outputs_task("target", target, self.source.n_features)
        self.priors = priors = Priors(**options)
        self.source_problem = OutputsProblem(
            self.source,
            activation=priors.activation,
            temperature=priors.source_temperature,
            weight_precision=priors.source_weight_precision,
            readout_precision=priors.source_readout_precision,
            richness=priors.source_richness,
        )
        self.kernels = CoupledKernels(
            self.source_problem.kernel,
            self.target.X,
            priors.weight_precision,
            priors.coupling_scheme,
        )
        self._sources: dict[float, OutputsSolution] = {}
        self._branches: dict[float, Branch[OutputBlocks, OutputOverlaps]] = {}

    def source_solution(self, width: float) -> OutputsSolution:
        """The source, which does not feel the target."""
        if width not in self._sources:
            self._sources[width] = self.source_problem.solve(width=width)
        return self._sources[width]

    def alone(self, coupling: float = 0.0) -> OutputsProblem:
        """The target from scratch, with the prior variance c_t that this coupling leaves it."""
        kernel, priors = self.kernels.alone(coupling), self.priors
        return OutputsProblem(
            self.target,
            activation=kernel.activation,
            temperature=priors.temperature,
            weight_precision=1 / kernel.variance,
            readout_precision=priors.readout_precision,
            richness=priors.richness,
        )

    def blocks(self, width: float, coupling: float) -> OutputBlocks:
        """The blocks of the action at a finite width and a coupling > 0, in the priors' units."""
        precision, source = self._precision(width), self.source_solution(width)
        V, K_t, K_tt = self.kernels.train(coupling)
        noise, labels = source.noise(), source.projections()
        m = np.stack([V.T @ (V / of_output[:, None]) for of_output in noise.T])
        return OutputBlocks(
            K_t,
            K_tt,
            m,
            (labels / noise).T @ V,
            source.eigenvalues(),
            np.sqrt(precision) * self.target.y.T,
            precision * self.priors.temperature,
            width,
        )

    def _precision(self, width: float) -> float:
        return self.priors.at_width(width).readout_precision

    def saddle(self, width: float, coupling: float) -> OutputOverlaps:
        """The physical saddle point at a finite width and a coupling > 0, infinity included."""
        if np.isinf(coupling):
            return frozen_saddle(self.blocks(width, coupling))
        if width not in self._branches:
            self._branches[width] = branch(
                lambda g: self.blocks(width, g),
                self.alone().solve(width=width).Q,
                self.priors.weight_precision,
            )
        return self._branches[width].at(coupling)

    def log_evidence(self, width: float, coupling: float) -> float:
        """The target's average log evidence."""
        return self.solve(width=width, coupling=coupling).log_evidence

    def leave_one_out(self, width: float, coupling: float) -> OutputsLeaveOneOut:
        """What `OutputsTransferSolution.leave_one_out` returns."""
        return self.solve(width=width, coupling=coupling).leave_one_out()

    def solve(self, *, width: float, coupling: float | str) -> OutputsTransferSolution:
        """The saddle point at one width and coupling; see `solve_transfer`."""
        width, coupling = check_width(width), check_coupling(coupling)
        if isinstance(coupling, str):
            coupling = CRITERIA[coupling](self, width)
        source, C = self.source_solution(width), self.target.n_outputs
        if coupling == 0 or np.isinf(width):
            return self._alone(width, coupling)
        saddle, blocks = self.saddle(width, coupling), self.blocks(width, coupling)
        precision = self._precision(width)
        action = franz_parisi_action(saddle.D, saddle.Q_tt, saddle.x, blocks)
        action -= blocks.y.size * np.log(precision)
        predictor = OutputsPredictor.at(
            saddle, blocks, self.kernels.train(coupling).V, source.noise(), source.projections(),
            precision,
        )  # fmt: skip
        return OutputsTransferSolution(
            width,
            coupling,
            Q_s=source.Q,
            Q_t=saddle.D + saddle.Q_tt,
            Q_st=source.rotation() @ saddle.x,
            Q_tt=saddle.Q_tt,
            action=action,
            log_evidence=-0.5 * (action - width * C + blocks.y.size * np.log(2 * np.pi)),
            train_error=saddle.train_error / precision,
            residual=saddle.residual,
            iterations=saddle.iterations,
            converged=saddle.converged,
            _kernels=self.kernels,
            _predictor=predictor,
        )

    def _alone(self, width: float, coupling: float) -> OutputsTransferSolution:
        """The target alone as a solution with a source that it does not feel."""
        alone, source = self.alone(coupling).solve(width=width), self.source_solution(width)
        shared = ("action", "log_evidence", "train_error", "residual", "iterations", "converged")
        return OutputsTransferSolution(
            width,
            coupling,
            Q_s=source.Q,
            Q_t=alone.Q,
            Q_st=np.zeros((source.n_outputs, alone.n_outputs)),
            Q_tt=np.zeros_like(alone.Q),
            **{name: getattr(alone, name) for name in shared},
            _kernels=self.kernels,
            _predictor=alone,
        )


def solve_transfer(
    source: MultiOutputTask | Task,
    target: MultiOutputTask | Task,
    *,
    width: float,
    coupling: float | str,
    **priors: Unpack[PriorOptions],
) -> OutputsTransferSolution:
    """The physical saddle point of transfer between networks with several outputs.

    Parameters
    ----------
    source, target : MultiOutputTask or Task
        Of C_s and C outputs. Matrices of C P_t rows are factorised; where that is too large, each
        target output alone (`MultiOutputTask.column` and `tlnb.theory.transfer.solve`) is what
        remains.
    width : float
        N1 ≥ 1 of both networks; at infinity the source matters through the prior alone.
    coupling : float, "leave-one-out" or "evidence"
        γ from 0 (from scratch) to ``numpy.inf`` (frozen source features), or how to choose it.
    **priors
        As in `tlnb.theory.transfer.solve`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed.
    ConvergenceError
        If the physical branch of saddle points cannot be followed so far.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb.data.outputs import MultiOutputTask
    >>> from tlnb.theory import outputs
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> source = MultiOutputTask(X[:30], X[:30, :2])
    >>> target = MultiOutputTask(X[30:], X[30:, :3])
    >>> solution = outputs.solve_transfer(source, target, width=20, coupling=1.0, temperature=0.1)
    >>> solution.Q_st.shape, bool(solution.Q_st[0, 0] > abs(solution.Q_st[0, 2]))
    ((2, 3), True)
    """
    check_options("solve_transfer", priors, PriorOptions)
    problem = OutputsTransferProblem(source, target, **priors)
    return problem.solve(width=width, coupling=coupling)
