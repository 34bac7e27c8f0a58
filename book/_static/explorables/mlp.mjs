// A small ReLU network with or without batch normalization, and plain gradient descent.
//
// A mini-batch is stored by features: `x[j]` is a typed array of the m values of feature j, so that
// a linear layer adds up rows and batch normalization takes one of them. Data and network are of one
// type: Float64Array, as bnlib by default, or Float32Array, as the bands of `training`. A hidden layer is
// linear, then BN, then ReLU; it has a bias only where it has no BN, which would take it away. The
// last layer is linear with a bias, and the loss is the mean cross-entropy. The same choices as
// bnlib.experiments.engine.networks; tests/explorables compares steps from given weights.

import { backward, dot, forward, inference, updateRunning } from "./bn.mjs";

// Numbers in [0, 1) that depend on the seed alone (mulberry32).
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// A normal number of mean 0 and standard deviation 1 (Box and Muller).
export function normal(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

// The numbers 0 to n - 1 in random order.
export function permutation(n, random) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

// A network of the sizes [d_in, width, ..., classes]; the weights have `scale` times the standard
// deviation of He's. Two networks of the same seed have the same weights, with BN or without.
export function build(sizes, { norm, scale = 1, seed = 0, Real = Float64Array }) {
  const random = generator(seed);
  return sizes.slice(1).map((fanOut, i) => {
    const fanIn = sizes[i];
    const std = scale * Math.sqrt(2 / fanIn);
    const hidden = i < sizes.length - 2;
    return {
      weight: rows(fanOut, fanIn, Real).map((row) => row.map(() => std * normal(random))), // (d_out, d_in)
      bias: hidden && norm ? null : new Real(fanOut),
      hidden,
      gamma: hidden && norm ? new Real(fanOut).fill(1) : null,
      beta: hidden && norm ? new Real(fanOut) : null,
      running: Array.from({ length: fanOut }, () => ({ mean: 0, variance: 1 })),
    };
  });
}

function rows(n, m, Real) {
  return Array.from({ length: n }, () => new Real(m));
}

// The logits of a mini-batch, one row a class, and what the backward pass needs of each layer.
// Train mode moves the running statistics, eval mode uses them.
export function predict(network, x, { train = false, momentum = 0.1 } = {}) {
  const caches = [];
  for (const layer of network) {
    const cache = { x };
    let z = linear(layer, x);
    if (layer.gamma) {
      if (train) cache.norm = z.map((row, j) => forward(row, layer.gamma[j], layer.beta[j]));
      z = z.map((row, j) =>
        train ? cache.norm[j].y : inference(row, layer.running[j], layer.gamma[j], layer.beta[j]),
      );
      if (train)
        layer.running = layer.running.map((r, j) =>
          updateRunning(r, cache.norm[j], z[j].length, momentum),
        );
    }
    if (layer.hidden) {
      cache.z = z;
      z = z.map((row) => row.map((v) => (v < 0 ? 0 : v))); // NaN stays
    }
    caches.push(cache);
    x = z;
  }
  return { logits: x, caches };
}

function linear({ weight, bias }, x) {
  return weight.map((row, j) => {
    const z = new x[0].constructor(x[0].length).fill(bias ? bias[j] : 0);
    for (let k = 0; k < row.length; k++) addTo(z, row[k], x[k]);
    return z;
  });
}

// a += factor * b
function addTo(a, factor, b) {
  for (let i = 0; i < a.length; i++) a[i] += factor * b[i];
}

// The mean cross-entropy of logits (classes, m), and its gradient.
export function crossEntropy(logits, labels) {
  const m = labels.length;
  const gradient = rows(logits.length, m, logits[0].constructor);
  let loss = 0;
  for (let i = 0; i < m; i++) {
    const z = logits.map((row) => row[i]);
    const largest = Math.max(...z);
    const p = z.map((v) => Math.exp(v - largest));
    const total = p.reduce((a, b) => a + b);
    loss += (Math.log(total) - (z[labels[i]] - largest)) / m;
    p.forEach((v, j) => (gradient[j][i] = (v / total - (j === labels[i] ? 1 : 0)) / m));
  }
  return { loss, gradient };
}

// One step of plain gradient descent on a mini-batch, in place. Returns the loss before the step;
// a loss that is not finite in the type of the network means that it has diverged, and leaves it.
export function step(network, x, labels, rate) {
  const { logits, caches } = predict(network, x, { train: true });
  const { loss: exact, gradient } = crossEntropy(logits, labels);
  const [loss] = x[0].constructor.of(exact);
  if (!Number.isFinite(loss)) return loss;
  let dz = gradient;
  for (let i = network.length - 1; i >= 0; i--) {
    const layer = network[i];
    const cache = caches[i];
    if (layer.hidden)
      dz = dz.map((row, j) => row.map((v, k) => (cache.z[j][k] > 0 ? v : 0)));
    if (layer.gamma) {
      const back = dz.map((row, j) => backward(row, cache.norm[j]));
      dz = back.map((b) => b.dx);
      back.forEach(({ dgamma, dbeta }, j) => {
        layer.gamma[j] -= rate * dgamma;
        layer.beta[j] -= rate * dbeta;
      });
    }
    const dx = i > 0 ? rows(cache.x.length, labels.length, x[0].constructor) : [];
    layer.weight.forEach((row, j) => {
      if (i > 0) row.forEach((w, k) => addTo(dx[k], w, dz[j]));
      cache.x.forEach((xk, k) => (row[k] -= rate * dot(dz[j], xk)));
      if (layer.bias) layer.bias[j] -= rate * dz[j].reduce((a, b) => a + b, 0);
    });
    dz = dx;
  }
  return loss;
}

// The share of examples that are classified right in eval mode. As in NumPy, the first of equal
// logits counts; a network that has diverged classifies none right.
export function accuracy(network, x, labels) {
  const { logits } = predict(network, x);
  let right = 0;
  for (let i = 0; i < labels.length; i++) {
    let best = 0;
    for (let j = 0; j < logits.length; j++) {
      if (!Number.isFinite(logits[j][i])) return 0;
      if (logits[j][i] > logits[best][i]) best = j;
    }
    if (best === labels[i]) right++;
  }
  return right / labels.length;
}

// Select examples of a data set that is stored by features.
export function take(x, order) {
  return x.map((row) => row.constructor.from(order, (i) => row[i]));
}
