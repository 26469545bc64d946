import assert from "node:assert/strict";
import { test } from "node:test";
import { exactly, incidentStory, parsedValue, valueWords } from "../node_modules/.cache/test/loop-words.js";

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

test("an incident is told with when, how wide, who moved first and what it looks like", () => {
  const told = incidentStory(incident, START + 480_000);
  assert.match(told, /^2 anomalies of 2 parts began at \S+ and have gone on for 8 min\. /);
  assert.match(told, /redis\/cache-1 is the first suspect: it moved first\. /);
  assert.match(told, /It looks like cache thrash of redis\/cache-1 \(93\u00a0% sure\)\. Users feel it\.$/);
});

test("a pattern that is over says until when it was there, after one that goes on", () => {
  const past = { name: "traffic_surge", entity: "checkout", confidence: 0.9, until: "2026-01-01T00:05:00Z" };
  const both = incidentStory({ ...incident, patterns: [past, ...incident.patterns] }, START + 480_000);
  assert.match(both, /looks like cache thrash/);
  const told = incidentStory({ ...incident, patterns: [past] }, START + 480_000);
  assert.match(told, /It looked like traffic surge of checkout until \S+\. Users/);
});

test("a mass event says that nothing acts on it, and one that is over how long it was", () => {
  const over = { ...incident, mass: true, end: "2026-01-01T01:00:00Z", entities: ["x"], suspects: [], patterns: [] };
  const told = incidentStory(over, START + 9e6);
  assert.match(told, /of x began at \S+ and ended after 1 h\. So much moved at once/);
  assert.doesNotMatch(told, /suspect|looks like|Users/);
});

test("values of knobs are words", () => {
  assert.equal(valueWords(null, "B"), "not set");
  assert.equal(valueWords(true, ""), "on");
  assert.equal(valueWords("", ""), "empty");
  assert.equal(valueWords("allkeys-lru", ""), "allkeys-lru");
  assert.equal(valueWords(268_435_456, "B"), "268\u00a0MB");
  assert.equal(valueWords(268_435_456, ""), "268,435,456");
  assert.equal(exactly(0.1 + 0.2), "0.3");
});

test("what is written becomes a value of the knob's kind, or none", () => {
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
  for (const [type, text, wanted] of rows) assert.equal(parsedValue({ type, choices: ["lru"] }, text), wanted, `${type} ${text}`);
});
