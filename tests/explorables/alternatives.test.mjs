// What `alternatives` shows equals bnlib.

import assert from "node:assert/strict";
import test from "node:test";
import { standardize, values } from "../../book/_static/explorables/alternatives.mjs";
import { close, fixture } from "./compare.mjs";

const { example } = fixture("bn.json");
const EXAMPLE = { n: 2, c: 4, pixels: "1x1", groups: "2" };
const IMAGES = { n: 3, c: 6, pixels: "4x5", groups: "2" };

for (const norm of ["batch", "layer", "group"])
  test(`the example of the chapter, ${norm} norm`, () => {
    const x = values(EXAMPLE);
    assert.deepEqual(x, example.x);
    close(standardize({ ...EXAMPLE, norm }, x).xHat, example[norm], 1e-9, "x_hat");
  });

test("the numbers of means and of values in each are those of the chapter", () => {
  const x = values(IMAGES);
  const counts = { batch: [6, 60], layer: [3, 120], instance: [18, 20], group: [6, 60] };
  for (const [norm, [means, each]] of Object.entries(counts)) {
    const { sets } = standardize({ ...IMAGES, norm }, x);
    assert.equal(sets.length, means);
    assert.ok(sets.every((set) => set.length === each));
    assert.deepEqual(sets.flat().sort((a, b) => a - b), x.map((_, i) => i));
  }
});

test("one group is layer norm, one per channel is instance norm", () => {
  const x = values(IMAGES);
  const sets = (norm, groups) => standardize({ ...IMAGES, norm, groups }, x).sets;
  assert.deepEqual(sets("group", "1"), sets("layer"));
  assert.deepEqual(sets("group", "c"), sets("instance"));
  assert.notDeepEqual(sets("group", "2"), sets("layer"));
});

test("a value alone in its mean has no x_hat at eps = 0", () => {
  const alone = standardize({ ...EXAMPLE, norm: "instance" }, values(EXAMPLE));
  assert.ok(alone.xHat.every(Number.isNaN));
});
