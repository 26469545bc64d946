/** Columns of scores prepared for drawing. Pure functions. Times are ms since 1970. */

import { clock, count, range, score, value } from "./format.ts";
import type { Columns, Scores } from "./types.ts";

export interface ChartData extends Columns<number> {
  /** Overlay columns, such as a forecast: one per line. */
  more?: (number | null)[][];
}

type Key = Exclude<keyof Columns, "time">;
export const KEYS: Key[] = ["value", "anomaly_score", "yhat", "yhat_lower", "yhat_upper"];

export function empty(): ChartData {
  return { time: [], value: [], anomaly_score: [], yhat: [], yhat_lower: [], yhat_upper: [] };
}

export function parseScores(scores: Scores): ChartData {
  return { ...scores.columns, time: scores.columns.time.map((t) => Date.parse(t)) };
}

/** Return `old` plus the newer rows of `more`, without rows before `since`. */
export function appendRows(old: ChartData, more: ChartData, since: number): ChartData {
  const last = old.time.at(-1) ?? -Infinity;
  const drop = lowerBound(old.time, since);
  const from = lowerBound(more.time, last + 1);
  const join = <T>(a: T[], b: T[]): T[] => [...a.slice(drop), ...b.slice(from)];
  const out: ChartData = { ...empty(), time: join(old.time, more.time) };
  for (const key of KEYS) out[key] = join(old[key], more[key]);
  return out;
}

/** Return the index of the first time that is not before `t`. */
export function lowerBound(times: readonly number[], t: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if ((times[mid] ?? 0) < t) low = mid + 1;
    else high = mid;
  }
  return low;
}

/** Return the median distance between rows, ms; 0 if there are fewer than two. */
export function medianStep(times: readonly number[]): number {
  const steps = times.slice(1).map((t, i) => t - (times[i] ?? t));
  steps.sort((a, b) => a - b);
  return steps[steps.length >> 1] ?? 0;
}

const BAND: ReadonlySet<Key> = new Set(["yhat", "yhat_lower", "yhat_upper"]);

/**
 * Insert a row of nulls in every gap, so that no line crosses it, and remove the band before the first score,
 * when it is not learnt yet.
 */
export function withGaps(d: ChartData, factor = 6): ChartData {
  const widest = medianStep(d.time) * factor;
  const scored = d.anomaly_score.findIndex((one) => one !== null);
  const learnt = scored < 0 ? d.time.length : scored;
  const out = empty();
  d.time.forEach((t, i) => {
    const before = d.time[i - 1];
    if (before !== undefined && t - before > widest) {
      out.time.push(before + 1);
      for (const key of KEYS) out[key].push(null);
    }
    out.time.push(t);
    for (const key of KEYS) out[key].push(BAND.has(key) && i < learnt ? null : (d[key][i] ?? null));
  });
  return out;
}

/** Return the smallest and largest known number, or null. */
export function extent(xs: readonly (number | null | undefined)[]): [number, number] | null {
  let low = Infinity;
  let high = -Infinity;
  for (const x of xs) {
    if (x === null || x === undefined || Number.isNaN(x)) continue;
    if (x < low) low = x;
    if (x > high) high = x;
  }
  return low <= high ? [low, high] : null;
}

/** Return the limits of the y axis: all values, and the band as far as it does not flatten them. */
export function yLimits(d: Pick<ChartData, "value" | "yhat_lower" | "yhat_upper">): [number, number] {
  const valueRange = extent(d.value);
  const band = [extent(d.yhat_lower), extent(d.yhat_upper)] as const;
  let [low, high] = valueRange ?? [band[0]?.[0] ?? 0, band[1]?.[1] ?? 1];
  const room = 1.5 * Math.max(high - low, Math.abs(high) * 0.02, 1e-12);
  if (band[0]) low = Math.min(low, Math.max(band[0][0], low - room));
  if (band[1]) high = Math.max(high, Math.min(band[1][1], high + room));
  const positive = low >= 0;
  if (positive && low < 0.4 * high) low = 0;
  const pad = high > low ? (high - low) * 0.08 : Math.max(Math.abs(high) * 0.1, 1e-9);
  return [positive ? Math.max(0, low - pad) : low - pad, high + pad];
}

/** Describe the chart in one sentence, for screen readers. */
export function summary(d: ChartData, unit: string, anomalies: number, now: number): string {
  const valueRange = extent(d.value);
  const first = d.time[0];
  const newest = d.value.findLastIndex((v) => v !== null);
  const last = d.time[newest];
  if (!valueRange || first === undefined || last === undefined) return "No samples in this time range.";
  const band = range(d.yhat_lower[newest] ?? null, d.yhat_upper[newest] ?? null, unit);
  const anomalyCount = anomalies === 0 ? "No anomalies" : anomalies === 1 ? "1 anomaly" : `${count(anomalies)} anomalies`;
  return (
    `${clock(first, now)} to ${clock(last, now)}: between ${value(valueRange[0], unit)} and ${value(valueRange[1], unit)}, ` +
    `last ${value(d.value[newest], unit)} (expected ${band}), highest score ${score(extent(d.anomaly_score)?.[1])}. ${anomalyCount}.`
  );
}
