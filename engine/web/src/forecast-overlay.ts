/** Add forecasts to chart data and compare earlier forecasts with samples. Pure functions. Times are ms since 1970. */

import { type ChartData, KEYS, empty, lowerBound, medianStep } from "./chart-data.ts";
import { NBSP, count, duration, plural, value } from "./format.ts";
import type { Forecast, EarlierForecast } from "./planning-api.ts";

export type Column = (number | null)[];

export interface ForecastRows {
  time: number[];
  values: Record<string, Column>;
}

/** Quantiles of the forecast and of the earlier forecast, in the order of the columns of `ChartData.more`. */
export const FORECAST_QUANTILES = ["0.05", "0.5", "0.9", "0.95", "0.99"];
export const EARLIER_QUANTILES = ["0.05", "0.5", "0.95"];

/** A row is the mean of the step that ends with it, so the first row also holds from the time the forecast was made. */
export function forecastRows(f: Forecast): ForecastRows {
  const rows = Math.max(...Object.values(f.values).map((column) => column.length), 0);
  const time = Array.from({ length: rows }, (_, i) => Date.parse(f.start) + i * f.step_s * 1000);
  const values = Object.entries(f.values).map(([quantile, column]) => [quantile, [column[0] ?? null, ...column]]);
  return { time: [Date.parse(f.made), ...time], values: Object.fromEntries(values) as Record<string, Column> };
}

export function earlierForecastRows(b: EarlierForecast): ForecastRows {
  return { time: b.times.map((t) => Date.parse(t)), values: b.values };
}

/** Interpolate a quantile linearly at other times; null outside the rows and across gaps. */
export function interpolated(times: readonly number[], rows: ForecastRows, quantile: string): Column {
  const column = rows.values[quantile] ?? [];
  const widest = 1.5 * medianStep(rows.time);
  return times.map((t) => {
    const i = lowerBound(rows.time, t);
    const [before, after] = [rows.time[i - 1], rows.time[i]];
    const [low, high] = [column[i - 1] ?? null, column[i] ?? null];
    if (after === t) return high;
    if (before === undefined || after === undefined || low === null || high === null || after - before > widest) return null;
    return low + ((high - low) * (t - before)) / (after - before);
  });
}

/** Append the forecast to the rows, with its quantiles in `more`, and the earlier forecast until it starts. */
export function withForecast(d: ChartData, ahead: ForecastRows, before: ForecastRows | null): ChartData {
  const last = d.time.at(-1) ?? -Infinity;
  const coming = ahead.time.filter((t) => t > last);
  const out: ChartData = { ...empty(), time: [...d.time, ...coming] };
  const nothing: Column = coming.map(() => null);
  for (const key of KEYS) out[key] = [...d[key], ...nothing];
  const start = ahead.time[0] ?? Infinity;
  const past = d.time.filter((t) => t < start);
  const pad: Column = out.time.slice(past.length).map(() => null);
  out.more = [
    ...FORECAST_QUANTILES.map((q) => interpolated(out.time, ahead, q)),
    ...EARLIER_QUANTILES.map((q) => (before ? [...interpolated(past, before, q), ...pad] : out.time.map(() => null))),
  ];
  return out;
}

export interface ForecastAccuracy {
  rows: number;
  inside: number;
  /** Mean absolute error of the median, in the unit of the series. */
  off: number;
}

/** Compare the earlier forecast with the shown rows, each the mean of `step` ms; null = nothing to compare. */
export function forecastAccuracy(d: ChartData, before: ForecastRows, step: number): ForecastAccuracy | null {
  const found: ForecastAccuracy = { rows: 0, inside: 0, off: 0 };
  before.time.forEach((t, i) => {
    const [low, middle, high] = EARLIER_QUANTILES.map((q) => before.values[q]?.[i] ?? null);
    const actual = meanBetween(d, t - step, t);
    if (actual === null || typeof low !== "number" || typeof middle !== "number" || typeof high !== "number") return;
    found.rows += 1;
    found.inside += Number(actual >= low && actual <= high);
    found.off += Math.abs(middle - actual);
  });
  return found.rows === 0 ? null : { ...found, off: found.off / found.rows };
}

/** Return the mean of the known values after `from`, up to `to`. */
function meanBetween(d: ChartData, from: number, to: number): number | null {
  const known = d.value.slice(lowerBound(d.time, from + 1), lowerBound(d.time, to + 1)).filter((v) => v !== null);
  return known.length === 0 ? null : known.reduce((sum, v) => sum + v, 0) / known.length;
}

/** `Forecasts made 1 h earlier: 11 of 12 values fell within the 5–95 % band ...` */
export function accuracyText(c: ForecastAccuracy, lead_s: number, unit: string): string {
  const values = plural(c.rows, "value", "values");
  return (
    `Forecasts made ${duration(lead_s)} earlier: ${count(c.inside)} of ${values} fell within the 5–95${NBSP}% band ` +
    `(90${NBSP}% expected). Mean absolute error of the median: ${value(c.off, unit)}.`
  );
}

/** `3 h of history: low confidence` */
export function historyConfidenceText(f: Forecast): string {
  return `${duration(f.past_s)} of history: ${f.confidence} confidence`;
}

/** Name the model of a forecast: `load, version 4`. */
export function modelText(f: Forecast): string {
  const name = f.model.replaceAll("_", " ");
  return f.version === "" ? name : `${name}, version ${f.version}`;
}
