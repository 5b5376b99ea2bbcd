"""Samplers against exact laws, each other and the theory; diagnostics; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import kstest

from tests.instances import linear_teachers
from tlnb import Activation, Task
from tlnb.activations import get_activation
from tlnb.errors import SamplingError
from tlnb.kernels import kernel
from tlnb.simulation import sample_posterior, sample_transfer, summary
from tlnb.simulation.diagnostics import PARTS, _decomposition, _independent, pooled_r_hat
from tlnb.simulation.hmc import hmc, langevin, start
from tlnb.simulation.network import Network, draw_readouts
from tlnb.simulation.sampling import _Target
from tlnb.theory import linear, transfer

PRIORS = {"temperature": 0.2, "weight_precision": 1.4, "readout_precision": 0.7}
QUIET = {"progress": False}


def tasks(P=12, N0=5, n_test=4, seed=0):
    rng = np.random.default_rng(seed)
    X, X_0 = rng.standard_normal((P, N0)), rng.standard_normal((n_test, N0))
    teacher = rng.standard_normal(N0) / np.sqrt(N0)
    noise = 0.3 * rng.standard_normal(P)
    return Task(X, 1.3 * (X @ teacher) + noise), Task(X_0, X_0 @ teacher)


def law(task, width, activation="erf", *, collapsed=True):
    """The whitened density that `sample_posterior` moves in."""
    net = Network(
        task, get_activation(activation), width, PRIORS["temperature"], PRIORS["readout_precision"]
    )
    return _Target(net, 0.0, PRIORS["weight_precision"] ** -0.5, collapsed)


def agree(table, name, expected, sigmas=4.0):
    row = table.loc[name]
    assert row.judged and abs(row["mean"] - expected) < sigmas * row.mcse, (name, expected, row)


# One task


@pytest.mark.parametrize("width", [1, 5, 40])
def test_linear_networks_have_their_exact_averages(width):
    task, test = tasks()
    exact = linear.solve(task, width=width, **PRIORS)
    outcome = exact.predict(test.X, test.y)
    data = sample_posterior(
        task, width=width, activation="linear", test=test, chains=8, draws=300, warmup=120,
        seed=1, **PRIORS, **QUIET,
    )  # fmt: skip
    data["squares"] = data.prediction**2 + data.prediction_variance
    for j in range(4):
        data[f"f{j}"], data[f"ff{j}"] = data.prediction[..., j], data.squares[..., j]
    table = summary(data.drop_vars("squares"))
    assert (table.r_hat < 1.02).all() and data.attrs["divergences"] == 0
    agree(table, "order_parameter", exact.Q)
    agree(table, "train_error", exact.train_error)
    agree(table, "test_error", outcome.test_error.mean())
    for j in range(4):
        agree(table, f"f{j}", outcome.mean[j])
        agree(table, f"ff{j}", outcome.mean[j] ** 2 + outcome.total_variance[j])
    assert table.mcse["order_parameter"] < 0.06 * exact.Q


def test_order_parameter_of_the_readouts_drawn_has_the_exact_density():
    """The whole law of Q = (λ1/N1)‖v‖², not only its mean."""
    task, _ = tasks()
    exact, target = linear.solve(task, width=5, **PRIORS), law(task, 5, "linear")
    rng = np.random.default_rng(0)
    state = start(rng.standard_normal((300, 5, 5)), target)
    for _ in range(25):
        state, _ = hmc(state, target, rng, step=0.4, angle=rng.uniform(0.5, 1) * np.pi / 2)
    v = draw_readouts(target.network, target.split(state.position)[0], rng)
    Q = PRIORS["readout_precision"] / 5 * (v**2).sum(1)
    grid = np.geomspace(1e-3, 50, 4001)
    cdf = np.concatenate([[0], np.cumsum(np.diff(grid) * exact.density(grid)[1:])])
    assert kstest(Q, lambda q: np.interp(q, grid, cdf)).statistic < 1.95 / np.sqrt(300)


def test_plain_hmc_samples_the_same_posterior():
    task, test = tasks()
    given = {"width": 5, "test": test, "chains": 8, **PRIORS, **QUIET}
    collapsed = sample_posterior(task, draws=300, warmup=150, seed=1, **given)
    plain = sample_posterior(task, sampler="hmc", draws=800, warmup=300, seed=2, **given)
    one, other = summary(collapsed), summary(plain)
    assert (one.r_hat < 1.02).all() and (other.r_hat < 1.02).all()
    for name in ("order_parameter", "train_error", "test_error"):
        error = np.hypot(one.mcse[name], other.mcse[name])
        assert abs(one["mean"][name] - other["mean"][name]) < 4 * error < 0.1 * one["mean"][name]
    mean, spread = collapsed.prediction.mean(("chain", "draw")), plain.prediction
    by_chain = spread.mean("draw")
    error = by_chain.std("chain") / np.sqrt(8) + collapsed.prediction.mean("draw").std("chain") / 3
    assert (abs(by_chain.mean("chain") - mean) < 4 * error).all()
    assert float(plain.prediction_variance.max()) == 0 < float(collapsed.prediction_variance.min())


@pytest.mark.parametrize("width,step", [(4, 0.5), (30, 1.6)])
def test_labels_redrawn_between_steps_leave_the_prior(width, step):
    """Geweke (2004): y | W from the model, then W | y by one step: W stays distributed a priori.

    The averages over readouts given (W, y) must then average to those of the prior too.
    """
    task, test = tasks(P=8, N0=3, n_test=2)
    rng, sigma = np.random.default_rng(0), PRIORS["weight_precision"] ** -0.5
    X, T, λ1 = task.X, PRIORS["temperature"], PRIORS["readout_precision"]
    position, rows = rng.standard_normal((1, width, 3)), []
    for _ in range(2000):
        net = law(Task(X, np.zeros(8)), width).network
        W = sigma * position
        v = rng.standard_normal((1, width)) / np.sqrt(λ1)
        y = net.output(W, v)[0] + np.sqrt(T) * rng.standard_normal(8)
        target = law(Task(X, y), width)
        angle = rng.uniform(0.5, 1) * np.pi / 2
        state, info = hmc(start(position, target), target, rng, step=step, angle=angle)
        position = state.position
        Phi = target.network.features(sigma * position)[0]
        Phi_0 = target.network.features(sigma * position, test.X)[0]
        readouts = target.network.readouts(Phi)
        mean, variance = readouts.predict(Phi_0)
        K_hat = Phi @ Phi.T / (λ1 * width)
        rows.append([
            (position**2).mean(), (position**4).mean(), position[0, 0, 0], position[0, 1, 1] ** 2,
            *K_hat[[0, 1, 2], [0, 2, 5]], *(mean**2 + variance), mean[0],
            readouts.order_parameter(), readouts.train_error(), info.acceptance[0],
        ])  # fmt: skip
    x = np.array(rows)
    acceptance = x[:, -1].mean()
    assert 0.3 < acceptance < 0.97  # neither no move nor one that any gradient would make
    precisions = {"weight_variance": sigma**2, "readout_precision": λ1}
    K = kernel(X, activation="erf", **precisions)
    K_0 = np.diag(kernel(test.X, activation="erf", **precisions))
    expected = [1, 3, 0, 1, *K[[0, 1, 2], [0, 2, 5]], *K_0, 0, 1, T]
    batches = x[:, :-1].reshape(25, 80, -1).mean(1)
    z = (batches.mean(0) - expected) / (batches.std(0, ddof=1) / np.sqrt(25))
    assert abs(z).max() < 4.5, z


def test_exact_draws_stay_distributed_right():
    """Prior draws resampled by their likelihood are moved; their laws must not change."""
    task, _ = tasks(P=4, N0=2)
    target, rng = law(task, 3), np.random.default_rng(0)
    prior = rng.standard_normal((12_000, 3, 2))
    value, _ = target(prior)
    weights = np.exp(value - value.max())
    weights /= weights.sum()
    assert 1 / (weights**2).sum() > 2000

    def observables(position, value):
        # of both signs under the symmetries, and one that no symmetry touches
        return np.stack([value, position[:, 0, 0], (position**2).sum((1, 2)),
                         (position[..., 0] * position[..., 1]).sum(1)])  # fmt: skip

    reference = observables(prior, value)
    state = start(prior[rng.choice(len(prior), 1500, p=weights)], target)
    for _ in range(4):
        state, info = hmc(state, target, rng, step=0.9, angle=rng.uniform(0.5, 1) * np.pi / 2)
    assert 0.3 < info.acceptance.mean() < 0.98
    for x, y in zip(observables(*state[:2]), reference, strict=True):
        order = np.argsort(y)
        cdf = np.cumsum(weights[order])
        distance = kstest(x, lambda q, y=y, order=order, cdf=cdf: np.interp(q, y[order], cdf))
        assert distance.statistic < 1.8 * np.sqrt(1 / 1500 + (weights**2).sum())


def test_chains_from_different_starts_agree():
    task, _ = tasks()
    target, rng = law(task, 5), np.random.default_rng(0)
    starts = np.stack([scale * rng.standard_normal((8, 5, 5)) for scale in (0.0, 1.0, 5.0)])
    state, rows = start(starts.reshape(24, 5, 5), target), []
    for i in range(300):
        angle = rng.uniform(0.5, 1) * np.pi / 2
        state, _ = hmc(state, target, rng, step=0.35, angle=angle)
        if i >= 60:
            found = target.measure(state.position, None)
            rows.append([found["order_parameter"], found["train_error"], state.log_likelihood])
    means = np.mean(rows, axis=0).reshape(3, 3, 8)  # quantity, start, chain
    error = means.std(2, ddof=1) / np.sqrt(8)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        away = abs(means[:, i].mean(1) - means[:, j].mean(1))
        assert (away < 4 * np.hypot(error[:, i], error[:, j])).all()


def test_the_bias_of_langevin_falls_as_the_square_of_its_step():
    """One hidden unit, one input: the exact average and exact starts by quadrature."""
    task, _ = tasks(P=3, N0=1, seed=1)
    target = law(task, 1, collapsed=False)

    def train_error(position):
        return ((task.y - target.network.output(*target.split(position))) ** 2).mean(1)

    grid = np.stack(np.meshgrid(*[np.linspace(-8, 8, 401)] * 2), axis=-1).reshape(-1, 1, 2)
    log_density = target(grid)[0] - 0.5 * (grid**2).sum((1, 2))
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    exact, biases, errors = density @ train_error(grid), [], []
    for step in (0.12, 0.24):
        rng = np.random.default_rng(0)
        state = start(grid[rng.choice(len(grid), 6000, p=density)], target)
        total, count = np.zeros(6000), 0
        for i in range(int(20 / step**2)):
            state = langevin(state, target, rng, step=step)
            if i > 4 / step**2 and i % 3 == 0:
                total += train_error(state.position)
                count += 1
        biases.append((total / count).mean() - exact)
        errors.append((total / count).std() / np.sqrt(6000))
    assert biases[0] > 5 * errors[0]  # the bias is there
    assert np.log2(biases[1] / biases[0]) == pytest.approx(2.2, abs=0.45)


def test_langevin_through_the_front_door_and_its_step():
    task, test = tasks()
    given = {"width": 5, "sampler": "langevin", "chains": 8, "test": test, **PRIORS, **QUIET}
    adapted = sample_posterior(task, draws=5, warmup=200, seed=0, **given)
    assert 0.05 < adapted.attrs["step_size"] <= 0.5
    fixed = sample_posterior(
        task, draws=600, thin=10, warmup=600, step_size=0.12, seed=0, activation="linear", **given
    )
    assert fixed.attrs["step_size"] == 0.12 and fixed.sizes["draw"] == 600
    exact, table = linear.solve(task, width=5, **PRIORS), summary(fixed)
    row = table.loc["train_error"]
    bias = row["mean"] - exact.train_error
    assert 4 * row.mcse < bias < 0.12 * exact.train_error  # seen, not hidden


# The dataset


def test_dataset_has_the_stated_shape_and_attributes():
    task, test = tasks()
    data = sample_posterior(
        task, width=3, test=test, chains=2, draws=5, warmup=4, seed=0, **PRIORS, **QUIET
    )
    assert dict(data.sizes) == {"chain": 2, "draw": 5, "test": 4}
    assert set(data) == {
        "order_parameter", "train_error", "prediction", "prediction_variance", "test_error",
    }  # fmt: skip
    assert data.prediction.dims == ("chain", "draw", "test")
    assert data.test_error.dims == ("chain", "draw")
    expected = {"width": 3, "activation": "erf", "sampler": "collapsed-hmc", **PRIORS}
    assert expected.items() <= data.attrs.items()
    assert 0 < data.attrs["acceptance"] <= 1 and data.attrs["step_size"] > 0
    error = ((test.y - data.prediction) ** 2 + data.prediction_variance).mean("test")
    np.testing.assert_allclose(data.test_error, error, rtol=1e-12)
    bare = sample_posterior(task, width=3, chains=1, draws=2, warmup=0, seed=0, **QUIET)
    assert set(bare) == {"order_parameter", "train_error"}
    for value in data.attrs.values():  # what netCDF can hold
        assert isinstance(value, (str, int, float, np.ndarray))


@pytest.mark.parametrize("sampler", ["collapsed-hmc", "hmc", "langevin"])
def test_one_seed_gives_one_result(sampler):
    task, _ = tasks()

    def run(seed):
        return sample_posterior(
            task, width=3, sampler=sampler, chains=2, draws=4, warmup=4, seed=seed, **QUIET
        )

    xr.testing.assert_identical(run(7), run(7))
    xr.testing.assert_identical(run(7), run(np.random.default_rng(7)))
    assert not np.allclose(run(7).order_parameter, run(8).order_parameter)


def test_progress_is_shown_on_request(capsys):
    task, _ = tasks()
    sample_posterior(task, width=2, chains=1, draws=3, warmup=3, seed=0, progress=True)
    assert "networks" in capsys.readouterr().err
    sample_posterior(task, width=2, chains=1, draws=3, warmup=3, seed=0, **QUIET)
    assert capsys.readouterr().err == ""


# Transfer


@pytest.fixture(scope="module")
def related():
    return linear_teachers(0, 40, 10, n_features=12, n_test=8)


def z_scores(table, expected):
    return {k: (table["mean"][k] - v) / table.mcse[k] for k, v in expected.items()}


def test_without_coupling_nothing_is_shared(related):
    source, target, test = related
    given = {"width": 10, "temperature": 0.2, **QUIET}
    data = sample_transfer(
        source, target, coupling=0.0, sources=40, test=test, draws=60, warmup=60, seed=0, **given
    )
    assert data.Q_t.dims == ("source", "chain", "draw") and data.Q_s.dims == ("source",)
    assert data.prediction.dims == ("source", "chain", "draw", "test")
    table = summary(data)
    assert table.judged.all() and (table.mcse > 0).all()
    z = z_scores(table, {"Q_st": 0, "Q_tt": 0, "source_variance": 0})
    assert max(map(abs, z.values())) < 4, z
    alone = summary(sample_posterior(
        target, test=test, chains=20, draws=150, warmup=60, seed=1, **given
    ))  # fmt: skip
    for name, of_one in {"Q_t": "order_parameter", "test_error": "test_error",
                         "train_error": "train_error"}.items():  # fmt: skip
        error = np.hypot(table.mcse[name], alone.mcse[of_one])
        assert abs(table["mean"][name] - alone["mean"][of_one]) < 4 * error
    bias, variance = table["mean"]["squared_bias"], table["mean"]["total_variance"]
    assert bias + variance == pytest.approx(table["mean"]["test_error"], rel=1e-10)


def test_frozen_features_are_the_limit_of_a_strong_coupling(related):
    source, target, test = related
    given = {"width": 10, "temperature": 0.2, "sources": 40, "test": test, "seed": 3}
    given |= {"warmup": 60, **QUIET}
    frozen = sample_transfer(source, target, coupling=np.inf, **given)
    assert dict(frozen.sizes) == {"source": 40, "chain": 1, "draw": 1, "test": 8}
    tight = sample_transfer(source, target, coupling=1e8, draws=4, **given)
    np.testing.assert_array_equal(frozen.Q_s, tight.Q_s)  # the same sources
    for name in ("Q_t", "Q_st", "Q_tt", "train_error", "test_error", "prediction"):
        limit = frozen[name].mean(("chain", "draw"))
        np.testing.assert_allclose(tight[name].mean(("chain", "draw")), limit, atol=2e-3)
    table = summary(frozen)
    assert table.judged.all()
    # Given frozen features only the readouts differ between replicas: their means coincide.
    assert (frozen.Q_tt > 0).all() and (frozen.Q_t > frozen.Q_tt).all()


def test_transfer_at_moderate_coupling_meets_the_theory():
    source, target, test = linear_teachers(0, 80, 15, n_test=20)
    given = {"width": 40, "temperature": 0.1, "coupling": 2.0}
    theory = transfer.solve(source, target, **given)
    outcome = theory.predict(test.X, test.y)
    data = sample_transfer(
        source, target, test=test, sources=60, draws=25, warmup=60, thin=2, source_chains=20,
        seed=0, **given, **QUIET,
    )  # fmt: skip
    table = summary(data)
    assert table.equals(summary(data.transpose("test", "draw", "source", "chain")))
    assert table.judged.all()
    expected = {
        "Q_s": (theory.Q_s, 0.05),
        "Q_t": (theory.Q_t, 0.03),
        "Q_st": (theory.Q_st, 0.10),
        "Q_tt": (theory.Q_tt, 0.10),
        "test_error": (outcome.test_error.mean(), 0.05),
        "train_error": (theory.train_error, 0.05),
        "total_variance": (outcome.total_variance.mean(), 0.05),
        "source_variance": (outcome.source_variance.mean(), 0.15),
        "squared_bias": (outcome.squared_bias.mean(), 0.10),
    }
    for name, (value, allowed) in expected.items():
        row = table.loc[name]
        assert abs(row["mean"] - value) < allowed * value + 3 * row.mcse, (name, value, row)
        assert row.mcse < (0.2 if name == "source_variance" else 0.1) * value
    # The effect itself: far from nothing shared.
    assert table["mean"]["Q_st"] > 10 * table.mcse["Q_st"]


def test_unequal_priors_of_source_and_target_are_each_its_own():
    """Frozen linear features at N1 = 1: one-dimensional integrals over the source's weight."""
    source, target = Task([[1.2], [-0.7]], [0.9, -0.2]), Task([[0.8]], [1.1])
    priors = {
        "temperature": 0.3, "readout_precision": 0.8, "weight_precision": 5.0,
        "source_temperature": 0.6, "source_readout_precision": 1.9, "source_weight_precision": 0.5,
    }  # fmt: skip
    data = sample_transfer(
        source, target, width=1, coupling=np.inf, sources=3000, source_chains=30, source_thin=2,
        activation="linear", seed=0, **priors, **QUIET,
    )  # fmt: skip
    w = np.linspace(-15, 15, 40_001)
    S, R = source.X[:, 0], target.X[0, 0]
    norms, T_s, l_s = (S @ S) * w**2, 0.6, 1.9
    # The source: K̂ = w² S Sᵀ/λ1, of rank one.
    quadratic = (source.y @ source.y - (S @ source.y * w) ** 2 / (l_s * T_s + norms)) / T_s
    density = np.exp(-0.25 * w**2 - 0.5 * quadratic) / np.sqrt(l_s * T_s + norms)
    density /= density.sum()
    v_s = w * (S @ source.y) / (norms + l_s * T_s)
    v_t = w * R * 1.1 / ((w * R) ** 2 + 0.8 * 0.3)
    variance = 0.3 / ((w * R) ** 2 + 0.8 * 0.3)
    expected = {
        "Q_t": 0.8 * density @ (v_t**2 + variance),
        "Q_tt": 0.8 * density @ v_t**2,
        "Q_st": np.sqrt(1.9 * 0.8) * density @ (v_s * v_t),
        "Q_s": 1.9 * density @ (v_s**2 + 0.6 / (norms + l_s * T_s)),
    }
    table = summary(data)
    z = z_scores(table, expected)
    assert max(map(abs, z.values())) < 4, z
    assert (table.mcse[list(expected)] < 0.05 * np.array(list(expected.values()))).all()


