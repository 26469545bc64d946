/** Evaluation of a version compared with the champion and seasonal naive. */

import { METRICS, type MetricRow, differenceText, metricRows, metricText } from "../forecast-text.ts";
import type { ModelVersion } from "../planning-api.ts";

interface ModelMetricsProps {
  of: ModelVersion;
  champion: ModelVersion | undefined;
}

export function ModelMetrics({ of, champion }: ModelMetricsProps) {
  const rows = metricRows(of);
  if (rows.length === 0) return null;
  const challenges = of.role === "challenger";
  const hasChampion = rows.some((row) => row.champion !== null);
  const championTitle = hasChampion ? (challenges && champion ? `champion ${champion.version}` : "previous champion") : "";
  return (
    <section class="panel" aria-labelledby="figures-title">
      <div class="panel-head">
        <h2 id="figures-title">
          {challenges ? `Challenger ${of.version} compared with the champion` : `Evaluation of ${of.role || "version"} ${of.version}`}
        </h2>
        <span class="quiet">on the same held-out windows</span>
      </div>
      <div class="table">
        <table class="judged">
          <thead>
            <tr>
              <th scope="col">Metric</th>
              <th scope="col">
                {of.role || "version"} {of.version}
              </th>
              {hasChampion && <th scope="col">{championTitle}</th>}
              <th scope="col">{hasChampion ? "change" : "vs. naive"}</th>
              <th scope="col">seasonal naive</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <Row key={row.key} row={row} hasChampion={hasChampion} />
            ))}
          </tbody>
        </table>
      </div>
      <p class="gate">
        Promotion gate: <b>{of.said || "no decision yet"}</b>.
      </p>
    </section>
  );
}

function Row({ row, hasChampion }: { row: MetricRow; hasChampion: boolean }) {
  const { key, candidate, champion, naive, better } = row;
  return (
    <tr>
      <th scope="row" title={METRICS[key]?.help}>
        {METRICS[key]?.name}
      </th>
      <td>
        <b>{metricText(key, candidate)}</b>
      </td>
      {hasChampion && <td>{metricText(key, champion)}</td>}
      <td class={better}>
        {differenceText(key, candidate, hasChampion ? champion : naive)}
        {better && ` ${better}`}
      </td>
      <td>{metricText(key, naive)}</td>
    </tr>
  );
}
