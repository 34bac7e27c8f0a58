// The signal forward and the gradient backward through 50 layers, without and with BN. Nothing is
// trained: the reader changes the scale of the weights and sees what each layer passes on.

import { backward, forward } from "./bn.mjs";
import { build, generator, normal } from "./mlp.mjs";
import {
  button, choice, controls, drawing, html, number, prediction, sentence, slider, svg, task,
} from "./ui.mjs";

const [DEPTH, WIDTH, M] = [50, 100, 32]; // as bnlib.experiments.signal_propagation
const SCALES = [0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2];
const ACTIVATIONS = { relu: "ReLU", linear: "linear" };
const INIT = { relu: "He\u2019s", linear: "Xavier\u2019s" };
const ARMS = { none: "none", batch: "BN" };
const [HEIGHT, LEFT, RIGHT] = [372, 40, 44];
const PANELS = { activations: [32, 152], gradients: [208, 328] };
const SWEEP = 700; // milliseconds for each direction

// log10 of the root mean square of a matrix that is stored as rows.
function logRms(rows) {
  let sum = 0;
  for (const row of rows) for (const v of row) sum += v * v;
  return 0.5 * Math.log10(sum / rows.length / rows[0].length);
}

// rows += factor * other, for each entry of a matrix: what a linear layer and its gradient are made of.
function multiply(weight, x, scale, transposed = false) {
  const out = Array.from({ length: transposed ? weight[0].length : weight.length },
    () => new Float64Array(x[0].length));
  weight.forEach((row, j) => row.forEach((w, k) => {
    const [to, from] = transposed ? [out[k], x[j]] : [out[j], x[k]];
    const factor = scale * w;
    for (let i = 0; i < from.length; i++) to[i] += factor * from[i];
  }));
  return out;
}

// Send x, one row a feature, forward through layers of these weights (d_out, d_in), and g backward.
// Returns log10 of the root mean squares, from the input to the output.
export function propagate(weights, x, g, { scale = 1, norm = false, relu = true }) {
  const positive = (z, rows) => rows.map((row, j) => row.map((v, i) => (z[j][i] > 0 ? v : 0)));
  const caches = [];
  const activations = [logRms(x)];
  for (const weight of weights) {
    let z = multiply(weight, x, scale);
    const norms = norm ? z.map((row) => forward(row)) : null;
    if (norm) z = norms.map((cache) => cache.y);
    caches.push({ z, norms });
    x = relu ? positive(z, z) : z;
    activations.push(logRms(x));
  }
  const gradients = [logRms(g)];
  for (let l = weights.length - 1; l >= 0; l--) {
    const { z, norms } = caches[l];
    if (relu) g = positive(z, g);
    if (norm) g = g.map((row, j) => backward(row, norms[j]).dx);
    g = multiply(weights[l], g, scale, true);
    gradients.unshift(logRms(g));
  }
  return { activations, gradients };
}

// The decades that a gradient grows over `depth` layers with BN, in the theory of the chapter: for
// wide layers, and for ReLU for large mini-batches.
export function theory(activation, m, depth) {
  const growth = activation === "relu" ? Math.PI / (Math.PI - 1) : (m - 2) / (m - 3);
  return (depth / 2) * Math.log10(growth);
}

const signed = (v) => number(v, 1).replace(/^(?=[1-9]|0\.)/, "+"); // but no sign of 0

// What `propagate` returns for both networks, whose weights, mini-batch and gradient depend on the
// seed alone. It takes too long for the page, so depth_worker.mjs calls it.
export function compute({ seed, scale, activation }) {
  const weights = build(Array(DEPTH + 1).fill(WIDTH), { norm: false, seed }).map((layer) => layer.weight);
  const random = generator(seed + 1000);
  const [x, g] = [0, 0].map(() =>
    Array.from({ length: WIDTH }, () => Float64Array.from({ length: M }, () => normal(random))));
  const relu = activation === "relu";
  const factor = scale * (relu ? 1 : Math.SQRT1_2); // of He's weights
  const pass = (norm) => propagate(weights, x, g, { scale: factor, norm, relu });
  return { none: pass(false), batch: pass(true) };
}

