"""The explorers: what they say at random positions is what tlnb computes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.browser import site, visit

PAGE = "book/explorers.html"
POSITIONS = 8


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Any]:
    with visit.opened(browser, address, PAGE) as opened:
        yield opened


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(12)


def _explorer(page: Any, name: str) -> Any:
    return page.locator(f'[data-explorer="{name}"]')


def _set(explorer: Any, key: str, position: int) -> None:
    explorer.locator(f'[data-key="{key}"]').fill(str(position))


def _choose(explorer: Any, key: str, value: str) -> None:
    explorer.locator(f'select[data-key="{key}"]').select_option(value)


def _random(explorer: Any, rng: np.random.Generator, key: str) -> int:
    last = int(explorer.locator(f'[data-key="{key}"]').get_attribute("max"))
    position = int(rng.integers(last + 1))
    _set(explorer, key, position)
    return position


def _numbers(explorer: Any) -> dict:
    """What is shown, once it is drawn."""
    return explorer.evaluate(
        "e => new Promise(done => requestAnimationFrame(() => setTimeout(() => done(e.numbers))))"
    )


def test_single_task_solves_as_the_package_does(page: Any, rng: np.random.Generator) -> None:
    from explorer_data import digit_tasks

    from tlnb.theory.one_task import OneTaskProblem

    explorer = _explorer(page, "single-task")
    task, test = digit_tasks()
    problem = OneTaskProblem(task, activation="erf")
    for _ in range(POSITIONS):
        for key in ("width", "temperature", "richness"):
            _random(explorer, rng, key)
        shown = _numbers(explorer)
        solution = problem.with_priors(
            temperature=shown["temperature"],
            readout_precision=shown["richness"] * shown["width"],
        ).solve(width=shown["width"])
        predicted = solution.predict(test.X, test.y)
        assert math.isclose(shown["Q"], solution.Q, rel_tol=1e-8)
        assert math.isclose(shown["train"], solution.train_error, rel_tol=1e-6)
        assert math.isclose(shown["bias"], predicted.squared_bias.mean(), rel_tol=1e-6)
        assert math.isclose(shown["variance"], predicted.total_variance.mean(), rel_tol=1e-6)


@pytest.mark.parametrize(("task", "label"), [("two minima", 3), ("two minima, smaller label", 2)])
def test_single_task_shows_both_minima(page: Any, task: str, label: int) -> None:
    """The instance with roots 0.0116, 0.165 and 2.655 at label 3; at label 2 the first one wins."""
    from tlnb.theory.one_task import saddle_points

    explorer = _explorer(page, "single-task")
    _choose(explorer, "task", task)
    _set(explorer, "width", 4)  # 20
    _set(explorer, "temperature", 10)  # 0.01
    shown = _numbers(explorer)
    e, y2 = np.append(np.ones(40), 0.005), np.append(np.zeros(40), label)
    expected = saddle_points(e, y2, width=20, temperature=0.01)
    np.testing.assert_allclose(shown["roots"], np.sort(expected.Q), rtol=1e-8)
    assert math.isclose(shown["Q"], expected.Q[np.argmin(expected.action)], rel_tol=1e-8)
    assert (shown["Q"] < 0.02) == (label == 2)
    _choose(explorer, "task", "digits")


def test_transfer_shows_what_the_package_computes(page: Any, rng: np.random.Generator) -> None:
    import explorer_data as data

    from tlnb import coupling_sweep

    explorer = _explorer(page, "transfer")
    for _ in range(3):
        source = int(rng.integers(len(data.SOURCES)))
        _choose(explorer, "source", str(source))
        r, w, c = (_random(explorer, rng, key) for key in ("richness", "width", "coupling"))
        shown = _numbers(explorer)
        tasks = data._tasks(list(data.SOURCES.values())[source])
        options: dict[str, Any] = dict(
            widths=[data.WIDTHS[w]],
            couplings=[data.COUPLINGS[c]],
            temperature=data.TEMPERATURE,
            readout_precision=data.RICHNESS[r] * data.WIDTHS[w],
        )
        for name, control in (
            ("test_error", {}),
            ("scratch", {"baseline": "scratch"}),
            ("matched", {"baseline": "matched-prior"}),
        ):
            found = coupling_sweep(tasks.source, tasks.target, tasks.test, **options, **control)
            assert math.isclose(shown[name], found.test_error.item(), abs_tol=2e-5), name


def test_transfer_shows_networks_where_some_were_drawn_and_trained(page: Any) -> None:
    import explorer_data as data

    stored = xr.load_dataset(data.ROOT / "results" / "07_explorer.nc")
    assert json.loads(stored.attrs["fixed"])["sizes"] == data.SIZES
    explorer = _explorer(page, "transfer")
    for s, groups in enumerate(data.SOURCES.values()):
        for width in stored.width.values.tolist():
            _choose(explorer, "source", str(s))
            _set(explorer, "width", data.WIDTHS.index(width))
            _set(explorer, "richness", data.RICHNESS.index(1.0))
            at = stored.sel(groups=groups, width=width, richness=1.0)
            shown = _numbers(explorer)["networks"]
            np.testing.assert_allclose(shown["sampled"], at.test_error, atol=1e-4)
            np.testing.assert_allclose(shown["trained"], at.trained, atol=1e-4)
            assert explorer.locator("circle.point.second").count() == at.test_error.size
            assert explorer.locator("rect.point.third").count() == at.trained.size
    _set(explorer, "width", 0)
    assert _numbers(explorer).get("networks") is None
    assert "Networks were drawn" in explorer.locator(".explorer-said").inner_text()
    _set(explorer, "width", 1)


def test_phase_diagram_cuts_the_stored_results(page: Any, rng: np.random.Generator) -> None:
    import explorer_data as data

    stored = xr.load_dataset(data.ROOT / "results" / "14_theory.nc").test_error.mean("draw")
    explorer = _explorer(page, "phase-diagram")
    for _ in range(POSITIONS):
        knob = data.KNOBS[rng.integers(len(data.KNOBS))]
        _choose(explorer, "knob", knob)
        along = ("ratio", "place")[rng.integers(2)]
        _choose(explorer, "along", along)
        at = _random(explorer, rng, "cut")
        plane = stored.sel(knob=knob, features="TF").transpose("place", "sample_ratio").values
        expected = plane[at] if along == "ratio" else plane[:, at]
        np.testing.assert_allclose(_numbers(explorer)["TF"], expected, atol=1e-4)


def test_samplers_move_as_the_package_does(page: Any, rng: np.random.Generator) -> None:
    import explorer_data as data
    from scipy.special import erf

    from tlnb import Task
    from tlnb.kernels import get_activation
    from tlnb.sampling.hmc import init, leapfrog
    from tlnb.sampling.likelihood import NetworkLikelihood

    given = data.posterior()
    task, temperature = Task([[given["x"]]], [given["y"]]), given["temperature"]
    network = NetworkLikelihood(task, get_activation("erf"), 1, temperature, 1.0)

    def likelihood(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, by_w, by_v = network.joint(x[:, :1, None], x[:, 1:])
        return value, np.concatenate([by_w[:, 0], by_v], axis=1)

    explorer = _explorer(page, "posterior")
    z = np.linspace(-7, 7, 57)
    shown = explorer.evaluate("(e, z) => z.map(e.sampler.erf)", z.tolist())
    np.testing.assert_allclose(shown, erf(z), rtol=0, atol=1e-15)

    for _ in range(POSITIONS):
        position, velocity = rng.standard_normal((2, 2))
        step, steps = float(rng.uniform(0.02, 0.3)), int(rng.integers(1, 20))
        began = init(position[None], likelihood)
        end, arrived = leapfrog(
            began, velocity[None], likelihood, step=step, steps=steps, rotate=False
        )
        sent = [position.tolist(), velocity.tolist(), step, steps]
        shown = explorer.evaluate("(e, given) => e.sampler.posterior.leapfrog(...given)", sent)
        expected = [end.position[0], arrived[0]]
        np.testing.assert_allclose(shown, expected, rtol=1e-9, atol=1e-9)


def test_hamiltonian_monte_carlo_finds_the_exact_average_and_langevin_shows_its_step(
    page: Any,
) -> None:
    explorer = _explorer(page, "posterior")
    exact = json.loads(page.locator("#data-posterior").text_content())["Q"]
    found = {}
    for method, step in (("hmc", 26), ("langevin", 40)):
        _choose(explorer, "method", method)
        _set(explorer, "step", step)
        for _ in range(40):
            explorer.get_by_role("button", name="100 draws").click()
        found[method] = _numbers(explorer)
    assert found["hmc"]["draws"] == 4000 and found["hmc"]["acceptance"] > 0.8
    assert abs(found["hmc"]["Q"] - exact) < 0.15
    assert not abs(found["langevin"]["Q"] - exact) < 0.15


@pytest.mark.parametrize("name", ["transfer", "single-task", "phase-diagram", "posterior"])
def test_every_control_works_by_keyboard_and_is_labelled(page: Any, name: str) -> None:
    explorer = _explorer(page, name)
    before = explorer.locator(".explorer-said").inner_text()
    assert len(before) > 20
    for control in explorer.locator("input[type=range]").all():
        assert explorer.locator(f"label[for={control.get_attribute('id')}]").inner_text()
        old = control.get_attribute("aria-valuetext")
        control.focus()
        page.keyboard.press("ArrowLeft")
        assert control.get_attribute("aria-valuetext") != old
    for chart in explorer.locator("svg").all():
        assert len(chart.get_attribute("aria-label")) > 20


def test_a_finger_moves_sliders_and_the_cut(browser: Any, address: str) -> None:
    with visit.opened(browser, address, PAGE, has_touch=True) as page:
        page.set_viewport_size({"width": 390, "height": 800})
        slider = _explorer(page, "transfer").locator('[data-key="coupling"]')
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        page.touchscreen.tap(box["x"] + 4, box["y"] + box["height"] / 2)
        assert slider.input_value() == "0"
        explorer = _explorer(page, "phase-diagram")
        chart = explorer.locator("svg").first
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + 20)
        assert explorer.locator('[data-key="cut"]').input_value() == "29"


def test_explorers_work_from_a_folder(browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((site.SITE / PAGE).as_uri())
    page.wait_for_selector('[data-explorer="posterior"] svg')
    assert "beats" in _explorer(page, "transfer").locator(".explorer-said").inner_text()
    context.close()
    assert not errors


def test_only_pages_with_an_explorer_load_its_scripts() -> None:
    for name in site.chapters():
        text = (site.SITE / name).read_text(encoding="utf8")
        assert ("d3.v5.min.js" in text) == ("data-explorer=" in text), name