def test_three_replicas_and_reproducible_transfer(related):
    source, target, _ = related

    def run(seed):
        return sample_transfer(
            source, target, width=4, coupling=3.0, sources=5, chains=3, draws=3, warmup=5,
            seed=seed, **QUIET,
        )  # fmt: skip

    data = run(2)
    assert dict(data.sizes) == {"source": 5, "chain": 3, "draw": 3}
    xr.testing.assert_identical(data, run(2))
    assert not np.allclose(data.Q_tt, run(3).Q_tt)
    assert {"coupling", "source_chains", "acceptance"} <= set(data.attrs)
    # v1·v2, v2·v3, v3·v1 belong to the chains in turn: no pair counts twice.
    assert len(np.unique(data.Q_tt[..., 0])) == 15


def test_sources_drawn_before_are_the_same_as_those_drawn_within(related):
    source, target, test = related
    given = {"width": 4, "temperature": 0.2, "warmup": 8, **QUIET}
    rng = np.random.default_rng(5)
    sources = sample_posterior(source, chains=5, draws=4, thin=3, weights=True, seed=rng, **given)
    assert sources.hidden_weights.dims == ("chain", "draw", "unit", "feature")
    given |= {"coupling": 3.0, "test": test, "draws": 4}
    before = sample_transfer(source, target, sources=sources, seed=rng, **given)
    within = sample_transfer(
        source, target, sources=20, source_chains=5, source_thin=3, seed=5, **given
    )
    xr.testing.assert_identical(before, within)
    np.testing.assert_array_equal(before.Q_s[:5], sources.order_parameter[:, 0])
    assert "hidden_weights" not in summary(sources).index
    fewer = sources.isel(draw=slice(2))
    assert sample_transfer(source, target, sources=fewer, **given).sizes["source"] == 10


