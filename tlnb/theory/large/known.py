r"""A coupled target whose source is known through blocks: predictor, left-out errors, their error.

Two things about a large source are uncertain. Q_s has a standard error from random vectors: saddle
point and predictor are found again at Q_s plus that error, with the blocks moved along their
derivative. And m and kk may lack what residuals and interpolation left: they are found again with
the bound of that added. The error of any number is the sum of its two changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task
from tlnb.errors import ConvergenceError
from tlnb.kernels import InnerProducts, dual_diagonal
from tlnb.priors import Priors, WeightCovariances
from tlnb.theory.large.coupled import Interpolant, Known
from tlnb.theory.prediction import Prediction
from tlnb.theory.transfer.action import KernelBlocks
from tlnb.theory.transfer.kernels import TestKernels
from tlnb.theory.transfer.predictor import CoupledPredictor, fitted
from tlnb.theory.transfer.saddle import Overlaps, frozen, newton

Array = NDArray[np.float64]


class Problem(Protocol):
    """What is asked of `tlnb.theory.large.problem.LargeTransferProblem`."""

    target: Task
    priors: Priors

    def interpolant(self, width: float) -> Interpolant:
        """What the source knows of target and test inputs, at every coupling."""
        ...

    def covariances(self, coupling: float) -> WeightCovariances:
        """The weight covariances at this coupling."""
        ...

    def blocks(self, width: float, coupling: float) -> KernelBlocks:
        """The blocks of the Franz-Parisi action."""
        ...

    def saddle(self, width: float, coupling: float) -> Overlaps:
        """The physical saddle point."""
        ...


class State(NamedTuple):
    """A saddle point with the blocks that it is the saddle point of."""

    saddle: Overlaps
    blocks: KernelBlocks
    known: Known


class States(NamedTuple):
    """As found; at Q_s plus its standard error; with what blocks may lack added."""

    found: State
    moved: State
    bounded: State

    @classmethod
    def of(cls, problem: Problem, width: float, coupling: float) -> States:
        """At a finite width and a coupling > 0, infinity included.

        Raises
        ------
        ConvergenceError
            If there is no physical saddle point, or none within the source's error.
        """
        saddle, blocks = problem.saddle(width, coupling), problem.blocks(width, coupling)
        interpolant = problem.interpolant(width)
        value, slope = interpolant.at(problem.covariances(coupling))
        relative = interpolant.saddle.error / blocks.Q_s
        changed = []
        for known, Q_s in (
            (value.plus(slope, relative), blocks.Q_s * (1 + relative)),
            (_at_most(value, interpolant.errors, interpolant.largest), blocks.Q_s),
        ):
            other = blocks._replace(m=known.m, u=known.u, Q_s=Q_s)
            near = frozen(other) if np.isinf(coupling) else newton(saddle.D, saddle.Q_tt, other)
            if not near.converged:
                raise ConvergenceError(
                    f"no physical saddle point within the source's error at width={width:g}, "
                    f"coupling={coupling:g}; take a smaller tolerance"
                )
            changed.append(State(near, other, known))
        return cls(State(saddle, blocks, value), *changed)


def _at_most(value: Known, errors: Array, largest: float) -> Known:
    """The blocks with the bounds of what they lack."""
    m = value.m.copy()
    m.flat[:: len(m) + 1] += errors[0]
    u, ku = (1 + error / largest for error in errors)
    return value._replace(m=m, kk=value.kk + errors[1], u=u * value.u, ku=ku * value.ku)


@dataclass(frozen=True, eq=False)
class KnownPredictor(CoupledPredictor):
    """A predictor at test inputs whose blocks with the source are known."""

    known: Known

    @classmethod
    def at(cls, state: State, readout_precision: float) -> KnownPredictor:
        """That of a saddle point."""
        saddle, blocks, known = state
        factor, Wr = fitted(saddle, blocks)
        units = readout_precision, blocks.temperature
        return cls(saddle, *units, factor, blocks.K_tt, Wr, known)

    def _known(self, W: Array) -> Array:
        return np.einsum("ij,ij->j", W, self.known.m @ W)

    def __call__(self, test: TestKernels, y: Array | None = None) -> Prediction:
        """The prediction at the test inputs that `Known` is for."""
        known = self.known

        def unknown(a: Array) -> Array:
            cross = np.einsum("nk,kn->n", known.known, a)
            return known.kk - 2 * cross + np.einsum("kn,kn->n", a, known.m @ a)

        return self._prediction(test, known.ku, unknown, y)


class OwnKernels:
    """The target's own kernels with test inputs (n, N0), which know of no source."""

    def __init__(self, problem: Problem, X: Array) -> None:
        self.problem, self.products = problem, InnerProducts.between(problem.target.X, X)

    def at(self, coupling: float) -> TestKernels:
        """Those at a coupling, without a block of the source's size."""
        c, activation = self.problem.covariances(coupling), self.problem.priors.activation
        norms = self.products.right
        return TestKernels(
            np.empty((0, len(norms))),
            self.products.dual(activation, c.c_t, c.c_t, c.c_t),
            self.products.dual(activation, c.c_t, c.c_tt, c.c_t),
            dual_diagonal(activation, norms, c.c_t, c.c_t),
            dual_diagonal(activation, norms, c.c_t, c.c_tt),
        )
