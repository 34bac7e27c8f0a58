// Which values share a mean? An array of images (n, c, h, w) as cells: the reader chooses a norm, the
// sizes and a value, and sees with which other values it is standardized.

import { forward, valuesOf } from "./bn.mjs";
import { generator } from "./mlp.mjs";
import {
  button, choice, controls, drawing, forBrowser, html, number, prediction, sentence, svg, task,
} from "./ui.mjs";

const START = { norm: "batch", groups: "2", n: 3, c: 6, pixels: "4x5" }; // as in the chapter
const EXAMPLE = { n: 2, c: 4, pixels: "1x1" };
const OF_EXAMPLE = [[1, 3, 5, 7], [3, 7, 1, 5]];
const COLOR = { batch: "batch", layer: "layer", instance: "group", group: "group" };
const [LEFT, TOP, GAP, LARGEST] = [28, 38, 6, 46];
const [FOR_X, FOR_BOTH] = [15, 38]; // pixels that a cell needs to show its x, and its x_hat, too

// One digit for each value of the largest array. The first pixels hold the chapter's example.
const random = generator(7);
const VALUES = Array.from({ length: 4 }, (_, i) =>
  Array.from({ length: 6 }, (_, j) =>
    Array.from({ length: 20 }, (_, k) => {
      const drawn = Math.floor(10 * random());
      return k === 0 && i < 2 && j < 4 ? OF_EXAMPLE[i][j] : drawn;
    }),
  ),
);

// The values x of an array of this shape, one after the other.
export function values({ n, c, pixels }) {
  const [h, w] = pixels.split("x").map(Number);
  return VALUES.slice(0, n).flatMap((image) => image.slice(0, c).flatMap((x) => x.slice(0, h * w)));
}

// The sets of values that share a mean, and x_hat of each value; with eps = 0, so that it is
// undefined (NaN) where the values of a set are equal.
export function standardize({ norm, groups, n, c, pixels }, x) {
  const [h, w] = pixels.split("x").map(Number);
  const sets = valuesOf(norm, [n, c, h * w], groups === "c" ? c : +groups);
  const xHat = [];
  const caches = sets.map((set) => forward(set.map((i) => x[i]), 1, 0, 0));
  sets.forEach((set, s) => set.forEach((i, k) => (xHat[i] = caches[s].xHat[k])));
  return { sets, caches, xHat };
}

