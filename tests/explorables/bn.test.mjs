// bn.mjs equals bnlib.functional, to 1e-9.

import assert from "node:assert/strict";
import test from "node:test";
import * as bn from "../../book/_static/explorables/bn.mjs";
import { close, fixture } from "./compare.mjs";

const { batchNorm, norms } = fixture("bn.json");

test("forward and backward of one feature", () => {
  assert.ok(batchNorm.length >= 100);
  for (const c of batchNorm) {
    const cache = bn.forward(c.x, c.gamma[0], c.beta[0], c.eps);
    const back = bn.backward(c.dy, cache);
    close(cache.y, c.y, 1e-9, "y");
    // At m = 2 dx is what is left of two nearly equal numbers: measure it in what it is made of.
    const parts = Math.abs(c.gamma[0] * cache.invStd) * Math.max(...c.dy.map(Math.abs));
    back.dx.forEach((v, i) => assert.ok(Math.abs(v - c.dx[i]) <= 1e-9 * parts, "dx"));
    const sum = c.dy.reduce((a, v) => a + Math.abs(v), 0);
    assert.ok(Math.abs(back.dbeta - c.dbeta[0]) <= 1e-9 * sum, "dbeta");
    assert.ok(Math.abs(back.dgamma - c.dgamma[0]) <= 1e-9 * sum, "dgamma");
  }
});

test("running statistics and eval mode", () => {
  for (const c of batchNorm) {
    const [mean, variance] = c.before;
    const batch = bn.forward(c.x, 1, 0, c.eps);
    const running = bn.updateRunning({ mean, variance }, batch, c.x.length, c.momentum);
    close([running.mean, running.variance], c.after, 1e-9, "running statistics");
    close(bn.inference(c.x, running, c.gamma[0], c.beta[0], c.eps), c.y_eval, 1e-9, "eval mode");
  }
});

for (const c of norms) {
  test(`${c.norm} norm of (${c.shape}) is batch norm of other sets of values`, () => {
    const y = [];
    const dx = [];
    for (const set of bn.valuesOf(c.norm, c.shape, c.groups)) {
      const cache = bn.forward(set.map((i) => c.x[i]), 1, 0, c.eps);
      const back = bn.backward(set.map((i) => c.dy[i]), cache);
      set.forEach((i, k) => ([y[i], dx[i]] = [cache.y[k], back.dx[k]]));
    }
    close(y, c.y, 1e-9, "y");
    close(dx, c.dx, 1e-9, "dx");
  });
}

test("the comparison can fail", () => {
  assert.throws(() => close([1, 2 + 1e-6], [1, 2], 1e-9, "wrong"));
  assert.throws(() => close([1], [1, 2], 1e-9, "short"));
});
