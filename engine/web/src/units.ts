/** Units of series by identifier: an anomaly does not carry its unit. */

import type { Anomaly, Series } from "./types.ts";
import { metricOf, unitOfMetric } from "./anomaly-text.ts";

const MOST = 5000;
const seen = new Map<string, string>();

export function remember(id: string, unit: string): void {
  if (seen.size >= MOST) seen.clear();
  seen.set(id, unit);
}

export function rememberAll(series: Series[]): void {
  for (const one of series) remember(one.id, one.unit);
}

/** Return the unit of the anomaly's series if it was loaded, else the unit implied by its name. */
export function unitOf(anomaly: Anomaly): string {
  return seen.get(anomaly.series_id) ?? unitOfMetric(metricOf(anomaly.series));
}
