"""Two coupled tasks for deep networks: their saddle points, predictors and transfer curves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task, check_task
from tlnb.priors import PriorOptions, Priors
from tlnb.theory.deep.action import DeepBlocks, deep_action
from tlnb.theory.deep.couplings import Couplings, NestedKernels
from tlnb.theory.deep.one_task import (
    DeepOneTaskProblem,
    check_priors,
    check_widths,
    layer_precisions,
)
from tlnb.theory.deep.saddle import Branch, Saddle, follow_width
from tlnb.theory.deep.solution import (
    DeepTransferSolution,
    Predictor,
    overlaps_alone,
    overlaps_coupled,
)
from tlnb.theory.deep.source import SourceSaddle
from tlnb.theory.deep.wishart import Chain
from tlnb.theory.prediction import AVERAGED
from tlnb.theory.transfer.curve import BASELINES
from tlnb.validation import check_choice, check_count, check_couplings

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
SCALARS = ("Q_s", "Q_t", "Q_st", "Q_tt", "train_error", "log_evidence", "residual")
OF_TARGET = ("action", "log_evidence", "train_error", "residual", "iterations", "converged")
UNCOUPLED = 1e-20  # of the weight precision: beside coupled layers, the limit γ → 0


class DeepTransferProblem:
    """A source, a target and the priors of deep networks: what widths and couplings share.

    The source's nested kernel is decomposed once; no other factorisation of its size is made.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0), (P_t, N0) and their labels.
    priors : Priors, optional
        Activation, temperatures and precisions. Or, as keywords:
    depth : int
        Number L ≥ 1 of hidden layers.
    weight_precisions, source_weight_precisions : sequence of L floats, optional
        λ0 of each hidden layer from the input up, instead of that of the priors; the source's are
        the target's unless given.
    **options
        activation, temperature, weight_precision, readout_precision or richness (λ1/N_L), the same
        with ``source_`` in front, coupling_scheme: see `Priors`.

    Examples
    --------
    Freezing the first of two layers hands something on, freezing the second alone nothing:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> X = np.random.default_rng(0).standard_normal((40, 5))
    >>> source, target = Task(X[:30], X[:30, 0]), Task(X[30:], X[30:, 0])
    >>> problem = DeepTransferProblem(source, target, depth=2, temperature=0.1)
    >>> first, second = (
    ...     problem.solve(widths=(20, 20), couplings=couplings).overlaps[0, 1]
    ...     for couplings in [(np.inf, 0.0), (0.0, np.inf)]
    ... )
    >>> bool(first > 0.1), bool(abs(second) < 1e-8)
    (True, True)
    """

    def __init__(
        self,
        source: Task,
        target: Task,
        priors: Priors | None = None,
        *,
        depth: int,
        weight_precisions: Sequence[float] | None = None,
        source_weight_precisions: Sequence[float] | None = None,
        **options: Unpack[PriorOptions],
    ) -> None:
        self.source = check_task("source", source)
        self.priors = priors = check_priors(type(self).__name__, priors, options)
        self.depth = check_count("depth", depth)
        self.precisions = layer_precisions(priors, self.depth, weight_precisions)
        of_source = layer_precisions(
            priors, self.depth, source_weight_precisions, of_source=True, follow=weight_precisions
        )
        self.source_problem = DeepOneTaskProblem(
            source,
            priors.of_source(),
            depth=self.depth,
            variances=[1 / precision for precision in of_source],
        )
        self._sources: dict[tuple[float, ...], SourceSaddle] = {}
        self._set_target(target)

    def _set_target(self, target: Task) -> None:
        self.target = check_task("target", target, self.source.n_features)
        source = self.source_problem
        self.kernels = NestedKernels(
            source.process, source.factor, target.X, self.priors, self.precisions
        )
        self._branches: dict[tuple[tuple[float, ...], Couplings], Branch] = {}
        self._from_wide: dict[tuple[tuple[float, ...], Couplings], Saddle] = {}
        self.__dict__.pop("centred", None)

    def with_target(self, target: Task) -> DeepTransferProblem:
        """The same source and priors with another target; the decomposition is kept."""
        other = object.__new__(DeepTransferProblem)
        other.__dict__.update(self.__dict__)
        other._set_target(target)
        return other

    def solve(
        self, *, widths: Sequence[float], couplings: float | Sequence[float]
    ) -> DeepTransferSolution:
        """The saddle point at widths (N_1, ..., N_L): see `tlnb.theory.deep.solve`."""
        widths = check_widths(widths, self.depth)
        couplings = check_couplings(couplings, self.depth)
        covariances = np.array(self.kernels.covariances(couplings))
        if not any(couplings) or np.isinf(widths).all():
            return self._uncoupled(widths, couplings)
        saddle = self.saddle(widths, couplings)
        capped = self.capped(couplings, np.inf)
        blocks = self.blocks(widths, capped)
        action = deep_action(saddle.z, blocks)
        constant = blocks.chain.widths.sum() - len(blocks.y) * np.log(2 * np.pi)
        return DeepTransferSolution(
            widths,
            couplings,
            overlaps_coupled(saddle.z, blocks.chain.s, np.isfinite(widths), covariances),
            action,
            log_evidence=-0.5 * (action - constant),
            train_error=saddle.train_error,
            residual=saddle.residual,
            iterations=saddle.iterations,
            converged=saddle.converged,
            _predictor=self.predictor(widths, capped, saddle.z, blocks),
        )

    def _uncoupled(self, widths: tuple[float, ...], couplings: Couplings) -> DeepTransferSolution:
        """The target alone, with the prior that these couplings leave, beside its source."""
        of_source = self.source_saddle(widths).Q
        alone = self.alone(couplings).solve(widths=widths)
        shared = {name: getattr(alone, name) for name in OF_TARGET}
        covariances = np.array(self.kernels.covariances(couplings))
        overlaps = overlaps_alone(of_source, alone.Q, covariances)
        return DeepTransferSolution(widths, couplings, overlaps, **shared, _predictor=alone)

    def predictor(
        self, widths: tuple[float, ...], couplings: Couplings, z: Array, blocks: DeepBlocks
    ) -> Predictor:
        """The predictor at a saddle point ``z`` (3, m)."""
        held, y_s = self.chain(widths, couplings)[1], self.source_problem.projections
        noise_s = self.source_noise(widths)
        return Predictor.at(self.kernels, couplings, z, blocks, held, noise_s, y_s)

    def sweep(
        self,
        test: Task,
        *,
        widths: Sequence[float],
        couplings: Sequence[float | Sequence[float]],
        baseline: str | None = None,
    ) -> Dataset:
        """Theory over couplings: see `tlnb.theory.deep.coupling_sweep`."""
        import xarray as xr

        if baseline is not None:
            check_choice("baseline", baseline, BASELINES)
        widths = check_widths(widths, self.depth)
        each = [check_couplings(entry, self.depth) for entry in couplings]
        if not each:
            raise ValueError("couplings must hold at least one entry, got none")
        check_task("test", test, self.target.n_features)
        names = (*SCALARS, *AVERAGED)
        table = {name: np.zeros(len(each)) for name in names}
        overlaps = np.zeros((len(each), self.depth, 4))
        # Ascending, so that the branch is followed once.
        for i in sorted(range(len(each)), key=lambda i: each[i]):
            if baseline is None:
                solved = self.solve(widths=widths, couplings=each[i])
            else:
                left = each[i] if baseline == "matched-prior" else (0.0,) * self.depth
                solved = self._uncoupled(widths, left)
            outcome = solved.predict(test.X, test.y)
            overlaps[i] = solved.overlaps
            for name in SCALARS:
                table[name][i] = getattr(solved, name)
            for name in AVERAGED:
                table[name][i] = getattr(outcome, name).mean()
        numbers = all(np.ndim(entry) == 0 for entry in couplings)
        variables: dict[str, Any] = {name: ("coupling", values) for name, values in table.items()}
        for k, name in enumerate(("A_s", "A_st", "A_t", "A_tt")):
            variables[name] = (("coupling", "layer"), overlaps[..., k])
        return xr.Dataset(
            variables,
            coords={
                "coupling": [g[0] for g in each] if numbers else np.arange(len(each)),
                "layer": np.arange(1, self.depth + 1),
                "layer_coupling": (("coupling", "layer"), np.array(each)),
            },
            attrs={
                "widths": np.array(widths),
                "activation": self.priors.activation.name,
                "temperature": self.priors.temperature,
                "coupling_scheme": self.priors.coupling_scheme,
                "baseline": baseline or "none",
            },
        )

    def alone(self, couplings: Couplings) -> DeepOneTaskProblem:
        """The target from scratch, with the prior variances c_t that these couplings leave it."""
        own = Priors(
            activation=self.priors.activation,
            temperature=self.priors.temperature,
            readout_precision=self.priors.readout_precision,
            richness=self.priors.richness,
        )
        variances = [c.c_t for c in self.kernels.covariances(couplings)]
        return DeepOneTaskProblem(self.target, own, depth=self.depth, variances=variances)

    def source_saddle(self, widths: tuple[float, ...]) -> SourceSaddle:
        """The source's layer factors: it does not feel the target, it is a task of its own."""
        if widths not in self._sources:
            self._sources[widths] = self.source_problem.saddle(widths)
        return self._sources[widths]

    def source_noise(self, widths: tuple[float, ...]) -> Array:
        """G_s = T_s + R_s K_s in the eigenbasis of K_s, of shape (P_s,)."""
        share = self.source_saddle(widths).R / self.source_problem.readout_precision(widths)
        return self.source_problem.factor.noise(share, self.priors.source_temperature)

    def chain(self, widths: tuple[float, ...], couplings: Couplings) -> tuple[Chain, Array]:
        """The layers of finite width, and (4,) what the kernels must be divided by, entry by entry.

        That is the covariances which the overlaps of the first of these layers hold already, and
        the readouts' precisions. Layers of infinite width only pass on the matrix above.
        """
        c = np.array(self.kernels.covariances(couplings))
        finite = np.flatnonzero(np.isfinite(widths))
        ends = [*finite[1:], self.depth - 1]
        passed = np.array(
            [c[a + 1 : b + 1].prod(axis=0) for a, b in zip(finite, ends, strict=True)]
        )
        Q = self.source_saddle(widths).Q[finite]
        s = np.cumprod((Q * passed[:, 0])[::-1])[::-1]
        chain = Chain(np.array(widths, dtype=float)[finite], s, s / Q, passed)
        own = self.target_readout_precision(widths)
        of_source = self.source_problem.readout_precision(widths)
        precisions = [of_source, np.sqrt(of_source * own), own, own]
        return chain, passed.prod(axis=0) * precisions

    def target_readout_precision(self, widths: tuple[float, ...]) -> float:
        """λ1 of the target at these widths."""
        return self.priors.at_width(widths[-1]).readout_precision

    def blocks(self, widths: tuple[float, ...], couplings: Couplings) -> DeepBlocks:
        """The blocks of the action, at least one width finite and one coupling > 0."""
        chain, held = self.chain(widths, couplings)
        V, K_t, K_tt = self.kernels.train(couplings).over(held)
        known = V / self.source_noise(widths)[:, None]
        u = self.source_problem.projections @ known
        return DeepBlocks(K_t, K_tt, V.T @ known, u, self.target.y, self.priors.temperature, chain)

    def saddle(self, widths: tuple[float, ...], couplings: Couplings) -> Saddle:
        """The physical saddle point, at least one width finite and one coupling > 0.

        Raises
        ------
        ValueError
            If some but not all layers are uncoupled and the activation is not odd.
        ConvergenceError
            If the branch of physical solutions does not lead there.
        """
        if self.depth > 1 and not self.centred:
            return self._from_wide_networks(widths, couplings)
        uniform = len(set(couplings)) == 1
        pattern = (np.inf,) * self.depth if uniform else couplings
        if (widths, pattern) not in self._branches:
            self._branches[widths, pattern] = self._branch(widths, pattern)
        return self._branches[widths, pattern].at(couplings[0] if uniform else np.inf)

    @cached_property
    def centred(self) -> bool:
        """Whether independent networks have no output in common, as for every odd activation."""
        kernels = self.kernels.train((0.0,) * self.depth)
        return bool(abs(kernels.K_tt).max() <= 1e-9 * abs(kernels.K_t).max())

    def _from_wide_networks(self, widths: tuple[float, ...], couplings: Couplings) -> Saddle:
        if min(couplings) == 0:
            raise ValueError(
                f"couplings must be > 0 in every layer, or 0 in all, got {couplings}: outputs of "
                f"the activation {self.priors.activation.name!r} do not average to zero, so that "
                "even independent layers share a part that no overlap of readouts rescales"
            )
        if (widths, couplings) not in self._from_wide:
            self._from_wide[widths, couplings] = follow_width(
                lambda t: self.blocks(tuple(np.exp(-t) * np.array(widths)), couplings)
            )
        return self._from_wide[widths, couplings]

    def _branch(self, widths: tuple[float, ...], pattern: Couplings) -> Branch:
        """Couplings 1/(1/γ_l + 1/γ) with γ from 0 to infinity, where they are the pattern's."""

        def blocks_at(coupling: float) -> DeepBlocks:
            return self.blocks(widths, self.capped(pattern, coupling))

        unit = min(self.precisions)
        first = self.capped(pattern, 1e-2 * unit)
        chain, _ = self.chain(widths, first)
        Q = self.alone(first).saddle(widths).Q[np.isfinite(widths)]
        scratch = np.cumprod((Q * chain.c[:, 2])[::-1], dtype=np.float64)[::-1]
        return Branch(blocks_at, scratch, unit)

    def capped(self, pattern: Couplings, largest: float) -> Couplings:
        """The couplings γ_l, none above ``largest`` and none exactly 0: see `UNCOUPLED`."""
        least = UNCOUPLED * min(self.precisions)
        if np.isinf(largest):
            return tuple(max(g, least) for g in pattern)
        return tuple(
            largest if np.isinf(g) else max(g * largest / (g + largest), least) for g in pattern
        )