# Tempering


def test_tempered_chains_have_the_exact_averages_at_their_own_temperature():
    task, test = tasks()
    exact = linear.solve(task, width=5, **PRIORS)
    given = {"width": 5, "activation": "linear", "test": test, "chains": 8, "tempering": (0.5, 2)}
    given |= {"draws": 250, "warmup": 100, **PRIORS, **QUIET}
    data = sample_posterior(task, seed=1, **given)
    table = summary(data)
    assert (table.r_hat < 1.02).all() and data.sizes["chain"] == 8
    agree(table, "order_parameter", exact.Q)
    agree(table, "train_error", exact.train_error)
    agree(table, "test_error", exact.predict(test.X, test.y).test_error.mean())
    np.testing.assert_array_equal(data.attrs["tempering"], [0.5, 2])
    assert data.attrs["exchange"].shape == (2,) and (data.attrs["exchange"] > 0.1).all()
    xr.testing.assert_identical(data, sample_posterior(task, seed=1, **given))


def test_tempering_carries_chains_between_modes_that_keep_them_apart():
    """One relu unit fits one of two examples, with w > 0 or with w < 0: wells of known weight."""
    T, task = 0.02, Task([[1.0], [-1.0]], [1.0, 1.02])
    w = np.linspace(-8, 8, 160_001)
    variance = T + np.maximum(np.stack([w, -w]), 0) ** 2
    log_density = -0.5 * w**2 - 0.5 * (task.y[:, None] ** 2 / variance + np.log(variance)).sum(0)
    density = np.exp(log_density - log_density.max())
    right = density[w > 0].sum() / density.sum()
    assert 0.2 < right < 0.4 and log_density.max() - log_density[80_000] > 20
    given = {"width": 1, "activation": "relu", "temperature": T, "chains": 20, "warmup": 50}
    given |= {"draws": 200, "weights": True, "seed": 0, **QUIET}
    stuck = sample_posterior(task, **given).hidden_weights[..., 0, 0] > 0
    assert set(stuck.mean("draw").values) == {0, 1}
    moved = sample_posterior(task, tempering=(0.06, 0.2, 1.0), **given)
    of_chain = (moved.hidden_weights[..., 0, 0] > 0).mean("draw")
    error = of_chain.std("chain", ddof=1) / np.sqrt(20)
    assert error < 0.04 and abs(of_chain.mean() - right) < 4 * error


