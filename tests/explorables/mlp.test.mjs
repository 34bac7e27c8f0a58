// mlp.mjs trains as bnlib.layers does: one step to 1e-9, twenty to 1e-6.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { parse } from "../../book/_static/explorables/digits.mjs";
import * as mlp from "../../book/_static/explorables/mlp.mjs";
import { close, fixture } from "./compare.mjs";

const rows = (a) => a.map((row) => Float64Array.from(row));

function network(state) {
  return state.map((layer, i) => ({
    weight: rows(layer.weight),
    bias: layer.bias && Float64Array.from(layer.bias),
    gamma: layer.gamma && Float64Array.from(layer.gamma),
    beta: layer.beta && Float64Array.from(layer.beta),
    running: structuredClone(layer.running),
    hidden: i < state.length - 1,
  }));
}

function compare(ours, theirs, tolerance) {
  theirs.forEach((layer, i) => {
    for (const name of ["weight", "bias", "gamma", "beta"])
      if (layer[name]) close([...ours[i][name]], layer[name], tolerance, `${name} of layer ${i}`);
    if (layer.running)
      for (const name of ["mean", "variance"])
        close(
          ours[i].running.map((r) => r[name]),
          layer.running.map((r) => r[name]),
          tolerance,
          `running ${name} of layer ${i}`,
        );
  });
}

for (const c of fixture("mlp.json")) {
  const arm = c.norm ? "with BN" : "without BN";

  test(`one step ${arm}`, () => {
    const net = network(c.states[0]);
    close(mlp.step(net, rows(c.x[0]), c.labels[0], c.rate), c.losses[0], 1e-9, "loss");
    compare(net, c.states[1], 1e-9);
  });

  test(`twenty steps ${arm}, then eval mode`, () => {
    const net = network(c.states[0]);
    c.x.forEach((x, t) =>
      close(mlp.step(net, rows(x), c.labels[t], c.rate), c.losses[t], 1e-6, `loss ${t}`),
    );
    compare(net, c.states[2], 1e-6);
    const x = rows(c.x_test);
    close(mlp.predict(net, x).logits.map((row) => [...row]), c.logits, 1e-6, "logits");
    assert.equal(mlp.accuracy(net, x, c.labels_test), c.accuracy);
  });
}

test("a network is built as asked, and the arms have the same weights", () => {
  const sizes = [64, 400, 10];
  const plain = mlp.build(sizes, { norm: false, scale: 3, seed: 5 });
  const bn = mlp.build(sizes, { norm: true, scale: 3, seed: 5 });
  const other = mlp.build(sizes, { norm: true, scale: 3, seed: 6 });
  assert.deepEqual(plain.map((l) => l.weight), bn.map((l) => l.weight));
  assert.notDeepEqual(other[0].weight, bn[0].weight);
  assert.deepEqual(bn.map((l) => l.bias === null), [true, false]);
  assert.ok(plain.every((l) => l.gamma === null && l.bias));
  const w = plain[0].weight.flatMap((row) => [...row]);
  const variance = w.reduce((a, v) => a + v * v, 0) / w.length;
  assert.ok(Math.abs(variance / (9 * (2 / 64)) - 1) < 0.05); // 25,600 normal numbers
  assert.ok(Math.abs(w.reduce((a, v) => a + v, 0) / w.length) < 0.02);
});

test("a permutation holds each number once, and depends on the seed", () => {
  const order = mlp.permutation(100, mlp.generator(1));
  assert.deepEqual([...order].sort((a, b) => a - b), Array.from({ length: 100 }, (_, i) => i));
  assert.deepEqual(order, mlp.permutation(100, mlp.generator(1)));
  assert.notDeepEqual(order, mlp.permutation(100, mlp.generator(2)));
});

test("a network that diverges says so and classifies nothing right", () => {
  const net = mlp.build([2, 4, 3], { norm: false, seed: 1 });
  const x = [Float64Array.of(1, -2), Float64Array.of(3, 1)];
  let loss = 0;
  for (let i = 0; i < 50 && Number.isFinite(loss); i++) loss = mlp.step(net, x, [0, 2], 1e200);
  assert.ok(!Number.isFinite(loss));
  assert.equal(mlp.accuracy(net, x, [0, 2]), 0);
});

// The rate 3.2 from He's weights, at which all 16 seeds of the book diverge, in float32.
function train(Real, seed) {
  const { train: data } = parse(readFileSync(path.join(process.env.FIXTURES, "digits.bin")), Real);
  const net = mlp.build([64, ...Array(6).fill(32), 10], { norm: false, seed, Real });
  const random = mlp.generator(seed + 1e6);
  const losses = [];
  for (let t = 0; t < 40; t++) {
    const chosen = [...mlp.permutation(data.labels.length, random).slice(0, 32)];
    const labels = chosen.map((i) => data.labels[i]);
    losses.push(mlp.step(net, mlp.take(data.x, chosen), labels, 3.2));
    if (!Number.isFinite(losses.at(-1))) break;
  }
  return { net, losses };
}

test("a network is of the type of its data, and diverges where float32 ends", () => {
  const runs = [1, 2, 3].map((seed) => train(Float32Array, seed));
  for (const { net, losses } of runs) {
    assert.ok(net.every((l) => l.weight.every((row) => row instanceof Float32Array)));
    assert.ok(!Number.isFinite(losses.at(-1)), `${losses}`);
    assert.ok(losses.length < 10);
  }
  const longer = [1, 2, 3].map((seed) => train(Float64Array, seed).losses.length);
  assert.ok(longer.some((n, i) => n > runs[i].losses.length), `${longer}`);
});

test("no number stays none behind ReLU", () => {
  const net = mlp.build([1, 2, 2], { norm: false, seed: 1 });
  net[0].weight[0][0] = NaN;
  net[1].weight.forEach((row) => row.set([1, 0]));
  assert.ok(mlp.predict(net, [Float64Array.of(1)]).logits.every(([v]) => Number.isNaN(v)));
  assert.equal(mlp.accuracy(net, [Float64Array.of(1)], [0]), 0);
});

test("a loss beyond float32 is not finite", () => {
  const net = mlp.build([1, 2], { norm: false, Real: Float32Array });
  [net[0].weight[0][0], net[0].weight[1][0]] = [3e38, -3e38]; // logits in float32, but not their difference
  assert.equal(mlp.step(net, [Float32Array.of(1)], [1], 0.1), Infinity);
});

test("the digits are those of the library", () => {
  const { train, test: held } = parse(readFileSync(path.join(process.env.FIXTURES, "digits.bin")));
  const [c] = fixture("mlp.json");
  assert.deepEqual(held.x.map((row) => [...row]), c.x_test);
  assert.deepEqual(held.labels, c.labels_test);
  assert.deepEqual([train.x.length, train.labels.length, train.x[0].length], [64, 1400, 1400]);
  assert.deepEqual([...new Set(train.labels)].sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});
