/** Units of series by identifier: an anomaly does not carry its unit. */

import type { Anomaly, Series } from "./types.ts";
import { metricOf, unitOfMetric } from "./anomaly-text.ts";

const MAX_UNITS = 5000;
const unitsById = new Map<string, string>();

export function rememberUnit(id: string, unit: string): void {
  if (unitsById.size >= MAX_UNITS) unitsById.clear();
  unitsById.set(id, unit);
}

export function rememberUnits(series: Series[]): void {
  for (const one of series) rememberUnit(one.id, one.unit);
}

/** Return the unit of the anomaly's series if it was loaded, else the unit implied by its name. */
export function unitOf(anomaly: Anomaly): string {
  return unitsById.get(anomaly.series_id) ?? unitOfMetric(metricOf(anomaly.series));
}
