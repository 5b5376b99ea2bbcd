// One task: the saddle point of its effective action, solved here for any width and prior.
(() => {
  const { explorer, digits, logarithmic } = tlnb;

  // A task of the data file at readout precision `precision`, ready for every Q.
  function problem(task, { width, temperature, richness }) {
    const precision = richness * width;
    const e = task.eigenvalues.map(value => value / precision);
    const y2 = task.projections.map(value => value ** 2);
    return { task, e, y2, width, T: temperature, precision };
  }

  // dA/d ln Q divided by N1.
  function slope({ e, y2, width, T }, Q) {
    let sum = 0;
    for (let k = 0; k < e.length; k++) {
      const G = T + Q * e[k];
      sum += Q * e[k] / G - y2[k] * Q * e[k] / G ** 2;
    }
    return Q - 1 + sum / width;
  }

  function action({ e, y2, width, T }, Q) {
    let sum = width * (Q - Math.log(Q));
    for (let k = 0; k < e.length; k++) {
      const G = T + Q * e[k];
      sum += Math.log(G) + y2[k] / G;
    }
    return sum;
  }

  // Below the first the slope is negative, beyond the second positive: every root is between.
  function bounds({ e, y2, width, T }) {
    const trace = d3.sum(e);
    return [Math.min(0.5, T * width / (2 * trace)), 1 + d3.sum(y2) / (4 * T * width)];
  }

  // Every stationary point as { Q, action, minimum }, by a scan of ln Q and bisection.
  function stationary(p, scan = 1200) {
    const grid = logarithmic(...bounds(p), scan);
    const slopes = grid.map(Q => slope(p, Q));
    const found = [];
    for (let i = 1; i < scan; i++) {
      if (slopes[i - 1] < 0 === slopes[i] < 0) continue;
      let [low, high] = [Math.log(grid[i - 1]), Math.log(grid[i])];
      for (let step = 0; step < 60; step++) {
        const middle = (low + high) / 2;
        if (slope(p, Math.exp(middle)) < 0 === slopes[i - 1] < 0) low = middle;
        else high = middle;
      }
      const Q = Math.exp((low + high) / 2);
      found.push({ Q, action: action(p, Q), minimum: slopes[i - 1] < 0 });
    }
    return found;
  }

  const lowest = points => points.filter(s => s.minimum).reduce((a, b) => a.action < b.action ? a : b);

  function errors(p, Q) {
    const { task, e, y2, T, precision } = p;
    const train = d3.mean(e, (value, k) => {
      const G = T + Q * value;
      return (T / G) ** 2 * y2[k] + T * Q * value / G;
    });
    if (!task.second) return { train };
    const share = e.map(value => Q / (T + Q * value));
    const a = share.map((value, k) => value * task.projections[k] / precision);
    let [bias, explained, at] = [1, 0, 0];
    for (let i = 0; i < a.length; i++) {
      bias -= 2 * a[i] * task.cross[i];
      for (let j = 0; j <= i; j++, at++) bias += (i === j ? 1 : 2) * a[i] * a[j] * task.second[at];
      explained += share[i] * task.second[at - 1];
    }
    const variance = Q * (task.prior / precision - explained / precision ** 2);
    return { train, bias, variance, test: bias + variance };
  }

  const best = p => lowest(stationary(p)).Q;

  explorer("single-task", tools => {
    const { data } = tools;
    const tasks = Object.entries(data).filter(([, task]) => task.title);
    const widths = [5, 7, 10, 14, 20, 28, 40, 56, 80, 100, 140, 200, 400, 1000, 4000, 10000];
    const temperatures = logarithmic(1e-3, 1, 31);
    const richnesses = logarithmic(1e-3, 100, 51);
    tools.choice("task", "Task", tasks.map(([key, task]) => [key, task.title]), "digits", key => {
      // The instance with two minima is one of λ₁ = 1 and width 20.
      if (key !== "digits") {
        width.restart(widths, 4);
        richness.restart([0.05], 0);
      } else {
        width.restart(widths, 9);
        richness.restart(richnesses, 10);
      }
    });
    const width = tools.slider("width", "Width <i>N</i>₁", widths, 9);
    tools.slider("temperature", "Temperature <i>T</i>", temperatures, 10);
    const richness = tools.slider("richness", "Richness <i>λ</i>₁/<i>N</i>₁", richnesses, 10);
    const landscape = tools.chart({ title: "Effective action" });
    const result = tools.chart({ title: "Errors" });

    return values => {
      const fixed = values.task !== "digits";
      const given = fixed ? { ...values, richness: 1 / values.width } : values;
      const p = problem(data[values.task], given);
      const points = stationary(p);
      const chosen = lowest(points);
      const minima = points.filter(s => s.minimum);
      const found = errors(p, chosen.Q);
      tools.numbers({ ...given, Q: chosen.Q, action: chosen.action, roots: points.map(s => s.Q), ...found });

      const range = [d3.min(points, s => s.Q) / 6, d3.max(points, s => s.Q) * 6];
      const curve = logarithmic(...range, 240).map(Q => [Q, action(p, Q) - chosen.action]);
      const top = Math.max(12, 1.6 * d3.max(points, s => s.action - chosen.action));
      const list = minima.map(s => digits(s.Q)).join(" and ");
      landscape.start({
        x: { label: "Q", log: true, domain: range },
        y: { label: "A(Q) − A(Q*)", domain: [-0.06 * top, top] },
        alternative: `The effective action against Q, with its minimum at Q = ${digits(chosen.Q)}` +
          (minima.length > 1 ? `; minima at ${list}.` : "."),
        caption: minima.length > 1 ? "Effective action: two minima" : "Effective action",
      });
      landscape.line(curve, "first");
      landscape.points(points.filter(s => !s.minimum).map(s => [s.Q, s.action - chosen.action]), "hollow");
      landscape.points(minima.map(s => [s.Q, s.action - chosen.action]), "second");
      landscape.points([[chosen.Q, 0]], "first", 7);

      if (fixed) rootsOverTemperature(p, values);
      else errorsOverRichness(given, values);
      tools.say(
        `<b>Q* = ${digits(chosen.Q, 4)}</b> at λ₁ = ${digits(p.precision)}. ` +
        (minima.length > 1
          ? `The action has minima at Q = ${list}; the lower one is taken. `
          : "The action has one minimum. ") +
        `Training error ${digits(found.train)}` +
        (found.test === undefined ? "." :
          `, <b>test error ${digits(found.test)}</b> = squared bias ${digits(found.bias)} + ` +
          `variance ${digits(found.variance)}.`));
    };

    function errorsOverRichness(given, values) {
      const curves = richnesses.map(r => {
        const p = problem(data[values.task], { ...given, richness: r });
        return [r, errors(p, best(p))];
      });
      const of = key => curves.map(([r, error]) => [r, error[key]]);
      const here = errors(problem(data[values.task], given), best(problem(data[values.task], given)));
      result.start({
        x: { label: "richness λ₁/N₁", log: true, domain: d3.extent(richnesses) },
        y: { label: "error", domain: [0, Math.max(1, d3.max(curves, c => c[1].test)) * 1.05] },
        alternative: `Test error, squared bias, variance and training error against richness; the ` +
          `test error is least, ${digits(d3.min(curves, c => c[1].test))}, at richness ` +
          `${digits(d3.scan(curves, (a, b) => a[1].test - b[1].test) >= 0 ?
            curves[d3.scan(curves, (a, b) => a[1].test - b[1].test)][0] : NaN)}.`,
        caption: "Errors over richness, at this width and temperature",
      });
      result.rule(values.richness, "x");
      result.line(of("test"), "first", "test error");
      result.line(of("bias"), "second dashed", "squared bias");
      result.line(of("variance"), "third dashed", "variance");
      result.line(of("train"), "quiet", "training error");
      result.points([[values.richness, here.test]], "first", 6);
    }

    function rootsOverTemperature(p, values) {
      const roots = temperatures.flatMap(T => {
        const points = stationary({ ...p, T }, 600);
        const least = lowest(points);
        return points.map(s => [T, s.Q, s === least ? "first" : s.minimum ? "second" : "hollow"]);
      });
      result.start({
        x: { label: "temperature T", log: true, domain: d3.extent(temperatures) },
        y: { label: "stationary Q", log: true, domain: [d3.min(roots, r => r[1]) / 2, d3.max(roots, r => r[1]) * 2] },
        alternative: "Every stationary Q against the temperature: where there are three, the lowest " +
          "minimum jumps from one branch to the other.",
        caption: "Every stationary point over temperature, at this width",
      });
      result.rule(values.temperature, "x");
      for (const [style, name] of [["hollow", "maximum"], ["second", "other minimum"], ["first", "lowest minimum, Q*"]]) {
        result.points(roots.filter(r => r[2] === style), style, 4);
        result.named(`${style} dot`, name);
      }
    }
  });
})();
