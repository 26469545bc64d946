/** One series: value, expected range, forecast and anomalies over a time range. */

import type { ComponentType } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { getAnomalies, getSeries } from "../api.ts";
import { Chart, zoomed } from "../chart/chart.tsx";
import type { Fan } from "../chart/fan.ts";
import type { Window } from "../chart/plot.ts";
import { type TimeRange, useScores, windowOf } from "../chart/scores.ts";
import { value } from "../format.ts";
import { useLive, useNow, moveRowFocus } from "../hooks.ts";
import { actionsEnabled } from "../incidents-api.ts";
import type { ForecastPanelProps } from "../components/forecast-panel.tsx";
import { AnomalyRow } from "../components/anomaly-row.tsx";
import { DURATIONS, RANGES, Segmented } from "../components/controls.tsx";
import { ScoreBar } from "../components/icons.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { LearningTime, SeriesName } from "../components/series-name.tsx";
import { replaceQuery } from "../router.ts";
import { useShared } from "../shared-state.ts";
import type { Anomaly, Series } from "../types.ts";
import { deviationText, observedInSeries, detectorText, deviationSide } from "../anomaly-text.ts";

const SHORTEST_ZOOM_MS = 10_000;

function zoomOf(text: string | undefined): Window | null {
  const [since, until] = (text ?? "").split("-").map(Number);
  return since && until && until > since ? [since, until] : null;
}

/** Zoom to a window that ends at the current time at the latest, or at `most`. */
export function zoomTo([since, until]: Window, most = 0): void {
  const middle = (since + until) / 2;
  const half = Math.max(until - since, SHORTEST_ZOOM_MS) / 2;
  replaceQuery({ zoom: `${Math.round(middle - half)}-${Math.round(Math.min(middle + half, Math.max(Date.now(), most)))}` });
}

export function resetZoom(): void {
  replaceQuery({ zoom: undefined });
}

export function SeriesDetailPage({ id, query }: { id: string; query: Record<string, string> }) {
  const series = useLive(`one-${id}`, (signal) => getSeries(id, signal));
  const anomalies = useLive(`anomalies-of-${id}`, (signal) => getAnomalies({ series_id: id, limit: 100 }, signal), 4000);
  if (!series.data) {
    return series.error ? <LoadError of={series} what="This series" /> : <LoadingRows rows={8} />;
  }
  const found = anomalies.data?.items ?? [];
  return (
    <>
      <nav class="crumbs" aria-label="Breadcrumb">
        <a href="#/series">Series</a>
      </nav>
      <Heading series={series.data} />
      <ChartPanel series={series.data} anomalies={found} query={query} />
      <AnomalyList anomalies={found} />
    </>
  );
}

function Heading({ series }: { series: Series }) {
  const where = observedInSeries(series);
  const out = deviationSide(where) !== null;
  const learning = series.anomaly_score === null && series.learning_s > 0;
  return (
    <header class="subject">
      <h1>
        <SeriesName metric={series.metric} labels={series.labels} source={series.source} />
      </h1>
      <p class="now">
        <b class={out ? "big out" : "big"}>{value(series.value, series.unit)}</b>
        <span>{learning ? <LearningTime seconds={series.learning_s} /> : deviationText(where, series.unit)}</span>
        {!learning && <ScoreBar score={series.anomaly_score} />}
        {series.detector && (
          <span class="quiet" title={detectorText(series.detector)}>
            detector: {series.detector}
          </span>
        )}
        {series.anomaly_id && (
          <a class="badge" href={`#/anomalies/${series.anomaly_id}`}>
            open anomaly
          </a>
        )}
      </p>
    </header>
  );
}

interface ChartPanelProps {
  series: Series;
  anomalies: Anomaly[];
  query: Record<string, string>;
}

