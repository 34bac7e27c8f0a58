// Which part of a gradient passes batch normalization? The reader moves the values of a feature and
// the upstream gradient, and sees what is left of it: without its sum, and without x_hat.

import { backward, dot, forward } from "./bn.mjs";
import {
  button, choice, controls, drawing, handle, html, number, prediction, sentence, slider, svg, task,
  vector,
} from "./ui.mjs";

const EXAMPLE = { x: [0, 2, 2, 8, -4, 5], dy: [1, 0, 0, 3, -2, 1], m: 4, gamma: 6, eps: 0 };
const BETA = 1; // of the chapter's example; only `dy = y` needs it
const EPS = [0, 1e-5, 1e-3, 0.1, 1, 3, 10, 30, 100];
const GAMMAS = [-6, -3, -1, 1, 2, 3, 4, 5, 6];
const [HEIGHT, LEFT, TOP, MIDDLE] = [364, 36, 24, 150];
const [ZERO, REACH] = [250, 72]; // of the axis of the gradients
const RANGE = 12; // of a value and of an upstream gradient

export function start(root) {
  const state = structuredClone(EXAMPLE);
  let shown = false; // dx, after the prediction
  let scale = 4; // the largest gradient that is drawn
  let width = 600;
  let done = ""; // what the reader is doing to a point
  const { output, say } = sentence();
  const goal = task(
    "find an \u03b5 at which more than half of the part along x\u0302 passes. " +
      "Which number must \u03b5 exceed?",
  );
  const picture = drawing(
    "The values of one feature, and below them the gradient before and behind batch normalization",
    HEIGHT,
    (w) => {
      width = w;
      build();
      draw();
    },
  );
  const cells = ["dy", "dx"].map(() => [html("td"), html("td")]);
  const table = html("table", { class: "explorable-table" },
    html("tr", {}, html("td"), ...["sum", "along x\u0302"].map((t) => html("th", { scope: "col" }, t))),
    html("tr", {}, html("th", { scope: "row", class: "none" }, "dy, before BN"), ...cells[0]),
    html("tr", {}, html("th", { scope: "row", class: "batch" }, "dx, behind BN"), ...cells[1]));

  const x = () => state.x.slice(0, state.m);
  const dy = () => state.dy.slice(0, state.m);
  const yX = (v) => (TOP + MIDDLE - 20) / 2 - (v * (MIDDLE - 20 - TOP)) / 2 / RANGE;
  // While dy is dragged over the end of its axis, its arrow stays in its chart.
  const yG = (v) => ZERO - REACH * Math.min(1.05, Math.max(-1.05, v / scale));
  const column = (i) => LEFT + ((width - LEFT) * (i + 0.5)) / state.m;
  let parts = [];

  function build() {
    const arrow = (id) =>
      svg("marker", { id: `bp-${id}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9,
        markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto" },
        svg("path", { d: "M0 0 8 4 0 8z", class: id }));
    const text = (x, y, t, cls) => svg("text", { x, y, class: cls ?? "" }, t);
    picture.replaceChildren(
      svg("defs", {}, arrow("none"), arrow("batch")),
      text(0, 14, "x, its mean, and one \u03c3 on each side of it"),
      text(0, MIDDLE + 4, "gradient: "),
      text(62, MIDDLE + 4, "dy, from above", "none"),
      text(166, MIDDLE + 4, shown ? "dx, passed on" : "", "batch"),
      text(0, HEIGHT - 4, shown ? "dx" : "", "batch"),
    );
    const band = svg("rect", { x: LEFT, width: width - LEFT, class: "band" });
    const mean = svg("line", { x1: LEFT, x2: width, class: "reference" });
    const zero = svg("line", { x1: LEFT, x2: width, y1: yG(0), y2: yG(0), class: "axis" });
    const axes = svg("g", { "aria-hidden": "true" });
    picture.append(band, mean, zero, axes);
    parts = x().map((_, i) => {
      const cx = column(i);
      const up = svg("line", { x1: cx - 9, x2: cx - 9, class: "none", "marker-end": "url(#bp-none)" });
      const down = svg("line", { x1: cx + 9, x2: cx + 9, class: "batch", "marker-end": "url(#bp-batch)" });
      const upText = svg("text", { x: cx - 9, class: "none middle" });
      const downText = svg("text", { x: cx, y: HEIGHT - 4, class: "batch middle" });
      const xText = svg("text", { x: cx + 12 });
      const control = (name, list, place, value, offset) => {
        const h = handle({
          label: `${name} of example ${i + 1}`, range: [-RANGE, RANGE], step: 0.5, place, value,
          change: (v) => {
            list[i] = v;
            done = `You set ${name} of example ${i + 1} to ${number(v)}.`;
            draw(done, false);
          },
          rest: () => draw(done), // with the axis that fits
        });
        h.point.setAttribute("cx", cx + offset);
        return h;
      };
      const xPoint = control("x", state.x, yX,
        (y) => (((TOP + MIDDLE - 20) / 2 - y) * 2 * RANGE) / (MIDDLE - 20 - TOP), 0);
      const gPoint = control("dy", state.dy, yG,
        (y) => ((ZERO - y) * scale) / REACH, -9);
      xPoint.point.classList.add("value");
      gPoint.point.classList.add("none");
      picture.append(up, down, upText, downText, xText, xPoint.point, gPoint.point);
      return { up, down, upText, downText, xText, xPoint, gPoint };
    });
    parts.axes = { band, mean, axes };
  }

  // Says what the reader has done, if anything.
  function draw(what, rescale = true) {
    const cache = forward(x(), state.gamma, BETA, state.eps);
    const defined = Number.isFinite(cache.invStd);
    const { dx } = defined ? backward(dy(), cache) : { dx: x().map(() => 0) };
    const passed = dx.map((v) => (Math.abs(v) < 1e-9 ? 0 : v));
    if (rescale) {
      const largest = Math.max(...dy().map(Math.abs), ...(shown ? passed.map(Math.abs) : []));
      scale = [4, 8, 12, 25, 50, 100, 200, 1000, 1e4].find((s) => s >= largest) ?? 1e5;
    }
    const { band, mean, axes } = parts.axes;
    const std = Math.sqrt(cache.variance);
    band.setAttribute("y", Math.max(TOP - 6, yX(cache.mean + std)));
    band.setAttribute("height", Math.min(MIDDLE - 16, yX(cache.mean - std)) - band.getAttribute("y"));
    for (const end of ["y1", "y2"]) mean.setAttribute(end, yX(cache.mean));
    axes.replaceChildren(
      ...[[-10, yX], [0, yX], [10, yX], [-scale, yG], [0, yG], [scale, yG]].map(([v, y]) =>
        svg("text", { x: LEFT - 6, y: y(v) + 4, class: "end small" }, number(v))),
    );
    parts.forEach((p, i) => {
      p.xPoint.set(state.x[i]);
      p.gPoint.set(state.dy[i]);
      p.xText.setAttribute("y", yX(state.x[i]) + 4);
      p.xText.textContent = number(state.x[i]);
      arrow(p.up, state.dy[i]);
      p.upText.setAttribute("y", yG(state.dy[i]) + (state.dy[i] < 0 ? 24 : -13));
      p.upText.textContent = number(state.dy[i]);
      p.down.style.visibility = p.downText.style.visibility = shown && defined ? "" : "hidden";
      arrow(p.down, passed[i]);
      p.downText.textContent = number(passed[i]);
    });
    const size = Math.sqrt(dot(cache.xHat, cache.xHat)) || 1; // x_hat is 0 if all x are equal
    const along = [dy(), passed].map((g) => [g.reduce((a, b) => a + b), dot(g, cache.xHat) / size]);
    cells.forEach((row, i) =>
      row.forEach((cell, j) => {
        const known = defined || (i === 0 && j === 0);
        cell.textContent = (shown || i === 0) && known ? number(along[i][j]) : "?";
      }),
    );
    if (shown && what !== undefined)
      say(`${what} ${defined ? explain(cache, passed, along) : UNDEFINED}`.trim());
    const share = state.eps / (cache.variance + state.eps);
    if (shown && share > 0.5 && Math.abs(along[0][1]) > 1e-9)
      goal.solve("More than half passes as soon as \u03b5 exceeds the variance.");
  }

  function arrow(line, v) {
    line.setAttribute("y1", yG(0));
    line.setAttribute("y2", yG(v || 1e-6));
    line.classList.toggle("zero", !v);
  }

  function explain({ variance, invStd, gamma }, passed, [before, after]) {
    if (passed.every((v) => v === 0)) {
      const why = state.m === 2
        ? "With two examples the ones and x\u0302 span everything, so no direction is left."
        : "This dy consists of a multiple of the ones and a multiple of x\u0302 only.";
      return `dx = ${vector(passed)}: nothing passes. ${why}`;
    }
    const share = state.eps / (variance + state.eps);
    const rest = Math.abs(before[1]) < 1e-9
      ? "dy has no part along x\u0302."
      : share < 1e-9
        ? "The part along x\u0302 is removed, too."
        : `Of the part along x\u0302 the share \u03b5/(\u03c3\u00b2 + \u03b5) = ` +
          `${number(share, share < 0.001 ? 7 : 3)} passes, times \u03b3/\u221a(\u03c3\u00b2 + \u03b5) = ` +
          `${number(gamma * invStd, 3)} as all that passes.`;
    return `dx = ${vector(passed)}. Its sum is ${number(after[0])}, whatever dy is. ${rest}`;
  }

  function set(changes, what) {
    Object.assign(state, changes);
    gamma.set(state.gamma);
    eps.set(state.eps);
    size.set(state.m);
    build();
    draw(what);
  }

  const gradient = (values) => [...values, ...state.dy.slice(state.m)];
  const gamma = slider("\u03b3", GAMMAS, state.gamma, number, (v) => {
    state.gamma = v;
    draw(`\u03b3 is ${number(v)}.`);
  });
  const eps = slider("\u03b5", EPS, state.eps, (v) => number(v, 5), (v) => {
    state.eps = v;
    draw(`\u03b5 is ${number(v, 5)}.`);
  });
  const size = choice("examples, m", [[2, "2"], [4, "4"], [6, "6"]], state.m, (m) =>
    set({ m }, `There are ${m} examples.`));
  const presets = controls(
    button("the chapter\u2019s example", () =>
      set(structuredClone(EXAMPLE), "This is the example of the chapter.")),
    button("dy: all ones", () => set({ dy: gradient(x().map(() => 1)) }, "All dy are 1.")),
    button("dy = y", () => {
      const { y } = forward(x(), state.gamma, BETA, state.eps);
      if (!y.every(Number.isFinite)) return say(`${UNDEFINED} So there is no y.`);
      set({ dy: gradient(y) }, "dy is y, the gradient of half the sum of squares.");
    }),
  );
  root.append(
    html("p", { class: "explorable-title" }, "Which part of a gradient passes BN?"),
    html("p", {}, "Drag the points, or choose one with Tab and move it with the arrow keys."),
    prediction(
      `The upstream gradient dy = ${vector(dy())} has the sum 4. What is the sum of dx behind BN?`,
      ["4", "between 0 and 4", "0"], "0",
      "A shift of all x changes no output, so the gradient has no part along the ones.",
      () => {
        shown = true;
        build();
        draw("");
      },
    ),
    picture, table, output, presets,
    html("div", { class: "explorable-sliders" }, size.row, gamma.row, eps.row), goal.row,
  );
}

const UNDEFINED = "All values are equal, so the variance is 0: with \u03b5 = 0 BN is not defined.";
