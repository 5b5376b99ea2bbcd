"""Two coupled tasks for deep networks: nested kernels at every coupling, overlaps that solve."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from tlnb.data.task import Task, check_task
from tlnb.kernels import gram, squared_norms
from tlnb.priors import PriorOptions, Priors, WeightCovariances, weight_covariances
from tlnb.theory.deep.action import DeepBlocks
from tlnb.theory.deep.couplings import Couplings, Inputs, Kernels
from tlnb.theory.deep.nested import nested_kernel, through_layers
from tlnb.theory.deep.one_task import DeepOneTaskProblem, check_priors, check_widths
from tlnb.theory.deep.saddle import Branch, Saddle, follow_width
from tlnb.theory.deep.solution import DeepTransferSolution, solution, sweep
from tlnb.theory.deep.source import SourceSaddle
from tlnb.theory.deep.wishart import Chain
from tlnb.validation import check_count, check_couplings

if TYPE_CHECKING:
    from xarray import Dataset

Array = NDArray[np.float64]
CACHE = 2**24  # numbers kept in kernel blocks of several couplings
UNCOUPLED = 1e-20  # of the weight precision: beside coupled layers, the limit γ → 0


class DeepTransferProblem:
    """A source, a target and the priors of deep networks: what widths and couplings share.

    The source's nested kernel is decomposed once; no other factorisation of its size is made.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0), (P_t, N0) and their labels.
    priors : Priors, optional
        Activation, temperatures and precisions; all hidden layers have the same weight precisions.
        Or, as keywords:
    depth : int
        Number L ≥ 1 of hidden layers.
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
        **options: Unpack[PriorOptions],
    ) -> None:
        self.source = check_task("source", source)
        self.priors = priors = check_priors(type(self).__name__, priors, options)
        self.depth = check_count("depth", depth)
        self.source_problem = DeepOneTaskProblem(source, priors.of_source(), depth=self.depth)
        self._source_variances = through_layers(
            priors.activation,
            squared_norms(source.X),
            [(1 / priors.source_weight_precision,) * 2] * self.depth,
        ).variances
        self._sources: dict[tuple[float, ...], SourceSaddle] = {}
        self._set_target(target)

    def _set_target(self, target: Task) -> None:
        self.target = check_task("target", target, self.source.n_features)
        self._inputs = self.inputs(target.X)
        self._kernels: OrderedDict[Couplings, Kernels] = OrderedDict()
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
        return solution(self, widths, check_couplings(couplings, self.depth))

    def sweep(
        self, test: Task, *, widths: Sequence[float], couplings: Sequence[float | Sequence[float]]
    ) -> Dataset:
        """Theory over couplings: see `tlnb.theory.deep.coupling_sweep`."""
        return sweep(self, test, check_widths(widths, self.depth), couplings)

    def covariances(self, couplings: Couplings) -> list[WeightCovariances]:
        """The weight covariances of each layer; exactly uncoupled layers have zeros."""
        return [
            weight_covariances(
                coupling,
                source_weight_precision=self.priors.source_weight_precision,
                target_weight_precision=self.priors.weight_precision,
                scheme=self.priors.coupling_scheme,
            )
            for coupling in couplings
        ]

    def alone(self, couplings: Couplings) -> DeepOneTaskProblem:
        """The target from scratch, with the prior variances c_t that these couplings leave it."""
        own = Priors(
            activation=self.priors.activation,
            temperature=self.priors.temperature,
            readout_precision=self.priors.readout_precision,
            richness=self.priors.richness,
        )
        variances = [c.c_t for c in self.covariances(couplings)]
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

    def inputs(self, X: Array) -> Inputs:
        """Inner products of the source's and the target's inputs with inputs X (n, N0)."""
        return Inputs(gram(self.source.X, X), gram(self.target.X, X), squared_norms(X))

    def kernels(self, inputs: Inputs, couplings: Couplings) -> Kernels:
        """Nested kernels of both training sets with these inputs."""
        activation, covariances = self.priors.activation, self.covariances(couplings)
        _, c_st, c_t, c_tt = zip(*covariances, strict=True)
        itself = list(zip(c_t, c_t, strict=True))
        own = through_layers(activation, squared_norms(self.target.X), itself).variances
        new = through_layers(activation, inputs.norms, itself).variances
        K_st = nested_kernel(activation, inputs.of_source, self._source_variances, new, c_st)
        return Kernels(
            self.source_problem.factor.projections(K_st),
            nested_kernel(activation, inputs.own, own, new, c_t),
            nested_kernel(activation, inputs.own, own, new, c_tt),
        )

    def diagonals(self, inputs: Inputs, couplings: Couplings) -> tuple[Array, Array]:
        """K_t(x, x) and K_tt(x, x) of shape (n,)."""
        covariances = self.covariances(couplings)
        found = []
        for of_two in ([c.c_t for c in covariances], [c.c_tt for c in covariances]):
            pairs = [(c.c_t, c_ab) for c, c_ab in zip(covariances, of_two, strict=True)]
            found.append(through_layers(self.priors.activation, inputs.norms, pairs).diagonal)
        return found[0], found[1]

    def train_kernels(self, couplings: Couplings) -> Kernels:
        """Those of the target's own inputs, the most recent couplings kept."""
        if couplings in self._kernels:
            self._kernels.move_to_end(couplings)
            return self._kernels[couplings]
        blocks = self._kernels[couplings] = self.kernels(self._inputs, couplings)
        while len(self._kernels) > max(1, CACHE // sum(block.size for block in blocks)):
            self._kernels.popitem(last=False)
        return blocks

    def chain(self, widths: tuple[float, ...], couplings: Couplings) -> tuple[Chain, Array]:
        """The layers of finite width, and (4,) what the kernels must be divided by, entry by entry.

        That is the covariances which the overlaps of the first of these layers hold already, and
        the readouts' precisions. Layers of infinite width only pass on the matrix above.
        """
        c = np.array(self.covariances(couplings))
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
        V, K_t, K_tt = self.train_kernels(couplings)
        V, K_t, K_tt = V / held[1], K_t / held[2], K_tt / held[3]
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
        kernels = self.train_kernels((0.0,) * self.depth)
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

        first = self.capped(pattern, 1e-2 * self.priors.weight_precision)
        chain, _ = self.chain(widths, first)
        Q = self.alone(first).saddle(widths).Q[np.isfinite(widths)]
        scratch = np.cumprod((Q * chain.c[:, 2])[::-1], dtype=np.float64)[::-1]
        return Branch(blocks_at, scratch, self.priors.weight_precision)

    def capped(self, pattern: Couplings, largest: float) -> Couplings:
        """The couplings γ_l, none above ``largest`` and none exactly 0: see `UNCOUPLED`."""
        least = UNCOUPLED * self.priors.weight_precision
        if np.isinf(largest):
            return tuple(max(g, least) for g in pattern)
        return tuple(
            largest if np.isinf(g) else max(g * largest / (g + largest), least) for g in pattern
        )


def solve(
    source: Task,
    target: Task,
    *,
    widths: Sequence[float],
    couplings: float | Sequence[float],
    **priors: Unpack[PriorOptions],
) -> DeepTransferSolution:
    """The Franz-Parisi saddle point of a deep target coupled to a deep source.

    Parameters
    ----------
    source, target : Task
        Inputs (P_s, N0), (P_t, N0) and their labels.
    widths : sequence of L floats
        (N_1, ..., N_L) ≥ 1 of both networks, from the input up. A layer of infinite width only
        maps kernels; with all of them infinite no label of the source reaches the target.
    couplings : float or sequence of L floats
        γ ≥ 0 of every layer, or of each layer from the input up; ``numpy.inf`` freezes a layer at
        the source's weights, 0 leaves it untied.
    **priors
        activation, temperature, weight_precision, readout_precision or richness (λ1/N_L), the same
        with ``source_`` in front, coupling_scheme: see `Priors`.

    Notes
    -----
    Exact at leading order for linear networks; for others the rescaling of nested kernels layer by
    layer is an ansatz, whose corrections grow with depth (chapter 10). For activations that are
    not odd it has no solution at small couplings of more than one hidden layer: a
    `ConvergenceError`.

    Raises
    ------
    ValueError, TypeError
        For arguments outside what is allowed, activations without a kernel at some layer, and
        kernels singular at this temperature.
    ConvergenceError
        If no physical saddle point with a small residual was reached.

    Warns
    -----
    CompetingSaddlesWarning
        If the action of the source or of the target alone has further minima.

    Examples
    --------
    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.deep import solve
    >>> X = np.random.default_rng(0).standard_normal((50, 10))
    >>> source, target = Task(X[:40], X[:40, 0]), Task(X[40:], X[40:, 0])
    >>> solution = solve(source, target, widths=(20, 40), couplings=1.0, temperature=0.1)
    >>> solution.overlaps.shape, bool(0 < solution.Q_st < solution.Q_s)
    ((2, 4), True)
    """
    widths = check_widths(widths)
    problem = DeepTransferProblem(source, target, depth=len(widths), **priors)
    return problem.solve(widths=widths, couplings=couplings)


def coupling_sweep(
    source: Task,
    target: Task,
    test: Task,
    *,
    widths: Sequence[float],
    couplings: Sequence[float | Sequence[float]],
    **priors: Unpack[PriorOptions],
) -> Dataset:
    """The transfer curve of two data sets for one deep network: theory over couplings.

    The source's kernel is decomposed once.

    Parameters
    ----------
    source, target, test : Task
        ``test`` holds the inputs and labels of the target task that errors are averaged over.
    widths : sequence of L floats
        (N_1, ..., N_L), see `solve`.
    couplings : sequence
        Each entry a number for all layers, or a tuple (γ_1, ..., γ_L).
    **priors
        As in `solve`.

    Returns
    -------
    xarray.Dataset over (coupling)
        Q_s, Q_t, Q_st, Q_tt, train_error, squared_bias, total_variance, source_variance,
        test_error, classification_error, log_evidence, residual, and A_s, A_st, A_t, A_tt over
        (coupling, layer). The coordinate ``coupling`` is γ where all entries are numbers, otherwise
        their position; ``layer_coupling`` (coupling, layer) always tells.

    Raises
    ------
    ValueError, TypeError, ConvergenceError
        As `solve` does.

    Examples
    --------
    Both layers tied, and the first one alone:

    >>> import numpy as np
    >>> from tlnb import Task
    >>> from tlnb.theory.deep import coupling_sweep
    >>> X = np.random.default_rng(0).standard_normal((80, 10))
    >>> source, target, test = (Task(X[p], X[p, 0]) for p in np.split(np.arange(80), [40, 50]))
    >>> curve = coupling_sweep(
    ...     source, target, test, widths=(20, 20), couplings=[(1.0, 1.0), (np.inf, 0.0)]
    ... )
    >>> dict(curve.sizes)
    {'coupling': 2, 'layer': 2}
    """
    widths = check_widths(widths)
    problem = DeepTransferProblem(source, target, depth=len(widths), **priors)
    return problem.sweep(test, widths=widths, couplings=couplings)
