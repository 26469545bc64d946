import assert from "node:assert/strict";
import { test } from "node:test";
import * as c from "../node_modules/.cache/test/chart-data.js";
import { href, parse } from "../node_modules/.cache/test/router.js";

function drawn(times, value = times.map(() => 1)) {
  const nothing = times.map(() => null);
  return { time: times, value, anomaly_score: nothing, yhat: nothing, yhat_lower: nothing, yhat_upper: nothing };
}

test("a gap in time becomes a row of nulls", () => {
  const out = c.withGaps(drawn([0, 5, 10, 100, 105]));
  assert.deepEqual(out.time, [0, 5, 10, 11, 100, 105]);
  assert.deepEqual(out.value, [1, 1, 1, null, 1, 1]);
});

test("a band is shown from the first score on", () => {
  const band = { yhat: [5, 5, 5, 5], yhat_lower: [0, 0, 4, 4], yhat_upper: [1e6, 1e6, 6, 6] };
  const rows = { ...drawn([0, 5, 10, 15]), ...band, anomaly_score: [null, null, 0.2, null] };
  const out = c.withGaps(rows);
  assert.deepEqual(out.value, [1, 1, 1, 1]);
  for (const key of Object.keys(band)) assert.deepEqual(out[key], [null, null, ...band[key].slice(2)]);
  const learning = c.withGaps({ ...rows, anomaly_score: [null, null, null, null] });
  assert.deepEqual(learning.yhat_upper, [null, null, null, null]);
});

test("only newer rows are appended and old ones go", () => {
  const out = c.appendRows(drawn([0, 5, 10]), drawn([10, 15], [8, 9]), 5);
  assert.deepEqual(out.time, [5, 10, 15]);
  assert.deepEqual(out.value, [1, 1, 9]);
});

test("a wide band does not flatten the values, and the axis does not go below zero needlessly", () => {
  const wide = { value: [10, 12], yhat_lower: [-1e6, -1e6], yhat_upper: [1e6, 1e6] };
  const [low, high] = c.yLimits(wide);
  assert.ok(low > 0 && high < 30);
  assert.equal(c.yLimits({ value: [0, 0.4], yhat_lower: [], yhat_upper: [] })[0], 0);
  const [flatLow, flatHigh] = c.yLimits({ value: [5, 5], yhat_lower: [], yhat_upper: [] });
  assert.ok(flatLow < 5 && flatHigh > 5);
});

test("the summary describes the chart", () => {
  assert.equal(c.summary(drawn([]), "", 0, 0), "No samples in this time range.");
  assert.match(c.summary(drawn([0, 5000], [1, 3]), "B", 1, 5000), /between 1\u00a0B and 3\u00a0B, last 3\u00a0B .* 1 anomaly\.$/);
});

test("an address is read and written back", () => {
  const route = parse("#/series/a%2Fb?range=6h&x=");
  assert.deepEqual(route.path, ["series", "a/b"]);
  assert.equal(href(route.path, route.query), "#/series/a%2Fb?range=6h");
  assert.deepEqual(parse("").path, []);
});
