/** Heatmap of all series ordered by name; darker cells are rarer. Shows at most 500, those with the highest scores. */

import { getSeriesPage } from "../api.ts";
import { plural, score, value } from "../format.ts";
import { useLive } from "../hooks.ts";
import { href } from "../router.ts";
import type { Series } from "../types.ts";

const MAX_CELLS = 500;

function cellClass(s: Series): string {
  if (s.anomaly_id !== null) return s.anomaly_score !== null && s.anomaly_score > 2 ? "hot" : "warm";
  if (s.anomaly_score === null) return s.learning_s > 0 ? "still" : "unknown";
  if (s.anomaly_score > 1) return "warm";
  return `calm${Math.min(2, Math.floor(s.anomaly_score * 3))}`;
}

function cellTitle(s: Series): string {
  return `${s.series} · ${value(s.value, s.unit)} · ${s.anomaly_score === null ? "learning" : `score ${score(s.anomaly_score)}`}`;
}

const LEGEND: [string, string][] = [
  ["still", "learning"],
  ["calm0", "normal"],
  ["calm2", "rare"],
  ["hot", "anomalous"],
];

export function SeriesHeatmap() {
  const { data } = useLive("heatmap", (signal) => getSeriesPage({ sort: "score", limit: MAX_CELLS }, signal), 10_000);
  if (!data || data.items.length === 0) return null;
  const shown = [...data.items].sort((a, b) => (a.series < b.series ? -1 : 1));
  const total = data.total ?? data.items.length;
  const warm = shown.filter((s) => s.anomaly_id !== null).length;
  const more = total > shown.length ? `, showing the ${MAX_CELLS} most anomalous` : "";
  return (
    <section class="panel" aria-labelledby="wall-title">
      <div class="panel-head">
        <h2 id="wall-title">All series</h2>
        <span class="legend" aria-hidden="true">
          {LEGEND.map(([look, text]) => (
            <span key={look}>
              <i class={`cell ${look}`} />
              {text}
            </span>
          ))}
        </span>
      </div>
      <div class="wall" role="img" aria-label={`${plural(total, "series", "series")}${more}, ${warm} anomalous now`}>
        {shown.map((s) => (
          <a key={s.id} class={`cell ${cellClass(s)}`} href={href(["series", s.id])} title={cellTitle(s)} tabIndex={-1} />
        ))}
      </div>
      {more && <p class="quiet">Showing the {MAX_CELLS} most anomalous of {plural(total, "series", "series")}.</p>}
    </section>
  );
}
