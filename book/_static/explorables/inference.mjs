// Your companions change your prediction: one example, normalized among companions that are drawn
// again and again in train mode, or with the running statistics in eval mode.

import { forward, inference, updateRunning } from "./bn.mjs";
import { generator, normal } from "./mlp.mjs";
import {
  button, choice, controls, drawing, html, number, prediction, sentence, slider, svg, task, vector,
} from "./ui.mjs";

const X = 3; // the example
const FIRST = [1, 2, 6]; // its companions in the chapter
const SECOND = [4, 5, 8];
const POPULATION = { mean: 3, variance: 4 };
const MOMENTUM = 0.1;
const EPS = 0; // as on paper; two normal numbers are never equal
const NEAR = 0.2;
const [BIN, LIMIT] = [0.25, 3]; // of the histogram of y: the centers go from -3 to 3
const SHOWN = 100; // mini-batches that the chart of the running statistics shows
const HEIGHT = 380;

export function start(root) {
  const random = generator(4);
  let size, mode;
  let momentum = MOMENTUM;
  let used = MOMENTUM; // the one of the last mini-batch
  let width = 600;
  let batch, y, running, history, counts, yes;

  const { output, say } = sentence();
  const goal = task(
    `the mean of all examples is ${POPULATION.mean}, so y should be 0. Bring y in eval mode nearer ` +
      `than ${NEAR} to 0. How many mini-batches does that take?`,
  );
  const picture = drawing(
    "The mini-batch; below it a histogram of the outputs y of the same example, and the running " +
      "mean and variance after each mini-batch", HEIGHT,
    (w) => {
      width = w;
      draw();
    },
  );

  function restart() {
    size = FIRST.length + 1;
    mode = "train";
    running = { mean: 0, variance: 1 };
    history = [];
    clear();
    put([X, ...FIRST]);
  }

  function clear() {
    counts = new Array(1 + (2 * LIMIT) / BIN).fill(0);
    yes = 0;
  }

  function put(values) {
    batch = values;
    const cache = forward(values, 1, 0, EPS);
    y = mode === "train" ? cache.y[0] : inference([X], running, 1, 0, EPS)[0];
    if (mode === "train") {
      running = updateRunning(running, cache, values.length, momentum);
      history.push({ ...running, batch: cache.mean });
      used = momentum;
    }
    counts[Math.round((Math.min(LIMIT, Math.max(-LIMIT, y)) + LIMIT) / BIN)]++;
    if (y > 0) yes++;
  }

  function redraw(times, what) {
    for (let i = 0; i < times; i++) {
      const companion = () => POPULATION.mean + Math.sqrt(POPULATION.variance) * normal(random);
      put([X, ...Array.from({ length: size - 1 }, companion)]);
    }
    draw();
    tell(what);
  }

  function tell(what = "") {
    const n = counts.reduce((a, b) => a + b);
    const among = size <= 8 ? `Among the companions ${vector(batch.slice(1))}` :
      `Among ${size - 1} companions`;
    const how = mode === "train"
      ? `${among}, x = ${X} becomes y = ${number(y)}.`
      : `In eval mode y = ${number(y)}, whatever the companions are, because the running mean is ` +
        `${number(running.mean)} and the running variance ${number(running.variance)}.`;
    const share = n > 1 ? ` Of ${n} predictions, ${yes} are \u201cyes\u201d.` : "";
    say(`${what} ${how}${share}`.trim());
    if (mode === "eval" && Math.abs(y) < NEAR)
      goal.solve(`y is ${number(y)} after ${seen()}, the last momentum being ${number(used)}. ` +
        "Can you need fewer?");
  }

  const seen = () => `${history.length} mini-batch${history.length === 1 ? "" : "es"}`;

  function draw() {
    const text = (x, ty, t, cls = "") => svg("text", { x, y: ty, class: cls }, t);
    const line = (x1, x2, y1, y2, cls) => svg("line", { x1, x2, y1, y2, class: cls });
    const [left, right] = [28, width - 8];
    picture.replaceChildren();

    const place = (v) => left + ((right - left) * (Math.min(11, Math.max(-5, v)) + 5)) / 16;
    picture.append(text(0, 14, "x = 3 (square) and its companions"),
      line(left, right, 44, 44, "axis"));
    for (const v of [-5, 0, 5, 10]) picture.append(text(place(v), 64, number(v), "middle small"));
    for (const v of batch.slice(1))
      picture.append(svg("circle", { cx: place(v), cy: 44, r: 5, class: "companion" }));
    picture.append(svg("rect", { x: place(X) - 6, y: 38, width: 12, height: 12, class: "batch" }));

    const [top, floor] = [104, 196];
    const across = (v) => left + ((right - left) * (v + LIMIT + BIN / 2)) / (2 * LIMIT + BIN);
    const tallest = Math.max(4, ...counts);
    picture.append(text(0, 92, `y of x = 3, counted: ${counts.reduce((a, b) => a + b)}`));
    counts.forEach((count, i) => {
      const height = ((floor - top - 8) * count) / tallest; // below the words
      const x = across((i - 0.5) * BIN - LIMIT);
      const bar = { x, y: floor - height, width: (right - left) / counts.length - 1, height, class: "batch" };
      if (count) picture.append(svg("rect", bar));
    });
    picture.append(line(left, right, floor, floor, "axis"),
      line(across(0), across(0), top, floor, "reference"),
      text(across(0) - 8, top + 1, "\u201cno\u201d", "end"), text(across(0) + 8, top + 1, "\u201cyes\u201d"));
    for (const v of [-3, -2, -1, 0, 1, 2, 3])
      picture.append(text(across(v), floor + 18, `${{ [-LIMIT]: "\u2264 ", [LIMIT]: "\u2265 " }[v] ?? ""}${number(v)}`,
        "middle small"));

    const [high, low] = [254, 360];
    const end = right - 96;
    const recent = history.slice(-SHOWN);
    const largest = Math.max(...recent.map((h) => Math.max(h.batch, h.mean, h.variance)));
    const most = [8, 16, 32].find((v) => v >= largest) ?? 64;
    const up = (v) => low - ((low - high) * Math.min(most, Math.max(0, v))) / most;
    const step = (i) => left + ((end - left) * (i + 1)) / Math.max(20, recent.length);
    picture.append(text(0, 242, "running statistics (dots: mini-batches)"));
    for (const [v, shift] of [[0, 4], [3, 8], [4, 2], [most, 4]])
      picture.append(text(left - 6, up(v) + shift, v, "end small"));
    picture.append(line(left, end, low, low, "axis"),
      line(left, end, up(3), up(3), "reference"), line(left, end, up(4), up(4), "reference"));
    recent.forEach((h, i) =>
      picture.append(svg("circle", { cx: step(i), cy: up(h.batch), r: 2, class: "companion" })));
    for (const [name, style] of [["mean", "batch"], ["variance", "second"]]) {
      const points = recent.map((h, i) => `${step(i).toFixed(1)},${up(h[name]).toFixed(1)}`);
      picture.append(svg("polyline", { points: points.join(" "), class: style }));
      const [now, other] = name === "mean" ? [running.mean, running.variance] :
        [running.variance, running.mean];
      const apart = Math.abs(now - other) < 1.2 ? (now < other ? 10 : -2) : 4;
      const at = Math.min(up(now) + apart, low - 4); // above the axis
      picture.append(text(step(recent.length - 1) + 5, at, `${name} ${number(now)}`,
        style === "batch" ? "batch halo" : "halo"));
    }
    picture.append(text((left + end) / 2, HEIGHT - 2, `${seen()} in train mode`,
      "middle small"));
  }

  restart();
  const changed = (what) => {
    clear();
    if (mode === "train") return redraw(1, what);
    put(batch);
    draw();
    tell(what);
  };
  const modes = choice("mode:", [["train", "train"], ["eval", "eval"]], mode, (v) => {
    mode = v;
    changed(`You switched to ${v} mode.`);
  });
  const sizes = slider("size of the mini-batch", [2, 4, 8, 16, 32, 64], size, number, (v) => {
    size = v;
    clear();
    redraw(1);
  });
  root.append(
    html("p", { class: "explorable-title" }, "Your companions change your prediction"),
    html("p", {}, "A network answers \u201cyes\u201d if the output y of BN is above 0. The example " +
      `x = ${X} stays the same; only its companions in the mini-batch are drawn anew, from a normal ` +
      `distribution with mean ${POPULATION.mean} and variance ${POPULATION.variance}.`),
    prediction(
      `among the companions ${vector(FIRST)}, x = ${X} becomes y = 0. What becomes of it among ` +
        `${vector(SECOND)}?`,
      ["y stays 0", "y falls", "y rises"], "y falls",
      `The same input has another output, because its companions move the mean of the mini-batch: ` +
        `it rises to 5, and x = ${X} is below it now.`,
      () => {
        put([X, ...SECOND]);
        draw();
        tell();
      },
    ),
    picture, output,
    controls(
      button("Redraw the companions", () => redraw(1)),
      button("50 times", () => redraw(50)),
      button("Start again", () => {
        restart();
        modes.set(mode);
        sizes.set(size);
        draw();
        tell("The running statistics are 0 and 1, and then see the first mini-batch.");
      }),
    ),
    html("div", { class: "explorable-sliders" },
      modes.row, sizes.row,
      slider("momentum", [0.01, 0.03, 0.1, 0.3, 0.5, 0.99], momentum, number, (v) => {
        momentum = v;
        tell(`The momentum is ${number(v)} from the next mini-batch on.`);
      }).row),
    goal.row,
  );
}
