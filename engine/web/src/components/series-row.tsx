/** One series in a list: name, value, position in the expected range, score. */

import { value } from "../format.ts";
import { href } from "../router.ts";
import type { Series } from "../types.ts";
import { deviationText, observedInSeries } from "../anomaly-text.ts";
import { BandGlyph, ScoreBar } from "./icons.tsx";
import { LearningTime, SeriesName } from "./series-name.tsx";

export function SeriesHead() {
  return (
    <div class="series-head" aria-hidden="true">
      <span>Series</span>
      <span class="right">Value</span>
      <span>Expected</span>
      <span>Score</span>
    </div>
  );
}

export function SeriesRow({ series, withSource = false }: { series: Series; withSource?: boolean }) {
  const where = observedInSeries(series);
  const learning = series.learning_s > 0 && series.anomaly_score === null;
  return (
    <li>
      <a class={`row series-row${series.anomaly_id ? " unusual" : ""}`} href={href(["series", series.id])}>
        <SeriesName metric={series.metric} labels={series.labels} {...(withSource ? { source: series.source } : {})} />
        <span class="value">{value(series.value, series.unit)}</span>
        {learning ? (
          <LearningTime seconds={series.learning_s} />
        ) : (
          <>
            <span class="band" title={deviationText(where, series.unit)}>
              <BandGlyph against={where} />
              <span class="only-heard">{deviationText(where, series.unit)}</span>
            </span>
            <ScoreBar score={series.anomaly_score} />
          </>
        )}
      </a>
    </li>
  );
}
