/** One anomaly in a list, and a timeline of many. */

import { duration } from "../format.ts";
import { href } from "../router.ts";
import type { Anomaly } from "../types.ts";
import { unitOf } from "../units.ts";
import { deviationText, observedAtPeak, anomalyDurationS, metricOf } from "../anomaly-text.ts";
import { DirectionGlyph, ScoreBar } from "./icons.tsx";
import { ClockTime, SeriesName } from "./series-name.tsx";

export function AnomalyRow({ anomaly, now }: { anomaly: Anomaly; now: number }) {
  const open = anomaly.end === null;
  return (
    <li>
      <a class={`row anomaly-row${open ? " unusual" : " over"}`} href={href(["anomalies", anomaly.id])}>
        <DirectionGlyph direction={anomaly.direction} open={open} />
        <SeriesName metric={metricOf(anomaly.series)} labels={anomaly.labels} source={anomaly.source} />
        <span class="standing">{deviationText(observedAtPeak(anomaly), unitOf(anomaly), anomaly.direction)}</span>
        <span class="when">
          <ClockTime time={anomaly.start} />
          <span class="quiet">
            {open ? "ongoing, " : ""}
            {duration(anomalyDurationS(anomaly, now))}
          </span>
        </span>
        <ScoreBar score={anomaly.score} />
      </a>
    </li>
  );
}

const LANES = 6;
const LANE = 7;

/** Assign anomalies to lanes without overlap, as far as there are lanes. */
function lanes(anomalies: Anomaly[], until: number): number[] {
  const free: number[] = Array<number>(LANES).fill(-Infinity);
  const order = anomalies.map((a, i) => [Date.parse(a.start), i] as const).sort((a, b) => a[0] - b[0]);
  const out: number[] = [];
  for (const [start, i] of order) {
    const end = anomalies[i]?.end;
    const open = free.findIndex((t) => t <= start);
    const lane = open < 0 ? LANES - 1 : open;
    out[i] = lane;
    free[lane] = Math.max(free[lane] ?? 0, end ? Date.parse(end) : until);
  }
  return out;
}

/** Timeline of anomalies; those above each other overlap in time. */
export function Timeline({ anomalies, since, until }: { anomalies: Anomaly[]; since: number; until: number }) {
  const width = 1000;
  const x = (t: number): number => ((Math.max(t, since) - since) / (until - since)) * width;
  const lane = lanes(anomalies, until);
  const height = LANE * (Math.max(-1, ...lane) + 1) + 4;
  return (
    <svg
      class="timeline"
      viewBox={`0 0 ${width} ${height}`}
      height={height * 1.6}
      preserveAspectRatio="none"
      role="img"
      aria-label={`Timeline of ${anomalies.length} anomalies`}
    >
      {anomalies.map((a, i) => {
        const from = x(Date.parse(a.start));
        const to = x(a.end === null ? until : Date.parse(a.end));
        return (
          <a key={a.id} href={href(["anomalies", a.id])} tabIndex={-1}>
            <title>{a.series}</title>
            <rect
              class={a.end === null ? "open" : "over"}
              x={Math.min(from, width - 3)}
              y={2 + (lane[i] ?? 0) * LANE}
              width={Math.max(3, to - from)}
              height={LANE - 2}
              rx="1"
            />
          </a>
        );
      })}
    </svg>
  );
}
