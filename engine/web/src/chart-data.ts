/** Columns of scores made ready for drawing. Pure. Times are ms since 1970. */

import { clock, count, range, score, value } from "./format.ts";
import type { Columns, Scores } from "./types.ts";

export interface ChartData extends Columns<number> {
  /** What is laid over the value, as a forecast is: a column for each line of it. */
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

/** `old` with the rows of `more` that are newer, without rows before `since`. */
export function appendRows(old: ChartData, more: ChartData, since: number): ChartData {
  const last = old.time.at(-1) ?? -Infinity;
  const drop = lowerBound(old.time, since);
  const from = lowerBound(more.time, last + 1);
  const join = <T>(a: T[], b: T[]): T[] => [...a.slice(drop), ...b.slice(from)];
  const out: ChartData = { ...empty(), time: join(old.time, more.time) };
  for (const key of KEYS) out[key] = join(old[key], more[key]);
  return out;
}

/** Index of the first time that is not before `t`. */
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

/** The usual distance between rows (median), ms; 0 where there is none. */
export function usualStep(times: readonly number[]): number {
  const steps = times.slice(1).map((t, i) => t - (times[i] ?? t));
  steps.sort((a, b) => a - b);
  return steps[steps.length >> 1] ?? 0;
}

const BAND: ReadonlySet<Key> = new Set(["yhat", "yhat_lower", "yhat_upper"]);

/**
 * Only what is known: a row of nulls in every hole, so that a line never runs over it, and no band before the
 * first score, for until then it is still being learnt and as wide as a guess.
 */
export function withGaps(d: ChartData, factor = 6): ChartData {
  const widest = usualStep(d.time) * factor;
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

/** Smallest and largest known number, or null. */
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

/** Limits of the y axis: all values, and of the band what does not press them flat. */
export function yLimits(d: Pick<ChartData, "value" | "yhat_lower" | "yhat_upper">): [number, number] {
  const seen = extent(d.value);
  const band = [extent(d.yhat_lower), extent(d.yhat_upper)] as const;
  let [low, high] = seen ?? [band[0]?.[0] ?? 0, band[1]?.[1] ?? 1];
  const room = 1.5 * Math.max(high - low, Math.abs(high) * 0.02, 1e-12);
  if (band[0]) low = Math.min(low, Math.max(band[0][0], low - room));
  if (band[1]) high = Math.max(high, Math.min(band[1][1], high + room));
  const positive = low >= 0;
  if (positive && low < 0.4 * high) low = 0;
  const pad = high > low ? (high - low) * 0.08 : Math.max(Math.abs(high) * 0.1, 1e-9);
  return [positive ? Math.max(0, low - pad) : low - pad, high + pad];
}

/** The picture in one sentence, for those who do not see it. */
export function summary(d: ChartData, unit: string, anomalies: number, now: number): string {
  const seen = extent(d.value);
  const first = d.time[0];
  const newest = d.value.findLastIndex((v) => v !== null);
  const last = d.time[newest];
  if (!seen || first === undefined || last === undefined) return "No samples in this time range.";
  const band = range(d.yhat_lower[newest] ?? null, d.yhat_upper[newest] ?? null, unit);
  const unusual = anomalies === 0 ? "No anomalies" : anomalies === 1 ? "1 anomaly" : `${count(anomalies)} anomalies`;
  return (
    `${clock(first, now)} to ${clock(last, now)}: between ${value(seen[0], unit)} and ${value(seen[1], unit)}, ` +
    `last ${value(d.value[newest], unit)} (expected ${band}), highest score ${score(extent(d.anomaly_score)?.[1])}. ${unusual}.`
  );
}
