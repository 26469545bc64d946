import assert from "node:assert/strict";
import { test } from "node:test";
import * as f from "../node_modules/.cache/test/format.js";

const plain = (text) => text.replaceAll(f.NBSP, " ");

test("a value is written in its unit with about three digits", () => {
  const rows = [
    [null, "B", "–"],
    [NaN, "s", "–"],
    [0, "B", "0 B"],
    [0.982, "ratio", "98.2 %"],
    [0.29, "ratio", "29 %"],
    [1, "ratio", "100 %"],
    [6_431_000_000, "B", "5.99 GiB"],
    [999, "bytes", "999 B"],
    [1_240_000, "B/s", "1.18 MiB/s"],
    [0.00034, "s", "340 µs"],
    [0.25, "seconds", "250 ms"],
    [90, "s", "90 s"],
    [7200, "s", "2 h"],
    [12.34, "1/s", "12.3/s"],
    [4210, "", "4,210"],
    [1_234_567, "", "1.23 M"],
    [9.999, "", "10.0"],
    [-12.5, "", "−12.5"],
    [42, "°C", "42 °C"],
  ];
  for (const [x, unit, wanted] of rows) assert.equal(plain(f.value(x, unit)), wanted, `${x} ${unit}`);
});

test("a range has one unit for both ends", () => {
  assert.equal(plain(f.range(2 ** 28, 2 ** 29, "B")), "256–512 MiB");
  assert.equal(plain(f.range(2 ** 26, 2 ** 31, "B")), "64 MiB–2 GiB");
  assert.equal(plain(f.range(0.04, 0.123, "ratio")), "4–12.3 %");
  assert.equal(f.range(-2, 3, ""), "−2 to 3");
  assert.equal(plain(f.range(null, 3, "s")), "up to 3 s");
  assert.equal(f.range(5, 5, ""), "5");
  assert.equal(f.range(null, null, ""), "–");
});

test("the labels of an axis share a unit and their decimals", () => {
  assert.deepEqual(f.axis([0, 0.25, 0.5], "ratio").map(plain), ["0 %", "25 %", "50 %"]);
  assert.deepEqual(f.axis([0, 2 ** 19, 2 ** 20], "B").map(plain), ["0.0 MiB", "0.5 MiB", "1.0 MiB"]);
  assert.deepEqual(f.axis([], ""), []);
});

test("durations and ages are short words", () => {
  const rows = [
    [0, "0 s"],
    [59.7, "1 min"],
    [240, "4 min"],
    [4320, "1 h 12 min"],
    [183_600, "2 d 3 h"],
  ];
  for (const [seconds, wanted] of rows) assert.equal(f.duration(seconds), wanted);
  assert.equal(f.ago(1000, 2000), "just now");
  assert.equal(f.ago(0, 4_320_000), "1 h ago");
});

test("learning shows the approximate remaining time", () => {
  assert.equal(f.learning(10), "learning, about 1 min");
  assert.equal(f.learning(241), "learning, about 5 min");
  assert.equal(f.learning(7200), "learning, about 2 h");
});
