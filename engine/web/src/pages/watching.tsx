/** The pages about series and anomalies, in one piece that is loaded when first asked for. */

import type { Route } from "../router.ts";
import { AnomaliesPage } from "./anomalies.tsx";
import { AnomalyPage } from "./anomaly.tsx";
import { SeriesDetailPage } from "./series-detail.tsx";
import { SeriesPage } from "./series.tsx";

export function Pages({ route }: { route: Route }) {
  const [noun, id] = route.path;
  if (noun === "series") return id === undefined ? <SeriesPage query={route.query} /> : <SeriesDetailPage id={id} query={route.query} />;
  return id === undefined ? <AnomaliesPage query={route.query} /> : <AnomalyPage id={id} />;
}
