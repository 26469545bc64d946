import assert from "node:assert/strict";
import { test } from "node:test";
import * as a from "../node_modules/.cache/test/forecast-overlay.js";

const MIN = 60_000;

function drawn(times, value) {
  const nothing = times.map(() => null);
  return { time: times, value, anomaly_score: nothing, yhat: nothing, yhat_lower: nothing, yhat_upper: nothing };
}

function rows(time, middle) {
  const values = { 0.05: middle.map((m) => m - 2), 0.5: middle, 0.9: middle, 0.95: middle.map((m) => m + 2), 0.99: middle };
  return { time, values };
}

test("a forecast is interpolated between its rows, and unknown beyond them and across gaps", () => {
  const found = a.interpolated([0, 5, 10, 15, 40, 50, 60], rows([5, 15, 25, 60], [1, 3, 5, 9]), "0.5");
  assert.deepEqual(found, [null, 1, 2, 3, null, null, 9]);
});

test("the forecast follows the samples, which are unknown there; the earlier forecast ends where it starts", () => {
  const d = a.withForecast(drawn([0, 5, 10], [7, 8, 9]), rows([10, 20, 30], [4, 5, 6]), rows([0, 10, 20], [1, 2, 3]));
  assert.deepEqual(d.time, [0, 5, 10, 20, 30]);
  assert.deepEqual(d.value, [7, 8, 9, null, null]);
  assert.equal(d.more.length, a.FORECAST_QUANTILES.length + a.EARLIER_QUANTILES.length);
  assert.deepEqual(d.more[1], [null, null, 4, 5, 6]);
  assert.deepEqual(d.more[a.FORECAST_QUANTILES.length + 1], [1, 1.5, null, null, null]);
});

test("without an earlier forecast its columns are unknown and have as many rows as the others", () => {
  const d = a.withForecast(drawn([0, 5], [7, 8]), rows([10, 20], [4, 5]), null);
  assert.deepEqual(d.more.map((column) => column.length), Array(8).fill(4));
  assert.ok(d.more.slice(a.FORECAST_QUANTILES.length).flat().every((x) => x === null));
});

test("forecasts are compared with the mean of their step, only where samples exist", () => {
  const d = drawn([1, 2, 3, 4, 6, 7].map((m) => m * MIN), [10, 12, 12, 14, 30, null]);
  const found = a.forecastAccuracy(d, rows([2, 4, 6, 8, 10].map((m) => m * MIN), [11, 16, 29, 1, 1]), 2 * MIN);
  assert.deepEqual(found, { rows: 3, inside: 2, off: (0 + 3 + 1) / 3 });
  assert.equal(a.forecastAccuracy(drawn([], []), rows([2, 4], [1, 1]), 2), null);
});

test("accuracy, confidence and model are described in words", () => {
  const words = a.accuracyText({ rows: 12, inside: 11, off: 4.2 }, 3600, "1/s");
  assert.match(words, /^Forecasts made 1 h earlier: 11 of 12 values fell within the 5–95\u00a0% band/);
  assert.match(words, /error of the median: 4\.20\/s\.$/);
  const f = { start: "2026-01-01T00:05:00Z", made: "2026-01-01T00:00:00Z", step_s: 300, past_s: 10_800, confidence: "low", model: "seasonal_naive", version: "", values: { 0.5: [1, 2] } };
  assert.equal(a.historyConfidenceText(f), "3 h of history: low confidence");
  assert.equal(a.modelText(f), "seasonal naive");
  assert.equal(a.modelText({ ...f, model: "load", version: "4" }), "load, version 4");
  const laidOut = a.forecastRows(f);
  assert.deepEqual(laidOut.time.map((t) => (t - Date.parse(f.made)) / MIN), [0, 5, 10]);
  assert.deepEqual(laidOut.values["0.5"], [1, 1, 2]);
});
