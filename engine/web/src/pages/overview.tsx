/** Overview: open anomalies and incidents, heatmap, sources, engine, series by score. */

import { getAnomalies, getSeriesPage, getStatus } from "../api.ts";
import { count, plural } from "../format.ts";
import { useLive, useNow, moveRowFocus } from "../hooks.ts";
import { actionsEnabled, getIncidents } from "../incidents-api.ts";
import { openAnomaliesText } from "../components/announcer.tsx";
import { EngineStatus } from "../components/engine-status.tsx";
import { IncidentRow } from "../components/incident-row.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { RelativeTime } from "../components/series-name.tsx";
import { SeriesHead, SeriesRow } from "../components/series-row.tsx";
import { Sources } from "../components/sources.tsx";
import { AnomalousSeries } from "../components/anomalous-series.tsx";
import { SeriesHeatmap } from "../components/series-heatmap.tsx";
import { useShared } from "../shared-state.ts";
import type { Anomaly, Page, Series, Status } from "../types.ts";

const SHOWN = 8;
const LISTED = 12;

export function OverviewPage() {
  const status = useLive("status", getStatus);
  const open = useLive("open", (signal) => getAnomalies({ open: true, limit: 50 }, signal));
  const top = useLive("top", (signal) => getSeriesPage({ sort: "score", limit: 40 }, signal));
  if (!status.data) {
    return status.error ? <LoadError of={status} what="The overview" /> : <LoadingRows rows={8} />;
  }
  return (
    <>
      <Headline status={status.data} open={open.data} />
      <Counts status={status.data} open={open.data} />
      <OpenIncidents />
      <LoadError of={open} what="Anomalies" />
      <OpenAnomalies open={open.data?.items ?? []} series={top.data?.items ?? []} more={Boolean(open.data?.next)} />
      <SeriesHeatmap />
      <div class="two">
        <Sources sources={status.data.sources} />
        <EngineStatus status={status.data} />
      </div>
      <LoadError of={top} what="Series" />
      <TopSeries page={top.data} status={status.data} />
    </>
  );
}

function Headline({ status, open }: { status: Status; open: Page<Anomaly> | null }) {
  const unknown = status.sources.filter((s) => s.state === "unknown");
  if (!status.ready) {
    return <h1 class="headline wait">Starting{status.waiting_for && `: ${status.waiting_for}`}</h1>;
  }
  if (!open) return <h1 class="headline">Loading…</h1>;
  const n = open.items.length;
  const scored = Number(status.engine.scored ?? 0);
  if (n > 0) return <h1 class="headline unusual">{open.next ? `More than ${openAnomaliesText(n)}` : openAnomaliesText(n)}</h1>;
  if (scored === 0) return <h1 class="headline wait">Learning normal behaviour</h1>;
  if (unknown.length > 0) {
    return <h1 class="headline wait">No open anomalies; {plural(unknown.length, "source", "sources")} unavailable</h1>;
  }
  return <h1 class="headline calm">No open anomalies</h1>;
}

function Counts({ status, open }: { status: Status; open: Page<Anomaly> | null }) {
  const { engine } = status;
  const anomalous = open ? open.items.length : Number(engine.anomalies_open ?? 0);
  const facts: [string, string, string, boolean][] = [
    ["series", count(engine.series), "#/series", false],
    ["scored", count(engine.scored), "#/series", false],
    ["learning", count(engine.learning), "#/series?sort=name", false],
    ["anomalous", `${count(anomalous)}${open?.next ? "+" : ""}`, "#/anomalies?open=1", anomalous > 0],
  ];
  return (
    <ul class="counts">
      {facts.map(([name, figure, to, warm]) => (
        <li key={name} class={warm ? "warm" : ""}>
          <a href={to}>
            <b>{figure}</b> {name}
          </a>
        </li>
      ))}
    </ul>
  );
}

/** Open incidents, above the anomalies that belong to them. */
function OpenIncidents() {
  return useShared(actionsEnabled) ? <IncidentsNow /> : null;
}

function IncidentsNow() {
  const now = useNow(5000);
  const found = useLive("open-incidents", (signal) => getIncidents({ open: true, limit: 20 }, signal));
  const items = found.data?.items.filter((incident) => incident.state !== "resolved") ?? [];
  const rows = [...items].sort((a, b) => (b.severity ?? 0) - (a.severity ?? 0));
  return (
    <>
      <LoadError of={found} what="Incidents" />
      {rows.length > 0 && (
        <section class="panel warm" aria-labelledby="incidents-title">
          <div class="panel-head">
            <h2 id="incidents-title">{plural(rows.length, "open incident", "open incidents")}</h2>
            <a href="#/incidents">All incidents</a>
          </div>
          <ul class="rows" onKeyDown={moveRowFocus}>
            {rows.slice(0, SHOWN).map((incident) => (
              <IncidentRow key={incident.id} incident={incident} now={now} />
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function OpenAnomalies({ open, series, more }: { open: Anomaly[]; series: Series[]; more: boolean }) {
  const last = useLive("last-anomaly", (signal) => getAnomalies({ limit: 1 }, signal), 15_000);
  if (open.length === 0) return <LastAnomaly last={last.data?.items[0]} />;
  const bySeries = new Map(series.map((s) => [s.id, s]));
  const score = (a: Anomaly): number => bySeries.get(a.series_id)?.anomaly_score ?? a.score ?? 0;
  const rows = [...open].sort((a, b) => score(b) - score(a)).slice(0, SHOWN);
  const left = open.length - rows.length;
  return (
    <section class="panel warm" aria-label="Open anomalies">
      <ul class="rows" onKeyDown={moveRowFocus}>
        {rows.map((a) => (
          <AnomalousSeries key={a.id} anomaly={a} series={bySeries.get(a.series_id)} />
        ))}
      </ul>
      {left > 0 && (
        <p class="more">
          <a href="#/anomalies?open=1">
            {more ? "Many" : count(left)} more open anomalies
          </a>
        </p>
      )}
    </section>
  );
}

function LastAnomaly({ last }: { last: Anomaly | undefined }) {
  if (!last) return null;
  return (
    <p class="calm-line">
      The last anomaly, <a href={`#/anomalies/${last.id}`}>{last.series}</a>, {last.end ? "ended " : "began "}
      <RelativeTime time={last.end ?? last.start} />.
    </p>
  );
}

function TopSeries({ page, status }: { page: Page<Series> | null; status: Status }) {
  if (!page) return <LoadingRows />;
  const total = page.total ?? page.items.length;
  return (
    <section class="panel" aria-labelledby="top-title">
      <div class="panel-head">
        <h2 id="top-title">Series by score</h2>
        <a href="#/series">{total > LISTED ? `All ${count(total)}` : "Explore"}</a>
      </div>
      {page.items.length === 0 ? (
        <Notice kind="wait" title="No series yet">
          {status.ready
            ? "No source has delivered a sample. See Sources above for the reason."
            : "The first samples arrive within one interval of the source."}
        </Notice>
      ) : (
        <>
          <SeriesHead />
          <ul class="rows" onKeyDown={moveRowFocus}>
            {page.items.slice(0, LISTED).map((s) => (
              <SeriesRow key={s.id} series={s} withSource />
            ))}
          </ul>
        </>
      )}
    </section>
  );
}
