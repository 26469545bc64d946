import assert from "node:assert/strict";
import { test } from "node:test";
import * as w from "../node_modules/.cache/test/forecast-text.js";

const usual = {
  name: "checkout", kind: "replicas", unit: "1/s", load: 412, current: 5, ready: 5, wanted: 6, floor: 5, ahead: 6,
  why: "forecast", problem: "", cost_per_day: 12, wanted_cost_per_day: 14.4,
};

test("the reason for a wanted count is stated, and an unknown count is not a number", () => {
  assert.match(w.reasonText(usual), /^The forecast load requires this count; the current load is 412\/s\.$/);
  assert.match(w.reasonText({ ...usual, why: "reactive" }), /^The current load of 412\/s requires this count; the forecast does not require more\.$/);
  assert.match(w.reasonText({ ...usual, why: "reactive", ahead: null }), /no forecast is available yet/);
  assert.match(w.reasonText({ ...usual, why: "bounds" }), /exceeds the allowed step or the configured bounds/);
  assert.equal(w.reasonText({ ...usual, why: "unknown", wanted: null, problem: "no live series is selected" }), "No live series is selected.");
  assert.equal(w.reasonText({ ...usual, wanted: null, problem: "capacity.checkout.load: nothing" }), "capacity.checkout.load: nothing.");
});

test("counts are written with their kind, bytes with a binary prefix", () => {
  assert.equal(w.countText(1, "replicas"), "1 replica");
  assert.equal(w.countText(6, "workers"), "6 workers");
  assert.equal(w.countText(2 ** 30, "bytes"), "1\u00a0GiB");
  assert.equal(w.countText(null, "replicas"), "an unknown number of replicas");
});

test("cost is compared with the current cost, and unknown where no price is set", () => {
  assert.equal(w.costText(usual), "12 → 14.4 per day (+2.40)");
  assert.equal(w.costText({ ...usual, wanted_cost_per_day: 9.6 }), "12 → 9.60 per day (−2.40)");
  assert.equal(w.costText({ ...usual, wanted_cost_per_day: 12 }), "12 per day, unchanged");
  assert.equal(w.costText({ ...usual, wanted_cost_per_day: null }), "12 per day now; cost of the wanted count unknown");
  assert.equal(w.costText({ ...usual, cost_per_day: null, wanted_cost_per_day: null }), null);
});

test("an estimate names its origin, and its interval only where it was learnt", () => {
  const learnt = { value: 180, low: 165, high: 195, source: "learnt" };
  assert.equal(w.estimateText(learnt, "s"), "3\u00a0min (2.75–3.25\u00a0min in 9 of 10 cases, learnt from history)");
  assert.equal(w.estimateText({ ...learnt, source: "assumed" }, "s"), "3\u00a0min (default until enough data is available)");
  assert.equal(w.estimateText(null, "s"), "not known yet");
});

test("a trigger names the engine and escapes the service", () => {
  assert.match(w.kedaYaml("orders pool", "https://t.example/x"), /url: https:\/\/t\.example\/x\/api\/capacity\/orders%20pool\/keda\n/);
});

test("a challenger is better where its metric is nearer to the target", () => {
  const figures = {
    "challenger.pinball": 0.262, "champion.pinball": 0.281, "seasonal_naive.pinball": 0.52,
    "challenger.cov90": 0.88, "champion.cov90": 0.91, "challenger.miss99": 0.01, "champion.miss99": 0.01,
    "challenger.points": 100, "champion.points": 100, "champion.mase": 0.4,
  };
  const rows = Object.fromEntries(w.metricRows({ figures }).map((row) => [row.key, row]));
  assert.deepEqual(Object.keys(rows), ["pinball", "cov90", "miss99", "points"]);
  assert.deepEqual([rows.pinball.better, rows.cov90.better, rows.miss99.better, rows.points.better], ["better", "worse", "", ""]);
  assert.equal(rows.cov90.naive, null);
  assert.equal(w.differenceText("pinball", 0.262, 0.281), "−6.76\u00a0%");
  assert.equal(w.differenceText("cov90", 0.88, 0.91), "−3 points");
  assert.equal(w.differenceText("miss99", 0.01, 0.01), "same");
  assert.equal(w.metricText("pinball", 0.2619), "0.262");
  assert.equal(w.metricText("mase", null), "–");
});

test("the live error is shown with the error at the promotion gate", () => {
  assert.equal(w.liveErrorText(0.29, { figures: { "challenger.pinball": 0.262 } }), "The live error is 0.290; at the promotion gate it was 0.262.");
  assert.equal(w.liveErrorText(null, undefined), "The live error is not known yet.");
});