# The table


def ar1(rng, shape, rho):
    """Stationary AR(1) series of unit variance along the last axis."""
    x = rng.standard_normal(shape)
    for i in range(1, shape[-1]):
        x[..., i] = rho * x[..., i - 1] + np.sqrt(1 - rho**2) * x[..., i]
    return x


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_errors_and_sample_sizes_of_known_chains(rho):
    rng, chains, draws = np.random.default_rng(0), 4, 1500
    names = [f"x{i}" for i in range(120)]
    values = ar1(rng, (120, chains, draws), rho)
    data = xr.Dataset({n: (("chain", "draw"), 3 + x) for n, x in zip(names, values, strict=True)})
    table = summary(data)
    assert table.judged.all() and (table.r_hat < 1.05).all()
    z = (table["mean"] - 3) / table.mcse
    assert 0.8 < z.std() < 1.2 and (abs(z) < 2).mean() > 0.9
    exact = chains * draws * (1 - rho) / (1 + rho)
    assert table.ess.mean() == pytest.approx(exact, rel=0.1)


def test_chains_that_disagree_are_seen():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 2000)) + 2 * np.arange(4)[:, None]
    table = summary(xr.Dataset({"x": (("chain", "draw"), x)}))
    assert not table.judged["x"] or table.r_hat["x"] > 1.5


