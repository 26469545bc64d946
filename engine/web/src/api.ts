/** HTTP API: typed reads, writes with CSRF token and idempotency key, and errors with readable texts. */

import { shared } from "./shared-state.ts";
import type { Anomaly, AnomalyDetail, Page, Scores, Series, Session, Status, Verdict } from "./types.ts";
import { rememberUnit, rememberUnits } from "./units.ts";

/** An error response; status 0 = no response. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
  ) {
    super(detail || title);
  }
}

/** The signed-in session; undefined = not requested yet, null = signed out. */
export const session = shared<Session | null | undefined>(undefined);

export type Query = Record<string, string | number | boolean | undefined>;

function address(path: string, query: Query = {}): string {
  const url = new URL(`api/${path}`, new URL("./", location.href.split("#", 1)[0]));
  for (const [name, given] of Object.entries(query)) {
    if (given !== undefined && given !== "") url.searchParams.set(name, String(given));
  }
  return url.href;
}

async function problem(response: Response): Promise<ApiError> {
  const text = await response.text();
  try {
    const body = JSON.parse(text) as { title?: string; detail?: unknown };
    const detail = typeof body.detail === "string" ? body.detail : "";
    return new ApiError(response.status, body.title ?? response.statusText, detail);
  } catch {
    return new ApiError(response.status, response.statusText || `HTTP ${response.status}`, text.slice(0, 200));
  }
}

async function call(url: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "Trimtab is not responding", "");
  }
  if (response.ok) return response;
  if (response.status === 401) session.set(null);
  throw await problem(response);
}

export async function read<T>(path: string, query: Query, signal?: AbortSignal): Promise<T> {
  const response = await call(address(path, query), { signal: signal ?? null, headers: { Accept: "application/json" } });
  return (await response.json()) as T;
}

/** Return an idempotency key; works without `crypto.randomUUID`, which plain HTTP lacks. */
function onceKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

export async function write(
  method: "POST" | "PUT" | "DELETE",
  path: string,
  body?: unknown,
  query: Query = {},
): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json", "Idempotency-Key": onceKey() };
  const csrf = session.get()?.csrf;
  if (csrf) headers["X-CSRF-Token"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  return call(address(path, query), { method, headers, body: body === undefined ? null : JSON.stringify(body) });
}

export const streamAddress = (): string => address("stream");

export const getStatus = (signal?: AbortSignal) => read<Status>("status", {}, signal);

export interface SeriesQuery extends Query {
  search?: string;
  source?: string;
  sort?: "score" | "name";
  limit?: number;
  after?: string;
}

export async function getSeriesPage(query: SeriesQuery, signal?: AbortSignal): Promise<Page<Series>> {
  const page = await read<Page<Series>>("series", query, signal);
  rememberUnits(page.items);
  return page;
}

export async function getSeries(id: string, signal?: AbortSignal): Promise<Series> {
  const series = await read<Series>(`series/${encodeURIComponent(id)}`, {}, signal);
  rememberUnits([series]);
  return series;
}

export async function getScores(
  id: string,
  since: number,
  until: number | null,
  points: number,
  signal?: AbortSignal,
): Promise<Scores> {
  const query: Query = { since: new Date(since).toISOString(), points };
  if (until !== null) query.until = new Date(until).toISOString();
  const scores = await read<Scores>(`series/${encodeURIComponent(id)}/scores`, query, signal);
  rememberUnit(scores.id, scores.unit);
  return scores;
}

export interface AnomalyQuery extends Query {
  series_id?: string;
  source?: string;
  open?: boolean;
  since?: string;
  until?: string;
  min_score?: string;
  direction?: string;
  search?: string;
  limit?: number;
  after?: string;
}

export const getAnomalies = (query: AnomalyQuery, signal?: AbortSignal) =>
  read<Page<Anomaly>>("anomalies", query, signal);

export const getAnomaly = (id: string, signal?: AbortSignal) =>
  read<AnomalyDetail>(`anomalies/${encodeURIComponent(id)}`, {}, signal);

export async function giveFeedback(id: string, verdict: Verdict, note: string): Promise<void> {
  await write("POST", `anomalies/${encodeURIComponent(id)}/feedback`, { verdict, note });
}

/** Load the session; null if nobody is signed in. */
export async function loadSession(): Promise<void> {
  try {
    session.set(await read<Session>("session", {}));
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 401)) throw error;
  }
}

export async function signIn(key: string): Promise<void> {
  await write("POST", "session", { key });
  await loadSession();
}

export async function signOut(): Promise<void> {
  await write("DELETE", "session");
  session.set(null);
}
