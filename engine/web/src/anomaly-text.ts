/** Describe anomalies, series and detectors. Pure functions. */

import { NBSP, clock, duration, range, value } from "./format.ts";
import type { Anomaly, Direction, Series } from "./types.ts";

/** A value with its expected range; null = unknown. */
export interface ObservedValue {
  value: number | null;
  lower: number | null;
  upper: number | null;
  expected: number | null;
}

export function observedInSeries(s: Series): ObservedValue {
  return { value: s.value, lower: s.yhat_lower, upper: s.yhat_upper, expected: s.yhat };
}

/** Return on which side of the expected range a value is; null = inside, or unknown. */
export function deviationSide(a: ObservedValue): "above" | "below" | null {
  if (a.value === null) return null;
  if (a.upper !== null && a.value > a.upper) return "above";
  if (a.lower !== null && a.value < a.lower) return "below";
  return null;
}

function times(ratio: number): string {
  return ratio >= 10 ? String(Math.round(ratio)) : ratio.toFixed(1);
}

/** `3.2× above`, `12 MiB below`: a factor where it is meaningful, else the distance. */
function distanceText(from: number, edge: number, where: "above" | "below", unit: string): string {
  const ratio = where === "above" ? from / edge : edge / from;
  if (from > 0 && edge > 0 && ratio >= 1.5 && ratio < 1000) return `${times(ratio)}× ${where}`;
  const distance = Math.abs(from - edge);
  const shown = unit === "ratio" ? `${value(distance, unit).replace(`${NBSP}%`, "")} points` : value(distance, unit);
  return `${shown} ${where}`;
}

/** `3.2× above expected 0.4–0.9 s`; `within expected 4–12 %`; `expected range unknown`. */
export function deviationText(a: ObservedValue, unit: string, direction?: Direction): string {
  const known = a.lower !== null || a.upper !== null;
  const expected = known ? `expected ${range(a.lower, a.upper, unit)}` : "";
  if (direction === "absent") return known ? `no samples, ${expected}` : "no samples";
  if (!known) return a.expected === null ? "expected range unknown" : `expected ${value(a.expected, unit)}`;
  if (a.value === null) return expected;
  const where = deviationSide(a);
  if (where === null) return direction ? `anomalous, but within ${expected}` : `within ${expected}`;
  const edge = where === "above" ? a.upper : a.lower;
  return edge === null ? expected : `${distanceText(a.value, edge, where, unit)} ${expected}`;
}

export function observedAtPeak(a: Anomaly): ObservedValue {
  return { value: a.value, lower: a.lower, upper: a.upper, expected: a.expected };
}

/** Return the duration of an anomaly in seconds. */
export function anomalyDurationS(a: Anomaly, now: number): number {
  return ((a.end === null ? now : Date.parse(a.end)) - Date.parse(a.start)) / 1000;
}

const ENDINGS: Record<string, string> = {
  recovered: "The value returned to the expected range",
  "level shift accepted": "The new level was accepted as normal",
  returned: "Samples returned",
  "not recognised any more": "The pattern was no longer detected",
};

const BY_PATTERN = "pattern:";

/** Return the pattern that found it, `cache thrash`; null = the series is anomalous on its own. */
export function patternOf(a: Anomaly): string | null {
  const found = a.detectors.find((name) => name.startsWith(BY_PATTERN));
  return found?.slice(BY_PATTERN.length).replaceAll("_", " ") ?? null;
}

/** Summarise an anomaly: start, deviation, and duration or end. */
export function anomalySummary(a: Anomaly, unit: string, now: number): string {
  const start = clock(Date.parse(a.start), now);
  const span = duration(anomalyDurationS(a, now));
  if (a.direction === "absent") {
    const gone = `Samples stopped at ${start} while the source was available.`;
    return a.end === null ? `${gone} No samples for ${span}.` : `${gone} ${endText(a, span)}`;
  }
  const what = patternOf(a);
  if (what !== null) {
    const led = `Since ${start} this series is the strongest evidence for ${what}. It is not anomalous on its own.`;
    return a.end === null ? `${led} Ongoing for ${span}.` : `${led} ${endText(a, span)}`;
  }
  const moved = a.direction === "above" ? "rose above" : "fell below";
  const far = deviationText(observedAtPeak(a), unit, a.direction);
  const peak = `The value ${moved} the expected range at ${start}. Worst value at ${clock(Date.parse(a.peak_time), now)}: ${value(a.value, unit)}, ${far}.`;
  return a.end === null ? `${peak} Ongoing for ${span}.` : `${peak} ${endText(a, span)}`;
}

function endText(a: Anomaly, span: string): string {
  const how = ENDINGS[a.reason] ?? (a.reason ? `The anomaly ended (${a.reason})` : "The anomaly ended");
  return `${how} after ${span}.`;
}

const DETECTORS: [RegExp, string][] = [
  [/^pattern:/, "pattern across several series; this one is the strongest evidence"],
  [/absen/, "samples stopped"],
  [/season/, "differs from the same time on other days or weeks"],
  [/level|shift|cusum/, "persistent change of level"],
  [/range|exceed/, "outside the recent range of values"],
  [/half.?space|hst|forest/, "rare combination of recent values"],
  [/ew|zscore|z_score/, "far from the recent mean, relative to the recent spread"],
  [/river/, "detector from River"],
];

/** Describe what a detector looks at. */
export function detectorText(name: string): string {
  return DETECTORS.find(([pattern]) => pattern.test(name.toLowerCase()))?.[1] ?? "";
}

/** `cpu_busy_ratio{core="1"}` -> `cpu_busy_ratio`. */
export function metricOf(series: string): string {
  const brace = series.indexOf("{");
  return brace < 0 ? series : series.slice(0, brace);
}

/** Labels as `core=1 mode=user`. */
export function labelText(labels: Record<string, string>): string {
  return Object.entries(labels)
    .map(([name, text]) => `${name}=${text}`)
    .join(" ");
}

const UNIT_ENDINGS: [RegExp, string][] = [
  [/_ratio$/, "ratio"],
  [/_bytes_per_second$/, "B/s"],
  [/_per_second$/, "1/s"],
  [/_bytes(_p\d+)?$/, "B"],
  [/_seconds(_p\d+)?$/, "s"],
];

/** Return the unit implied by a metric name (Prometheus naming convention). */
export function unitOfMetric(metric: string): string {
  return UNIT_ENDINGS.find(([pattern]) => pattern.test(metric))?.[1] ?? "";
}
