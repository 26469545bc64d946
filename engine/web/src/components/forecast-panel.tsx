/** Forecast of a series below its chart, and the accuracy of earlier forecasts. */

import { useEffect, useMemo } from "preact/hooks";
import { modelText, forecastAccuracy, accuracyText, forecastRows, earlierForecastRows, historyConfidenceText } from "../forecast-overlay.ts";
import { type Fan, fanOf } from "../chart/fan.ts";
import type { ChartData } from "../chart-data.ts";
import { clock, exactTime, range, value } from "../format.ts";
import { type Loaded, useLive } from "../hooks.ts";
import { type Forecast, type EarlierForecast, getEarlierForecast, getForecast, getModels } from "../planning-api.ts";
import type { Page, Series } from "../types.ts";
import { RelativeTime } from "./series-name.tsx";
import "../styles/forecast-panel.css";

export interface ForecastPanelProps {
  series: Series;
  /** The chart data without the forecast; null = not loaded. */
  data: ChartData | null;
  onFan: (fan: Fan | null) => void;
}

export function ForecastPanel({ series, data, onFan }: ForecastPanelProps) {
  const found = useLive(`forecast-${series.id}`, (signal) => getForecast(series.id, signal), 15_000);
  const past = useLive(`before-${series.id}`, (signal) => getEarlierForecast(series.id, signal), 60_000);
  const forecast = found.data?.items[0] ?? null;
  const newest = past.data?.times.at(-1);
  const oldest = past.data?.times[0];
  const fan = useMemo(
    () => (forecast ? fanOf(forecastRows(forecast), past.data && newest ? earlierForecastRows(past.data) : null) : null),
    [series.id, forecast?.made, forecast?.model, forecast?.version, newest],
  );
  useEffect(() => {
    onFan(fan);
    return () => onFan(null);
  }, [fan]);
  if (!forecast) return <MissingForecast found={found} />;
  return (
    <div class="ahead">
      <Legend before={oldest !== undefined && Date.parse(oldest) <= Date.now()} />
      <ForecastText forecast={forecast} />
      {past.data && <AccuracyText before={past.data} forecast={forecast} data={data} />}
    </div>
  );
}

function Legend({ before }: { before: boolean }) {
  return (
    <p class="ahead-legend">
      <span>
        <i class="fan-line" /> forecast, median
      </span>
      <span>
        <i class="fan-half" /> up to 90 %
      </span>
      <span>
        <i class="fan-band" /> 5–95 %
      </span>
      <span>
        <i class="fan-top" /> up to 99 %
      </span>
      {before && (
        <span>
          <i class="fan-was" /> earlier forecast
        </span>
      )}
      <span>time zone: {zone()}</span>
    </p>
  );
}

/** Return the time zone of the browser: `Europe/Vienna (GMT+1)`. */
function zone(): string {
  const format = new Intl.DateTimeFormat("en", { timeZoneName: "short" });
  const short = format.formatToParts(new Date()).find((part) => part.type === "timeZoneName")?.value ?? "";
  const name = format.resolvedOptions().timeZone;
  return name === short ? name : `${name} (${short})`;
}

function ForecastText({ forecast: f }: { forecast: Forecast }) {
  const rows = forecastRows(f);
  const last = rows.time.length - 1;
  const hour = Math.min(last, Math.max(1, Math.round(3600 / f.step_s)));
  const made = Date.parse(f.made);
  const cell = (quantile: string, row: number): number | null => rows.values[quantile]?.[row] ?? null;
  const words = (row: number): string =>
    `${value(cell("0.5", row), f.unit)} (${range(cell("0.05", row), cell("0.95", row), f.unit)})`;
  return (
    <p>
      Expected at {clock(rows.time[hour] ?? made, Date.now(), false)}: <b>{words(hour)}</b>
      {last > hour && (
        <>
          , at {clock(rows.time[last] ?? made, Date.now(), false)}: <b>{words(last)}</b>
        </>
      )}
      . Ranges in brackets contain 90 % of outcomes.{" "}
      <span class="quiet">
        Made at <time title={exactTime(made)}>{clock(made, Date.now(), false)}</time> (<RelativeTime time={f.made} />) by{" "}
        <a href="#/models">{modelText(f)}</a>; {historyConfidenceText(f)}.
      </span>
    </p>
  );
}

function AccuracyText({ before, forecast, data }: { before: EarlierForecast; forecast: Forecast; data: ChartData | null }) {
  const found = data ? forecastAccuracy(data, earlierForecastRows(before), forecast.step_s * 1000) : null;
  return (
    <p class="quiet">
      {found
        ? accuracyText(found, before.lead_s, forecast.unit)
        : "Forecast accuracy appears once a forecast is an hour old and its time is in view."}
    </p>
  );
}

/** Explain why there is no forecast. */
function MissingForecast({ found }: { found: Loaded<Page<Forecast>> }) {
  const model = useLive("why-no-forecast", getModels, 30_000).data?.items[0];
  if (found.error) return found.error.status === 503 ? <p class="ahead quiet">{found.error.detail}</p> : null;
  if (!found.data || !model) return null;
  if (model.problem) return <p class="ahead quiet">No forecast: {model.problem}.</p>;
  return (
    <p class="ahead quiet">
      {model.made === null
        ? "No forecasts yet. The first ones appear a few minutes after the start and need half an hour of history."
        : "This series has no forecast. Only load series (requests, connections, busy time) and series named in schedulers.load.series are forecast, after half an hour of history."}
    </p>
  );
}
