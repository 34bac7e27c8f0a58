// Trains two networks on the digits, from the same weights and on the same mini-batches, and posts
// their test accuracy as it goes. A new message ends the training that is under way.

import { PIXELS, parse } from "./digits.mjs";
import { accuracy, build, generator, permutation, step, take } from "./mlp.mjs";

const CLASSES = 10;
let data; // a promise, so that it is fetched once
let current = 0;

self.onmessage = async ({ data: { settings, steps, every } }) => {
  const mine = ++current;
  const { train, test } = await (data ??= load());
  const { depth, width, scale, rate, batch, seed } = settings;
  const sizes = [PIXELS, ...Array(depth).fill(width), CLASSES];
  const networks = [false, true].map((norm) => build(sizes, { norm, scale, seed }));
  const random = generator(seed + 1e6);
  let order = [];
  for (let t = 0; t <= steps; t++) {
    if (t % every === 0) {
      if (mine !== current) return;
      const [none, bn] = networks.map((n) => accuracy(n, test.x, test.labels));
      self.postMessage({ mine: settings, t, none, batch: bn });
      await new Promise((resolve) => setTimeout(resolve)); // lets a new message in
    }
    if (order.length < batch) order = [...permutation(train.labels.length, random)];
    const chosen = order.splice(0, batch);
    const x = take(train.x, chosen);
    const labels = chosen.map((i) => train.labels[i]);
    for (const network of networks) step(network, x, labels, rate);
  }
};

async function load() {
  const response = await fetch(new URL("digits.bin", import.meta.url));
  return parse(new Uint8Array(await response.arrayBuffer()));
}