export function start(root) {
  const state = { ...START };
  if (matchMedia("(max-width: 500px)").matches) state.pixels = "2x2"; // cells for a finger
  let chosen = [0, 0, 0]; // example, channel, pixel
  let width = 600;
  let shown = false; // the companions, after the prediction
  let x, cells, outline;
  const seen = new Map(); // sizes and companions -> the norm that had them

  const { output, say } = sentence();
  const goal = task("find two norms, at the same sizes, in which the outlined value has the same companions.");
  const grid = svg("g", { role: "grid", tabindex: 0, "aria-multiselectable": "true",
    "aria-label": "The values; move with the arrow keys", class: "explorable-cells" });
  const picture = drawing("An array of images: a row of images for each example, a column for each channel",
    100, (w) => {
      width = w;
      build();
      draw();
    });
  picture.append(grid);

  const side = () => state.pixels.split("x").map(Number);
  const index = ([i, j, k]) => (i * state.c + j) * side()[0] * side()[1] + k;

  function build() {
    const { n, c } = state;
    const [h, w] = side();
    x = values(state);
    const size = Math.min(LARGEST, (width - LEFT - 2 - GAP * (c - 1)) / (c * w));
    const left = (j, k) => LEFT + j * (w * size + GAP) + (k % w) * size;
    const top = (i, k) => TOP + i * (h * size + GAP) + Math.floor(k / w) * size;
    const height = top(n, 0);
    picture.setAttribute("height", height);
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const text = (tx, ty, t, cls) => svg("text", { x: tx, y: ty, class: cls, "aria-hidden": "true" }, t);
    const words = [text(LEFT, 14, "channels \u2192, examples \u2193", "")];
    for (let j = 0; j < c; j++) words.push(text(left(j, 0) + (w * size) / 2, 32, j + 1, "middle small"));
    for (let i = 0; i < n; i++) words.push(text(LEFT - 10, top(i, 0) + (h * size) / 2 + 4, i + 1, "end small"));
    outline = svg("rect", { width: size, height: size, class: "chosen", "aria-hidden": "true" });
    const numbers = svg("g", { "aria-hidden": "true", class: "explorable-numbers" });
    picture.replaceChildren(...words, grid, numbers, outline);
    cells = [];
    grid.replaceChildren();
    for (let i = 0; i < n; i++)
      for (let r = 0; r < h; r++) {
        const row = svg("g", { role: "row" });
        for (let j = 0; j < c; j++)
          for (let q = 0; q < w; q++) {
            const place = [i, j, r * w + q];
            const box = { x: left(j, place[2]), y: top(i, place[2]), width: size, height: size };
            const middle = box.x + size / 2;
            const both = size >= FOR_BOTH;
            const value = svg("text", { x: middle, y: box.y + size / 2 + (both ? -4 : 4), class: "middle small" });
            const result = svg("text", { x: middle, y: box.y + size / 2 + 14, class: "middle small" });
            const cell = svg("g", { role: "gridcell", id: `cell-${place.join("-")}`, "aria-label": name(place) },
              svg("rect", box));
            numbers.append(value, result);
            cell.addEventListener("click", () => choose(place));
            value.textContent = size >= FOR_X ? x[index(place)] : "";
            cells[index(place)] = { cell, box, value, result: both ? result : null };
            row.append(cell);
          }
        grid.append(row);
      }
  }

  function name([i, j, k]) {
    const [h, w] = side();
    const pixel = h * w > 1 ? `, row ${Math.floor(k / w) + 1}, column ${(k % w) + 1}` : "";
    return `x = ${x[index([i, j, k])]}, example ${i + 1}, channel ${j + 1}${pixel}`;
  }

  // Says what the reader has done, if anything.
  function draw(what) {
    const { sets, caches, xHat } = standardize(state, x);
    const own = sets.findIndex((set) => set.includes(index(chosen)));
    const companions = new Set(sets[own]);
    cells.forEach(({ cell, box, value, result }, i) => {
      const one = i === index(chosen);
      const lit = shown && companions.has(i);
      cell.setAttribute("class", lit ? COLOR[state.norm] : "");
      cell.setAttribute("aria-selected", lit || one);
      if (result) result.textContent = shown && Number.isFinite(xHat[i]) ? number(xHat[i]) : "";
      for (const text of [value, result]) text?.classList.toggle("lit", lit);
      if (one) for (const side of ["x", "y"]) outline.setAttribute(side, box[side]);
    });
    grid.setAttribute("aria-activedescendant", `cell-${chosen.join("-")}`);
    if (!shown) return;
    if (what !== undefined)
      say(`${what} ${explain(sets, own, caches[own], xHat[index(chosen)])}`.trim());
    compare(sets[own]);
  }

  function explain(sets, own, { mean, variance }, xHat) {
    const [i, j] = chosen;
    const { norm, c } = state;
    const count = sets[own].length;
    const groups = state.groups === "c" ? c : +state.groups;
    const first = Math.floor((j * groups) / c) * (c / groups);
    const channels = groups === c ? `channel ${j + 1}` : `channels ${first + 1} to ${first + c / groups}`;
    const which = {
      batch: `channel ${j + 1} in all examples`,
      layer: `all channels of example ${i + 1}`,
      instance: `channel ${j + 1} of example ${i + 1}`,
      group: `${channels} of example ${i + 1}`,
    }[norm];
    const [h, w] = side();
    const others = norm === "batch" ? count - h * w : 0;
    const head = `${norm[0].toUpperCase()}${norm.slice(1)} norm, ${name(chosen)}:`;
    if (count === 1)
      return `${head} the value is alone in its mean, so x \u2212 \u03bc = 0 and the norm would erase it.`;
    const result = Number.isFinite(xHat)
      ? `This one is ${number(mean)} and the variance is ${number(variance)}, so with \u03b5 = 0 x\u0302 is ${number(xHat)}.`
      : "All values of the set are equal, so the variance is 0 and x\u0302 is not defined with \u03b5 = 0.";
    const means = sets.length === 1 ? "This is the only mean." : `There are ${sets.length} such means.`;
    const apart = others
      ? `${others} of them are of other examples, so y depends on the mini-batch.`
      : "All are of its own example, so y does not depend on the mini-batch.";
    return `${head} ${count} values share its mean, ${which}. ${apart} ${means} ${result}`;
  }

  function compare(set) {
    if (set.length === 1) return; // it has no companions
    const { n, c, pixels, norm, groups } = state;
    const key = [n, c, pixels, ...set].join();
    const now = norm !== "group" ? `${norm} norm` :
      `group norm with ${groups === "1" ? "one group" : `${groups === "c" ? c : groups} groups`}`;
    const before = seen.get(key);
    if (before && before.norm !== norm)
      goal.solve(`At these sizes ${before.now} and ${now} average over the same ${set.length} values.`);
    else seen.set(key, { norm, now });
  }

  function choose(place) {
    chosen = place;
    draw("");
  }

  grid.addEventListener("keydown", (event) => {
    if (forBrowser(event)) return;
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const [h, w] = side();
    const last = [state.n * h - 1, state.c * w - 1];
    const [i, j, k] = chosen;
    let at = [i * h + Math.floor(k / w), j * w + (k % w)]; // row and column of the picture
    if (event.key in moves) at = at.map((v, a) => Math.min(last[a], Math.max(0, v + moves[event.key][a])));
    else if (event.key === "Home") at = [at[0], 0];
    else if (event.key === "End") at = [at[0], last[1]];
    else return;
    event.preventDefault();
    choose([Math.floor(at[0] / h), Math.floor(at[1] / w), (at[0] % h) * w + (at[1] % w)]);
  });

  function set(changes, what = "") {
    Object.assign(state, changes);
    const [h, w] = side();
    chosen = [Math.min(chosen[0], state.n - 1), Math.min(chosen[1], state.c - 1), Math.min(chosen[2], h * w - 1)];
    norms.set(state.norm);
    groups.row.disabled = state.norm !== "group";
    for (const key of Object.keys(sizes)) sizes[key].set(state[key]);
    build();
    draw(what);
  }

  const norms = choice("norm:", Object.keys(COLOR).map((v) => [v, v]), state.norm, (norm) => set({ norm }));
  const groups = choice("groups of group norm:", [["1", "1"], ["2", "2"], ["c", "one per channel"]],
    state.groups, (v) => set({ groups: v }));
  const offered = (key, legend, options) =>
    choice(legend, options, state[key], (v) => set({ [key]: v }));
  const sizes = {
    n: offered("n", "examples, n:", [1, 2, 3, 4].map((v) => [v, `${v}`])),
    c: offered("c", "channels, c:", [2, 4, 6].map((v) => [v, `${v}`])),
    pixels: offered("pixels", "pixels, h \u00d7 w:",
      [["1x1", "1 \u00d7 1"], ["2x2", "2 \u00d7 2"], ["4x5", "4 \u00d7 5"]]),
  };
  groups.row.disabled = true;
  const [n, c, h, w] = [state.n, state.c, ...side()];
  root.append(
    html("p", { class: "explorable-title" }, "Which values share a mean?"),
    html("p", {}, "Click a value, or go to the values with Tab and move with the arrow keys. The outlined " +
      "value is standardized together with those that light up."),
    prediction(
      `the array below has the shape (n, c, h, w) = (${n}, ${c}, ${h}, ${w}). How many values share a mean in batch norm?`,
      [n * c, h * w, n * h * w, c * h * w].sort((a, b) => a - b).map(String), `${n * h * w}`,
      "A mean of batch norm takes one channel of all examples and pixels: " +
        `${n}\u00a0\u00d7\u00a0${h}\u00a0\u00d7\u00a0${w} values.`,
      () => {
        shown = true;
        draw("");
      },
    ),
    norms.row, picture, output,
    html("div", { class: "explorable-sliders" }, groups.row, sizes.n.row, sizes.c.row, sizes.pixels.row),
    controls(button("the chapter\u2019s example", () => {
      chosen = [0, 0, 0];
      set({ ...EXAMPLE }, "These are the two examples with four features of the chapter.");
    })),
    goal.row,
  );
}
