// Langevin dynamics and Hamiltonian Monte Carlo on the posterior of one hidden unit and one example.
(() => {
  const { explorer, digits, logarithmic } = tlnb;

  // erf to rounding error: its series near zero, a continued fraction of erfc far out.
  function erf(z) {
    const size = Math.abs(z);
    if (size < 2.5) {
      let [term, sum] = [z, z];
      for (let n = 1; n < 80; n++) {
        term *= -z * z / n;
        sum += term / (2 * n + 1);
        if (Math.abs(term) < 1e-17 * Math.abs(sum)) break;
      }
      return 2 / Math.sqrt(Math.PI) * sum;
    }
    if (size > 6) return Math.sign(z);
    let fraction = size;
    for (let n = 60; n > 0; n--) fraction = size + n / 2 / fraction;
    return Math.sign(z) * (1 - Math.exp(-size * size) / (fraction * Math.sqrt(Math.PI)));
  }

  const slope = z => 2 / Math.sqrt(Math.PI) * Math.exp(-z * z);

  // Uniform numbers from a seed (mulberry32), and normal ones of them.
  function random(seed) {
    const uniform = () => {
      seed = (seed + 0x6D2B79F5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    return { uniform, normal };
  }

  function posterior({ x, y, temperature: T }) {
    const residual = ([w, v]) => y - v * erf(w * x);
    const energy = ([w, v]) => 0.5 * (w * w + v * v + residual([w, v]) ** 2 / T);
    const force = ([w, v]) => {
      const r = residual([w, v]) / T;
      return [r * v * slope(w * x) * x - w, r * erf(w * x) - v];
    };
    // Half a kick, then drifts with whole kicks between them, and half a kick.
    const leapfrog = (position, velocity, step, steps) => {
      let [q, p] = [position, velocity];
      let f = force(q);
      p = p.map((value, i) => value + step / 2 * f[i]);
      for (let n = 0; n < steps; n++) {
        q = q.map((value, i) => value + step * p[i]);
        f = force(q);
        const kick = n < steps - 1 ? step : step / 2;
        p = p.map((value, i) => value + kick * f[i]);
      }
      return [q, p];
    };
    return { residual, energy, force, leapfrog };
  }

  explorer("posterior", tools => {
    const { data } = tools;
    const law = posterior(data);
    const still = window.matchMedia("(prefers-reduced-motion: reduce)");
    const steps = logarithmic(0.01, 2, 47);
    let [rng, q, draws, running, path, accepted, escaped] = [];
    const restart = () => {
      rng = random(4);
      [q, draws, path, accepted, escaped] = [[1, 1], [], [[1, 1]], 0, false];
      tools.redraw();
    };
    tools.choice("method", "Sampler",
      [["hmc", "Hamiltonian Monte Carlo"], ["langevin", "Langevin, unadjusted"]], "hmc", restart);
    tools.slider("step", "Step size <i>ε</i>", steps, 26);
    tools.slider("steps", "Leapfrog steps", d3.range(1, 31), 9, String);
    tools.button("One draw", () => { advance(1); tools.redraw(); });
    tools.button("100 draws", () => { advance(100); tools.redraw(); });
    const play = tools.button("Run", () => {
      running = !running;
      play.textContent = running ? "Pause" : "Run";
      if (running) requestAnimationFrame(run);
    });
    tools.button("Start again", restart);
    const plane = tools.chart({ title: "Hidden weight and readout", height: 330 });
    const average = tools.chart({ title: "Running average of v²", height: 330 });

    function run() {
      if (!running) return;
      advance(still.matches ? 20 : 3);
      tools.redraw();
      if (draws.length < 20000) requestAnimationFrame(run);
      else play.click();
    }

    function advance(count) {
      const { method, step, steps: number } = tools.values;
      for (let n = 0; n < count && !escaped; n++) {
        if (method === "langevin") {
          const f = law.force(q);
          q = q.map((value, i) => value + step ** 2 / 2 * f[i] + step * rng.normal());
          accepted++;
          path = [...path.slice(-200), q];
          escaped = !(Math.hypot(...q) < 1e3);
        } else {
          const p = [rng.normal(), rng.normal()];
          const [end, arrived] = law.leapfrog(q, p, step, number);
          const gain = law.energy(end) + 0.5 * d3.sum(arrived, v => v * v) -
            law.energy(q) - 0.5 * d3.sum(p, v => v * v);
          if (rng.uniform() < Math.exp(-gain)) {
            [q, accepted] = [end, accepted + 1];
          }
          path = [...path.slice(-200), q];
        }
        draws.push(q);
      }
    }

    const [size, reach] = [61, 3.6];
    const grid = d3.range(size).map(i => reach * (2 * i / (size - 1) - 1));
    const density = grid.flatMap(v => grid.map(w => Math.exp(-law.energy([w, v]))));
    const levels = d3.contours().size([size, size])
      .thresholds([0.02, 0.1, 0.25, 0.5, 0.75].map(share => share * d3.max(density)))(density);
    const sampler = { posterior: law, erf };
    tools.root.sampler = sampler;
    restart();

    return values => {
      const running_mean = [];
      let sum = 0;
      const every = Math.max(1, Math.floor(draws.length / 400));
      draws.forEach(([, v], i) => {
        sum += v * v;
        if ((i + 1) % every === 0) running_mean.push([i + 1, sum / (i + 1)]);
      });
      const Q = draws.length ? sum / draws.length : NaN;
      const rate = accepted / Math.max(draws.length, 1);
      tools.numbers({ Q, draws: draws.length, acceptance: rate, position: q });

      const domain = [-reach, reach];
      plane.start({ x: { label: "hidden weight w", domain }, y: { label: "readout v", domain },
        alternative: `Contours of the posterior, two curved ridges, with the last draws of the chain; ` +
          `${draws.length} draws so far.` });
      const scaled = d3.geoPath(d3.geoTransform({
        point(a, b) {
          const at = t => reach * (2 * (t - 0.5) / (size - 1) - 1);
          this.stream.point(plane.x(at(a)), plane.y(at(b)));
        },
      }));
      plane.layers.back.selectAll("path.level").data(levels).enter().append("path")
        .attr("class", "level").attr("d", scaled).attr("clip-path", plane.clip);
      if (values.method === "langevin") plane.line(path.slice(-60), "second thin");
      const shown = draws.slice(-600).filter(p => Math.abs(p[0]) < reach && Math.abs(p[1]) < reach);
      plane.points(shown, "second faint", 2.5);
      if (Math.abs(q[0]) < reach && Math.abs(q[1]) < reach) plane.points([q], "first", 6);

      average.start({
        x: { label: "draws", domain: [0, Math.max(100, draws.length)] },
        y: { label: "⟨v²⟩", domain: [0, 2.5 * data.Q] },
        alternative: `The running average of v², ${digits(Q)} after ${draws.length} draws; exactly ` +
          `${digits(data.Q, 4)}.` });
      average.rule(data.Q, "y", "exact");
      average.line(running_mean, "first");
      tools.say(escaped
        ? "<b>The chain has left for infinity</b>: the step is too long for the steepest part of the posterior. Start again with a shorter one."
        : `After ${draws.length} draws ⟨v²⟩ = <b>${digits(Q)}</b>; exactly ${digits(data.Q, 4)}. ` +
          (values.method === "hmc"
            ? `Accepted: ${Math.round(100 * rate)} %.`
            : "Nothing is rejected, so the step's error stays in the average."));
    };
  });
})();
