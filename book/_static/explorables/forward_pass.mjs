// The circle of x_hat: of m = 3 values BN leaves a point in the plane of the vectors with sum 0, on a
// circle of radius sqrt(3) if eps = 0. The reader moves the values and eps.

import { dot, forward } from "./bn.mjs";
import {
  button, controls, drawing, handle, html, number, prediction, sentence, slider, svg, task, vector,
} from "./ui.mjs";

const START = [3, 0, 6]; // mean 3, variance 6
const HALF = 6; // the eps at which half of the variance is left
const EPS = [0, 0.1, 0.5, 1, 2, HALF, 20, 60];
const RANGE = 10;
const M = START.length;
const [RADIUS, WIDE] = [92, 520]; // pixels of sqrt(3), and from which width both parts stand abreast
const [TOP, TALL] = [36, 190]; // of the axis of the values
const TRAIL = 300;
const VISIBLE = 0.005; // a variance that two decimals show

// Where a vector with sum 0 lies in the plane: each axis is a third of a turn from the next. Keeps
// lengths.
export function inPlane(v) {
  const angle = (i) => Math.PI / 2 + (i * 2 * Math.PI) / M;
  const along = (f) => Math.sqrt(2 / 3) * v.reduce((sum, v_i, i) => sum + v_i * f(angle(i)), 0);
  return [along(Math.cos), along(Math.sin)];
}

// The length that theory gives to x_hat.
export const length = (variance, eps) => Math.sqrt((M * variance) / (variance + eps));

