/** Style of a forecast on the chart of its series; the earlier forecast is dashed. */

import type uPlot from "uplot";
import { FORECAST_QUANTILES, EARLIER_QUANTILES, type ForecastRows, withForecast } from "../forecast-overlay.ts";
import type { ChartData } from "../chart-data.ts";
import { range, value } from "../format.ts";
import { colour } from "../theme.ts";
import type { ChartOverlay } from "./plot.ts";

export interface Fan {
  over: ChartOverlay;
  /** End of the forecast, ms. */
  until: number;
  addTo: (data: ChartData) => ChartData;
}

/** Index of the first overlay column, after the six columns of the value; see `SeriesPlot`. */
const FIRST = 6;
const LINES = [...FORECAST_QUANTILES, ...EARLIER_QUANTILES];
const [LOW, MIDDLE, NINETY, HIGH, HIGHEST] = FORECAST_QUANTILES.map((_, i) => FIRST + i) as [number, number, number, number, number];
const [WAS_LOW, , WAS_HIGH] = EARLIER_QUANTILES.map((_, i) => FIRST + FORECAST_QUANTILES.length + i) as [number, number, number];

/** A style sheet colour with opacity `share`, two hex digits. */
const thin = (share: string): string => colour("ok") + share;

function style(): { series: uPlot.Series[]; bands: uPlot.Band[] } {
  const line = (quantile: string, i: number): uPlot.Series => {
    const middle = quantile === "0.5";
    const was = i >= FORECAST_QUANTILES.length;
    return {
      stroke: middle ? colour("ok") : thin("30"),
      width: middle ? 1.8 : 1,
      points: { show: false },
      ...(was && middle && { dash: [5, 4] }),
    };
  };
  return {
    series: LINES.map(line),
    bands: [
      { series: [HIGH, LOW], fill: thin("22") },
      { series: [NINETY, MIDDLE], fill: thin("2e") },
      { series: [HIGHEST, HIGH], fill: thin("12") },
      { series: [WAS_HIGH, WAS_LOW], fill: thin("1a") },
    ],
  };
}

function describe(data: ChartData, row: number, unit: string): [string, string] | null {
  const cell = (column: number): number | null => data.more?.[column - FIRST]?.[row] ?? null;
  const ahead = cell(MIDDLE);
  if (ahead !== null) return ["forecast", words(ahead, cell(LOW), cell(HIGH), unit)];
  const was = cell(WAS_LOW + 1);
  return was === null ? null : ["earlier forecast", words(was, cell(WAS_LOW), cell(WAS_HIGH), unit)];
}

const words = (middle: number, low: number | null, high: number | null, unit: string): string =>
  `${value(middle, unit)} (${range(low, high, unit)})`;

const FORECAST_OVERLAY: ChartOverlay = { style, describe };

export function fanOf(ahead: ForecastRows, before: ForecastRows | null): Fan {
  return { over: FORECAST_OVERLAY, until: ahead.time.at(-1) ?? 0, addTo: (data) => withForecast(data, ahead, before) };
}
