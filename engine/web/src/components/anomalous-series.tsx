/** One open anomaly in a list, with the last hour of its series. */

import { useMemo } from "preact/hooks";
import { getScores } from "../api.ts";
import { parseScores, withGaps } from "../chart-data.ts";
import { value } from "../format.ts";
import { useLive } from "../hooks.ts";
import { href } from "../router.ts";
import type { Anomaly, Scores, Series } from "../types.ts";
import { unitOf } from "../units.ts";
import { deviationText, observedAtPeak, observedInSeries, metricOf, patternOf, deviationSide } from "../anomaly-text.ts";
import { DirectionGlyph, ScoreBar, Sparkline } from "./icons.tsx";
import { RelativeTime, SeriesName } from "./series-name.tsx";

const HOUR_MS = 3_600_000;
const ABSENT_AFTER_MS = 120_000;

interface AnomalousSeriesProps {
  anomaly: Anomaly;
  /** The current state of the series; undefined = not loaded. */
  series: Series | undefined;
}

export function AnomalousSeries({ anomaly, series }: AnomalousSeriesProps) {
  const { data } = useLive(
    `spark-${anomaly.series_id}`,
    (signal) => getScores(anomaly.series_id, Date.now() - HOUR_MS, null, 160, signal),
    10_000,
  );
  const unit = series?.unit ?? unitOf(anomaly);
  return (
    <li>
      <a class="row unusual-row" href={href(["anomalies", anomaly.id])}>
        <DirectionGlyph direction={anomaly.direction} open />
        <SeriesName metric={metricOf(anomaly.series)} labels={anomaly.labels} source={anomaly.source} />
        <LastHour scores={data} />
        <ValueText anomaly={anomaly} series={series} unit={unit} />
        <span class="since">
          <RelativeTime time={anomaly.start} />
        </span>
        <ScoreBar score={series?.anomaly_score ?? anomaly.score} />
      </a>
    </li>
  );
}

/** The current value if it is outside the expected range, else the worst value. */
function ValueText({ anomaly, series, unit }: AnomalousSeriesProps & { unit: string }) {
  const now = series ? observedInSeries(series) : null;
  if (anomaly.direction === "absent") {
    return <span class="standing">{deviationText(observedAtPeak(anomaly), unit, "absent")}</span>;
  }
  if (now && deviationSide(now) !== null) {
    return (
      <span class="standing">
        <b>{value(now.value, unit)}</b> {deviationText(now, unit)}
      </span>
    );
  }
  const pattern = patternOf(anomaly);
  if (pattern !== null) {
    return (
      <span class="standing">
        <b>{value(now?.value ?? anomaly.value, unit)}</b> strongest evidence for {pattern}; not anomalous on its own
      </span>
    );
  }
  return (
    <span class="standing">
      <b>{value(anomaly.value, unit)}</b> {deviationText(observedAtPeak(anomaly), unit, anomaly.direction)}
      {now && <span class="quiet"> at peak, now {value(now.value, unit)}</span>}
    </span>
  );
}

/** The time axis ends at the last sample if the series is absent, else at the current time. */
function LastHour({ scores }: { scores: Scores | null }) {
  const drawn = useMemo(() => (scores ? withGaps(parseScores(scores)) : null), [scores]);
  if (!drawn) return <span class="spark" />;
  const last = drawn.time.at(-1) ?? 0;
  const until = Date.now() - last < ABSENT_AFTER_MS ? last : Date.now();
  const since = Math.max(until - HOUR_MS, Math.min(drawn.time[0] ?? until, until - 300_000));
  return <Sparkline data={drawn} since={since} until={until} label="Last hour with expected range" />;
}
