"""Training of two-layer networks against other derivatives, convex solvers and stationarity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import erf
from sklearn.linear_model import LogisticRegression, Ridge

from tlnb import Activation, ConvergenceError, CorrelatedHiddenManifold, Task
from tlnb.networks import TwoLayerNetwork, compare_protocols, train_readout, train_two_layer
from tlnb.networks.training import Objective

COMPLEX = {  # written anew, so that a complex step goes through
    "linear": lambda z: z,
    "erf": erf,
    "tanh": np.tanh,
    "relu": lambda z: np.where(z.real > 0, z, 0),
}
LOSS = {
    "logistic": lambda y, f: np.log(1 + np.exp(-y * f)),
    "square": lambda y, f: 0.5 * (y - f) ** 2,
    "hinge": lambda y, f: np.maximum(0, 1 - y * f),
}


def teacher_task(n: int, n_features: int = 6, seed: int = 0, teacher_seed: int = 0) -> Task:
    teacher = np.random.default_rng(teacher_seed).standard_normal(n_features)
    X = np.random.default_rng([seed, 1]).standard_normal((n, n_features))
    return Task(X, np.sign(X @ teacher))


def small(
    activation: str = "erf", seed: int = 1, width: int = 4, n: int = 9
) -> tuple[Task, TwoLayerNetwork]:
    task = teacher_task(n, 3, seed)
    network = TwoLayerNetwork.random(width, 3, activation=activation, rng=seed)
    return task, network.centred(task.X[:5])


def flat(network: TwoLayerNetwork) -> np.ndarray:
    return np.append(network.first_layer, network.readout)


def written_out(
    task: Task, network: TwoLayerNetwork, loss: str, penalty: Any, x: np.ndarray, sigma: Activation
) -> np.ndarray:
    """The objective, sum by sum; analytic in the parameters."""
    K, N0 = network.first_layer.shape
    W, a = x[: K * N0].reshape(K, N0), x[K * N0 :]
    total = 0.5 * penalty * (x**2).sum()
    for inputs, y in zip(task.X, task.y, strict=True):
        total += LOSS[loss](y, ((sigma(W @ inputs / N0**0.5) - network.feature_mean) @ a) / K**0.5)
    return total


@pytest.mark.parametrize("loss", ["logistic", "square"])
@pytest.mark.parametrize("name", COMPLEX)
def test_objective_and_gradient(name: str, loss: str) -> None:
    task, network = small(name)
    objective, x = Objective(network, task, loss, 0.7), flat(network)
    value, gradient = objective(x)
    args = task, network, loss, 0.7
    assert value == pytest.approx(written_out(*args, x, COMPLEX[name]), rel=1e-13)
    for i, entry in enumerate(np.eye(len(x))):
        step = written_out(*args, x + 1e-30j * entry, COMPLEX[name]).imag / 1e-30
        assert gradient[i] == pytest.approx(step, rel=1e-11, abs=1e-13)
        h = 1e-5 * entry
        difference = (objective(x + h)[0] - objective(x - h)[0]) / 2e-5
        assert gradient[i] == pytest.approx(difference, rel=1e-5, abs=1e-6)


def test_batches_of_a_partition_have_the_mean_gradient_of_the_whole() -> None:
    task, network = small(n=12)
    objective, x = Objective(network, task, "logistic", 0.3), flat(network)
    parts = [objective(x, np.arange(i, i + 4)) for i in (0, 4, 8)]
    value, gradient = objective(x)
    assert np.mean([part[0] for part in parts]) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(np.mean([p[1] for p in parts], axis=0), gradient, rtol=1e-11)


def test_network_computes_its_formula() -> None:
    task, network = small()
    f = [sum(network.readout * (erf(network.first_layer @ x / 3**0.5) - network.feature_mean)) / 2
         for x in task.X]  # fmt: skip
    np.testing.assert_allclose(network(task.X), f, rtol=1e-12)
    assert network.features(task.X).shape == (9, 4) and network.width == 4
    assert network.error(task) == np.mean(np.sign(f) != task.y)
    regression = Task(task.X, 0.3 * task.y)
    assert network.error(regression) == pytest.approx(np.mean((regression.y - f) ** 2))
    for loss, function in LOSS.items():
        expected = np.mean(function(task.y, np.array(f)))
        assert network.loss(task, loss) == pytest.approx(expected, rel=1e-12)


def test_centred_features_have_mean_zero() -> None:
    X = np.random.default_rng(0).standard_normal((50, 3))
    network = TwoLayerNetwork.random(4, 3, activation="relu", rng=0)
    assert abs(network.features(X).mean(0)).min() > 0.1
    np.testing.assert_allclose(network.centred(X).centred(X).features(X).mean(0), 0, atol=1e-15)


@pytest.mark.parametrize("loss", LOSS)
@pytest.mark.parametrize("penalty", [1e-2, 0.3, 10.0])
def test_readout_minimises_its_objective(loss: str, penalty: float) -> None:
    task, network = teacher_task(60), TwoLayerNetwork.random(10, 6, rng=2)
    fitted = train_readout(network, task, regularization=penalty, loss=loss)
    U = network.features(task.X) / np.sqrt(10)

    def objective(a: np.ndarray) -> float:
        return LOSS[loss](task.y, U @ a).sum() + 0.5 * penalty * a @ a

    best = objective(fitted.readout)
    np.testing.assert_array_equal(fitted.first_layer, network.first_layer)
    rng = np.random.default_rng(0)
    for step in (1e-3, 1e-1):
        for direction in rng.standard_normal((20, 10)):
            assert objective(fitted.readout + step * direction) > best
    found = minimize(objective, fitted.readout, method="Powell", options={"xtol": 1e-8})
    assert best <= found.fun * (1 + 1e-7)


@pytest.mark.parametrize("loss", ["logistic", "square"])
def test_training_from_frozen_features_is_scikit_learns(loss: str) -> None:
    """With one hidden unit for each input, held in place, only the readout would move."""
    task, network = teacher_task(40), TwoLayerNetwork.random(8, 6, rng=2)
    U = network.features(task.X) / np.sqrt(8)
    model = {
        "logistic": LogisticRegression(C=1 / 0.2, fit_intercept=False, tol=1e-10, max_iter=5000),
        "square": Ridge(alpha=0.2, fit_intercept=False),
    }[loss].fit(U, task.y)
    fitted = train_readout(network, task, regularization=0.2, loss=loss)
    np.testing.assert_allclose(fitted.readout, model.coef_.ravel(), rtol=1e-5)
    gradient = Objective(network, task, loss, 0.2)(flat(fitted))[1]
    assert abs(gradient[-8:]).max() < 1e-5


@pytest.mark.parametrize("loss", ["logistic", "square"])
@pytest.mark.parametrize("name", ["linear", "erf", "tanh"])
def test_lbfgs_reaches_a_stationary_point_and_stays(name: str, loss: str) -> None:
    task = teacher_task(40)
    options: dict[str, Any] = dict(loss=loss, regularization=0.1, activation=name, epochs=3000)
    trained = train_two_layer(task, width=5, rng=3, **options)
    network, x = trained.network, flat(trained.network)
    assert trained.converged and trained.gradient <= 1e-5
    assert abs(Objective(network, task, loss, 0.1)(x)[1]).max() == trained.gradient
    assert (np.diff(trained.objective_history) <= 0).all()
    expected = written_out(task, network, loss, 0.1, x, COMPLEX[name])
    assert trained.objective == pytest.approx(expected, rel=1e-12)
    assert trained.train_loss == pytest.approx(LOSS[loss](task.y, network(task.X)).mean())
    assert np.isnan(trained.validation_loss) and np.isnan(trained.validation_history).all()
    again = train_two_layer(task, initial=network, **options)
    np.testing.assert_allclose(flat(again.network), x, atol=1e-5)
    moved = train_two_layer(task, initial=network, optimizer="adam", learning_rate=1e-3,
                            batch_size=40, **options | {"epochs": 50})  # fmt: skip
    assert moved.objective <= trained.objective
    np.testing.assert_allclose(moved.network(task.X), network(task.X), atol=1e-2)


def test_adam_and_lbfgs_agree_where_there_is_one_minimum_of_the_function() -> None:
    """Linear networks of enough width have no other minima of the objective, only symmetries."""
    task = teacher_task(40)
    options: dict[str, Any] = dict(width=8, activation="linear", regularization=1.0, rng=1)
    exact = train_two_layer(task, epochs=3000, **options)
    found = train_two_layer(task, optimizer="adam", learning_rate=0.01, batch_size=40,
                            epochs=1500, **options)  # fmt: skip
    assert exact.converged
    assert found.objective == pytest.approx(exact.objective, rel=1e-6)
    np.testing.assert_allclose(found.network(task.X), exact.network(task.X), atol=1e-3)
    # the minimum over both layers is one over their product: nuclear norm, sqrt(6 · 8) λ ‖β‖

    def convex(beta: float) -> float:
        penalty = np.sqrt(6 * 8) * np.linalg.norm(beta)
        return np.log1p(np.exp(-task.y * (task.X @ beta))).sum() + penalty

    best = min(minimize(convex, start).fun for start in np.eye(6))
    assert exact.objective == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_early_stopping_keeps_the_best_network(optimizer: str) -> None:
    task, held_out = teacher_task(20, 10), teacher_task(300, 10, seed=1)
    options: dict[str, Any] = dict(width=15, regularization=1e-4, optimizer=optimizer, rng=0)
    options |= dict(learning_rate=0.03, batch_size=5, epochs=200)
    stopped = train_two_layer(task, validation=held_out, patience=10, **options)
    history = stopped.validation_history
    assert stopped.best_epoch == history.argmin() < len(history) - 1
    assert len(history) == len(stopped.objective_history) <= 201
    assert len(history) - 1 == stopped.best_epoch + 10
    assert stopped.validation_loss == history.min()
    assert stopped.network.loss(held_out) == pytest.approx(stopped.validation_loss, rel=1e-12)
    on = train_two_layer(task, **options)
    assert on.network.loss(held_out) > stopped.validation_loss
    short = train_two_layer(task, **options | {"epochs": stopped.best_epoch})
    np.testing.assert_array_equal(flat(short.network), flat(stopped.network))


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("validated", [False, True])
def test_seeds_and_restarts(optimizer: str, validated: bool) -> None:
    task, held_out = teacher_task(30), teacher_task(100, seed=1) if validated else None
    options: dict[str, Any] = dict(width=3, regularization=0.01, optimizer=optimizer, epochs=30)
    options |= dict(validation=held_out)
    scores = []
    for seed in range(4):
        one, same = (train_two_layer(task, rng=seed, **options) for _ in range(2))
        several = train_two_layer(task, rng=seed, restarts=4, **options)
        np.testing.assert_array_equal(flat(one.network), flat(same.network))
        score = "validation_loss" if validated else "objective"
        assert getattr(several, score) <= getattr(one, score)
        scores.append((getattr(several, score), getattr(one, score)))
    assert len({score for _, score in scores}) == 4
    assert any(several < one for several, one in scores)


def test_progress_is_shown_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    task = teacher_task(10)
    train_two_layer(task, width=2, epochs=3)
    assert capsys.readouterr().err == ""
    train_two_layer(task, width=2, epochs=3, progress=True)
    assert "training" in capsys.readouterr().err


@pytest.fixture(scope="module")
def transfer() -> tuple[TwoLayerNetwork, Task, Task, Task]:
    source, target = teacher_task(600, 20), teacher_task(25, 20, seed=1)
    validation, test = teacher_task(400, 20, seed=2), teacher_task(2000, 20, seed=3)
    trained = train_two_layer(source, width=20, validation=validation, regularization=1.0)
    return trained.network, target, validation, test


@pytest.mark.parametrize("training", [{}, {"optimizer": "adam", "epochs": 20}])
def test_protocols_are_tuned_and_keep_what_they_freeze(
    transfer: tuple[TwoLayerNetwork, Task, Task, Task], training: dict[str, Any]
) -> None:
    source, target, validation, test = transfer
    options: dict[str, Any] = dict(readout_regularizations=[0.01, 0.1, 1, 10], rng=4, **training)
    found = compare_protocols(source, target, validation, **options)
    assert list(found) == ["TF", "RF", "2L", "fTF"]
    for name, protocol in found.items():
        assert protocol.validation_error == protocol.network.error(validation)
        assert np.isnan(protocol.learning_rate) == (name in ("TF", "RF") or not training)
    np.testing.assert_array_equal(found["TF"].network.first_layer, source.first_layer)
    for name in ("TF", "RF"):
        network = found[name].network
        errors = [train_readout(network, target, regularization=penalty).error(validation)
                  for penalty in options["readout_regularizations"]]  # fmt: skip
        assert found[name].validation_error == min(errors)
    assert found["fTF"].network.loss(validation) <= found["TF"].network.loss(validation)
    error = {name: protocol.network.error(test) for name, protocol in found.items()}
    assert error["TF"] < error["RF"] - 0.05 and error["TF"] < error["2L"]
    alone = compare_protocols(source, target, validation, protocols=["fTF", "RF"], **options)
    assert list(alone) == ["fTF", "RF"]
    for name, protocol in alone.items():
        np.testing.assert_array_equal(flat(protocol.network), flat(found[name].network))


def test_protocols_can_be_centred(transfer: tuple[TwoLayerNetwork, Task, Task, Task]) -> None:
    source, target, validation, test = transfer
    relu = TwoLayerNetwork(source.first_layer, activation="relu")
    options: dict[str, Any] = dict(
        protocols=["TF", "RF"], readout_regularizations=[1.0], loss="square"
    )
    found = compare_protocols(relu, target, validation, centre_on=test.X, **options)
    for protocol in found.values():
        np.testing.assert_allclose(protocol.network.features(test.X).mean(0), 0, atol=1e-12)


def test_diverged_training_is_reported() -> None:
    task, regression = teacher_task(30), Task(teacher_task(30).X, np.arange(30.0))
    options: dict[str, Any] = dict(width=5, optimizer="adam", learning_rate=1e200)
    with pytest.raises(ConvergenceError, match=r"objective nan|objective inf"):
        train_two_layer(regression, loss="square", **options)
    with pytest.raises(ConvergenceError, match="lower learning_rate"):
        train_two_layer(task, **options | {"learning_rate": 100.0})
    network = TwoLayerNetwork.random(5, 6, rng=0)
    options = dict(optimizer="adam", learning_rates=[1e200], protocols=["2L"], regularizations=[1])
    with pytest.raises(ConvergenceError, match="no candidate of protocol 2L"):
        compare_protocols(network, task, task, **options)
    found = compare_protocols(network, task, task,
                              **options | {"learning_rates": [1e200, 0.01]})  # fmt: skip
    assert found["2L"].learning_rate == 0.01


TASK = teacher_task(10, 3)
ONE_CLASS, REAL = Task(TASK.X, np.ones(10)), Task(TASK.X, np.arange(10.0))
NETWORK = TwoLayerNetwork.random(2, 3, rng=0)
NETWORK_20 = TwoLayerNetwork.random(25, 20, rng=0)


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"width": 0}, ValueError, "width must be an integer >= 1, got 0"),
        ({"width": None}, TypeError, "width"),
        ({"width": 2.5}, TypeError, "width"),
        ({"epochs": 0}, ValueError, "epochs must be an integer >= 1, got 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, got 0"),
        ({"patience": 0}, ValueError, "patience"),
        ({"restarts": 0}, ValueError, "restarts"),
        ({"rng": -1}, ValueError, "rng"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be a number > 0, got 0.0"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate"),
        ({"regularization": -0.1}, ValueError, "regularization must be a number > 0, got -0.1"),
        ({"tolerance": 0.0}, ValueError, "tolerance"),
        ({"loss": "hinge"}, ValueError, "loss must be one of 'logistic', 'square', got 'hinge'"),
        ({"optimizer": "sgd"}, ValueError, "optimizer must be one of 'lbfgs', 'adam'"),
        ({"activation": "selu"}, ValueError, "activation must be one of"),
        ({"activation": Activation("cube", lambda z: z**3)}, TypeError, "'cube' has no derivative"),
        ({"initial": np.zeros((2, 3))}, TypeError, "initial must be a TwoLayer.*got ndarray"),
        ({"initial": TwoLayerNetwork.random(2, 4, rng=0)}, ValueError, "N0 = 4 columns"),
        ({"validation": teacher_task(5, 4)}, ValueError, "validation.X must have N0 = 3"),
        ({"validation": TASK.X}, TypeError, "validation must be a tlnb.Task"),
        ({"validation": REAL}, ValueError, "validation.y must hold labels ±1"),
        ({"task": ONE_CLASS}, ValueError, "task.y must hold labels of both classes, all are \\+1"),
        ({"task": REAL}, ValueError, "task.y must hold labels ±1"),
        ({"task": TASK.X}, TypeError, "task must be a tlnb.Task"),
    ],
)
def test_training_refuses(change: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        train_two_layer(**{"task": TASK, "width": 2, "epochs": 2} | change)


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"network": NETWORK.first_layer}, TypeError, "must be a TwoLayerNetwork"),
        ({"task": teacher_task(5, 4)}, ValueError, "task.X must have N0 = 3"),
        ({"task": ONE_CLASS}, ValueError, "both classes"),
        ({"task": ONE_CLASS, "loss": "hinge"}, ValueError, "both classes"),
        ({"task": REAL}, ValueError, "±1"),
        ({"regularization": 0}, ValueError, "regularization must be a number > 0"),
        ({"loss": "exponential"}, ValueError, "loss must be one of"),
    ],
)
def test_readout_refuses(change: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        train_readout(**{"network": NETWORK, "task": TASK, "regularization": 1.0} | change)


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"source": None}, TypeError, "source must be a TwoLayerNetwork, got NoneType"),
        ({"target": ONE_CLASS}, ValueError, "target.y must hold labels of both classes"),
        ({"validation": teacher_task(5, 4)}, ValueError, "validation.X"),
        ({"protocols": ["TF", "XX"]}, ValueError, "protocols must be one of 'TF', 'RF'"),
        ({"regularizations": []}, ValueError, "regularizations and learning_rates must"),
        ({"readout_regularizations": []}, ValueError, "regularizations and learning_rates must"),
        ({"regularizations": [0.0]}, ValueError, "regularization must be a number > 0"),
        ({"readout_regularizations": [-1]}, ValueError, "regularization must be a number > 0"),
        ({"optimizer": "adam", "learning_rates": []}, ValueError, "learning_rates must"),
        ({"rng": -1}, ValueError, "rng"),
        ({"epochs": 0}, ValueError, "epochs"),
        ({"epoch": 3, "protocols": ["TF"]}, TypeError, r"training must be .* got \['epoch'\]"),
        ({"learning_rate": 0.1}, TypeError, r"training must be .* got \['learning_rate'\]"),
        ({"width": 3}, TypeError, r"training must be .* got \['width'\]"),
    ],
)
def test_comparison_refuses(change: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        compare_protocols(**{"source": NETWORK, "target": TASK, "validation": TASK} | change)


def test_networks_share_no_memory() -> None:
    W, a = np.ones((2, 3)), np.ones(2)
    network = TwoLayerNetwork(W, a)
    W[0], a[0] = 5, 5
    assert (network.first_layer == 1).all() and (network.readout == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        network.first_layer[0] = 5


def test_networks_are_judged_on_tasks_of_their_kind() -> None:
    with pytest.raises(ValueError, match=r"task\.y must hold labels ±1 for loss='logistic'"):
        NETWORK.loss(Task(TASK.X, TASK.y > 0))
    for judge in (NETWORK.loss, NETWORK.error):
        with pytest.raises(TypeError, match=r"task must be a tlnb\.Task, got ndarray"):
            judge(TASK.X)
    with pytest.raises(ValueError, match="rng must be an integer >= 0 or a Generator, got -1"):
        TwoLayerNetwork.random(2, 3, rng=-1)


def test_networks_refuse_wrong_shapes() -> None:
    with pytest.raises(ValueError, match="first_layer must be"):
        TwoLayerNetwork(np.zeros(3))
    with pytest.raises(ValueError, match=r"readout must be .* shape \(2,\)"):
        TwoLayerNetwork(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match="feature_mean"):
        TwoLayerNetwork(np.ones((2, 3)), feature_mean=[np.nan, 0])
    with pytest.raises(ValueError, match="N0 = 3"):
        NETWORK(np.ones((4, 2)))


def test_convex_solver_that_does_not_arrive_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import LogisticRegression as Model

    original = Model.__init__
    monkeypatch.setattr(Model, "__init__", lambda self, **k: original(self, **k | {"max_iter": 1}))
    with pytest.raises(ConvergenceError, match=r"readout at regularization=0\.001"):
        train_readout(NETWORK, TASK, regularization=1e-3)


def test_starts_share_no_randomness_with_a_manifold_of_the_same_seed() -> None:
    manifold = CorrelatedHiddenManifold(20, 30, random_state=5)
    task = manifold.sample_source(40, 5)
    for trained in (
        train_two_layer(task, width=25, regularization=1e-9, epochs=1, rng=5).network,
        compare_protocols(NETWORK_20, task, task, protocols=["RF"], rng=5)["RF"].network,
    ):
        W = trained.first_layer
        for F in (manifold.F_source, manifold.F_target, task.X):
            n = min(len(W), len(F))
            assert abs(np.corrcoef(W[:n].ravel(), F[:n].ravel())[0, 1]) < 0.2
