// Trains two networks on the digits, from the same weights and on the same mini-batches, and posts
// their test accuracy as it goes. A new message ends the training that is under way.
//
// As in the bands of the book all numbers are float32, and a network whose loss was not finite once
// has diverged: it classifies nothing right from there on.

import { PIXELS, parse } from "./digits.mjs";
import { accuracy, build, generator, permutation, step, take } from "./mlp.mjs";

const CLASSES = 10;
const Real = Float32Array;
let data; // a promise, so that it is fetched once
let current = 0;

self.onmessage = async ({ data: { id, settings, steps, every } }) => {
  current = id;
  let digits;
  try {
    digits = await (data ??= load());
  } catch (error) {
    data = undefined;
    return self.postMessage({ id, error: String(error) });
  }
  const { train, test } = digits;
  const { depth, width, scale, rate, batch, seed } = settings;
  const sizes = [PIXELS, ...Array(depth).fill(width), CLASSES];
  const networks = [false, true].map((norm) => build(sizes, { norm, scale, seed, Real }));
  const diverged = [false, false];
  const random = generator(seed + 1e6);
  let order = [];
  for (let t = 0; t <= steps; t++) {
    const recorded = t % every === 0;
    const right = recorded ? networks.map((n) => accuracy(n, test.x, test.labels)) : [];
    if (order.length < batch) order = [...permutation(train.labels.length, random)];
    const chosen = order.splice(0, batch);
    const x = take(train.x, chosen);
    const labels = chosen.map((i) => train.labels[i]);
    networks.forEach((n, i) => (diverged[i] ||= !Number.isFinite(step(n, x, labels, rate))));
    if (!recorded) continue;
    if (id !== current) return;
    const [none, bn] = right.map((share, i) => (diverged[i] ? 0 : share));
    self.postMessage({ id, t, none, batch: bn, diverged });
    await new Promise((resolve) => setTimeout(resolve)); // lets a new message in
  }
};

async function load() {
  const response = await fetch(new URL("digits.bin", import.meta.url));
  if (!response.ok) throw new Error(response.statusText);
  return parse(new Uint8Array(await response.arrayBuffer()), Real);
}
