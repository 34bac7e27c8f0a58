// Train with and without batch normalization: two networks learn the digits in a worker of this
// page, and their curves run over the range of the book's 16 seeds.

import {
  button, choice, controls, drawing, html, number, prediction, sentence, slider, svg, task,
} from "./ui.mjs";

const START = { rate: 0.1, depth: 6, scale: 1, batch: 32 };
const [STEPS, EVERY] = [200, 10];
const TRAINED = 75; // percent, as in the chapter
const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [250, 40, 44, 12, 215];
const ARMS = { none: "none", batch: "BN" };

export async function start(root) {
  const bands = await (await fetch(new URL("bands.json", import.meta.url))).json();
  const settings = { ...START, width: bands.width, seed: 1 };
  let curves = { none: [], batch: [] };
  let width = 600;
  let asked = true; // until the prediction is made, which the bands would give away
  let worker;
  let current = 0; // the training that is shown
  let announce = "";

  const x = (t) => LEFT + ((width - LEFT - RIGHT) * t) / STEPS;
  const y = (percent) => BOTTOM - ((BOTTOM - TOP) * percent) / 100;
  const { output, say } = sentence();
  const goal = task("find a learning rate at which only the network with BN trains.");
  const picture = drawing(
    "Test accuracy over the training steps, without and with batch normalization", HEIGHT,
    (w) => {
      width = w;
      draw();
    },
  );
  const points = (ts, values) => ts.map((t, i) => `${x(t).toFixed(1)},${y(values[i]).toFixed(1)}`);

  function band(arm) {
    const chosen = bands.settings.find(
      (s) => s.depth === settings.depth && s.scale === settings.scale && s.batch === settings.batch,
    );
    const parts = chosen.bands[arm][bands.rates.indexOf(settings.rate)];
    const [mean, low, high] = parts.map((part) => part.map((v) => v / 10));
    return { mean, low, high };
  }

  function draw() {
    const text = (tx, ty, t, cls) => svg("text", { x: tx, y: ty, class: cls }, t);
    picture.replaceChildren();
    for (const percent of [0, 25, 50, 75, 100]) {
      const cls = percent === TRAINED ? "reference" : "axis";
      const [y1, y2] = [y(percent), y(percent)];
      if (percent === 0 || percent === TRAINED)
        picture.append(svg("line", { x1: LEFT, x2: width - RIGHT, y1, y2, class: cls }));
      picture.append(text(LEFT - 6, y1 + 4, percent === 100 ? "100 %" : `${percent}`, "end small"));
    }
    for (const t of [0, 50, 100, 150, 200]) picture.append(text(x(t), BOTTOM + 16, t, "middle small"));
    picture.append(text(x(100), HEIGHT - 2, "training step", "middle"));
    if (asked) return;
    const ends = {};
    for (const arm of Object.keys(ARMS)) {
      const { mean, low, high } = band(arm);
      const edge = [...points(bands.steps, high), ...points(bands.steps, low).reverse()];
      picture.append(svg("polygon", { points: edge.join(" "), class: arm }));
      picture.append(svg("polyline", { points: points(bands.steps, mean).join(" "), class: `${arm} mean` }));
      ends[arm] = curves[arm].at(-1) ?? mean.at(-1); // the names are at the curves, or at the means
    }
    for (const [arm, name] of Object.entries(ARMS)) {
      const ts = curves[arm].map((_, i) => i * EVERY);
      if (ts.length)
        picture.append(svg("polyline", { points: points(ts, curves[arm]).join(" "), class: arm }));
      const close = Math.abs(ends.none - ends.batch) < 8; // then one is higher up
      const above = ends.none > ends.batch ? "none" : "batch";
      const shift = close ? (arm === above ? -4 : 10) : 4;
      picture.append(text(x(ts.at(-1) ?? STEPS) + 5, y(ends[arm]) + shift, name, arm));
    }
  }

  // Takes the curves away; what an older training still posts is not drawn.
  function clear() {
    current++;
    curves = { none: [], batch: [] };
    draw();
    say("Training\u2026", 0);
  }

  function train(what) {
    if (!worker) {
      worker = new Worker(new URL("training_worker.mjs", import.meta.url), { type: "module" });
      worker.onmessage = ({ data }) => receive(data);
      worker.onerror = failed;
    }
    clear();
    run.textContent = "Train again, from new weights";
    announce = what;
    worker.postMessage({ id: current, settings, steps: STEPS, every: EVERY });
  }

  function failed() {
    worker.terminate();
    worker = undefined;
    say("Nothing is trained, because a part of this page could not be loaded. Once you are online " +
      "again, press the button.");
  }

  function receive({ id, error, t, none, batch, diverged }) {
    if (id !== current) return;
    if (error) return failed();
    curves.none.push(100 * none);
    curves.batch.push(100 * batch);
    if (!still.matches || t === STEPS) draw();
    if (t < STEPS) return;
    const done = { none: 100 * none >= TRAINED, batch: 100 * batch >= TRAINED };
    const result = done.none
      ? done.batch ? "Both networks train." : "Only the network without BN trains."
      : done.batch ? "Only the network with BN trains." : "Neither network trains.";
    const [a, b] = ["none", "batch"].map((arm) => number(band(arm).mean.at(-1), 0));
    const ended = (i, share, rest) => diverged[i] ? "has diverged, which counts as 0\u00a0%" :
      `classifies ${number(100 * share, 0)}\u00a0%${rest}`;
    say(
      `${announce} After ${STEPS} steps the network without BN ` +
        `${ended(0, none, " of the test images right")}, the one with BN ${ended(1, batch, "")}. ` +
        `The means of the book\u2019s ${bands.seeds} seeds are ${a}\u00a0% and ${b}\u00a0%. ${result}`,
    );
    if (done.batch && !done.none)
      goal.solve(`At the rate ${number(settings.rate, 3)} only the network with BN reaches ${TRAINED}\u00a0%.`);
  }

  const still = matchMedia("(prefers-reduced-motion: reduce)"); // then only the end is drawn
  const change = (name, label) => (v) => {
    settings[name] = v;
    clear();
    clearTimeout(change.timer);
    change.timer = setTimeout(() => train(`${label} is ${number(v, 3)}.`), 300);
  };
  const offered = (name, legend, label) => {
    const values = [...new Set(bands.settings.map((s) => s[name]))].sort((a, b) => a - b);
    const options = values.map((v) => [v, number(v)]);
    return choice(legend, options, settings[name], change(name, label)).row;
  };
  const run = button("Train", () => {
    settings.seed++;
    train("New weights.");
  });
  root.append(
    html("p", { class: "explorable-title" }, "Train with and without BN"),
    html("p", {},
      `Two networks learn the digits here, in your browser, from the same weights and on the same ` +
        `mini-batches. A network trains if it reaches ${TRAINED}\u00a0%, the dotted line. Behind your ` +
        `curves are the mean and the range of the ${bands.seeds} seeds that the book has trained.`),
    prediction(
      "at the learning rate 0.1 and from He\u2019s weights, which network is ahead after 50 steps?",
      ["the one without BN", "neither", "the one with BN"], "the one with BN",
      "With BN more rates lead above the dotted line. Try the others, and then weights that are too " +
        "small or too large.",
      () => {
        asked = false;
        train("");
      },
    ),
    picture, output, controls(run),
    html("div", { class: "explorable-sliders" },
      slider("learning rate", bands.rates, settings.rate, (v) => number(v, 3),
        change("rate", "The learning rate")).row,
      offered("scale", "weights, times He\u2019s:", "The factor on He\u2019s weights"),
      offered("depth", "hidden layers:", "The number of hidden layers"),
      offered("batch", "mini-batch:", "The size of the mini-batch")),
    goal.row,
  );
}
