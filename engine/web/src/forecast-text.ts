/** Describe capacity and models. Pure functions. */

import { NBSP, count, number, plural, range, value } from "./format.ts";
import type { Capacity, Estimate, ModelVersion } from "./planning-api.ts";

/** `6 replicas`; a count of bytes with its unit. */
export function countText(n: number | null, kind: string): string {
  if (n === null) return `an unknown number of ${kind}`;
  if (kind === "bytes") return value(n, "B");
  return n === 1 && kind.endsWith("s") ? `1 ${kind.slice(0, -1)}` : `${count(n)} ${kind}`;
}

/** Explain the wanted count. */
export function reasonText(c: Capacity): string {
  if (c.wanted === null) return capital(sentence(c.problem || "not known yet"));
  const load = value(c.load, c.unit);
  const unknown = c.problem ? ` ${sentence(c.problem)}` : "";
  if (c.why === "forecast") return `The forecast load requires this count; the current load is ${load}.${unknown}`;
  if (c.why === "reactive") return `The current load of ${load} requires this count${forecastNote(c)}.${unknown}`;
  if (c.why === "bounds") return `The required count exceeds the allowed step or the configured bounds.${unknown}`;
  return `No change is needed.${unknown}`;
}

function forecastNote({ ahead }: Capacity): string {
  return ahead === null ? "; no forecast is available yet" : "; the forecast does not require more";
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Capitalise a sentence unless it starts with a settings key. */
const capital = (text: string): string => text.replace(/^[a-z](?=[a-z]* )/, (letter) => letter.toUpperCase());

const SOURCES: Record<Estimate["source"], string> = {
  set: "configured",
  learnt: "learnt from history",
  assumed: "default until enough data is available",
};

/** `120 req/s (114–127 in 9 of 10 cases, learnt from history)` */
export function estimateText(e: Estimate | null, unit: string): string {
  if (e === null) return "not known yet";
  const shown = value(e.value, unit);
  if (e.source !== "learnt") return `${shown} (${SOURCES[e.source]})`;
  return `${shown} (${range(e.low, e.high, unit)} in 9 of 10 cases, ${SOURCES.learnt})`;
}

/** `12 → 14.4 per day (+2.4)`, in the currency of the settings; null = no price is set. */
export function costText(c: Capacity): string | null {
  const { cost_per_day: now, wanted_cost_per_day: then } = c;
  if (now === null && then === null) return null;
  if (now === null || then === null) return now === null ? `${number(then ?? 0)} per day for the wanted count; current cost unknown` : `${number(now)} per day now; cost of the wanted count unknown`;
  const more = then - now;
  if (Math.abs(more) < 0.005) return `${number(now)} per day, unchanged`;
  return `${number(now)} → ${number(then)} per day (${more > 0 ? "+" : "−"}${number(Math.abs(more))})`;
}

/** Return a KEDA trigger that reads the wanted count from the engine at `engine` (no trailing slash). */
export function kedaYaml(name: string, engine: string): string {
  return `triggers:                            # in a KEDA ScaledObject
- type: metrics-api
  metadata:
    url: ${engine}/api/capacity/${encodeURIComponent(name)}/keda
    valueLocation: wanted
    targetValue: "1"
    authMode: bearer
  authenticationRef: {name: trimtab}   # a TriggerAuthentication whose token is a key with the scope read
`;
}

export const CAPACITY_YAML = `capacity:
  checkout:                            # any name
    load: http_requests_total{service="checkout"}
    replicas: kube_deployment_status_replicas{deployment="checkout"}
    utilisation: container_cpu_usage_ratio{service="checkout"}
    # used to learn the capacity of a replica; or set capacity_per_replica: 120
    max_replicas: 20
    cost_per_replica_hour: 0.1         # optional, in any currency
`;

export interface MetricInfo {
  name: string;
  help: string;
  /** 1 = higher is better, -1 = lower is better, else the ideal value. */
  ideal: number;
  share: boolean;
}

/** Metrics of the evaluation of load models. */
export const METRICS: Record<string, MetricInfo> = {
  pinball: { name: "loss", help: "Pinball loss over all quantiles, scaled by the error of seasonal naive. The promotion gate uses it.", ideal: -1, share: false },
  mase: { name: "error of the median", help: "Mean absolute scaled error (MASE)", ideal: -1, share: false },
  cov90: { name: "within 5–95 %", help: "Share of values between these quantiles; ideally 90 %", ideal: 0.9, share: true },
  miss99: { name: "above 99 %", help: "Share of values above this quantile; ideally 1 %", ideal: 0.01, share: true },
  silent: { name: "without a forecast", help: "Share of values without a forecast", ideal: -1, share: true },
  points: { name: "values compared", help: "", ideal: NaN, share: false },
};

export interface MetricRow {
  key: string;
  candidate: number | null;
  champion: number | null;
  naive: number | null;
  better: "better" | "worse" | "";
}

/** Return the metrics of a version with those of the champion and seasonal naive on the same windows. */
export function metricRows({ figures }: ModelVersion): MetricRow[] {
  return Object.entries(METRICS).flatMap(([key, figure]) => {
    const [candidate, champion, naive] = ["challenger", "champion", "seasonal_naive"].map((model) => figures[`${model}.${key}`] ?? null);
    if (typeof candidate !== "number") return [];
    const row = { key, candidate, champion: champion ?? null, naive: naive ?? null };
    return [{ ...row, better: compareToTarget(candidate, row.champion ?? row.naive, figure.ideal) }];
  });
}

/** Compare two metrics by their distance from the ideal; equal ones give "". */
function compareToTarget(candidate: number, other: number | null, ideal: number): MetricRow["better"] {
  if (other === null || Number.isNaN(ideal)) return "";
  const off = (x: number): number => (ideal === -1 ? x : ideal === 1 ? -x : Math.abs(x - ideal));
  const gap = off(candidate) - off(other);
  return Math.abs(gap) < 1e-6 ? "" : gap < 0 ? "better" : "worse";
}

/** Format an error with enough digits to tell two models apart. */
export const errorText = (x: number | null | undefined): string =>
  typeof x !== "number" ? "–" : x < 10 && !Number.isInteger(x) ? x.toFixed(3) : number(x);

/** Format a metric: shares in %, counts whole, errors plain. */
export function metricText(key: string, x: number | null): string {
  return METRICS[key]?.share ? value(x, "ratio") : errorText(x);
}

/** Format the difference of two metrics: `−6 %`; points for shares. */
export function differenceText(key: string, candidate: number | null, other: number | null): string {
  if (candidate === null || other === null || key === "points") return "";
  const signed = (x: number, text: string): string => `${x < 0 ? "−" : "+"}${text}`;
  const gap = candidate - other;
  if (METRICS[key]?.share) return Math.abs(gap) < 5e-5 ? "same" : signed(gap, `${number(Number((Math.abs(gap) * 100).toPrecision(6)))} points`);
  if (other === 0) return "";
  const part = gap / Math.abs(other);
  return Math.abs(part) < 5e-4 ? "same" : signed(gap, `${number(Math.abs(part) * 100)}${NBSP}%`);
}

export const seriesCountText = (n: number): string => plural(n, "series", "series");

/** Describe the live error of the serving version, with its error at the promotion gate. */
export function liveErrorText(error: number | null, serving: ModelVersion | undefined): string {
  if (error === null) return "The live error is not known yet.";
  const gate = serving?.figures["challenger.pinball"];
  const then = typeof gate === "number" ? `; at the promotion gate it was ${errorText(gate)}` : "";
  return `The live error is ${errorText(error)}${then}.`;
}
