// What the tests of the explorables share: the numbers of bnlib, and how far ours are from them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";

export function fixture(name) {
  return JSON.parse(readFileSync(path.join(process.env.FIXTURES, name), "utf8"));
}

// The largest difference of two arrays, relative to the largest value of the second.
export function distance(ours, theirs) {
  const a = [ours].flat(Infinity).flatMap((v) => [...(v.length === undefined ? [v] : v)]);
  const b = [theirs].flat(Infinity);
  assert.equal(a.length, b.length);
  const scale = Math.max(...b.map(Math.abs), 1e-300);
  return Math.max(...a.map((v, i) => Math.abs(v - b[i]))) / scale;
}

export function close(ours, theirs, tolerance, what) {
  const d = distance(ours, theirs);
  assert.ok(d <= tolerance, `${what}: ${d} > ${tolerance}`);
}
