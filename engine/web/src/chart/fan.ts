/** How a forecast looks on the chart of its series: what is ahead, and dashed what had been forecast. */

import type uPlot from "uplot";
import { AHEAD, BEFORE, type Rows, laid } from "../forecast-overlay.ts";
import type { Drawn } from "../chart-data.ts";
import { range, value } from "../format.ts";
import { colour } from "../theme.ts";
import type { Over } from "./plot.ts";

export interface Fan {
  over: Over;
  /** Where it ends, ms. */
  until: number;
  lay: (data: Drawn) => Drawn;
}

/** Columns of `more` behind the six of the value; see `SeriesPlot`. */
const FIRST = 6;
const LINES = [...AHEAD, ...BEFORE];
const [LOW, MIDDLE, NINETY, HIGH, HIGHEST] = AHEAD.map((_, i) => FIRST + i) as [number, number, number, number, number];
const [WAS_LOW, , WAS_HIGH] = BEFORE.map((_, i) => FIRST + AHEAD.length + i) as [number, number, number];

/** A colour of the style sheet, thinner: `share` as two hex digits. */
const thin = (share: string): string => colour("ok") + share;

function looks(): { series: uPlot.Series[]; bands: uPlot.Band[] } {
  const line = (quantile: string, i: number): uPlot.Series => {
    const middle = quantile === "0.5";
    const was = i >= AHEAD.length;
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

function told(data: Drawn, row: number, unit: string): [string, string] | null {
  const cell = (column: number): number | null => data.more?.[column - FIRST]?.[row] ?? null;
  const ahead = cell(MIDDLE);
  if (ahead !== null) return ["forecast", words(ahead, cell(LOW), cell(HIGH), unit)];
  const was = cell(WAS_LOW + 1);
  return was === null ? null : ["earlier forecast", words(was, cell(WAS_LOW), cell(WAS_HIGH), unit)];
}

const words = (middle: number, low: number | null, high: number | null, unit: string): string =>
  `${value(middle, unit)} (${range(low, high, unit)})`;

const OVER: Over = { looks, told };

export function fanOf(ahead: Rows, before: Rows | null): Fan {
  return { over: OVER, until: ahead.time.at(-1) ?? 0, lay: (data) => laid(data, ahead, before) };
}
