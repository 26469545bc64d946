/** Suspected root causes of an incident: a list with sparklines, and the chart of the selected one. */

import { useMemo, useState } from "preact/hooks";
import { getAnomalies, getScores, getSeries } from "../api.ts";
import { Chart } from "../chart/chart.tsx";
import type { Window } from "../chart/plot.ts";
import { useScores } from "../chart/scores.ts";
import { parseScores, withGaps } from "../chart-data.ts";
import { count, score } from "../format.ts";
import { useLive, useRoute } from "../hooks.ts";
import type { Suspect } from "../incidents-api.ts";
import { ZoomButtons, resetZoom, zoomTo } from "../pages/series-detail.tsx";
import { href } from "../router.ts";
import { metricOf, unitOfMetric } from "../anomaly-text.ts";
import { Sparkline } from "./icons.tsx";
import { LoadError, Notice, LoadingRows } from "./notice.tsx";
import { ClockTime } from "./series-name.tsx";

const MAX_SPARKLINES = 3;

export function Suspects({ suspects, window }: { suspects: Suspect[]; window: Window }) {
  const [chosen, setChosen] = useState(0);
  const suspect = suspects[chosen] ?? suspects[0];
  if (!suspect) return null;
  return (
    <section class="panel suspects" aria-labelledby="suspects-title">
      <div class="panel-head">
        <h2 id="suspects-title">Suspected root causes</h2>
        <span class="quiet">most likely first</span>
      </div>
      <ol class="suspect-list">
        {suspects.map((one, i) => (
          <li key={one.series_id}>
            <button type="button" class="suspect" aria-pressed={one === suspect} onClick={() => setChosen(i)}>
              <SuspectName suspect={one} />
              {i < MAX_SPARKLINES && <SuspectSparkline id={one.series_id} window={window} name={one.series} />}
            </button>
          </li>
        ))}
      </ol>
      <SuspectChart key={suspect.series_id} suspect={suspect} window={window} />
    </section>
  );
}

function SuspectName({ suspect: s }: { suspect: Suspect }) {
  return (
    <span class="suspect-words">
      <span class="metric">{s.entity}</span> <span class="quiet">{count(s.weight * 100)} %</span>
      <span class="suspect-series">{s.series}</span>
      <span class="quiet">
        changed at <ClockTime time={s.moved} />, score {score(s.size)}: {s.why}
      </span>
    </span>
  );
}

function SuspectSparkline({ id, window: [since, until], name }: { id: string; window: Window; name: string }) {
  const { data } = useLive(`suspect-${id}`, (signal) => getScores(id, since, until, 160, signal), 10_000);
  const drawn = useMemo(() => (data ? withGaps(parseScores(data)) : null), [data]);
  if (!drawn || drawn.time.length === 0) return <span class="spark" />;
  return <Sparkline data={drawn} since={since} until={until} label={`${name} with expected range`} />;
}

function SuspectChart({ suspect, window: around }: { suspect: Suspect; window: Window }) {
  const { query } = useRoute();
  const [since, until] = (query.zoom ?? "").split("-").map(Number);
  const zoom: Window | null = since && until ? [since, until] : null;
  const window = zoom ?? around;
  const id = suspect.series_id;
  const scores = useScores(id, { fixed: window });
  const series = useLive(`unit-${id}`, (signal) => getSeries(id, signal), 60_000);
  const near = useLive(`near-${id}`, (signal) => getAnomalies({ series_id: id, limit: 100 }, signal), 5000);
  return (
    <div class="picture">
      <div class="tools">
        <a href={href(["series", id])}>{suspect.series}</a>
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
          name={suspect.series}
          data={scores.data}
          unit={series.data?.unit ?? unitOfMetric(metricOf(suspect.series))}
          window={window}
          anomalies={near.data?.items ?? []}
          onZoom={zoomTo}
          onReset={resetZoom}
        />
      )}
    </div>
  );
}
