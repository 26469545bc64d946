import assert from "node:assert/strict";
import { test } from "node:test";
import * as w from "../node_modules/.cache/test/anomaly-text.js";

const band = (value, lower, upper) => ({ value, lower, upper, expected: null });

test("a value is compared with its expected range", () => {
  const rows = [
    [band(2.88, 0.4, 0.9), "", undefined, "3.2× above expected 0.4–0.9"],
    [band(0.98, 0.04, 0.95), "ratio", undefined, "3 points above expected 4–95 %"],
    [band(2, 4, 6), "1/s", undefined, "2.0× below expected 4–6/s"],
    [band(0, 4, 6), "", undefined, "4 below expected 4–6"],
    [band(5, 4, 6), "", undefined, "within expected 4–6"],
    [band(5, 4, 6), "", "above", "anomalous, but within expected 4–6"],
    [band(null, 4, 6), "", "absent", "no samples, expected 4–6"],
    [band(7, null, null), "", undefined, "expected range unknown"],
    [band(2 ** 30, 0, 0), "B", undefined, "1 GiB above expected 0 B"],
  ];
  for (const [a, unit, direction, wanted] of rows) assert.equal(w.deviationText(a, unit, direction).replaceAll("\u00a0", " "), wanted);
});

test("the summary of an anomaly states start, deviation and end", () => {
  const at = (minute) => new Date(2026, 0, 5, 12, minute).toISOString();
  const a = {
    start: at(0),
    end: at(4),
    peak_time: at(1),
    direction: "above",
    value: 9,
    lower: 1,
    upper: 3,
    expected: 2,
    reason: "recovered",
    detectors: ["level_shift"],
  };
  const now = Date.parse(at(30));
  assert.equal(
    w.anomalySummary(a, "", now),
    "The value rose above the expected range at 12:00:00. Worst value at 12:01:00: 9, 3.0× above expected 1–3. " +
      "The value returned to the expected range after 4 min.",
  );
  assert.match(w.anomalySummary({ ...a, end: null }, "", now), /Ongoing for 30 min\.$/);
  assert.match(w.anomalySummary({ ...a, direction: "absent" }, "", now), /^Samples stopped at 12:00:00 while the source was available/);
  const led = { ...a, detectors: ["pattern:memory_leak"], reason: "not recognised any more" };
  assert.match(w.anomalySummary(led, "", now), /the strongest evidence for memory leak\. It is not anomalous on its own/);
  assert.match(w.anomalySummary(led, "", now), /The pattern was no longer detected after 4 min\.$/);
});

test("names give their metric and unit", () => {
  assert.equal(w.metricOf('up{job="x"}'), "up");
  assert.equal(w.unitOfMetric("cpu_busy_ratio"), "ratio");
  assert.equal(w.unitOfMetric("node_memory_bytes"), "B");
  assert.equal(w.unitOfMetric("load1"), "");
});

test("only an anomaly found by a pattern names one", () => {
  assert.equal(w.patternOf({ detectors: ["pattern:cache_thrash"] }), "cache thrash");
  assert.equal(w.patternOf({ detectors: ["ew_zscore"] }), null);
});
