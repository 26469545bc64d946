/** Scores of one series over a time range: loaded once, then only new rows. */

import { useMemo, useRef } from "preact/hooks";
import { getScores } from "../api.ts";
import { type ChartData, appendRows, parseScores, withGaps } from "../chart-data.ts";
import { type Loaded, useLive } from "../hooks.ts";
import type { Window } from "./plot.ts";

const POINTS = 1200;
/** After this many appended rows everything is loaded again: old rows are downsampled, new ones are not. */
const MOST_APPENDED = 600;
/** Tolerance for clock differences between browser and engine. */
const AHEAD_MS = 60_000;
const STEADY_MS = 15_000;
const SHORTEST_MS = 120_000;

export interface TimeRange {
  /** Length of a range that ends now, ms. */
  last?: number;
  /** Or a fixed window. */
  fixed?: Window;
}

interface ScoreCache {
  key: string;
  data: ChartData;
  loadedRows: number;
}

async function refreshed(id: string, last: number, cache: ScoreCache | null, key: string, signal: AbortSignal): Promise<ScoreCache> {
  const since = Date.now() - last;
  const newest = cache?.data.time.at(-1);
  if (cache?.key === key && newest !== undefined && cache.data.time.length < cache.loadedRows + MOST_APPENDED) {
    const until = Math.max(Date.now(), newest) + AHEAD_MS;
    const more = parseScores(await getScores(id, newest + 1, until, POINTS, signal));
    return { ...cache, data: appendRows(cache.data, more, since) };
  }
  const data = parseScores(await getScores(id, since, null, POINTS, signal));
  return { key, data, loadedRows: data.time.length };
}

/** Load chart data, with gaps where nothing is known. */
export function useScores(id: string, stretch: TimeRange): Loaded<ChartData> {
  const cache = useRef<ScoreCache | null>(null);
  const { fixed, last = 3_600_000 } = stretch;
  const key = `scores-${id} ${fixed ? fixed.join("-") : last}`;
  const loaded = useLive(
    key,
    async (signal) => {
      if (fixed) return parseScores(await getScores(id, fixed[0], fixed[1], POINTS, signal));
      cache.current = await refreshed(id, last, cache.current, key, signal);
      return cache.current.data;
    },
    fixed ? STEADY_MS : 2000,
  );
  const data = useMemo(() => (loaded.data ? withGaps(loaded.data) : null), [loaded.data]);
  return { ...loaded, data };
}

/** Return the window to show: the chosen range without empty time before the first sample. */
export function windowOf(stretch: TimeRange, data: ChartData): Window {
  if (stretch.fixed) return stretch.fixed;
  const until = data.time.at(-1) ?? Date.now();
  const known = until - (data.time[0] ?? until);
  const width = Math.max(Math.min(stretch.last ?? 0, known), SHORTEST_MS);
  return [until - width, until];
}