@pytest.mark.parametrize("draws,rho", [(1, 0.0), (3, 0.0), (12, 0.0), (500, 0.99)])
def test_chains_too_short_have_no_numbers(draws, rho):
    x = ar1(np.random.default_rng(0), (4, draws), rho)
    table = summary(xr.Dataset({"x": (("chain", "draw"), x)}))
    assert not table.judged["x"]
    assert table.drop(columns="judged").isna().all(axis=None)


def synthetic(rng, S, *, chains=2, draws=10, a=0.7, b=1.1, c=0.4):
    """Sources of spread a, draws around them of spread b, readouts of variance c."""
    mean, y = np.array([0.5, -1.0, 2.0]), np.array([1.0, -1.2, 1.0])
    f = mean + a * rng.standard_normal((S, 1, 1, 3))
    f = f + b * rng.standard_normal((S, chains, draws, 3))
    dims = ("source", "chain", "draw")
    error = ((y - f) ** 2 + c).mean(-1)
    data = xr.Dataset(
        {
            "prediction": ((*dims, "test"), f),
            "prediction_variance": ((*dims, "test"), np.full_like(f, c)),
            "test_error": (dims, error),
        },
        attrs={"test_labels": y, "source_chains": S},
    )
    bias = ((y - mean) ** 2).mean()
    truth = {"squared_bias": bias, "total_variance": a**2 + b**2 + c, "source_variance": a**2}
    return data, truth | {"test_error": bias + a**2 + b**2 + c}


