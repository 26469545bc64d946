/** API calls of pages that are loaded on demand. */

import { type Query, read, write } from "./api.ts";
import type { Change, Effect, Incident, Recommendation, Value } from "./incidents-api.ts";
import type { Anomaly, Page } from "./types.ts";

export interface SimilarIncident extends Incident {
  done: { title: string; state: ActionState; words: string }[];
}

export interface IncidentDetail extends Incident {
  anomalies: Anomaly[];
  changes: Change[];
  recommendations: Recommendation[];
  alike: SimilarIncident[];
}

export type ActionState =
  | "proposed"
  | "executing"
  | "verifying"
  | "kept"
  | "rolled_back"
  | "inconclusive"
  | "failed"
  | "unknown"
  | "refused";

export interface Action {
  id: string;
  recommendation_id: string | null;
  tool: string;
  target: string;
  subject: string;
  is_action: boolean;
  before: Value;
  after: Value;
  state: ActionState;
  mode: string;
  by: string;
  created: string;
  started: string | null;
  ended: string | null;
  undoes: string | null;
  time_scale: number;
  told: string;
  outcome: { state: ActionState; words: string; effect: Effect | null } | null;
}

export interface AuditRow {
  seq: number;
  time: string;
  actor: string;
  what: string;
  subject: string;
  details: Record<string, Value>;
  hash: string;
}

export interface ActionDetail extends Action {
  recommendation: Recommendation | null;
  audit: AuditRow[];
}

export interface RecommendationDetail extends Recommendation {
  actions: Action[];
}

export type ToolState = "up" | "export only" | "denied" | "unreachable" | "quarantined" | "disabled";

export interface Tool {
  name: string;
  kind: string;
  enabled: boolean;
  trial: boolean;
  status: { state: ToolState; detail: string; version: string };
  modes: Record<string, string>;
  targets: string[];
}

export interface ToolDetail extends Tool {
  grant: string | null;
}

export interface Knob {
  name: string;
  type: "int" | "float" | "bool" | "choice";
  unit: string;
  low: number | null;
  high: number | null;
  choices: string[];
  denied: Value[];
  restart_needed: boolean;
  reversible: boolean;
  help: string;
  default: Value;
  zero: string;
}

export interface KnobEntry {
  tool: string;
  target: string;
  knob: Knob;
  reading: { value: Value; set_here: boolean; lasts: string; note: string } | null;
}

export interface ToolAction {
  name: string;
  help: string;
  risk: "low" | "medium" | "high";
  reduces: boolean;
}

export interface Target {
  tool: string;
  target: string;
  metrics: Record<string, number | null>;
  knobs: KnobEntry[];
  actions: ToolAction[];
  problem: string;
}

/** Number of actions that mode auto would have run, by outcome without them. */
export interface ShadowSummary {
  actions: number;
  over: number;
  done: number;
  changed: number;
  went_on: number;
  open: number;
  worse: number;
  since: string | null;
}

export interface Silence {
  id: string;
  entities: string[];
  from: string;
  until: string;
  by: string;
  note: string;
  state: "coming" | "active" | "over";
}

export interface AuditPage {
  items: AuditRow[];
  next: number | null;
}

export interface AuditVerification {
  ok: boolean;
  rows: number;
  problem: string | null;
}

const pathOf = (...parts: string[]): string => parts.map(encodeURIComponent).join("/");

export const getIncident = (id: string, signal?: AbortSignal) => read<IncidentDetail>(pathOf("incidents", id), {}, signal);

export async function updateIncident(id: string, verb: "acknowledge" | "resolve" | "reopen", note: string): Promise<void> {
  await write("POST", pathOf("incidents", id, verb), { note });
}

const incidentOf = async (response: Promise<Response>): Promise<Incident> =>
  (await (await response).json()) as Incident;

export const mergeIncident = (id: string, into: string) =>
  incidentOf(write("POST", pathOf("incidents", id, "merge"), { into }));
export const splitIncident = (id: string, anomaly_ids: string[]) =>
  incidentOf(write("POST", pathOf("incidents", id, "split"), { anomaly_ids }));

export const getRecommendation = (id: string, signal?: AbortSignal) =>
  read<RecommendationDetail>(pathOf("recommendations", id), {}, signal);

export const getShadowSummary = (signal?: AbortSignal) => read<ShadowSummary>("recommendations/shadow", {}, signal);

export const getSilences = (signal?: AbortSignal) => read<{ items: Silence[] }>("silences", { over: true }, signal);

export async function addSilence(silence: { entities: string[]; from: string | null; until: string; note: string }): Promise<void> {
  await write("POST", "silences", silence);
}

export async function endSilence(id: string): Promise<void> {
  await write("DELETE", pathOf("silences", id));
}

export async function decide(id: string, verb: "approve" | "dismiss" | "schedule", body?: object): Promise<void> {
  await write("POST", pathOf("recommendations", id, verb), body);
}

const actionOf = async (response: Promise<Response>): Promise<Action> => (await (await response).json()) as Action;

export const applyNow = (id: string) => actionOf(write("POST", pathOf("recommendations", id, "apply")));
export const rollBack = (id: string) => actionOf(write("POST", pathOf("actions", id, "rollback")));
export const runAction = (tool: string, target: string, action: string) =>
  actionOf(write("POST", pathOf("tools", tool, "targets", target, "actions", action)));
export const setKnob = (tool: string, target: string, knob: string, before: Value, after: Value) =>
  actionOf(write("PUT", pathOf("tools", tool, "targets", target, "knobs", knob), { before, after }));

export const getActions = (query: Query, signal?: AbortSignal) => read<Page<Action>>("actions", query, signal);
export const getAction = (id: string, signal?: AbortSignal) => read<ActionDetail>(pathOf("actions", id), {}, signal);

export const getTools = (signal?: AbortSignal) => read<{ items: Tool[] }>("tools", {}, signal);
export const getTool = (name: string, signal?: AbortSignal) => read<ToolDetail>(pathOf("tools", name), {}, signal);
export const getTarget = (tool: string, target: string, signal?: AbortSignal) =>
  read<Target>(pathOf("tools", tool, "targets", target), {}, signal);
export const getKnobs = (signal?: AbortSignal) => read<{ items: KnobEntry[] }>("knobs", {}, signal);

export async function switchTool(name: string, enabled: boolean): Promise<void> {
  await write("PUT", pathOf("tools", name), { enabled });
}

export const getAudit = (query: Query, signal?: AbortSignal) => read<AuditPage>("audit", query, signal);
export const verifyAudit = () => read<AuditVerification>("audit/verify", {});
