/** Two aligned uPlot charts: the value with its expected range, and the score below. */

import uPlot from "uplot";
import { type ChartData, lowerBound, yLimits } from "../chart-data.ts";
import { axis, isBytes } from "../format.ts";
import { scoreShare } from "../components/icons.tsx";
import { colour } from "../theme.ts";

/** A time span to shade, ms. */
export interface Span {
  from: number;
  to: number;
}

export type Window = readonly [since: number, until: number];

/** An overlay on the value: the style of one line per column of `more`, and a description of a row. */
export interface ChartOverlay {
  style: () => { series: uPlot.Series[]; bands: uPlot.Band[] };
  describe: (data: ChartData, row: number, unit: string) => [name: string, words: string] | null;
}

export interface PlotOptions {
  unit: string;
  over: ChartOverlay | null;
  onCursor: (index: number | null) => void;
  onZoom: (window: Window) => void;
  onReset: () => void;
}

const AXIS_WIDTH = 66;
const STRIP_HEIGHT = 74;
const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
/** A shorter drag counts as a click. */
const SHORTEST_DRAG_PX = 6;
const SHOWN_SCORES = [0, 1, 4];
let plots = 0;

export class SeriesPlot {
  private readonly main: uPlot;
  private readonly strip: uPlot;
  private readonly watcher: ResizeObserver;
  private spans: Span[] = [];
  private data: ChartData;
  private window: Window;

  constructor(
    private readonly root: HTMLElement,
    data: ChartData,
    window: Window,
    private readonly options: PlotOptions,
  ) {
    this.data = data;
    this.window = window;
    plots += 1;
    const sync = `trimtab-${plots}`;
    this.main = new uPlot(this.mainOptions(sync), this.mainData(), root);
    this.strip = new uPlot(this.stripOptions(sync), this.stripData(), root);
    this.watcher = new ResizeObserver(() => this.resize());
    this.watcher.observe(root);
    root.addEventListener("mouseleave", () => options.onCursor(null));
  }

  show(data: ChartData, window: Window, spans: Span[]): void {
    this.data = data;
    this.window = window;
    this.spans = spans;
    for (const [plot, columns] of [
      [this.main, this.mainData()],
      [this.strip, this.stripData()],
    ] as const) {
      plot.batch(() => {
        plot.setData(columns, false);
        plot.setScale("x", { min: window[0], max: window[1] });
      });
    }
    this.options.onCursor(this.main.cursor.idx ?? null);
  }

  /** Move the cursor to a row. */
  point(index: number): void {
    const time = this.data.time[index];
    if (time === undefined) return;
    const left = this.main.valToPos(time, "x");
    this.main.setCursor({ left, top: this.main.over.clientHeight / 2 });
  }

  destroy(): void {
    this.watcher.disconnect();
    this.main.destroy();
    this.strip.destroy();
  }

  private mainData(): uPlot.AlignedData {
    const { time, value, yhat, yhat_lower, yhat_upper, more = [] } = this.data;
    const anomalous = time.map((t, i) => (this.spans.some((s) => t >= s.from && t <= s.to) ? (value[i] ?? null) : null));
    return [time, yhat_lower, yhat_upper, yhat, value, anomalous, ...more];
  }

  private stripData(): uPlot.AlignedData {
    const shares = this.data.anomaly_score.map((s) => (s === null ? null : scoreShare(s)));
    return [this.data.time, shares, shares.map((s) => (s === null ? null : Math.max(s, 0.5)))];
  }

  private resize(): void {
    const width = this.root.clientWidth;
    if (width === 0 || width === this.main.width) return;
    this.main.setSize({ width, height: this.mainHeight() });
    this.strip.setSize({ width, height: STRIP_HEIGHT });
  }

  private mainHeight(): number {
    return this.root.clientWidth < 600 ? 230 : 320;
  }

