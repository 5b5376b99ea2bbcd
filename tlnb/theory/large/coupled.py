r"""What a large source knows of target and test inputs, at nodes of the coupling and between them.

At one width and coupling, for the target's inputs and n test inputs (kernels K_st and K_s0 with the
source's P_s inputs), with G = T + Q K_s,

    m = K_stᵀG⁻¹K_st, u = K_stᵀG⁻¹y,   known = K_s0ᵀG⁻¹K_st, kk = diag K_s0ᵀG⁻¹K_s0, ku = K_s0ᵀG⁻¹y,

and their derivatives in ln Q, which cost no further solution: d(BᵀG⁻¹C) = -(BᵀG⁻¹C - T BᵀG⁻²C).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tlnb.chunking import chunks
from tlnb.errors import ConvergenceError
from tlnb.kernels import InnerProducts, dual_diagonal, squared_norms
from tlnb.priors import WeightCovariances
from tlnb.theory.large.iterative import Remainder, Solution, solve
from tlnb.theory.large.kernel import LargeKernel
from tlnb.theory.large.nodes import (
    coupling_of,
    degree_for,
    extrapolation,
    in_turn,
    nodes,
    share_of,
    weights,
)
from tlnb.theory.large.source import EstimatedSaddle
from tlnb.theory.large.tiles import available
from tlnb.theory.transfer.kernels import CoupledKernels
from tlnb.validation import check_rng

Array = NDArray[np.float64]
FOR_M = 0.25  # of the error aimed at: predictions add m up over target examples
# The same for kk, before what it lacks is measured on few inputs, if there are more than so many.
FOR_KK, MEASURED = 1.0, 32
ENOUGH = 3  # nodes from which a solution at another is begun
CHECKED = 8  # target examples whose interpolation is compared with a solution


class Known(NamedTuple):
    """Blocks as above, of shapes (P_t, P_t), (P_t,), (n, P_t), (n,) and (n,)."""

    m: Array
    u: Array
    known: Array
    kk: Array
    ku: Array

    def plus(self, other: Known, factor: float) -> Known:
        """These blocks and a multiple of others."""
        return Known(*(a + factor * b for a, b in zip(self, other, strict=True)))


class AtNode(NamedTuple):
    """Blocks, their derivatives in ln Q, and errors (2,) that residuals leave of m and kk.

    For entries of m the largest |R|²/T, for kk that of the mean over test inputs, as measured.
    """

    value: Known
    slope: Known
    bounds: Array


@dataclass(frozen=True, eq=False)
class Interpolant:
    """Blocks at every coupling for one width.

    ``errors`` (2,) bound those of entries of m and the mean of kk, which are at most ``largest``.
    """

    saddle: EstimatedSaddle
    degree: int
    stacked: AtNode
    errors: Array
    largest: float

    @classmethod
    def of(
        cls,
        saddle: EstimatedSaddle,
        degree: int,
        at_nodes: Sequence[AtNode],
        largest: float,
    ) -> Interpolant:
        """From blocks at the nodes in their order."""
        value, slope = (
            Known(*(np.stack(parts) for parts in zip(*column, strict=True)))
            for column in ([n.value for n in at_nodes], [n.slope for n in at_nodes])
        )
        bounds = np.max([node.bounds for node in at_nodes], axis=0)
        return cls(saddle, degree, AtNode(value, slope, bounds), bounds, largest)

    def at(self, covariances: WeightCovariances) -> tuple[Known, Known]:
        """Blocks and their derivatives in ln Q."""
        row = weights(share_of(covariances), self.degree)
        value, slope = (
            Known(*(np.tensordot(row, part, 1) for part in column))
            for column in (self.stacked.value, self.stacked.slope)
        )
        return value, slope


class Solver:
    """Solves for a target, and test inputs if there are any, at nodes and between.

    Parameters
    ----------
    kernels : CoupledKernels
        Of a source whose kernel is a `LargeKernel`.
    saddles : sequence of EstimatedSaddle
        One for each width.
    X_test : array of shape (n, N0), optional
    """

    def __init__(
        self, kernels: CoupledKernels, saddles: Sequence[EstimatedSaddle], X_test: Array | None
    ) -> None:
        if not isinstance(kernels.source, LargeKernel):
            raise TypeError(f"the source's kernel must be a LargeKernel, got {kernels.source!r}")
        self.kernels, self.source, self.saddles = kernels, kernels.source, list(saddles)
        self.X_test = np.empty((0, kernels.X.shape[1])) if X_test is None else X_test
        self.aim = self.source.options.tolerance / 5
        norms = squared_norms(self.kernels.X)
        c_s = self.source.variance
        # Solutions at nodes, with which those at further nodes begin.
        self._kept: dict[float, list[NDArray[np.float32]]] = {}
        self._keeping: dict[float, list[NDArray[np.float32]]] = {}
        self.size = float(dual_diagonal(self.source.activation, norms, c_s, c_s).mean())

    def interpolants(self) -> list[Interpolant]:
        """One for each width, with as many nodes as a comparison with solutions asks for."""
        rng = check_rng("rng", 0, "nodes")
        first = [self._degree(saddle, rng) for saddle in self.saddles]
        degree, worst = max(first)
        solved: dict[float, list[AtNode]] = {}
        self._kept.clear()
        picked = np.sort(rng.permutation(len(self.kernels.X))[:CHECKED])
        while True:
            todo = in_turn((s for s in nodes(degree) if s not in solved), solved)
            bar = tqdm(todo, "couplings", disable=not self.source.options.progress, leave=False)
            for share in bar:
                solved[share] = self._remembered(share)
            columns = [list(column) for column in zip(*self._in_order(solved, degree), strict=True)]
            found = [
                Interpolant.of(saddle, degree, column, self.size / saddle.Q)
                for saddle, column in zip(self.saddles, columns, strict=True)
            ]
            errors = [self._error(each, worst, picked) for each in found]
            allowed = [self._allowed(saddle) for saddle in self.saddles]
            if all(error <= most for error, most in zip(errors, allowed, strict=True)):
                self._kept.clear()
                return [
                    replace(each, errors=each.errors + error)
                    for each, error in zip(found, errors, strict=True)
                ]
            if degree >= 32:
                raise ConvergenceError(
                    f"the interpolation over couplings is off by {max(errors):.1e} with "
                    f"{degree + 1} nodes, allowed {min(allowed):.1e}; take a larger tolerance"
                )
            # The nodes of degree n are among those of 2n.
            degree *= 2
            worst = 0.5 * (1 - np.cos(np.arccos(1 - 2 * worst) + 0.5 * np.pi / degree))

    def _in_order(self, solved: dict[float, list[AtNode]], degree: int) -> Iterator[list[AtNode]]:
        return (solved[share] for share in nodes(degree))

    def _allowed(self, saddle: EstimatedSaddle) -> float:
        """The error of m and kk that is aimed at: a share of what they can be at most."""
        return self.aim * self.size / saddle.Q

    def _degree(self, saddle: EstimatedSaddle, rng: np.random.Generator) -> tuple[int, float]:
        few = degree_for(
            self.source.X,
            self.kernels.X,
            self.source.activation,
            self._covariances,
            Q=saddle.Q,
            temperature=saddle.equation.temperature,
            tolerance=self.aim / 4,
            rng=rng,
        )
        return few.degree, few.worst

    def _covariances(self, share: float) -> WeightCovariances:
        kernels = self.kernels
        coupling = coupling_of(
            share,
            scheme=kernels.scheme,
            source_precision=1 / self.source.variance,
            target_precision=kernels.weight_precision,
        )
        return kernels.covariances(coupling)

    def _kernel(self, X: Array, share: float) -> Array:
        """The source's kernel with inputs ``X`` (n, N0), of shape (P_s, n)."""
        c = self._covariances(share)
        products = InnerProducts.between(self.source.X, X)
        return products.dual(self.source.activation, c.c_s, c.c_st, c.c_t)

    def _solve(
        self, B: Array, earlier: Solution | None, k: int, allowed: float, at: float, columns: slice
    ) -> Solution:
        """For the k-th saddle point at a node ``at``, to squared residuals of ``allowed``.

        The ``columns`` are those of B among all inputs. It begins with what solutions at other
        nodes make a polynomial of, or with that for the saddle point before.
        """
        saddle = self.saddles[k]
        equation = saddle.equation
        start = None
        if len(self._kept) >= ENOUGH:
            start = np.zeros(B.shape)
            for weight, kept in zip(
                extrapolation(at, list(self._kept)), self._kept.values(), strict=True
            ):
                start += np.float32(weight) * kept[k][:, columns]
        elif earlier is not None:
            start = earlier.refined(B, self.saddles[k - 1].equation, equation)
        found = solve(equation, B, np.sqrt(allowed), start=start)
        if at in self._keeping:
            self._keeping[at][k][:, columns] = found.X
        return found

    def _keep(self, share: float) -> None:
        """Make room for solutions at this node, if a quarter of the memory left is enough."""
        n = len(self.kernels.X) + len(self.X_test)
        numbers = len(self.saddles) * len(self.source.X) * n
        if 4 * numbers * (1 + len(self._kept)) < available() / 4:
            shape = len(self.source.X), n
            self._keeping = {share: [np.empty(shape, np.float32) for _ in self.saddles]}

    def _at(self, share: float) -> list[AtNode]:
        """Blocks at one node for each saddle point; test inputs come in parts."""
        self._keep(share)
        columns = self.source.options.columns
        B = self._kernel(self.kernels.X, share)
        P_t = B.shape[1]
        target: list[Solution] = []
        for part in chunks(P_t, 1, columns):
            earlier = None
            for k in range(len(self.saddles)):
                saddle = self.saddles[k]
                allowed = FOR_M * saddle.equation.temperature * self._allowed(saddle)
                earlier = self._solve(B[:, part], earlier, k, allowed, share, part)
                if part.start == 0:
                    target.append(earlier)
                else:
                    target[k] = _joined(target[k], earlier)
        n = len(self.X_test)
        tests = [(np.empty((n, P_t)), np.empty(n), np.empty(n)) for _ in self.saddles]
        slopes = [(np.empty((n, P_t)), np.empty(n), np.empty(n)) for _ in self.saddles]
        bounds = np.zeros((len(target), 2))
        bounds[:, 0] = [
            each.norms().max() ** 2 / saddle.equation.temperature
            for each, saddle in zip(target, self.saddles, strict=True)
        ]
        lacking: list[Remainder] = []
        for part in chunks(n, 1, columns):
            B0, earlier = self._kernel(self.X_test[part], share), None
            among = slice(P_t + part.start, P_t + part.stop)
            for k, saddle in enumerate(self.saddles):
                equation, T = saddle.equation, saddle.equation.temperature
                aim = FOR_KK * self._allowed(saddle)
                allowed = aim * (T if n <= MEASURED else equation.preconditioner.base)
                earlier = self._solve(B0, earlier, k, allowed, share, among)
                if part.start == 0 and n <= MEASURED:
                    lacking.append(Remainder(0.0, (earlier.norms() ** 2).mean() / T))
                elif part.start == 0:
                    measured = Remainder.measured(equation, B0, earlier, np.sqrt(0.2 * aim * T))
                    lacking.append(measured)
                X, of_target = earlier.X, target[k]
                known = X.T @ B + earlier.residual.T @ of_target.X
                kk, ku = earlier.diagonal(B0), _with_labels(earlier, B0, saddle)
                kk += lacking[k].of(equation, earlier)
                for into, values in zip(tests[k], (known, kk, ku), strict=True):
                    into[part] = values
                twice = X.T @ of_target.X, np.einsum("ij,ij->j", X, X), X.T @ saddle.alpha
                for into, value, square in zip(slopes[k], (known, kk, ku), twice, strict=True):
                    into[part] = T * square - value
        bounds[:, 1] = [each.error for each in lacking] if n else 0.0
        result = []
        for k, (saddle, of_target) in enumerate(zip(self.saddles, target, strict=True)):
            T, X = saddle.equation.temperature, of_target.X
            m, u = of_target.form(B), _with_labels(of_target, B, saddle)
            blocks = Known(m, u, *tests[k])
            slope_k = Known(T * (X.T @ X) - m, T * (X.T @ saddle.alpha) - u, *slopes[k])
            result.append(AtNode(blocks, slope_k, bounds[k]))
        self._kept |= self._keeping
        self._keeping = {}
        return result

    def _error(self, interpolant: Interpolant, share: float, picked: NDArray[np.intp]) -> float:
        """The interpolation's error at a share between nodes, for some target examples."""
        saddle = interpolant.saddle
        B = self._kernel(self.kernels.X[picked], share)
        equation = saddle.equation
        found = solve(equation, B, np.sqrt(equation.temperature * self._allowed(saddle)) / 3)
        value, _ = interpolant.at(self._covariances(share))
        off = np.abs(value.m[np.ix_(picked, picked)] - found.form(B)).max()
        of_labels = np.abs(value.u[picked] - _with_labels(found, B, saddle)).max()
        of_labels *= self.size / saddle.Q / np.abs(value.u).max(initial=1e-300)
        return float(max(off - interpolant.stacked.bounds[0], of_labels))

    def _remembered(self, share: float) -> list[AtNode]:
        """Blocks at one node, from the folder if they are there."""
        folder = self.source.options.folder
        if folder is None:
            return self._at(share)
        path = Path(folder) / f"coupling_{self._key(share)}.npz"
        if path.exists():
            with np.load(path) as file:
                return [
                    AtNode(
                        Known(*(file[f"{k}_value_{name}"] for name in Known._fields)),
                        Known(*(file[f"{k}_slope_{name}"] for name in Known._fields)),
                        file[f"{k}_bounds"],
                    )
                    for k in range(len(self.saddles))
                ]
        result = self._at(share)
        arrays: dict[str, Array] = {}
        for k, node in enumerate(result):
            for name in Known._fields:
                arrays[f"{k}_value_{name}"] = getattr(node.value, name)
                arrays[f"{k}_slope_{name}"] = getattr(node.slope, name)
            arrays[f"{k}_bounds"] = node.bounds
        beside = path.with_suffix(".part.npz")
        np.savez(beside, **arrays)  # type: ignore[arg-type]
        beside.replace(path)
        return result

    def _key(self, share: float) -> str:
        """What blocks at a node depend on, hashed."""
        content = hashlib.sha256()
        options = self.source.options
        numbers = [*self._covariances(share), options.tolerance, len(self.saddles)]
        for saddle in self.saddles:
            numbers += [saddle.Q, saddle.equation.temperature]
        labels = [saddle.alpha for saddle in self.saddles]
        for array in (np.array(numbers), self.kernels.X, self.X_test, *labels):
            content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()[:32]


def _joined(first: Solution, second: Solution) -> Solution:
    return Solution(
        np.concatenate([first.X, second.X], axis=1),
        np.concatenate([first.residual, second.residual], axis=1),
        max(first.iterations, second.iterations),
    )


def _with_labels(solution: Solution, B: Array, saddle: EstimatedSaddle) -> Array:
    """BᵀG⁻¹y, to second order in the residuals."""
    return B.T @ saddle.alpha + solution.X.T @ saddle.labels.residual[:, 0]
