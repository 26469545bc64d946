/** Forecast load compared with the current capacity and that of the wanted count. */

import { useEffect, useRef, useState } from "preact/hooks";
import { axis, value } from "../format.ts";
import type { LoadPath } from "../planning-api.ts";

interface LoadChartProps {
  path: LoadPath;
  unit: string;
  load: number | null;
  /** Capacity of the ready count and of the wanted count, in the unit of the load; null = unknown. */
  currentCapacity: number | null;
  wantedCapacity: number | null;
}

const H = 230;
const LEFT = 78;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 30;
const TICKS = 4;

export function LoadChart({ path, unit, load, currentCapacity, wantedCapacity }: LoadChartProps) {
  const root = useRef<HTMLElement>(null);
  const W = useWidth(root);
  const rows = withNow(path, load);
  const end = Math.max(...rows.map((row) => row.at), 1);
  const most = Math.max(...rows.map((row) => row.high), currentCapacity ?? 0, wantedCapacity ?? 0);
  const top = niceTop(most);
  const x = (at: number): number => LEFT + (at / end) * (W - LEFT - RIGHT);
  const y = (v: number): number => H - BOTTOM - (v / top) * (H - TOP - BOTTOM);
  const splits = Array.from({ length: TICKS + 1 }, (_, i) => (top * i) / TICKS);
  const labels = axis(splits, unit);
  const line = (of: "likely" | "high"): string => rows.map((row) => `${x(row.at).toFixed(1)} ${y(row[of]).toFixed(1)}`).join("L");
  const back = [...rows].reverse().map((row) => `${x(row.at).toFixed(1)} ${y(row.likely).toFixed(1)}`);
  const level = (v: number): string => `M${LEFT} ${y(v).toFixed(1)}H${W - RIGHT}`;
  return (
    <figure class="load-picture" ref={root}>
      <svg viewBox={`0 0 ${W} ${H}`} width={W} height={H} role="img" aria-label={describeChart(path, unit, currentCapacity, wantedCapacity)}>
        {splits.map((v, i) => (
          <g key={v}>
            <path d={level(v)} class="grid" />
            <text x={LEFT - 8} y={y(v) + 4} text-anchor="end">
              {labels[i]}
            </text>
          </g>
        ))}
        {timeSplits(end).map((at) => (
          <text key={at} x={x(at)} y={H - 10} text-anchor={at === 0 ? "start" : at === end ? "end" : "middle"}>
            {at === 0 ? "now" : `in ${value(at, "s")}`}
          </text>
        ))}
        <path d={`M${line("high")}L${back.join("L")}Z`} class="fan-fill" />
        <path d={`M${line("high")}`} class="fan-high" />
        <path d={`M${line("likely")}`} class="fan-middle" />
        {currentCapacity !== null && <path d={level(currentCapacity)} class="has" />}
        {wantedCapacity !== null && <path d={level(wantedCapacity)} class="wants" />}
      </svg>
      <figcaption class="picture-legend">
        <span>
          <i class="fan-middle" /> expected load
        </span>
        <span>
          <i class="fan-high" /> exceeded with probability {value(path.risk, "ratio")}
        </span>
        <span>
          <i class="has" /> current capacity {value(currentCapacity, unit)}
        </span>
        <span>
          <i class="wants" /> capacity of the wanted count {value(wantedCapacity, unit)}
        </span>
      </figcaption>
    </figure>
  );
}

/** Return the width of an element in pixels, so that the text keeps its size. */
function useWidth(of: { current: HTMLElement | null }): number {
  const [width, setWidth] = useState(560);
  useEffect(() => {
    const measure = (): void => setWidth(Math.max(240, of.current?.clientWidth ?? 560));
    measure();
    const watcher = new ResizeObserver(measure);
    if (of.current) watcher.observe(of.current);
    return () => watcher.disconnect();
  }, []);
  return width;
}

interface Row {
  at: number;
  likely: number;
  high: number;
}

/** Prepend the current load to the path if it is known. */
function withNow(path: LoadPath, load: number | null): Row[] {
  const rows = path.ahead_s.map((at, i) => ({ at, likely: path.likely[i] ?? 0, high: path.high[i] ?? 0 }));
  return load === null || rows[0]?.at === 0 ? rows : [{ at: 0, likely: load, high: load }, ...rows];
}

/** Return a round number slightly above `most`, so that four axis ticks are round. */
function niceTop(most: number): number {
  const power = 10 ** Math.floor(Math.log10(most || 1));
  return ([1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10].find((step) => step * power >= most * 1.04) ?? 12) * power;
}

/** Axis ticks: now, middle and end, in seconds. */
const timeSplits = (end: number): number[] => [0, end / 2, end];

function describeChart(path: LoadPath, unit: string, currentCapacity: number | null, wantedCapacity: number | null): string {
  const last = path.high.at(-1) ?? null;
  return (
    `In ${value(path.ahead_s.at(-1), "s")} the expected load is ${value(path.likely.at(-1), unit)}; it exceeds ${value(last, unit)} ` +
    `with probability ${value(path.risk, "ratio")}. Current capacity ${value(currentCapacity, unit)}, capacity of the wanted count ${value(wantedCapacity, unit)}.`
  );
}
