// Numbers are written as the book prints them, and keys of the browser are left to it.

import assert from "node:assert/strict";
import test from "node:test";
import { forBrowser, number, vector } from "../../book/_static/explorables/ui.mjs";

test("zeros are dropped only behind the point", () => {
  for (const v of [0, 1, 10, 90, 100, 1000]) {
    assert.equal(number(v, 0), `${v}`);
    assert.equal(number(v), `${v}`);
  }
  assert.equal(number(1.5), "1.5");
  assert.equal(number(1.25), "1.25");
  assert.equal(number(10.1, 3), "10.1");
  assert.equal(number(0.00001, 5), "0.00001");
  assert.equal(number(89.96, 1), "90");
});

test("a zero has no sign, and a negative number a real one", () => {
  for (const v of [-0.001, -0, -1e-12]) assert.equal(number(v), "0");
  assert.equal(number(-0.4, 0), "0");
  assert.equal(number(-100, 0), "\u2212100");
  assert.equal(vector([-1.5, 10]), "(\u22121.5, 10)");
});

test("a key with Alt, Ctrl or the command key is for the browser", () => {
  assert.ok(forBrowser({ key: "ArrowLeft", altKey: true }));
  assert.ok(forBrowser({ key: "ArrowLeft", ctrlKey: true }));
  assert.ok(!forBrowser({ key: "ArrowLeft", shiftKey: true }));
});