  /** Options of both charts: size, cursor and drag. */
  private common(sync: string): Pick<uPlot.Options, "width" | "ms" | "legend" | "cursor" | "padding"> {
    return {
      width: this.root.clientWidth,
      ms: 1,
      legend: { show: false },
      padding: [8, 8, 0, 0],
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false, dist: SHORTEST_DRAG_PX },
        sync: { key: sync, setSeries: false },
        points: { size: 7 },
        bind: {
          dblclick: () => () => {
            this.options.onReset();
            return null;
          },
        },
      },
    };
  }

  private hooks(): uPlot.Hooks.Arrays {
    return {
      drawClear: [(u) => this.shade(u)],
      setCursor: [(u) => this.options.onCursor(u.cursor.idx ?? null)],
      setSelect: [(u) => this.selected(u)],
    };
  }

  private selected(u: uPlot): void {
    const { left, width } = u.select;
    if (width < SHORTEST_DRAG_PX) return;
    const window: Window = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.options.onZoom(window);
  }

  private mainOptions(sync: string): uPlot.Options {
    const line = colour("line-value");
    const over = this.options.over?.style();
    return {
      ...this.common(sync),
      height: this.mainHeight(),
      hooks: this.hooks(),
      scales: {
        x: { time: true, range: () => [...this.window] },
        y: { range: () => this.visibleLimits() },
      },
      axes: [this.timeAxis(true), this.valueAxis()],
      series: [
        {},
        { stroke: colour("band-edge"), width: 1, points: { show: false } },
        { stroke: colour("band-edge"), width: 1, points: { show: false } },
        { stroke: colour("band-middle"), width: 1, dash: [4, 4], points: { show: false } },
        { stroke: line, width: 1.6, points: { show: this.sparse, size: 4, fill: line } },
        { stroke: colour("warm"), width: 2.2, points: { show: false } },
        ...(over?.series ?? []),
      ],
      bands: [{ series: [2, 1], fill: colour("band-fill") }, ...(over?.bands ?? [])],
    };
  }

  /** Return whether there are so few samples that dots are needed. */
  private readonly sparse = (): boolean => this.data.time.length < 20;

  private stripOptions(sync: string): uPlot.Options {
    return {
      ...this.common(sync),
      height: STRIP_HEIGHT,
      hooks: this.hooks(),
      scales: {
        x: { time: true, range: () => [...this.window] },
        y: { range: () => [0, 1] },
      },
      axes: [this.timeAxis(false), this.scoreAxis()],
      series: [
        {},
        { stroke: colour("score-line"), fill: colour("score-fill"), width: 1.2, points: { show: false } },
        { stroke: "transparent", fill: colour("warm-fill"), fillTo: 0.5, width: 1, points: { show: false } },
      ],
    };
  }

  private axisLook(): Pick<uPlot.Axis, "stroke" | "font" | "grid" | "ticks"> {
    return {
      stroke: colour("quiet"),
      font: FONT,
      grid: { stroke: colour("grid"), width: 1 },
      ticks: { show: false },
    };
  }

  private timeAxis(labelled: boolean): uPlot.Axis {
    return { ...this.axisLook(), size: labelled ? 26 : 4, values: labelled ? timeLabels : () => [], space: 70 };
  }

  private valueAxis(): uPlot.Axis {
    return {
      ...this.axisLook(),
      size: AXIS_WIDTH,
      space: 34,
      gap: 8,
      values: (_u, splits) => axis(splits, this.options.unit),
      ...(isBytes(this.options.unit) && { incrs: POWERS }),
    };
  }

  private scoreAxis(): uPlot.Axis {
    return {
      ...this.axisLook(),
      size: AXIS_WIDTH,
      gap: 8,
      splits: () => SHOWN_SCORES.map(scoreShare),
      values: () => SHOWN_SCORES.map(String),
    };
  }

  private visibleLimits(): [number, number] {
    const from = lowerBound(this.data.time, this.window[0]);
    const to = lowerBound(this.data.time, this.window[1] + 1);
    const cut = <T>(xs: T[]): T[] => xs.slice(from, to);
    const { value, yhat_lower, yhat_upper, more = [] } = this.data;
    const over = more.flatMap(cut);
    return yLimits({
      value: cut(value),
      yhat_lower: [...cut(yhat_lower), ...over],
      yhat_upper: [...cut(yhat_upper), ...over],
    });
  }

  /** Shade anomalies, and draw the threshold on the score chart. */
  private shade(u: uPlot): void {
    const { left, top, width, height } = u.bbox;
    const { ctx } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    for (const span of this.spans) {
      const from = u.valToPos(span.from, "x", true);
      const wide = Math.max(u.valToPos(span.to, "x", true) - from, 2);
      ctx.fillStyle = colour("span-fill");
      ctx.fillRect(from, top, wide, height);
      ctx.fillStyle = colour("warm");
      if (u === this.main) ctx.fillRect(from, top, wide, 2 * devicePixelRatio);
    }
    if (u === this.strip) this.threshold(u);
    ctx.restore();
  }

  private threshold(u: uPlot): void {
    const { ctx } = u;
    const y = u.valToPos(scoreShare(1), "y", true);
    ctx.strokeStyle = colour("warm");
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(u.bbox.left, y);
    ctx.lineTo(u.bbox.left + u.bbox.width, y);
    ctx.stroke();
  }
}

/** Axis steps for bytes. */
const POWERS = Array.from({ length: 54 }, (_, i) => 2 ** i);

const two = (n: number): string => String(n).padStart(2, "0");

/** Format the time axis: hours and minutes, seconds for short steps, the date where the day changes. */
function timeLabels(_u: uPlot, splits: number[]): string[] {
  const step = splits.length > 1 ? (splits[1] ?? 0) - (splits[0] ?? 0) : 60_000;
  let day = "";
  return splits.map((t) => {
    const at = new Date(t);
    const today = at.toDateString();
    const turned = day !== "" && today !== day;
    day = today;
    const date = `${at.getDate()} ${at.toLocaleString("en", { month: "short" })}`;
    if (step >= 86_400_000 || (turned && step >= 3_600_000)) return date;
    return `${two(at.getHours())}:${two(at.getMinutes())}${step < 60_000 ? `:${two(at.getSeconds())}` : ""}`;
  });
}
