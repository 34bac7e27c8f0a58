// What `depth_and_signal_propagation` shows equals bnlib.

import assert from "node:assert/strict";
import test from "node:test";
import { compute, propagate, theory } from "../../book/_static/explorables/depth_and_signal_propagation.mjs";
import { close, fixture } from "./compare.mjs";

for (const c of fixture("propagation.json"))
  test(`${c.relu ? "ReLU" : "linear"}, BN: ${c.norm}, scale ${c.scale}`, () => {
    const ours = propagate(c.weights, c.x, c.g, c);
    close(ours.activations, c.activations, 1e-9, "activations");
    close(ours.gradients, c.gradients, 1e-9, "gradients");
  });

test("the theory is that of the chapter", () => {
  close([theory("relu", 32, 2)], [Math.log10(Math.PI / (Math.PI - 1))], 1e-12, "ReLU");
  close([theory("linear", 4, 50)], [25 * Math.log10(2)], 1e-12, "linear"); // doubles per layer
});

test("the worker's networks depend on the seed, and BN takes the factor away", () => {
  const at = (scale, seed = 1) => compute({ scale, seed, activation: "relu" });
  const [he, half] = [at(1), at(0.5)];
  assert.deepEqual(at(1), he);
  assert.notDeepEqual(at(1, 2), he);
  const grown = ({ gradients }) => gradients[0] - gradients.at(-1);
  assert.ok(Math.abs(grown(he.batch) - grown(half.batch)) < 0.11); // but for eps
  assert.ok(Math.abs(grown(he.none) - grown(half.none) - 50 * Math.log10(2)) < 1e-6);
});
