// Which protocol wins over examples and relatedness, with a cut that moves.
(() => {
  const { explorer, digits } = tlnb;
  const names = {
    teacher_overlap: "teacher overlap q",
    feature_overlap: "feature overlap η",
    replaced_fraction: "replaced fraction ρ",
    target_latent_dim: "target's latent dimension",
  };
  const protocols = [
    ["TF", "first", "transferred features (TF)"],
    ["2L", "second dashed", "from scratch (2L)"],
    ["RF", "quiet", "random features (RF)"],
  ];

  explorer("phase-diagram", tools => {
    const { knobs, sample_ratios: ratios } = tools.data;
    const places = key => knobs[key].places;
    const steps = list => d3.range(list.length);
    tools.choice("knob", "The tasks differ in", Object.entries(names), "teacher_overlap", adapt);
    tools.choice("along", "Cut along", [["ratio", "the number of examples"], ["place", "the relation"]],
      "ratio", adapt);
    const cut = tools.slider("cut", "Cut at", steps(ratios), 24, written);
    const map = tools.chart({ title: "Margin of transferred features", height: 330, pointer });
    const errors = tools.chart({ title: "Errors along the cut", height: 330 });

    function written(i) {
      const { along, knob } = tools.values;
      return along === "ratio" ? digits(places(knob)[i]) : `α = ${digits(ratios[i])}`;
    }
    function adapt() {
      cut.restart(steps(ratios), tools.values.cut, written);
    }
    function pointer(x, y) {
      const { along, knob } = tools.values;
      const [list, value] = along === "ratio" ? [places(knob), y] : [ratios, x];
      cut.restart(steps(ratios), d3.scan(list.map(v => Math.abs(v - value))), written);
      tools.redraw();
    }

    return values => {
      const { knob, along, cut: at } = values;
      const table = knobs[knob];
      const margin = table.TF.map((row, i) => row.map((TF, j) => Math.min(table.RF[i][j], table["2L"][i][j]) - TF));
      const x = { label: "examples per hidden unit α", log: true, domain: d3.extent(ratios),
        ticks: [0.25, 0.5, 1, 2, 4, 8], format: String };
      const y = { label: names[knob], domain: d3.extent(table.places) };
      const winner = (i, j) => protocols.map(p => p[0]).reduce((a, b) => table[a][i][j] <= table[b][i][j] ? a : b);
      const won = d3.mean(margin.flat(), m => m > 0);
      map.start({ x, y,
        alternative: `Over α and ${names[knob]}: transferred features win in ` +
          `${Math.round(100 * won)} % of the plane.` });
      const color = d3.scaleDiverging(t => d3.interpolatePuOr(1 - t)).domain([-0.15, 0, 0.15]);
      const half = list => list.map((v, i) => [(v + (list[i - 1] ?? v)) / 2, (v + (list[i + 1] ?? v)) / 2]);
      const [columns, rows] = [half(ratios.map(Math.log)).map(c => c.map(v => map.x(Math.exp(v)))),
        half(table.places).map(r => r.map(v => map.y(v)))];
      const cells = margin.flatMap((row, i) => row.map((m, j) => ({ m, c: columns[j], r: rows[i] })));
      map.layers.back.selectAll("rect.cell").data(cells).enter().append("rect").attr("class", "cell")
        .attr("x", d => d.c[0]).attr("width", d => d.c[1] - d.c[0] + 0.5)
        .attr("y", d => Math.min(...d.r)).attr("height", d => Math.abs(d.r[1] - d.r[0]) + 0.5)
        .attr("fill", d => color(d.m));
      map.named("wins box", "TF wins");
      map.named("loses box", "another wins");
      border(map, margin, table.places);
      if (along === "ratio") map.rule(table.places[at], "y");
      else map.rule(ratios[at], "x");

      const line = along === "ratio"
        ? key => ratios.map((r, j) => [r, table[key][at][j]])
        : key => table.places.map((v, i) => [v, table[key][i][at]]);
      const winners = along === "ratio" ? ratios.map((_, j) => winner(at, j)) : table.places.map((_, i) => winner(i, at));
      const where = along === "ratio" ? `${names[knob]} = ${digits(table.places[at])}` : `α = ${digits(ratios[at])}`;
      errors.start({
        x: along === "ratio" ? x : { label: names[knob], domain: d3.extent(table.places) },
        y: { label: "share of wrong signs", domain: [0, 0.5] },
        alternative: `Errors of the three protocols at ${where}; transferred features win at ` +
          `${d3.sum(winners, w => w === "TF")} of ${winners.length} points.`,
        caption: `Errors along the cut, ${where}`,
      });
      for (const [key, style, name] of protocols) errors.line(line(key), style, name);
      tools.numbers(Object.fromEntries(protocols.map(([key]) => [key, line(key).map(p => p[1])])));
      const ends = [winners[0], winners[winners.length - 1]];
      tools.say(`At ${where} transferred features win at <b>${d3.sum(winners, w => w === "TF")} of ` +
        `${winners.length}</b> points of the cut; at its left end ${ends[0]} is best, at its right end ${ends[1]}.`);
    };

    // Where the margin is zero, row by row between grid points.
    function border(box, margin, list) {
      const across = d3.contours().size([ratios.length, list.length]).contour(margin.flat(), 0);
      const between = (values, t) => {
        const u = Math.max(0, Math.min(values.length - 1, t - 0.5));
        const i = Math.min(Math.floor(u), values.length - 2);
        return values[i] + (u - i) * (values[i + 1] - values[i]);
      };
      const logs = ratios.map(Math.log);
      const path = d3.line();
      for (const polygon of across.coordinates) for (const ring of polygon) {
        const inside = ring.filter(([a, b]) => a > 0.51 && b > 0.51 && a < ratios.length - 0.51 && b < list.length - 0.51);
        const runs = [];
        for (const point of ring) {
          if (!inside.includes(point)) runs.push([]);
          else (runs.length ? runs : (runs.push([]), runs))[runs.length - 1].push(point);
        }
        for (const run of runs.filter(r => r.length > 1))
          box.layers.front.append("path").attr("class", "line border").attr("d",
            path(run.map(([a, b]) => [box.x(Math.exp(between(logs, a))), box.y(between(list, b))])));
      }
    }
  });
})();
