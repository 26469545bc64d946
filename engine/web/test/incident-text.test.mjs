import assert from "node:assert/strict";
import { test } from "node:test";
import {
  exactText,
  incidentSummary,
  parsedValue,
  resetIsRisky,
  resetText,
  shadowSummary,
  valueText,
  writtenValue,
} from "../node_modules/.cache/test/incident-text.js";

const START = Date.parse("2026-01-01T00:00:00Z");
const incident = {
  start: "2026-01-01T00:00:00Z",
  end: null,
  entities: ["redis/cache-1", "checkout"],
  anomaly_ids: ["a", "b"],
  suspects: [{ entity: "redis/cache-1", why: "it moved first" }],
  patterns: [{ name: "cache_thrash", entity: "redis/cache-1", confidence: 0.93, until: null }],
  mass: false,
  user_facing: true,
};

test("the summary of an incident names start, extent, top suspect and matching pattern", () => {
  const told = incidentSummary(incident, START + 480_000);
  assert.match(told, /^2 anomalies in 2 entities started at \S+; ongoing for 8 min\. /);
  assert.match(told, /redis\/cache-1 is the top suspect: it moved first\. /);
  assert.match(told, /Matching pattern: cache thrash on redis\/cache-1 \(93\u00a0% confidence\)\. Users are affected\.$/);
});

test("an active pattern is named before one that ended, which is named with its end", () => {
  const past = { name: "traffic_surge", entity: "checkout", confidence: 0.9, until: "2026-01-01T00:05:00Z" };
  const both = incidentSummary({ ...incident, patterns: [past, ...incident.patterns] }, START + 480_000);
  assert.match(both, /Matching pattern: cache thrash/);
  const told = incidentSummary({ ...incident, patterns: [past] }, START + 480_000);
  assert.match(told, /Matching pattern until \S+: traffic surge on checkout\. Users/);
});

test("a mass event states that automatic actions are suspended, and an ended one its duration", () => {
  const over = { ...incident, mass: true, end: "2026-01-01T01:00:00Z", entities: ["x"], suspects: [], patterns: [] };
  const told = incidentSummary(over, START + 9e6);
  assert.match(told, /in x started at \S+; ended after 1 h\. Many series changed at once/);
  assert.doesNotMatch(told, /suspect|pattern|Users/);
});

test("values of knobs are words", () => {
  assert.equal(valueText(null, "B"), "not set");
  assert.equal(valueText(true, ""), "on");
  assert.equal(valueText("", ""), "empty");
  assert.equal(valueText("allkeys-lru", ""), "allkeys-lru");
  assert.equal(valueText(268_435_456, "B"), "256\u00a0MiB");
  assert.equal(valueText(0, "B", "no limit"), "0\u00a0B = no limit");
  assert.equal(valueText(1024, "B", "no limit"), "1\u00a0KiB");
  assert.equal(valueText(268_435_456, ""), "268,435,456");
  assert.equal(exactText(0.1 + 0.2), "0.3");
});

test("an input is parsed as a value of the knob's type, or rejected", () => {
  const rows = [
    ["int", " 12 ", 12],
    ["int", "1.5", undefined],
    ["float", "1.5", 1.5],
    ["float", "1e400", undefined],
    ["float", "many", undefined],
    ["bool", "true", true],
    ["bool", "yes", undefined],
    ["choice", "lru", "lru"],
    ["choice", "other", undefined],
    ["int", "", null], // empty = reset to the default
  ];
  for (const [type, text, wanted] of rows) assert.equal(parsedValue({ type, choices: ["lru"], unit: "" }, text), wanted, `${type} ${text}`);
});

test("an input with a unit is converted to the unit of the knob", () => {
  const rows = [
    ["B", "64 MiB", 67_108_864],
    ["B", "64M", 67_108_864],
    ["B", "64mb", 67_108_864],
    ["B", "1.5 GiB", 1_610_612_736],
    ["B", "67,108,864", 67_108_864],
    ["B", "12 B", 12],
    ["B", "64 parsecs", undefined],
    ["B", "64 min", undefined],
    ["s", "5 min", 300],
    ["s", "0.5 ms", undefined], // an int
    ["ms", "2 s", 2000],
    ["", "5 s", undefined],
    ["B", "1.2.3", undefined],
    ["B", "1,5", undefined],
  ];
  for (const [unit, text, wanted] of rows) assert.equal(parsedValue({ type: "int", choices: [], unit }, text), wanted, `${unit} ${text}`);
  assert.equal(parsedValue({ type: "float", choices: [], unit: "ratio" }, "25 %"), 0.25);
});

test("a value is formatted for editing without loss", () => {
  assert.equal(writtenValue(16 * 2 ** 20, "B"), "16 MiB");
  assert.equal(writtenValue(1.5 * 2 ** 30, "B"), "1.5 GiB");
  assert.equal(writtenValue(16 * 2 ** 20 + 1, "B"), "16777217");
  assert.equal(writtenValue(30, "s"), "30");
  assert.equal(writtenValue(null, "B"), "");
});

test("a reset names the default, and needs confirmation where the default may surprise", () => {
  const knob = { default: 0, zero: "no limit", unit: "B", denied: [] };
  assert.match(resetText(knob), /server default: 0\u00a0B = no limit\.$/);
  assert.match(resetText({ ...knob, default: null }), /which is unknown/);
  const rows = [
    [{}, true],
    [{ default: null }, true],
    [{ default: 10, zero: "" }, false],
    [{ default: 0, zero: "" }, false],
    [{ default: "noeviction", zero: "", denied: ["noeviction"] }, true],
  ];
  for (const [changed, risky] of rows) assert.equal(resetIsRisky({ ...knob, ...changed }), risky, JSON.stringify(changed));
});

test("a shadow action is described with the outcome without it", () => {
  const r = { subject: "maxmemory", target: "cache-1", is_action: false };
  const shadow = {
    time: "2026-01-01T00:02:00Z", before: 2 ** 24, after: 2 ** 25, figure: "hit ratio", unit: "ratio",
    figure_before: 0.71, figure_since: 0.72, severity: 0.5, worst: 0.5, ended: "2026-01-01T00:20:00Z", end: "over",
  };
  const told = shadowSummary(r, shadow, "B", START + 9e6).replaceAll("\u00a0", " ");
  assert.match(told, /^Mode auto would have set maxmemory 16 MiB → 32 MiB at \S+\. /);
  assert.match(told, /The problem ended without it at .+, after 18 min\. The hit ratio was 71 % at that time, 72 % on average since\.$/);
  const worse = shadowSummary({ ...r, is_action: true }, { ...shadow, ended: null, end: "", worst: 0.8, figure: "" }, "", START + 9e6);
  assert.match(worse, /run maxmemory on cache-1 .* The problem is still open after .*\. .* worse in the meantime: severity 0\.50 → 0\.80\.$/);
});
