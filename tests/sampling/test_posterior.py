"""Networks of one task against exact laws and each other; the dataset; what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import kstest
from xarray import Dataset

from tests.instances import noisy_teacher as tasks
from tlnb import Activation, Task
from tlnb.errors import SamplingError
from tlnb.kernels import get_activation, kernel
from tlnb.sampling import sample_posterior, stand_ins, summary
from tlnb.sampling.adaptation import ANGLES
from tlnb.sampling.density import WhitenedPosterior
from tlnb.sampling.hmc import hmc, init, langevin, leapfrog
from tlnb.sampling.likelihood import NetworkLikelihood, draw_readouts
from tlnb.theory.exact import linear

PRIORS: dict[str, Any] = {"temperature": 0.2, "weight_precision": 1.4, "readout_precision": 0.7}
QUIET: dict[str, Any] = {"progress": False}


def law(
    task: Task, width: int, activation: str = "erf", *, collapsed: bool = True
) -> WhitenedPosterior:
    """The whitened density that `sample_posterior` moves in."""
    net = NetworkLikelihood(
        task, get_activation(activation), width, PRIORS["temperature"], PRIORS["readout_precision"]
    )
    return WhitenedPosterior(net, 0.0, PRIORS["weight_precision"] ** -0.5, collapsed)


def agree(table: Any, name: str, expected: Any, sigmas: float = 4.0) -> None:
    row = table.loc[name]
    assert row.judged and abs(row["mean"] - expected) < sigmas * row.mcse, (name, expected, row)


@pytest.mark.parametrize("width", [1, 5, 40])
def test_linear_networks_have_their_exact_averages(width: int) -> None:
    task, test = tasks()
    exact = linear.solve(task, width=width, **PRIORS)
    outcome = exact.predict(test.X, test.y)
    data = sample_posterior(
        task, width=width, activation="linear", test=test, chains=8, draws=300, warmup=120,
        rng=1, **PRIORS, **QUIET,
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


def test_order_parameter_of_the_readouts_drawn_has_the_exact_density() -> None:
    """The whole law of Q = (λ1/N1)‖v‖², not only its mean."""
    task, _ = tasks()
    exact, target = linear.solve(task, width=5, **PRIORS), law(task, 5, "linear")
    rng = np.random.default_rng(0)
    state = init(rng.standard_normal((300, 5, 5)), target)
    for _ in range(25):
        state, _ = hmc(state, target, rng, step=0.4, angle=rng.uniform(0.5, 1) * np.pi / 2)
    v = draw_readouts(target.network, target.split(state.position)[0], rng)
    Q = PRIORS["readout_precision"] / 5 * (v**2).sum(1)
    grid = np.geomspace(1e-3, 50, 4001)
    cdf = np.concatenate([[0], np.cumsum(np.diff(grid) * exact.density(grid)[1:])])
    assert kstest(Q, lambda q: np.interp(q, grid, cdf)).statistic < 1.95 / np.sqrt(300)


def test_plain_hmc_samples_the_same_posterior() -> None:
    task, test = tasks()
    given: dict[str, Any] = {"width": 5, "test": test, "chains": 8, **PRIORS, **QUIET}
    collapsed = sample_posterior(task, draws=300, warmup=150, rng=1, **given)
    plain = sample_posterior(task, sampler="hmc", draws=800, warmup=300, rng=2, **given)
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
def test_labels_redrawn_between_steps_leave_the_prior(width: int, step: float) -> None:
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
        state, info = hmc(init(position, target), target, rng, step=step, angle=angle)
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
    precisions: dict[str, Any] = {"weight_variance": sigma**2, "readout_precision": λ1}
    K = kernel(X, activation="erf", **precisions)
    K_0 = np.diag(kernel(test.X, activation="erf", **precisions))
    expected = [1, 3, 0, 1, *K[[0, 1, 2], [0, 2, 5]], *K_0, 0, 1, T]
    batches = x[:, :-1].reshape(25, 80, -1).mean(1)
    z = (batches.mean(0) - expected) / (batches.std(0, ddof=1) / np.sqrt(25))
    assert abs(z).max() < 4.5, z


def test_exact_draws_stay_distributed_right() -> None:
    """Prior draws resampled by their likelihood are moved; their laws must not change."""
    task, _ = tasks(P=4, N0=2)
    target, rng = law(task, 3), np.random.default_rng(0)
    prior = rng.standard_normal((12_000, 3, 2))
    value, _ = target(prior)
    weights = np.exp(value - value.max())
    weights /= weights.sum()
    assert 1 / (weights**2).sum() > 2000

    def observables(position: np.ndarray, value: Any) -> np.ndarray:
        # of both signs under the symmetries, and one that no symmetry touches
        return np.stack([value, position[:, 0, 0], (position**2).sum((1, 2)),
                         (position[..., 0] * position[..., 1]).sum(1)])  # fmt: skip

    reference = observables(prior, value)
    state = init(prior[rng.choice(len(prior), 1500, p=weights)], target)
    for _ in range(4):
        state, info = hmc(state, target, rng, step=0.9, angle=rng.uniform(0.5, 1) * np.pi / 2)
    assert 0.3 < info.acceptance.mean() < 0.98
    for x, y in zip(observables(*state[:2]), reference, strict=True):
        order = np.argsort(y)
        cdf = np.cumsum(weights[order])
        distance = kstest(x, lambda q, y=y, order=order, cdf=cdf: np.interp(q, y[order], cdf))
        assert distance.statistic < 1.8 * np.sqrt(1 / 1500 + (weights**2).sum())


def test_chains_from_different_starts_agree() -> None:
    task, _ = tasks()
    target, rng = law(task, 5), np.random.default_rng(0)
    starts = np.stack([scale * rng.standard_normal((8, 5, 5)) for scale in (0.0, 1.0, 5.0)])
    state, rows = init(starts.reshape(24, 5, 5), target), []
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


def test_the_bias_of_langevin_falls_as_the_square_of_its_step() -> None:
    """One hidden unit, one input: the exact average and exact starts by quadrature."""
    task, _ = tasks(P=3, N0=1, seed=1)
    target = law(task, 1, collapsed=False)

    def train_error(position: np.ndarray) -> np.ndarray:
        return ((task.y - target.network.output(*target.split(position))) ** 2).mean(1)

    grid = np.stack(np.meshgrid(*[np.linspace(-8, 8, 401)] * 2), axis=-1).reshape(-1, 1, 2)
    log_density = target(grid)[0] - 0.5 * (grid**2).sum((1, 2))
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    exact, biases, errors = density @ train_error(grid), [], []
    for step in (0.12, 0.24):
        rng = np.random.default_rng(0)
        state = init(grid[rng.choice(len(grid), 6000, p=density)], target)
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


def test_langevin_through_the_front_door_and_its_step() -> None:
    task, test = tasks()
    given: dict[str, Any] = {
        "width": 5,
        "sampler": "langevin",
        "chains": 8,
        "test": test,
        **PRIORS,
        **QUIET,
    }
    adapted = sample_posterior(task, draws=5, warmup=200, rng=0, **given)
    assert 0.05 < adapted.attrs["step_size"] <= 0.5
    fixed = sample_posterior(
        task, draws=600, thin=10, warmup=600, step_size=0.12, rng=0, activation="linear", **given
    )
    assert fixed.attrs["step_size"] == 0.12 and fixed.sizes["draw"] == 600
    exact, table = linear.solve(task, width=5, **PRIORS), summary(fixed)
    row = table.loc["train_error"]
    bias = row["mean"] - exact.train_error
    assert 4 * row.mcse < bias < 0.12 * exact.train_error  # seen, not hidden


@pytest.mark.parametrize("width", [5, 20])
def test_what_a_state_carries_measures_the_same(width: int) -> None:
    """On both sides of P = N1: with the fit of the last gradient, and from the weights anew."""
    task, test = tasks()
    target, rng = law(task, width), np.random.default_rng(0)
    state = init(rng.standard_normal((6, width, 5)), target)
    for _ in range(4):
        state, _ = hmc(state, target, rng, step=0.6, angle=1.2)
    with_details = target.measure(state.position, test, state.details)
    anew = target.measure(state.position, test)
    for name, values in anew.items():
        np.testing.assert_allclose(with_details[name], values, rtol=1e-10, atol=1e-12)
    for ours, plain in zip(
        target.in_detail(state.position)[:2], target(state.position), strict=True
    ):
        np.testing.assert_array_equal(ours, plain)


@pytest.mark.parametrize("width", [5, 20])
def test_a_force_in_single_precision_leads_back(width: int) -> None:
    """To its own rounding, which is the same for each chain whatever chains are beside it."""
    task, _ = tasks()
    target, rng = law(task, width), np.random.default_rng(0)
    assert target.network.stand_in.dtype is np.float32
    x, p = rng.standard_normal((2, 6, width, 5))
    end, arrived = leapfrog(init(x, target), p, target, step=0.2, steps=7)
    back, returned = leapfrog(end, -arrived, target, step=0.2, steps=7)
    assert abs(end.position - x).max() > 1
    np.testing.assert_allclose(back.position, x, atol=1e-5)
    np.testing.assert_allclose(returned, -p, atol=1e-5)
    np.testing.assert_array_equal(target.force(x)[2:3], target.force(x[2:3]))


def test_a_stand_in_costs_no_acceptance_at_the_coldest_temperature_that_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X = np.random.default_rng(0).standard_normal((12, 4))
    given: dict[str, Any] = {
        "width": 8,
        "temperature": stand_ins.COLDEST,
        "chains": 8,
        "warmup": 90,
        "draws": 40,
    }
    steps = {}
    for coldest in (stand_ins.COLDEST, np.inf):
        monkeypatch.setattr(stand_ins, "COLDEST", coldest)
        run = sample_posterior(Task(X, 0.3 * X[:, 0]), rng=0, **given, **QUIET)
        assert run.attrs["acceptance"] > 0.7
        steps[coldest] = run.attrs["step_size"]
    near, exact = steps.values()
    assert near != exact and near > 0.85 * exact


def test_trajectories_are_learnt_in_a_warm_up_that_is_long_enough() -> None:
    task, _ = tasks()
    given: dict[str, Any] = {"width": 4, "chains": 2, "draws": 2, "rng": 0, **PRIORS, **QUIET}
    short = sample_posterior(task, warmup=99, **given)
    long, fixed = (sample_posterior(task, warmup=300, step_size=s, **given) for s in (None, 0.3))
    assert short.attrs["trajectory"] == np.pi / 2
    assert long.attrs["trajectory"] in ANGLES and long.attrs["step_size"] > 0
    assert fixed.attrs["trajectory"] in ANGLES and fixed.attrs["step_size"] == 0.3
    dynamics = sample_posterior(task, warmup=150, sampler="langevin", **given)
    assert dynamics.attrs["trajectory"] == 0


def test_richness_is_a_readout_precision_for_each_unit() -> None:
    task, _ = tasks()
    given: dict[str, Any] = {"width": 4, "chains": 1, "draws": 3, "warmup": 3, "rng": 0, **QUIET}
    rich = sample_posterior(task, richness=0.5, **given)
    xr.testing.assert_identical(rich, sample_posterior(task, readout_precision=2.0, **given))
    with pytest.raises(TypeError, match=r"sample_posterior.. got an unexpected .* 'temprature'"):
        sample_posterior(task, temprature=0.1, **given)


# The dataset


def test_dataset_has_the_stated_shape_and_attributes() -> None:
    task, test = tasks()
    data = sample_posterior(
        task, width=3, test=test, chains=2, draws=5, warmup=4, rng=0, **PRIORS, **QUIET
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
    bare = sample_posterior(task, width=3, chains=1, draws=2, warmup=0, rng=0, **QUIET)
    assert set(bare) == {"order_parameter", "train_error"}
    for value in data.attrs.values():  # what netCDF can hold
        assert isinstance(value, (str, int, float, np.ndarray))


@pytest.mark.parametrize("sampler", ["collapsed-hmc", "hmc", "langevin"])
def test_one_seed_gives_one_result(sampler: str) -> None:
    task, _ = tasks()

    def run(seed: int | np.random.Generator) -> Dataset:
        return sample_posterior(
            task, width=3, sampler=sampler, chains=2, draws=4, warmup=4, rng=seed, **QUIET
        )

    xr.testing.assert_identical(run(7), run(7))
    xr.testing.assert_identical(run(7), run(np.random.default_rng(7)))
    assert not np.allclose(run(7).order_parameter, run(8).order_parameter)


def test_progress_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    task, _ = tasks()
    sample_posterior(task, width=2, chains=1, draws=3, warmup=3, rng=0, progress=True)
    assert "networks" in capsys.readouterr().err
    sample_posterior(task, width=2, chains=1, draws=3, warmup=3, rng=0, **QUIET)
    assert capsys.readouterr().err == ""


# Tempering


def test_tempered_chains_have_the_exact_averages_at_their_own_temperature() -> None:
    task, test = tasks()
    exact = linear.solve(task, width=5, **PRIORS)
    given: dict[str, Any] = {
        "width": 5,
        "activation": "linear",
        "test": test,
        "chains": 8,
        "tempering": (0.5, 2),
    }
    given |= {"draws": 250, "warmup": 100, **PRIORS, **QUIET}
    data = sample_posterior(task, rng=1, **given)
    table = summary(data)
    assert (table.r_hat < 1.02).all() and data.sizes["chain"] == 8
    agree(table, "order_parameter", exact.Q)
    agree(table, "train_error", exact.train_error)
    agree(table, "test_error", exact.predict(test.X, test.y).test_error.mean())
    np.testing.assert_array_equal(data.attrs["tempering"], [0.5, 2])
    assert data.attrs["exchange"].shape == (2,) and (data.attrs["exchange"] > 0.1).all()
    xr.testing.assert_identical(data, sample_posterior(task, rng=1, **given))


def test_tempering_carries_chains_between_modes_that_keep_them_apart() -> None:
    """One relu unit fits one of two examples, with w > 0 or with w < 0: wells of known weight."""
    T, task = 0.02, Task([[1.0], [-1.0]], [1.0, 1.02])
    w = np.linspace(-8, 8, 160_001)
    variance = T + np.maximum(np.stack([w, -w]), 0) ** 2
    log_density = -0.5 * w**2 - 0.5 * (task.y[:, None] ** 2 / variance + np.log(variance)).sum(0)
    density = np.exp(log_density - log_density.max())
    right = density[w > 0].sum() / density.sum()
    assert 0.2 < right < 0.4 and log_density.max() - log_density[80_000] > 20
    given: dict[str, Any] = {
        "width": 1,
        "activation": "relu",
        "temperature": T,
        "chains": 20,
        "warmup": 50,
    }
    given |= {"draws": 200, "weights": True, "rng": 0, **QUIET}
    stuck = sample_posterior(task, **given).hidden_weights[..., 0, 0] > 0
    assert set(stuck.mean("draw").values) == {0, 1}
    moved = sample_posterior(task, tempering=(0.06, 0.2, 1.0), **given)
    of_chain = (moved.hidden_weights[..., 0, 0] > 0).mean("draw")
    error = of_chain.std("chain", ddof=1) / np.sqrt(20)
    assert error < 0.04 and abs(of_chain.mean() - right) < 4 * error


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
def test_a_posterior_that_is_not_finite_stops_with_the_state(sampler: str, activation: str) -> None:
    task, _ = tasks()
    with pytest.raises(SamplingError, match=r"not finite .*chains.*higher temperature") as caught:
        sample_posterior(
            task, width=6, activation=activation, sampler=sampler, draws=5000, rng=0, **QUIET
        )
    state: Any = caught.value.state
    assert state.shape[:2] == (4, 6) and np.isfinite(state).all()
    when = "at the start" if activation is HOLE else "in step"
    assert when in str(caught.value)


def test_a_likelihood_of_zero_is_rejected_and_no_error() -> None:
    """ln 0 = -inf with finite gradients: a trajectory ends there, and is not taken."""

    class Cliff:
        readout_precision = 1.0

        def joint(self, W: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            value = np.where(W[:, 0, 0] > 1.0, -np.inf, 0.0)
            return value, np.zeros_like(W), np.zeros_like(v)

    target = WhitenedPosterior(Cliff(), 0.0, 1.0, False)
    state, rng = init(np.zeros((50, 2, 3)), target), np.random.default_rng(0)
    reached = []
    for _ in range(40):
        state, _ = hmc(state, target, rng, step=0.5, angle=1.5, rotate=False)
        reached.append(state.position[:, 0, 0])
    assert 0.5 < np.max(reached) < 1.0


def test_langevin_that_runs_away_says_so() -> None:
    task, _ = tasks()
    with pytest.raises(SamplingError, match=r"of size 1.9.*smaller step") as caught:
        sample_posterior(
            task, width=3, activation="linear", sampler="langevin", step_size=1.9, rng=0,
            temperature=1e-3, **QUIET,
        )  # fmt: skip
    assert np.isfinite(caught.value.state).all()


def test_a_step_much_too_large_is_a_divergence_not_an_error() -> None:
    task, _ = tasks()
    data = sample_posterior(
        task, width=3, activation="relu", sampler="hmc", step_size=1.5, warmup=0, draws=20,
        temperature=1e-4, rng=0, **QUIET,
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
        ({"rng": -1}, ValueError, "rng must be an integer >= 0 or a Generator, got -1"),
        ({"test": np.ones((2, 5))}, TypeError, "test must be a tlnb.Task"),
        ({"task": np.ones((2, 5))}, TypeError, "task must be a tlnb.Task"),
    ],
)
def test_bad_arguments_are_named(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    arguments: dict[str, Any] = {"task": tasks()[0], "width": 3, "rng": 0, **QUIET} | change
    with pytest.raises(error, match=words):
        sample_posterior(arguments.pop("task"), **arguments)
