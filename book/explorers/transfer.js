// Transfer between two tasks on digits: the error over the coupling, and what it must beat.
(() => {
  const { explorer, digits } = tlnb;
  const written = coupling => coupling === "inf" ? "∞" : digits(coupling);

  explorer("transfer", tools => {
    const { data } = tools;
    const { couplings, widths, richness } = data;
    tools.choice("source", "The source asks",
      data.sources.map((name, i) => [i, name]), 0);
    tools.slider("width", "Width <i>N</i>₁", d3.range(widths.length), 1, i => widths[i]);
    tools.slider("richness", "Richness <i>λ</i>₁/<i>N</i>₁",
      d3.range(richness.length), 2, i => digits(richness[i]));
    tools.slider("coupling", "Coupling <i>γ</i>",
      d3.range(couplings.length), 8, i => written(couplings[i]));
    const chart = tools.chart({ title: "Test error over the coupling", height: 360 });

    const networks = [
      ["sampled", "second", "points", "networks drawn from the posterior"],
      ["trained", "third", "squares", "networks trained, without noise"],
    ];
    const listed = list => list.map(c => written(couplings[c])).join(", ");

    // What networks did at the couplings where there are some.
    function beside(drawn) {
      if (!drawn) return `Networks were drawn and trained at widths ${places("width", widths)} and ` +
        `richness ${places("richness", richness)}.`;
      return `Networks drawn at γ = ${listed(drawn.couplings)}: ${drawn.sampled.map(e => digits(e)).join(", ")}; ` +
        `trained: ${drawn.trained.map(e => digits(e)).join(", ")}.`;
    }
    function places(key, stops) {
      return [...new Set(data.points.map(p => p[key]))].map(i => stops[i]).join(" and ");
    }

    // The best that any width and prior of the table does without a source.
    const alone = d3.min(data.test_error[0].flat(1), curve => curve[0]);

    return values => {
      const at = table => table[values.source][values.richness][values.width];
      const curve = at(data.test_error);
      const matched = at(data.matched_prior);
      const here = curve[values.coupling];
      const rivals = { scratch: curve[0], matched: matched[values.coupling], alone };
      const drawn = data.points.find(p => p.source === Number(values.source)
        && p.width === values.width && p.richness === values.richness);
      tools.numbers({ networks: drawn, test_error: here, ...rivals, Q_st: at(data.Q_st)[values.coupling] });
      const name = data.sources[values.source];
      const stops = d3.range(couplings.length);
      const top = 1.08 * d3.max([...curve, ...matched, alone, ...(drawn ? drawn.sampled : [])]);
      const verdict = here < Math.min(rivals.scratch, rivals.matched, alone) ? "beats all three opponents"
        : here < rivals.scratch ? "beats scratch, but not every opponent" : "does not beat scratch";
      chart.start({
        x: { label: "coupling γ", points: true, domain: stops, ticks: stops.filter(i => i % 2 === 0),
          format: i => written(couplings[i]) },
        y: { label: "test error", domain: [0, top] },
        alternative: `Test error against the coupling, source: ${name}. It goes from ` +
          `${digits(curve[0])} without coupling to ${digits(curve[curve.length - 1])} with frozen ` +
          `features; at this coupling it is ${digits(here)} and ${verdict}.`,
      });
      chart.rule(values.coupling, "x");
      chart.line(stops.map(i => [i, alone]), "quiet dashed", "best network without a source");
      chart.line(stops.map(i => [i, curve[0]]), "quiet", "the same network from scratch");
      chart.line(stops.map(i => [i, matched[i]]), "second dashed", "matched prior");
      chart.line(stops.map(i => [i, curve[i]]), "first", "coupled to the source");
      chart.points(stops.map(i => [i, curve[i]]), "first", 3);
      chart.points([[values.coupling, here]], "first", 7);
      for (const [kind, style, mark, name] of networks) {
        if (!drawn) break;
        const points = drawn.couplings.map((c, i) => [c, drawn[kind][i], drawn[`${kind}_se`][i]]);
        chart.bars(points, style);
        chart[mark](points, style, mark === "points" ? 5.5 : 10);
        chart.named(`${style} ${mark === "points" ? "dot" : "box"}`, name);
      }
      tools.say(
        `At γ = ${written(couplings[values.coupling])} the test error is <b>${digits(here)}</b>: it ` +
        `<b>${verdict}</b>. From scratch ${digits(rivals.scratch)}, matched prior ` +
        `${digits(rivals.matched)}, best network without a source ${digits(alone)}. ${beside(drawn)}`);
    };
  });
})();