@pytest.mark.parametrize("sources,chains", [(12, 2), (40, 3)])
def test_decomposition_is_unbiased_and_its_errors_are_calibrated(sources, chains):
    rng, away, errors = np.random.default_rng(0), [], []
    for _ in range(300):
        data, truth = synthetic(rng, sources, chains=chains, draws=4)
        parts = _decomposition(data)
        away.append([parts[name][0] - truth[name] for name in PARTS])
        errors.append([parts[name][1] for name in PARTS])
    away, z = np.array(away), np.divide(away, errors)
    assert (abs(away.mean(0)) < 4 * away.std(0) / np.sqrt(300)).all()
    assert ((0.85 < z.std(0)) & (z.std(0) < 1.4)).all(), z.std(0)


def test_the_table_of_a_transfer_holds_the_truth():
    data, truth = synthetic(np.random.default_rng(0), 60)
    table = summary(data)
    assert table.judged.all() and list(table.index) == ["test_error", *PARTS]
    z = z_scores(table, truth)
    assert max(map(abs, z.values())) < 4, z
    total = table["mean"]["squared_bias"] + table["mean"]["total_variance"]
    assert total == pytest.approx(table["mean"]["test_error"], rel=1e-12)


def test_frozen_sources_are_decomposed_without_replicas():
    rng, away = np.random.default_rng(0), []
    for _ in range(300):
        data, truth = synthetic(rng, 20, chains=1, draws=1, b=0.0)
        parts = _decomposition(data)
        away.append([parts[name][0] - truth[name] for name in PARTS])
    assert (abs(np.mean(away, axis=0)) < 4 * np.std(away, axis=0) / np.sqrt(300)).all()


@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_sources_of_one_chain_count_for_less_if_they_are_correlated(rho):
    """In the order of `sample_transfer`: the first draws of all chains before the second ones."""
    rng, chains, length = np.random.default_rng(0), 10, 40
    x = ar1(rng, (200, chains, length), rho).swapaxes(1, 2).reshape(200, -1)
    found = np.array([_independent(of_source, chains) for of_source in x])
    exact = chains * length * (1 - rho) / (1 + rho)
    assert found[:, 0].mean() == pytest.approx(exact, rel=0.12)
    assert np.median(found[:, 1]) < 1.2 and found[:, 0].max() <= chains * length
    z = x.mean(1) / (x.std(1, ddof=1) / np.sqrt(found[:, 0]))
    assert 0.85 < z.std() < 1.15
    assert _independent(x[0], 400)[0] == 400 and _independent(x[0][:30], 10)[0] == 10


