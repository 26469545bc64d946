/** One anomaly: summary, chart, detectors, feedback and concurrent anomalies. */

import { getAnomalies, getAnomaly, getSeries } from "../api.ts";
import { Chart } from "../chart/chart.tsx";
import type { Window } from "../chart/plot.ts";
import { useScores } from "../chart/scores.ts";
import { score } from "../format.ts";
import { useLive, useNow, useRoute, moveRowFocus } from "../hooks.ts";
import { AnomalyRow } from "../components/anomaly-row.tsx";
import { FeedbackPanel } from "../components/feedback.tsx";
import { DirectionGlyph, ScoreBar } from "../components/icons.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { RelativeTime, SeriesName } from "../components/series-name.tsx";
import { href } from "../router.ts";
import type { Anomaly } from "../types.ts";
import { unitOf } from "../units.ts";
import { detectorText, anomalyDurationS, metricOf, anomalySummary } from "../anomaly-text.ts";
import { ZoomButtons, resetZoom, zoomTo } from "./series-detail.tsx";

const BEFORE_MS = 20 * 60_000;
const AFTER_MS = 10 * 60_000;
const CONCURRENT_MS = 5 * 60_000;
/** The window of an open anomaly advances in these steps, so that the chart does not redraw constantly. */
const STEP_MS = 5000;

/** Return a window around the anomaly with enough normal samples to compare. */
function around(a: Anomaly, now: number): Window {
  const length = anomalyDurationS(a, now) * 1000;
  const end = a.end === null ? now : Date.parse(a.end);
  const until = Math.min(now, end + Math.max(AFTER_MS, length / 2));
  const since = Date.parse(a.start) - Math.max(BEFORE_MS, length);
  return [since, Math.ceil(until / STEP_MS) * STEP_MS];
}

export function AnomalyPage({ id }: { id: string }) {
  const found = useLive(`anomaly-${id}`, (signal) => getAnomaly(id, signal));
  const now = useNow(5000);
  const a = found.data;
  if (!a) {
    return found.error ? <LoadError of={found} what="This anomaly" /> : <LoadingRows rows={8} />;
  }
  return (
    <>
      <nav class="crumbs" aria-label="Breadcrumb">
        <a href="#/anomalies">Anomalies</a>
      </nav>
      <AnomalyHeader anomaly={a} now={now} />
      <div class="aside">
        <FeedbackPanel anomaly={a} onGiven={found.reload} />
        <Detectors anomaly={a} />
      </div>
      <ConcurrentAnomalies anomaly={a} now={now} />
    </>
  );
}

function AnomalyHeader({ anomaly: a, now }: { anomaly: Anomaly; now: number }) {
  const series = useLive(`one-${a.series_id}`, (signal) => getSeries(a.series_id, signal), 10_000);
  const unit = series.data?.unit ?? unitOf(a);
  return (
    <>
      <header class="subject">
        <h1>
          <DirectionGlyph direction={a.direction} open={a.end === null} />
          <SeriesName metric={metricOf(a.series)} labels={a.labels} source={a.source} />
        </h1>
        <p class="now">
          <span class={a.end === null ? "badge" : "badge over"}>
            {a.end === null ? "ongoing" : "ended"}, started <RelativeTime time={a.start} />
          </span>
          <ScoreBar score={a.score} bare />
          <span class="quiet">peak score {score(a.score)}</span>
          <a class="button small" href={href(["series", a.series_id])}>
            Open series
          </a>
        </p>
        <p class="story">{anomalySummary(a, unit, now)}</p>
      </header>
      <ChartPanel anomaly={a} unit={unit} now={now} />
    </>
  );
}

function ChartPanel({ anomaly: a, unit, now }: { anomaly: Anomaly; unit: string; now: number }) {
  const { query } = useRoute();
  const [since, until] = (query.zoom ?? "").split("-").map(Number);
  const zoom: Window | null = since && until ? [since, until] : null;
  const window = zoom ?? around(a, now);
  const scores = useScores(a.series_id, { fixed: window });
  const near = useLive(
    `near-${a.series_id}`,
    (signal) => getAnomalies({ series_id: a.series_id, limit: 100 }, signal),
    5000,
  );
  const anomalies = near.data?.items ?? [a];
  return (
    <section class="panel picture" aria-label="Chart">
      <div class="tools">
        <span class="quiet">the anomaly and the samples around it</span>
        <ZoomButtons window={window} zoomed={zoom !== null} />
      </div>
      <LoadError of={scores} what="Scores" />
      {!scores.data && !scores.error && <LoadingRows rows={6} />}
      {scores.data?.time.length === 0 && (
        <Notice kind="calm" title="Samples are no longer stored">
          Scores are kept for the <code>retention</code> period in trimtab.yaml.
        </Notice>
      )}
      {scores.data && scores.data.time.length > 0 && (
        <Chart
          name={a.series}
          data={scores.data}
          unit={unit}
          window={window}
          anomalies={anomalies}
          onZoom={zoomTo}
          onReset={resetZoom}
        />
      )}
    </section>
  );
}

function Detectors({ anomaly }: { anomaly: Anomaly }) {
  return (
    <section class="panel" aria-labelledby="detectors-title">
      <div class="panel-head">
        <h2 id="detectors-title">Detectors</h2>
        <span class="quiet">strongest first</span>
      </div>
      {anomaly.detectors.length === 0 && <p class="quiet">No detector recorded.</p>}
      <ol class="detectors">
        {anomaly.detectors.map((name) => (
          <li key={name}>
            <b>{name}</b> <span class="quiet">{detectorText(name)}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** Anomalies that started at about the same time: one cause often affects several series. */
function ConcurrentAnomalies({ anomaly, now }: { anomaly: Anomaly; now: number }) {
  const start = Date.parse(anomaly.start);
  const query = {
    since: new Date(start - CONCURRENT_MS).toISOString(),
    until: new Date(start + CONCURRENT_MS).toISOString(),
    limit: 50,
  };
  const { data } = useLive(`together-${anomaly.id}`, (signal) => getAnomalies(query, signal), 10_000);
  const near = (a: Anomaly): boolean => Math.abs(Date.parse(a.start) - start) <= CONCURRENT_MS;
  const others = data?.items.filter((a) => a.id !== anomaly.id && near(a)) ?? [];
  if (others.length === 0) return null;
  return (
    <section class="panel" aria-labelledby="together-title">
      <div class="panel-head">
        <h2 id="together-title">Concurrent anomalies</h2>
        <span class="quiet">started within 5 min</span>
      </div>
      <ul class="rows" onKeyDown={moveRowFocus}>
        {others.slice(0, 10).map((a) => (
          <AnomalyRow key={a.id} anomaly={a} now={now} />
        ))}
      </ul>
    </section>
  );
}
