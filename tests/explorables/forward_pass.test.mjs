// What `forward_pass` shows equals bnlib.

import assert from "node:assert/strict";
import test from "node:test";
import { inPlane, length } from "../../book/_static/explorables/forward_pass.mjs";
import { close, fixture } from "./compare.mjs";

const { sphere } = fixture("bn.json");

test("x_hat has the length that is drawn, and keeps it in the plane", () => {
  assert.ok(sphere.some((c) => c.eps === 0) && sphere.some((c) => c.eps > 1));
  for (const c of sphere) {
    close([length(c.var, c.eps)], [c.length], 1e-9, "length");
    close([Math.hypot(...inPlane(c.xHat))], [c.length], 1e-9, "length in the plane");
  }
});

test("the plane keeps angles", () => {
  const [a, b] = sphere.map((c) => c.xHat);
  const product = a.reduce((sum, v, i) => sum + v * b[i], 0);
  const [[p, q], [r, s]] = [inPlane(a), inPlane(b)];
  assert.ok(Math.abs(p * r + q * s - product) < 1e-9);
});

test("a shift of all values is a point", () => {
  assert.ok(Math.hypot(...inPlane([5, 5, 5])) < 1e-12);
});