def test_each_quantity_has_its_own_number_of_sources():
    rng = np.random.default_rng(0)
    data, _ = synthetic(rng, 60)
    data.attrs["source_chains"] = 4
    data["Q_t"] = data.test_error + 20 * xr.DataArray(
        ar1(rng, (4, 15), 0.9).T.ravel(), dims="source"
    )
    table = summary(data)
    assert table.sources["test_error"] > 30 > 2 * table.sources["Q_t"] or not table.judged["Q_t"]
    means = data.test_error.mean(("chain", "draw"))
    error = means.std(ddof=1) / np.sqrt(table.sources["test_error"])
    assert table.mcse["test_error"] == pytest.approx(float(error), rel=1e-12)


@pytest.mark.parametrize(
    "sources,draws,source_chains", [(5, 10, 5), (40, 3, 40), (27, 10, 9), (60, 10, 1)]
)
def test_too_few_sources_or_draws_have_no_numbers(sources, draws, source_chains):
    data, _ = synthetic(np.random.default_rng(0), sources, draws=draws)
    data.attrs["source_chains"] = source_chains
    if source_chains == 1:  # a chain that never moved
        data["test_error"] = data.test_error + 100 * (data.source // 30)
    table = summary(data)
    assert not table.judged.any()
    assert table.drop(columns="judged").isna().all(axis=None)


@pytest.mark.parametrize("sources,draws", [(20, 200), (100, 24)])
def test_r_hat_is_taken_within_sources(sources, draws):
    """Sources differ by construction; chains around one source that differ are a fault."""
    data, _ = synthetic(np.random.default_rng(0), sources, draws=draws, a=5.0)
    assert 0.97 < summary(data).r_hat["test_error"] < 1.02
    data["test_error"] = data.test_error + 5 * data.test_error.std() * xr.DataArray(
        [0.0, 1.0], dims="chain"
    )
    table = summary(data)
    assert not table.judged["test_error"] or table.r_hat["test_error"] > 1.5


def test_pooled_r_hat_of_chains_that_are_off_by_a_known_amount():
    """A shift d between two chains of unit variance: R² = 1 + d²/3 over their four halves."""
    x = np.random.default_rng(0).standard_normal((300, 2, 100))
    assert pooled_r_hat(x) == pytest.approx(1, abs=0.003)
    x[:, 0] += 0.6
    assert pooled_r_hat(x) == pytest.approx(np.sqrt(1 + 0.6**2 / 3), rel=0.005)


# What is refused


HOLE = Activation("hole", np.tanh, lambda z: np.where(z > 0.4, np.nan, 1 - np.tanh(z) ** 2))
FAR = Activation("far", lambda z: np.where(abs(z) > 5, np.nan, z), np.ones_like)


@pytest.mark.parametrize(
    "sampler,activation",
    [
        ("collapsed-hmc", HOLE),
        ("hmc", HOLE),
        ("langevin", HOLE),
        ("collapsed-hmc", FAR),
        ("hmc", FAR),
    ],
)
def test_a_posterior_that_is_not_finite_stops_with_the_state(sampler, activation):
    task, _ = tasks()
    with pytest.raises(SamplingError, match=r"not finite .*chains.*higher temperature") as caught:
        sample_posterior(
            task, width=6, activation=activation, sampler=sampler, draws=5000, seed=0, **QUIET
        )
    state = caught.value.state
    assert state.shape[:2] == (4, 6) and np.isfinite(state).all()
    when = "at the start" if activation is HOLE else "in step"
    assert when in str(caught.value)


def test_a_likelihood_of_zero_is_rejected_and_no_error():
    """ln 0 = -inf with finite gradients: a trajectory ends there, and is not taken."""

    class Cliff:
        readout_precision = 1.0

        def joint(self, W, v):
            value = np.where(W[:, 0, 0] > 1.0, -np.inf, 0.0)
            return value, np.zeros_like(W), np.zeros_like(v)

    target = _Target(Cliff(), 0.0, 1.0, False)
    state, rng = start(np.zeros((50, 2, 3)), target), np.random.default_rng(0)
    reached = []
    for _ in range(40):
        state, _ = hmc(state, target, rng, step=0.5, angle=1.5, rotate=False)
        reached.append(state.position[:, 0, 0])
    assert 0.5 < np.max(reached) < 1.0


def test_langevin_that_runs_away_says_so():
    task, _ = tasks()
    with pytest.raises(SamplingError, match=r"of size 1.9.*smaller step") as caught:
        sample_posterior(
            task, width=3, activation="linear", sampler="langevin", step_size=1.9, seed=0,
            temperature=1e-3, **QUIET,
        )  # fmt: skip
    assert np.isfinite(caught.value.state).all()


def test_a_step_much_too_large_is_a_divergence_not_an_error():
    task, _ = tasks()
    data = sample_posterior(
        task, width=3, activation="relu", sampler="hmc", step_size=1.5, warmup=0, draws=20,
        temperature=1e-4, seed=0, **QUIET,
    )  # fmt: skip
    assert data.attrs["divergences"] > 0 and np.isfinite(data.order_parameter).all()


@pytest.mark.parametrize(
    "change,error,words",
    [
        ({"chains": 0}, ValueError, "chains must be an integer >= 1, got 0"),
        ({"draws": 0}, ValueError, "draws must be an integer >= 1, got 0"),
        ({"thin": 0}, ValueError, "thin must be an integer >= 1"),
        ({"warmup": -1}, ValueError, "warmup must be an integer >= 0, got -1"),
        ({"width": 0.5}, TypeError, "width must be an integer >= 1, got 0.5"),
        ({"width": np.inf}, TypeError, "width must be an integer >= 1, got inf"),
        ({"width": 0}, ValueError, "width must be an integer >= 1, got 0"),
        ({"sampler": "nuts"}, ValueError, "sampler must be one of 'collapsed-hmc'.*'nuts'"),
        ({"activation": "sine"}, ValueError, "activation .*'sine'"),
        ({"activation": np.sin}, TypeError, "'sin' has no derivative"),
        ({"temperature": 0.0}, ValueError, "temperature .* > 0.*0.0"),
        ({"temperature": np.nan}, ValueError, "temperature"),
        ({"weight_precision": -1.0}, ValueError, "weight_precision"),
        ({"readout_precision": np.inf}, ValueError, "readout_precision"),
        ({"step_size": 0.0}, ValueError, "step_size must be a number > 0, got 0.0"),
        ({"test": tasks(N0=4)[1]}, ValueError, "test.X must have N0 = 5"),
        ({"tempering": (0.1, 0.05)}, ValueError, r"tempering must increase from T = 0.01, got"),
        ({"tempering": (0.01,)}, ValueError, "tempering must increase"),
        ({"tempering": (np.inf,)}, ValueError, "tempering"),
        ({"tempering": None}, TypeError, "tempering must be a number > 0, got None"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0 or a Generator, got -1"),
        ({"test": np.ones((2, 5))}, TypeError, "test must be a tlnb.Task"),
        ({"task": np.ones((2, 5))}, TypeError, "task must be a tlnb.Task"),
    ],
)
def test_bad_arguments_are_named(change, error, words):
    arguments = {"task": tasks()[0], "width": 3, "seed": 0, **QUIET} | change
    with pytest.raises(error, match=words):
        sample_posterior(arguments.pop("task"), **arguments)


@pytest.mark.parametrize(
    "change,error,words",
    [
        ({"coupling": -1.0}, ValueError, "coupling must be a number >= 0 or infinity, got -1.0"),
        ({"sources": 1}, ValueError, "sources must be an integer >= 2, got 1"),
        ({"chains": 1}, ValueError, "chains must be an integer >= 2, got 1"),
        ({"source_chains": 0}, ValueError, "source_chains"),
        ({"source_thin": 0}, ValueError, "source_thin"),
        ({"width": np.inf}, TypeError, "width must be an integer"),
        ({"target": tasks(N0=4)[0]}, ValueError, "target.X must have N0 = 5"),
        ({"source": None}, TypeError, "source must be a tlnb.Task"),
        ({"coupling_scheme": "stiff"}, ValueError, "coupling_scheme"),
        ({"activation": np.sin}, TypeError, "'sin' has no derivative"),
        ({"temprature": 0.1}, TypeError, "temprature"),
    ],
)
def test_bad_arguments_of_a_transfer_are_named(change, error, words):
    task = tasks()[0]
    given = {"source": task, "target": task, "width": 3, "coupling": 1.0, "seed": 0, **QUIET}
    given |= change
    with pytest.raises(error, match=words):
        sample_transfer(given.pop("source"), given.pop("target"), **given)


@pytest.mark.parametrize(
    "change",
    [{"width": 4}, {"source_temperature": 0.3}, {"source_weight_precision": 2.0},
     {"activation": "tanh"}, {"source": tasks(seed=1)[0]}, {"source": tasks(N0=6)[0]}],
)  # fmt: skip
def test_sources_of_another_posterior_are_refused(change):
    task = tasks()[0]
    drawn = sample_posterior(task, width=3, weights=True, draws=3, warmup=0, seed=0, **QUIET)
    given = {"source": task, "width": 3, "coupling": 1.0} | change
    target = tasks(N0=given["source"].n_features)[0]
    with pytest.raises(ValueError, match=r"sources must be .* from the posterior of this source"):
        sample_transfer(given.pop("source"), target, sources=drawn, **given, **QUIET)
    for bare, error, words in (
        (drawn.drop_vars("hidden_weights"), TypeError, "got Dataset without hidden_weights"),
        (drawn.drop_vars("order_parameter"), TypeError, "hidden_weights and order_parameter"),
        (drawn.isel(chain=0), ValueError, r"sources must be .* got a Dataset over .'draw'"),
        (drawn.isel(chain=[0], draw=[0]), ValueError, "sources must be an integer >= 2, got 1"),
    ):
        with pytest.raises(error, match=words):
            sample_transfer(task, task, sources=bare, width=3, coupling=1.0, **QUIET)
