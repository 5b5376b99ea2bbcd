// What the book's explorers share: their data, controls, charts, and how they say what they show.
// A chart is drawn with D3 in the colours of the page, anew whenever its width changes.
window.tlnb = (() => {
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  const read = name => JSON.parse(document.getElementById(`data-${name}`).textContent);

  // Three significant digits, as a reader would write them.
  const digits = (x, n = 3) => {
    if (!Number.isFinite(x)) return x === Infinity ? "∞" : "–";
    const size = Math.abs(x);
    if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
      const [mantissa, exponent] = x.toExponential(n - 1).split("e");
      const raised = exponent.replace("+", "").replace(/./g, c => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
      return `${Number(mantissa)} · 10${raised}`;
    }
    return String(Number(x.toPrecision(n)));
  };

  // One explorer: `draw` is called with the values of all controls whenever one changes.
  function explorer(name, build) {
    const root = document.querySelector(`[data-explorer="${name}"]`);
    if (!root) return;
    const panel = root.querySelector(".explorer-controls");
    const charts = root.querySelector(".explorer-charts");
    const said = root.querySelector(".explorer-said");
    const values = {};
    let draw = () => {};
    let waiting = false;
    const redraw = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        draw(values);
      });
    };
    const labelled = (label, control, output) => {
      control.id = `${name}-${panel.children.length}`;
      const row = element("div", { className: "explorer-control" });
      row.append(element("label", { htmlFor: control.id, innerHTML: label }), control);
      if (output) row.append(output);
      panel.append(row);
      return row;
    };

    const tools = {
      root,
      data: read(name),
      values,
      redraw,
      // A range over a list of stops; its value is the stop, written by `format`.
      slider(key, label, stops, start, format = digits) {
        const control = element("input", {
          type: "range", min: 0, max: stops.length - 1, step: 1, value: start,
        });
        control.dataset.key = key;
        const output = element("output");
        const update = () => {
          values[key] = stops[control.value];
          output.textContent = format(values[key]);
          control.setAttribute("aria-valuetext", output.textContent);
        };
        control.addEventListener("input", () => { update(); redraw(); });
        const row = labelled(label, control, output);
        update();
        return {
          row,
          restart(newStops, newStart, newFormat = format) {
            [stops, format] = [newStops, newFormat];
            [control.max, control.value] = [stops.length - 1, newStart];
            control.disabled = stops.length === 1;
            update();
          },
        };
      },
      choice(key, label, options, start, changed = () => {}) {
        const control = element("select");
        control.dataset.key = key;
        for (const [value, text] of options) control.append(new Option(text, value));
        control.value = values[key] = start;
        control.addEventListener("change", () => {
          values[key] = control.value;
          changed(control.value);
          redraw();
        });
        return labelled(label, control);
      },
      button(text, pressed) {
        const control = element("button", { type: "button", textContent: text });
        control.addEventListener("click", pressed);
        let row = panel.querySelector(".explorer-buttons");
        if (!row) panel.append(row = element("div", { className: "explorer-buttons" }));
        row.append(control);
        return control;
      },
      chart: options => chart(charts, options, redraw),
      // In words, read out when it changes; and for those who ask, every number.
      say(text) { said.innerHTML = text; },
      numbers(values) { root.numbers = values; },
    };
    draw = build(tools);
    redraw();
    new MutationObserver(redraw).observe(document.documentElement, {
      attributes: true, attributeFilter: ["data-theme"],
    });
  }

  // Axes, lines, points and areas in a box as wide as the page leaves it.
  function chart(parent, { title, height = 300, margin = {}, pointer }, redraw) {
    const figure = element("figure", { className: "explorer-chart" });
    const caption = element("figcaption", { textContent: title });
    const legend = element("ul", { className: "explorer-legend" });
    figure.append(caption, legend);
    parent.append(figure);
    const svg = d3.select(figure).append("svg").attr("role", "img").attr("height", height);
    const edge = Object.assign({ top: 10, right: 22, bottom: 44, left: 56 }, margin);
    const layers = ["back", "axes", "front"].reduce(
      (all, name) => Object.assign(all, { [name]: svg.append("g") }), {});
    let known = 0;
    new ResizeObserver(() => {
      if (Math.abs(figure.clientWidth - known) > 1) redraw();
    }).observe(figure);

    const box = { svg, layers, edge, height };
    box.start = ({ x, y, alternative, caption: text }) => {
      known = figure.clientWidth;
      const width = Math.max(known, 240);
      svg.attr("width", width).attr("viewBox", `0 0 ${width} ${height}`);
      svg.attr("aria-label", alternative);
      if (text) caption.textContent = text;
      legend.replaceChildren();
      for (const layer of Object.values(layers)) layer.selectAll("*").remove();
      const scale = (axis, range) => {
        const kind = axis.log ? d3.scaleLog() : axis.points ? d3.scalePoint() : d3.scaleLinear();
        return kind.domain(axis.domain).range(range);
      };
      box.x = scale(x, [edge.left, width - edge.right]);
      box.y = scale(y, [height - edge.bottom, edge.top]);
      const ticks = (axis, side, room) => {
        if (axis.ticks) side.tickValues(axis.ticks);
        else side.ticks(axis.log ? Math.max(2, Math.floor(room / 60)) : Math.floor(room / 55));
        if (axis.format) side.tickFormat(axis.format);
        else if (axis.log) side.tickFormat(v => Math.abs(Math.log10(v) % 1) < 1e-9 ? digits(v, 1) : "");
        return side.tickSizeOuter(0);
      };
      layers.axes.append("g").attr("transform", `translate(0,${height - edge.bottom})`)
        .call(ticks(x, d3.axisBottom(box.x), width - edge.left - edge.right));
      layers.axes.append("g").attr("transform", `translate(${edge.left},0)`)
        .call(ticks(y, d3.axisLeft(box.y), height - edge.top - edge.bottom));
      layers.axes.append("text").attr("class", "axis-name").attr("text-anchor", "middle")
        .attr("x", (edge.left + width - edge.right) / 2).attr("y", height - 6).text(x.label);
      layers.axes.append("text").attr("class", "axis-name").attr("text-anchor", "middle")
        .attr("transform", `translate(13,${(edge.top + height - edge.bottom) / 2}) rotate(-90)`)
        .text(y.label);
      const clip = `clip-${Math.random().toString(36).slice(2)}`;
      layers.back.append("clipPath").attr("id", clip).append("rect")
        .attr("x", edge.left).attr("y", edge.top)
        .attr("width", width - edge.left - edge.right)
        .attr("height", height - edge.top - edge.bottom);
      box.clip = `url(#${clip})`;
    };
    box.named = (style, name) => {
      if (!name) return;
      const key = element("span", { className: `key ${style}` });
      legend.append(element("li", {}, key, name));
    };
    box.line = (points, style, name) => {
      layers.front.append("path").attr("class", `line ${style}`).attr("clip-path", box.clip)
        .attr("d", d3.line().defined(p => Number.isFinite(p[1]))
          .x(p => box.x(p[0])).y(p => box.y(p[1]))(points));
      box.named(style, name);
    };
    box.points = (points, style, radius = 5) => {
      layers.front.append("g").selectAll("circle").data(points).enter().append("circle")
        .attr("class", `point ${style}`).attr("r", radius)
        .attr("cx", p => box.x(p[0])).attr("cy", p => box.y(p[1]));
    };
    // Standard errors, as bars behind points: [x, y, error].
    box.bars = (points, style) => {
      layers.front.append("g").selectAll("line").data(points).enter().append("line")
        .attr("class", `bar ${style}`)
        .attr("x1", p => box.x(p[0])).attr("x2", p => box.x(p[0]))
        .attr("y1", p => box.y(p[1] - p[2])).attr("y2", p => box.y(p[1] + p[2]));
    };
    box.squares = (points, style, size = 9) => {
      layers.front.append("g").selectAll("rect").data(points).enter().append("rect")
        .attr("class", `point ${style}`).attr("width", size).attr("height", size)
        .attr("x", p => box.x(p[0]) - size / 2).attr("y", p => box.y(p[1]) - size / 2);
    };
    box.rule = (at, along, style = "here") => {
      const [a, b] = along === "x" ? box.y.range() : box.x.range();
      const mark = layers.front.append("line").attr("class", `rule ${style}`);
      const [p, q] = along === "x" ? ["x", "y"] : ["y", "x"];
      mark.attr(`${p}1`, box[along](at)).attr(`${p}2`, box[along](at))
        .attr(`${q}1`, a).attr(`${q}2`, b);
    };
    if (pointer) {
      const place = () => {
        const [px, py] = d3.mouse(svg.node());
        pointer(box.x.invert ? box.x.invert(px) : px, box.y.invert ? box.y.invert(py) : py);
      };
      svg.classed("movable", true).call(d3.drag().on("start drag", place));
    }
    return box;
  }

  const logarithmic = (from, to, count) =>
    d3.range(count).map(i => from * (to / from) ** (i / (count - 1)));

  return { explorer, digits, logarithmic };
})();