export async function start(root) {
  const state = { scale: 1, activation: "relu", seed: 1 };
  let width = 600;
  let asked = 0; // how often the worker was
  let frame, began, timer;
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  const worker = new Worker(new URL("depth_worker.mjs", import.meta.url), { type: "module" });
  const computed = () => new Promise((resolve, reject) => {
    const id = ++asked;
    worker.onmessage = ({ data }) => data.id === id && resolve(data.found); // no older answer
    worker.onerror = reject;
    worker.postMessage({ id, ...state });
  });
  let found = await computed();

  const { output, say } = sentence();
  const goal = task(
    "find a setting in which the gradient with BN grows by less than one decade.",
  );
  const picture = drawing("The root mean square of the signal and of the gradient after each of 50 layers, " +
    "without and with batch normalization", HEIGHT, (w) => {
    width = w;
    draw(2);
  });

  // What has been passed: from 0 to 1 forward, then from 1 to 2 backward.
  function draw(passed) {
    const at = (l) => LEFT + ((width - LEFT - RIGHT) * l) / DEPTH;
    const text = (tx, ty, t, cls = "") => svg("text", { x: tx, y: ty, class: cls, "aria-hidden": "true" }, t);
    picture.replaceChildren();
    for (const [kind, [top, floor]] of Object.entries(PANELS)) {
      const back = kind === "gradients";
      const all = Object.values(found).flatMap((arm) => arm[kind]);
      const limit = [2, 5, 10, 20, 30].find((v) => v >= 1.5 * Math.max(...all.map(Math.abs))) ?? 50;
      const y = (v) => (top + floor) / 2 - ((floor - top) * v) / 2 / limit;
      picture.append(text(0, top - 16, back ? "\u2190 the gradient, backward: log10 of its RMS" :
        "the signal, forward \u2192: log10 of its RMS"));
      for (const v of [-limit, 0, limit]) {
        picture.append(text(LEFT - 6, y(v) + 4, number(v), "end small"));
        picture.append(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v), class: v ? "reference" : "axis" }));
      }
      const share = Math.min(1, Math.max(0, back ? passed - 1 : passed));
      const count = Math.round(DEPTH * share);
      if (back && !count) continue;
      const ends = Object.keys(ARMS).map((arm) => found[arm][kind].at(back ? 0 : -1));
      for (const [i, arm] of Object.keys(ARMS).entries()) {
        const layers = Array.from({ length: count + 1 }, (_, l) => (back ? DEPTH - l : l));
        const points = layers.map((l) => `${at(l).toFixed(1)},${y(found[arm][kind][l]).toFixed(1)}`);
        picture.append(svg("polyline", { points: points.join(" "), class: arm }));
        if (share < 1) continue;
        const close = Math.abs(y(ends[0]) - y(ends[1])) < 16;
        const shift = close ? (ends[i] >= ends[1 - i] && (i || ends[0] !== ends[1]) ? -4 : 12) : !back ? 4 : ends[i] < 0 ? 15 : -6;
        picture.append(text(back ? LEFT + 5 : width - RIGHT + 5, y(ends[i]) + shift, ARMS[arm], `${arm} halo`));
      }
    }
    for (const l of [0, 10, 20, 30, 40, 50]) picture.append(text(at(l), PANELS.gradients[1] + 16, l, "middle small"));
    picture.append(text(at(DEPTH / 2), HEIGHT - 6, "layer, from the input to the output", "middle"));
  }

  function sweep() {
    cancelAnimationFrame(frame);
    began = undefined;
    const next = (now) => {
      began ??= now;
      const passed = still.matches ? 2 : Math.min(2, (now - began) / SWEEP);
      draw(passed);
      if (passed < 2) frame = requestAnimationFrame(next);
    };
    frame = requestAnimationFrame(next);
  }

  function run(what) {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      found = await computed();
      sweep();
      tell(what);
    }, 150);
  }

  function tell(what) {
    const passed = (arm, kind) => {
      const levels = found[arm][kind];
      return kind === "gradients" ? levels[0] - levels.at(-1) : levels.at(-1) - levels[0];
    };
    const [signal, gradient] = ["activations", "gradients"].map((kind) =>
      ["none", "batch"].map((arm) => passed(arm, kind)));
    const says = theory(state.activation, M, DEPTH);
    say(`${what} Forward the signal changes by ${signed(signal[0])} decades without BN and by ` +
      `${signed(signal[1])} with BN. Backward the gradient changes by ${signed(gradient[0])} decades without BN and ` +
      `by ${signed(gradient[1])} with BN. The theory of this chapter says ${signed(says)} with BN, ` +
      "whatever the factor is.");
    if (Math.abs(gradient[1]) < 1)
      goal.solve(`It changes by ${signed(gradient[1])} decades. No factor does this with ReLU: with BN and ` +
        "independent weights only a straight line keeps the gradient, if layers are wide and mini-batches large.");
  }

  const about = () => `The weights are ${number(state.scale)} times ${INIT[state.activation]}.`;
  const scale = slider("factor on the weights", SCALES, state.scale, number, (v) => {
    state.scale = v;
    run(about());
  });
  const activation = choice("activation function:", Object.entries(ACTIVATIONS), state.activation, (v) => {
    state.activation = v;
    run(about());
  });
  const again = button("New weights", () => {
    state.seed++;
    run("These are new weights.");
  });
  root.append(
    html("p", { class: "explorable-title" }, "The signal forward, the gradient backward"),
    html("p", {}, `A random mini-batch of ${M} goes through ${DEPTH} layers of ${WIDTH} units, and a random ` +
      "gradient goes back. It is computed here, in your browser; the weights of both networks are the same."),
    prediction(
      `with He\u2019s weights the gradient keeps its size without BN, and grows with BN. What does the gradient with ` +
        "BN do over 50 layers if all weights are halved?",
      ["it vanishes", "it grows by fewer decades", "it grows as before"], "it grows as before",
      "Halved weights halve the standard deviation that BN divides by, so the scale of the weights cancels.",
      () => {
        state.scale = 0.5;
        scale.set(0.5);
        run(about());
      },
    ),
    picture, output, controls(again),
    html("div", { class: "explorable-sliders" }, scale.row, activation.row), goal.row,
  );
}
