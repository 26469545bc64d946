/** Types and API calls of incidents, recommendations and the pause that the first view needs. */

import { type Query, getStatus, read, session, write } from "./api.ts";
import { shared } from "./shared-state.ts";
import type { Labels, Page } from "./types.ts";

export type Level = "low" | "medium" | "high" | "critical";
export type IncidentState = "open" | "acknowledged" | "resolved";

export interface Suspect {
  series_id: string;
  series: string;
  entity: string;
  weight: number;
  moved: string;
  size: number | null;
  why: string;
}

export interface Pattern {
  name: string;
  entity: string;
  confidence: number;
  since: string | null;
  evidence: string[];
  series_ids: string[];
  remedies: string[];
  source: string;
  /** When the pattern was last detected; null = it still is. */
  until: string | null;
}

export interface Incident {
  id: string;
  start: string;
  end: string | null;
  state: IncidentState;
  title: string;
  severity: number | null;
  level: Level;
  user_facing: boolean;
  mass: boolean;
  entities: string[];
  anomaly_ids: string[];
  suspects: Suspect[];
  patterns: Pattern[];
  acknowledged_by: string;
  note: string;
  merged_into: string | null;
}

export interface Change {
  id: string;
  time: string;
  kind: "deploy" | "restart" | "config" | "action" | "alert" | "other";
  title: string;
  by: string;
  labels: Labels;
  url: string;
}

export type Value = boolean | number | string | null;
export type Risk = "low" | "medium" | "high";
export type RecommendationState =
  | "pending"
  | "approved"
  | "scheduled"
  | "applied"
  | "closed"
  | "dismissed"
  | "expired";

export interface Effect {
  series_id: string;
  figure: string;
  unit: string;
  before: number | null;
  expected: number | null;
  low: number | null;
  high: number | null;
  more_is_better: boolean;
}

/** What mode auto would have done, and the outcome without it. */
export interface Shadow {
  time: string;
  before: Value;
  after: Value;
  figure: string;
  unit: string;
  figure_before: number | null;
  figure_since: number | null;
  severity: number | null;
  worst: number | null;
  ended: string | null;
  end: "" | "over" | "done" | "changed" | "went on";
}

export interface Recommendation {
  id: string;
  created: string;
  expires: string;
  tool: string;
  target: string;
  subject: string;
  is_action: boolean;
  before: Value;
  after: Value;
  title: string;
  effect: Effect | null;
  evidence: string[];
  confidence: number | null;
  risk: Risk;
  cost: string;
  disproof: string;
  mode: string;
  state: RecommendationState;
  incident_id: string | null;
  pattern: string;
  command: string;
  proposer: string;
  approver: string;
  scheduled: string | null;
  reason: string;
  shadow: Shadow | null;
}

export interface Pause {
  on: boolean;
  by: string;
  since: string | null;
  reason: string;
}

/** State of the global pause; null = unknown, or actions are not enabled. */
export const paused = shared<Pause | null>(null);
/** Whether the engine has incidents and actions; null = unknown. */
export const actionsEnabled = shared<boolean | null>(null);

export async function loadPause(signal?: AbortSignal): Promise<Pause | null> {
  actionsEnabled.set((await getStatus(signal)).acts);
  if (actionsEnabled.get()) paused.set(await read<Pause>("pause", {}, signal));
  return paused.get();
}

export async function pauseAll(reason: string): Promise<void> {
  const response = await write("POST", "pause", { reason });
  paused.set((await response.json()) as Pause);
}

export async function resumeAll(reason: string): Promise<void> {
  const response = await write("DELETE", "pause", undefined, { reason });
  paused.set((await response.json()) as Pause);
}

export const getIncidents = (query: Query, signal?: AbortSignal) => read<Page<Incident>>("incidents", query, signal);

export const getRecommendations = (query: Query, signal?: AbortSignal) =>
  read<Page<Recommendation>>("recommendations", query, signal);

/** Return whether the session has a scope. */
export function may(scope: string): boolean {
  const scopes = session.get()?.scopes ?? [];
  return scopes.includes(scope) || scopes.includes("admin");
}
