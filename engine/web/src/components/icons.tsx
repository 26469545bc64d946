/** Small inline charts and icons. Each also has a text for screen readers. */

import { extent } from "../chart-data.ts";
import type { ChartData } from "../chart-data.ts";
import { score as scoreText } from "../format.ts";
import type { Direction } from "../types.ts";
import { type ObservedValue, deviationSide } from "../anomaly-text.ts";

export function Logo() {
  return (
    <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
      <rect width="32" height="32" rx="7" class="mark-ground" />
      <path d="M6 19.500c3.4 0 3.6-7 7-7s3.6 7 7 7 3.4-3.2 6-3.2" class="mark-line" />
      <circle cx="13" cy="8" r="2.4" class="mark-dot" />
    </svg>
  );
}

/** Return the bar length 0..1 of a score: the threshold 1 is in the middle, higher scores approach 1. */
export function scoreShare(score: number): number {
  if (score <= 1) return Math.max(0, score) / 2;
  return 1 - 0.5 / score;
}

/** Score as a bar and a number; `bare` omits the number. */
export function ScoreBar({ score, bare = false }: { score: number | null; bare?: boolean }) {
  const anomalous = score !== null && score > 1;
  const width = score === null ? 0 : scoreShare(score) * 72;
  return (
    <span class={`score${anomalous ? " unusual" : ""}`} title="Above 1 is rarer than the false-alarm budget allows">
      <svg viewBox="0 0 72 10" width="72" height="10" aria-hidden="true">
        <rect x="0" y="3" width="72" height="4" rx="2" class="score-track" />
        {width > 0 && <rect x="0" y="3" width={Math.max(width, 3)} height="4" rx="2" class="score-fill" />}
        <path d="M36 0v10" class="score-limit" />
      </svg>
      {!bare && <span class="score-number">{scoreText(score)}</span>}
      <span class="only-heard">score</span>
    </span>
  );
}

const GLYPH = { width: 64, from: 18, to: 46 };

/** Position of the value in its expected range, which takes the middle; far values are at the edge. */
export function BandGlyph({ against }: { against: ObservedValue }) {
  const { value, lower, upper } = against;
  const known = value !== null && lower !== null && upper !== null;
  const where = deviationSide(against);
  return (
    <svg class={`band-glyph${where ? " out" : ""}`} viewBox="0 0 64 12" width="64" height="12" aria-hidden="true">
      <path d="M2 6h60" class="band-axis" />
      {known && <rect x={GLYPH.from} y="2" width={GLYPH.to - GLYPH.from} height="8" rx="2" class="band-range" />}
      {known && <circle cx={bandPosition(value, lower, upper)} cy="6" r="3.2" class="band-dot" />}
    </svg>
  );
}

export function bandPosition(value: number, lower: number, upper: number): number {
  const width = GLYPH.to - GLYPH.from;
  const share = upper > lower ? (value - lower) / (upper - lower) : value > upper ? 2 : value < lower ? -1 : 0.5;
  return Math.min(GLYPH.width - 4, Math.max(4, GLYPH.from + share * width));
}

const ARROWS: Record<Direction, string> = {
  above: "M8 3l5.5 9.500H2.500z",
  below: "M8 13L2.5 3.500h11z",
  absent: "M3.5 3.500l9 9m0-9l-9 9",
};

/** Direction of an anomaly as a shape with text, not by colour alone. */
export function DirectionGlyph({ direction, open }: { direction: Direction; open: boolean }) {
  const text = `${direction === "absent" ? "absent" : `${direction} expected`}, ${open ? "ongoing" : "ended"}`;
  return (
    <svg class={`direction ${direction} ${open ? "open" : "over"}`} viewBox="0 0 16 16" width="16" height="16" role="img" aria-label={text}>
      <title>{text}</title>
      <path d={ARROWS[direction]} />
    </svg>
  );
}

const SPARK = { width: 160, height: 36, pad: 3 };

/** Return the SVG path of a line; null values leave gaps. */
function linePath(xs: number[], ys: (number | null)[]): string {
  let pen = "M";
  let path = "";
  xs.forEach((x, i) => {
    const y = ys[i];
    if (y === null || y === undefined) {
      pen = "M";
      return;
    }
    path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  });
  return path;
}

function areaPath(xs: number[], low: (number | null)[], high: (number | null)[]): string {
  const known = xs.map((_, i) => i).filter((i) => typeof low[i] === "number" && typeof high[i] === "number");
  if (known.length < 2) return "";
  const at = (i: number, ys: (number | null)[]): string => `${xs[i]?.toFixed(1)} ${ys[i]?.toFixed(1)}`;
  return `M${known.map((i) => at(i, high)).join("L")}L${known.reverse().map((i) => at(i, low)).join("L")}Z`;
}

/** Sparkline with expected range; `since` and `until` are the ends of the axis, ms. */
export function Sparkline({ data, since, until, label }: { data: ChartData; since: number; until: number; label: string }) {
  const valueRange = extent(data.value);
  if (!valueRange) return <span class="spark-empty">no samples yet</span>;
  const room = Math.max(valueRange[1] - valueRange[0], Math.abs(valueRange[1]) * 0.05, 1e-12);
  const band = [extent(data.yhat_lower)?.[0] ?? valueRange[0], extent(data.yhat_upper)?.[1] ?? valueRange[1]] as const;
  const low = Math.min(valueRange[0], Math.max(band[0], valueRange[0] - room));
  const high = Math.max(valueRange[1], Math.min(band[1], valueRange[1] + room));
  const inner = SPARK.height - 2 * SPARK.pad;
  const scale = high > low ? inner / (high - low) : 0;
  const y = (v: number | null): number | null => {
    if (v === null) return null;
    return scale === 0 ? SPARK.height / 2 : Math.min(SPARK.height, Math.max(0, SPARK.height - SPARK.pad - (v - low) * scale));
  };
  const xs = data.time.map((t) => ((t - since) / (until - since)) * (SPARK.width - 4));
  const values = data.value.map(y);
  const last = values.at(-1);
  return (
    <svg class="spark" viewBox={`0 0 ${SPARK.width} ${SPARK.height}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <path d={areaPath(xs, data.yhat_lower.map(y), data.yhat_upper.map(y))} class="spark-band" />
      <path d={linePath(xs, values)} class="spark-line" />
      {typeof last === "number" && <path d={`M${xs.at(-1)?.toFixed(1)} ${last.toFixed(1)}h.01`} class="spark-dot" />}
    </svg>
  );
}

/** A small line chart without axes, for metrics of the engine. */
export function MiniChart({ numbers }: { numbers: number[] }) {
  const valueRange = extent(numbers);
  if (!valueRange || numbers.length < 2) return <svg class="trace" viewBox="0 0 80 20" aria-hidden="true" />;
  const top = Math.max(valueRange[1], 1e-12);
  const xs = numbers.map((_, i) => 80 - (numbers.length - 1 - i) * (80 / 59));
  const ys = numbers.map((n) => 18 - (Math.max(0, n) / top) * 16);
  return (
    <svg class="trace" viewBox="0 0 80 20" preserveAspectRatio="none" aria-hidden="true">
      <path d={linePath(xs, ys)} />
    </svg>
  );
}
