/** Pages of anomalies, loaded on demand. */

import type { Route } from "../router.ts";
import { AnomaliesPage } from "./anomalies.tsx";
import { AnomalyPage } from "./anomaly.tsx";

export function Pages({ route }: { route: Route }) {
  const id = route.path[1];
  return id === undefined ? <AnomaliesPage query={route.query} /> : <AnomalyPage id={id} />;
}
