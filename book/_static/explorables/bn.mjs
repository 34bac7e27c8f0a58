// Normalization in the symbols of the book: what the explorables compute with.
//
// One feature is an array of its m values. `forward`, `backward` and `inference` are batch
// normalization of one feature; every other norm of activations is the same function applied to
// other sets of values, and `valuesOf` says which sets these are. Plain arrays, no DOM, no
// dependency, float64. tests/explorables compares each function with bnlib.

export const EPS = 1e-5;

export function mean(a) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i];
  return sum / a.length;
}

// The sum of a_i b_i.
export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

// Batch normalization in train mode: y, and what the backward pass needs.
export function forward(x, gamma = 1, beta = 0, eps = EPS) {
  const mu = mean(x);
  const c = x.map((v) => v - mu);
  const variance = dot(c, c) / c.length; // biased: divided by m
  const invStd = 1 / Math.sqrt(variance + eps);
  const xHat = c.map((v) => v * invStd);
  return { y: xHat.map((v) => gamma * v + beta), xHat, mean: mu, variance, invStd, gamma };
}

// The gradients of x, gamma and beta, from that of y and what `forward` returned.
export function backward(dy, { xHat, invStd, gamma }) {
  const m = dy.length;
  const g = mean(dy);
  const gx = dot(dy, xHat) / m;
  const dx = dy.map((v, i) => gamma * invStd * (v - g - xHat[i] * gx));
  return { dx, dgamma: m * gx, dbeta: m * g };
}

// Batch normalization in eval mode: the statistics are given.
export function inference(x, running, gamma = 1, beta = 0, eps = EPS) {
  const invStd = 1 / Math.sqrt(running.variance + eps);
  return x.map((v) => gamma * (v - running.mean) * invStd + beta);
}

// Running statistics of one feature after a mini-batch of m values, in PyTorch's direction: the
// momentum is the weight of the new value, and the variance is the unbiased one.
export function updateRunning(running, { mean: mu, variance }, m, momentum = 0.1) {
  return {
    mean: (1 - momentum) * running.mean + momentum * mu,
    variance: (1 - momentum) * running.variance + (momentum * variance * m) / (m - 1),
  };
}

// Which values share a mean: for activations of shape (n, c, s), examples, channels and positions,
// stored one after the other, the index of each set of values that a norm averages over.
export function valuesOf(norm, [n, c, s], groups = 1) {
  const key = {
    batch: (i, j) => j,
    layer: (i) => i,
    instance: (i, j) => i * c + j,
    group: (i, j) => i * groups + Math.floor((j * groups) / c),
  }[norm];
  const sets = new Map();
  for (let i = 0, index = 0; i < n; i++)
    for (let j = 0; j < c; j++)
      for (let k = 0; k < s; k++, index++) {
        const name = key(i, j);
        if (!sets.has(name)) sets.set(name, []);
        sets.get(name).push(index);
      }
  return [...sets.values()];
}
