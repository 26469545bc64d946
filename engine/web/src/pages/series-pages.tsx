/** Pages of series, loaded on demand. */

import type { Route } from "../router.ts";
import { SeriesDetailPage } from "./series-detail.tsx";
import { SeriesPage } from "./series.tsx";

export function Pages({ route }: { route: Route }) {
  const id = route.path[1];
  return id === undefined ? <SeriesPage query={route.query} /> : <SeriesDetailPage id={id} query={route.query} />;
}