function ChartPanel({ series, anomalies, query }: ChartPanelProps) {
  const range = query.range && DURATIONS[query.range] ? query.range : "1h";
  const zoom = zoomOf(query.zoom);
  const stretch: TimeRange = zoom ? { fixed: zoom } : { last: DURATIONS[range] ?? 3_600_000 };
  const scores = useScores(series.id, stretch);
  const [fan, setFan] = useState<Fan | null>(null);
  const drawn = useMemo(() => (scores.data && fan ? fan.addTo(scores.data) : scores.data), [scores.data, fan]);
  const window = scores.data ? withForecastWindow(windowOf(stretch, scores.data), stretch, fan) : null;
  const zoomHere = (to: Window): void => zoomTo(to, fan?.until);
  return (
    <section class="panel picture" aria-label="Chart">
      <div class="tools">
        <Segmented
          label="Time range"
          value={zoom ? "" : range}
          options={RANGES}
          onChange={(to) => replaceQuery({ range: to, zoom: undefined })}
        />
        {window && <ZoomButtons window={window} zoomed={zoom !== null} onZoom={zoomHere} />}
      </div>
      <LoadError of={scores} what="Scores" />
      {!scores.data && !scores.error && <LoadingRows rows={6} />}
      {scores.data?.time.length === 0 && (
        <Notice kind="wait" title="No samples in this time range">
          Choose a longer range, or check the source on the <a href="#/">overview</a>.
        </Notice>
      )}
      {drawn && window && scores.data && scores.data.time.length > 0 && (
        <Chart
          name={series.series}
          data={drawn}
          over={fan?.over ?? null}
          unit={series.unit}
          window={window}
          anomalies={anomalies}
          onZoom={zoomHere}
          onReset={resetZoom}
        />
      )}
      <LazyForecastPanel series={series} data={scores.data} onFan={setFan} />
    </section>
  );
}

/** Extend the window by forecast, up to half of the chosen range. */
function withForecastWindow([since, until]: Window, { last = 0 }: TimeRange, fan: Fan | null): Window {
  return [since, Math.max(until, Math.min(fan?.until ?? 0, until + last / 2))];
}

/** Load the forecast panel only if the engine can forecast. */
function LazyForecastPanel(props: ForecastPanelProps) {
  const enabled = useShared(actionsEnabled);
  const [Panel, setPanel] = useState<ComponentType<ForecastPanelProps> | null>(null);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    if (!enabled) return;
    import("../components/forecast-panel.tsx").then(
      (module) => setPanel(() => module.ForecastPanel),
      () => setFailed(true),
    );
  }, [enabled]);
  if (failed) return <p class="quiet">The forecast could not be loaded. Reload the page.</p>;
  return Panel && <Panel {...props} />;
}

interface ZoomProps {
  window: Window;
  zoomed: boolean;
  onZoom?: (to: Window) => void;
}

export function ZoomButtons({ window, zoomed: on, onZoom = zoomTo }: ZoomProps) {
  return (
    <span class="zoom">
      <span class="quiet hint">drag to zoom</span>
      <button type="button" class="button small" aria-label="Zoom out" onClick={() => onZoom(zoomed(window, 2))}>
        −
      </button>
      <button type="button" class="button small" aria-label="Zoom in" onClick={() => onZoom(zoomed(window, 0.5))}>
        +
      </button>
      <button type="button" class="button small" disabled={!on} onClick={resetZoom}>
        Reset
      </button>
    </span>
  );
}

function AnomalyList({ anomalies }: { anomalies: Anomaly[] }) {
  const now = useNow(10_000);
  return (
    <section class="panel" aria-labelledby="past-title">
      <div class="panel-head">
        <h2 id="past-title">Anomalies</h2>
      </div>
      {anomalies.length === 0 ? (
        <p class="quiet">No anomalies so far.</p>
      ) : (
        <ul class="rows" onKeyDown={moveRowFocus}>
          {anomalies.slice(0, 20).map((a) => (
            <AnomalyRow key={a.id} anomaly={a} now={now} />
          ))}
        </ul>
      )}
    </section>
  );
}
