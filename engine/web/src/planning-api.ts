/** Types and API calls of forecasts, models and capacity. */

import { read, write } from "./api.ts";
import type { Page } from "./types.ts";

/** Confidence levels as in `trimtab forecast`. */
export type Confidence = "none" | "low" | "fair" | "good";

/** `values` maps a quantile to its rows from `start` on, one per `step_s` seconds. */
export interface Forecast {
  id: string;
  unit: string;
  made: string;
  start: string;
  step_s: number;
  values: Record<string, (number | null)[]>;
  model: string;
  version: string;
  confidence: Confidence;
  past_s: number;
}

/** Rows of forecasts made `lead_s` seconds earlier. */
export interface EarlierForecast {
  lead_s: number;
  times: string[];
  values: Record<string, (number | null)[]>;
}

export type Role = "champion" | "challenger" | "previous" | "";

export interface ModelVersion {
  version: string;
  role: Role;
  kind: string;
  forecaster: string;
  stored: string;
  trained_until: string | null;
  size_bytes: number;
  /** Metrics by model and name, such as `challenger.mase`. */
  figures: Record<string, number | null>;
  live: number | null;
  said: string;
}

export interface Model {
  id: string;
  serving: string;
  made: string | null;
  series: number;
  error: number | null;
  versions: ModelVersion[];
  refused: Record<string, string>;
  registry: string;
  problem: string;
}

export type RunState = "waiting" | "running" | "done" | "failed" | "interrupted";

export interface Run {
  id: string;
  state: RunState;
  by: string;
  started: string;
  ended: string | null;
  stage: string;
  progress: number;
  said: string;
  version: string;
  promoted: boolean;
}

export interface Estimate {
  value: number;
  low: number;
  high: number;
  source: "set" | "learnt" | "assumed";
}

export interface LoadPath {
  ahead_s: number[];
  likely: number[];
  high: number[];
  serves: number[];
  risk: number;
}

export interface Capacity {
  name: string;
  kind: string;
  time: string;
  unit: string;
  load: number | null;
  current: number | null;
  ready: number | null;
  wanted: number | null;
  floor: number | null;
  ahead: number | null;
  why: "reactive" | "forecast" | "hold" | "bounds" | "unknown";
  problem: string;
  confidence: number;
  capacity_per_replica: Estimate | null;
  startup_s: Estimate | null;
  target_utilisation: number;
  path: LoadPath | null;
  cost_per_day: number | null;
  wanted_cost_per_day: number | null;
  tool: string;
  target: string;
  knob: string;
  series_ids: string[];
  load_id: string;
}

const pathOf = (...parts: string[]): string => parts.map(encodeURIComponent).join("/");

export const getForecast = (series: string, signal?: AbortSignal) =>
  read<Page<Forecast>>("forecasts", { series, limit: 1 }, signal);
export const getEarlierForecast = (series: string, signal?: AbortSignal) =>
  read<EarlierForecast>(pathOf("forecasts", series, "before"), {}, signal);

export const getModels = (signal?: AbortSignal) => read<Page<Model>>("models", {}, signal);
export const getRuns = (model: string, signal?: AbortSignal) =>
  read<Page<Run>>(pathOf("pipelines", model, "runs"), { limit: 20 }, signal);

export async function promote(model: string, version: string): Promise<void> {
  await write("POST", pathOf("models", model, "promote"), { version });
}

export async function rollBackModel(model: string): Promise<void> {
  await write("POST", pathOf("models", model, "rollback"));
}

export async function train(model: string): Promise<void> {
  await write("POST", pathOf("pipelines", model, "runs"));
}

export const getCapacity = (signal?: AbortSignal) => read<{ items: Capacity[] }>("capacity", {}, signal);
