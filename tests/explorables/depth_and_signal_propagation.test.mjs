// What `depth_and_signal_propagation` shows equals bnlib.

import assert from "node:assert/strict";
import test from "node:test";
import { propagate, theory } from "../../book/_static/explorables/depth_and_signal_propagation.mjs";
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