export function start(root) {
  let x = [...START];
  let eps = 0;
  let width = 600;
  let trail = [];
  let points = [];
  let place, plane;

  const { output, say } = sentence();
  const goal = task("with \u03b5 = 0, make x\u0302\u2081 as large as you can. How large does it become?");
  const picture = drawing("Three values of a feature, and x\u0302 in the plane of the vectors with sum 0",
    300, (w) => {
      width = w;
      build();
      draw();
    });

  function build() {
    const abreast = width >= WIDE;
    const height = abreast ? 262 : 528;
    picture.setAttribute("height", height);
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const breadth = abreast ? width * 0.42 : width;
    const column = (i) => 36 + ((breadth - 36) * (i + 0.5)) / M;
    const y = (v) => TOP + TALL / 2 - (v * TALL) / 2 / RANGE;
    const [cx, cy] = abreast ? [breadth + (width - breadth) / 2, 154] : [width / 2, 412];
    place = (v) => {
      const [a, b] = inPlane(v);
      return [cx + (a * RADIUS) / Math.sqrt(M), cy - (b * RADIUS) / Math.sqrt(M)];
    };
    const text = (tx, ty, t, cls = "") => svg("text", { x: tx, y: ty, class: cls, "aria-hidden": "true" }, t);
    picture.replaceChildren(text(0, 14, "the values x"),
      text(abreast ? breadth + 24 : 0, abreast ? 14 : 274, "x\u0302 in the plane of the vectors with sum 0"));
    for (const v of [-RANGE, 0, RANGE]) picture.append(text(28, y(v) + 4, number(v), "end small"));
    picture.append(svg("line", { x1: 36, x2: breadth, y1: y(0), y2: y(0), class: "axis" }));
    for (const i of [0, 1, 2]) {
      const axis = [0, 1, 2].map((j) => (i === j ? 2 / 3 : -1 / 3) * 2.55);
      const [ax, ay] = place(axis);
      picture.append(svg("line", { x1: cx, y1: cy, x2: ax, y2: ay, class: "axis" }));
      picture.append(text(ax + [0, -14, 14][i], ay + [-6, 10, 10][i], `x\u0302${"\u2081\u2082\u2083"[i]}`, "middle"));
    }
    const ring = svg("circle", { cx, cy, r: RADIUS, class: "ring" });
    const inner = svg("circle", { cx, cy, class: "inner" });
    const ray = svg("line", { x1: cx, y1: cy, class: "reference" });
    const dots = svg("g", { "aria-hidden": "true" });
    const point = svg("rect", { width: 12, height: 12, class: "batch" });
    picture.append(ring, text(cx + RADIUS * 0.74, cy - RADIUS * 0.78, "\u221a3", "reference"),
      dots, inner, ray, point);
    plane = { inner, ray, dots, point };
    points = x.map((_, i) => {
      const label = svg("text", { x: column(i) + 12, "aria-hidden": "true" });
      const h = handle({
        label: `x ${i + 1}`, range: [-RANGE, RANGE], step: 0.5, place: y,
        value: (at) => ((TOP + TALL / 2 - at) * 2 * RANGE) / TALL,
        change: (v) => {
          x[i] = v;
          draw(`You set x\u2009${i + 1} to ${number(v)}.`);
        },
      });
      h.point.setAttribute("cx", column(i));
      h.point.classList.add("value");
      picture.append(text(column(i), TOP + TALL + 16, `x${"\u2081\u2082\u2083"[i]}`, "middle"), label, h.point);
      return { ...h, label, y };
    });
  }

  // Says what the reader has done, if anything.
  function draw(what) {
    points.forEach((p, i) => {
      p.set(x[i]);
      p.label.setAttribute("y", p.y(x[i]) + 4);
      p.label.textContent = number(x[i]);
    });
    const { xHat, mean, variance } = forward(x, 1, 0, eps);
    const defined = variance + eps > 0;
    for (const part of [plane.point, plane.ray]) part.style.visibility = defined ? "" : "hidden";
    plane.inner.setAttribute("r", eps > 0 ? (RADIUS * length(variance, eps)) / Math.sqrt(M) : 0);
    if (!defined) return what && say(`${what} ${UNDEFINED}`);
    const [px, py] = place(xHat);
    if (trail.length === 0 || distance(trail.at(-1), xHat) > 0.02) trail = [...trail.slice(-TRAIL), xHat];
    plane.dots.replaceChildren(...trail.map(place).map(([cx, cy]) =>
      svg("circle", { cx, cy, r: 2, class: "companion" })));
    plane.point.setAttribute("x", px - 6);
    plane.point.setAttribute("y", py - 6);
    const [rx, ry] = place(forward(x, 1, 0, 0).xHat.map((v) => (Number.isFinite(v) ? 1.1 * v : 0)));
    plane.ray.setAttribute("x2", rx);
    plane.ray.setAttribute("y2", ry);
    const size = Math.sqrt(dot(xHat, xHat));
    const where = eps === 0 ? "so it lies on the circle of radius \u221a3" :
      `so it lies inside the circle of radius \u221a3: of its square the part ` +
        `\u03c3\u00b2/(\u03c3\u00b2 + \u03b5) = ${number(variance / (variance + eps))} is left`;
    if (what)
      say(`${what} x = ${vector(x)} has the mean ${number(mean)} and the variance ${number(variance)}. ` +
        `x\u0302 = ${vector(xHat)} has the length ${number(size)}, ${where}.`);
    if (eps === 0 && xHat[0] > Math.sqrt(M - 1) - 1e-6)
      goal.solve("x\u0302\u2081 = 1.41 = \u221a(m \u2212 1). No outlier comes further out of a mini-batch of 3, " +
        "however large it is.");
  }

  function change(f, what) {
    const next = x.map(f);
    if (next.some((v) => Math.abs(v) > RANGE)) return say("That would leave the picture.");
    const [before, after] = [x, next].map((v) => forward(v, 1, 0, eps));
    if (after.variance < VISIBLE && after.variance < before.variance)
      return say("Then the values would be too close together for the two decimals of this figure.");
    x = next;
    if (before.variance + eps === 0) return draw(what); // there is no x_hat
    const moved = distance(before.xHat, after.xHat) < 1e-9 ? "not moved" : "moved";
    draw(`${what} x\u0302 has ${moved}.`);
  }

  const size = slider("\u03b5", EPS, eps, (v) => number(v), (v) => {
    eps = v;
    draw(`\u03b5 is ${number(v)}.`);
  });
  root.append(
    html("p", { class: "explorable-title" }, "The circle of x\u0302"),
    html("p", {}, "Drag the three values, or choose one with Tab and move it with the arrow keys. Each place at " +
      "which x\u0302 has been leaves a dot."),
    prediction(
      `x = ${vector(START)} has the variance ${HALF}. With \u03b5 = 0, x\u0302 lies on the circle. Where does it go if ` +
        `\u03b5 becomes ${HALF}, too?`,
      ["along the circle", "straight inward", "outward"], "straight inward",
      "A larger \u03b5 divides all three differences by the same larger number, so the direction stays. The length " +
        "is \u221a(3 \u03c3\u00b2/(\u03c3\u00b2 + \u03b5)).",
      () => {
        eps = HALF;
        size.set(eps);
        draw(`\u03b5 is ${HALF}.`);
      },
    ),
    picture, output,
    controls(
      button("add 2 to all", () => change((v) => v + 2, "You added 2 to all values.")),
      button("times 2", () => change((v) => 2 * v, "You doubled all values.")),
      button("half", () => change((v) => v / 2, "You halved all values.")),
      button("times \u22121", () => change((v) => 0 - v, "You changed all signs.")),
      button("Start again", () => {
        [x, eps, trail] = [[...START], 0, []];
        size.set(eps);
        draw("These are the first values.");
      }),
    ),
    html("div", { class: "explorable-sliders" }, size.row), goal.row,
  );
}

const distance = (a, b) => Math.max(...a.map((v, i) => Math.abs(v - b[i])));

const UNDEFINED = "All values are equal, so the variance is 0: with \u03b5 = 0 BN is not defined.";
