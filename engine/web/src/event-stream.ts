/** Server-sent events of the engine, with reconnection and exponential backoff. */

import { loadSession, session, streamAddress } from "./api.ts";
import { shared } from "./shared-state.ts";
import { type Incident, type Pause, paused } from "./incidents-api.ts";
import type { Anomaly } from "./types.ts";

export type ConnectionState = "connecting" | "live" | "lost" | "paused";

export const connection = shared<ConnectionState>("connecting");
/** Counter that increases whenever visible data may have changed. */
export const refreshSignal = shared(0);
/** Time of the last response or event of the engine, ms; null = never. */
export const lastUpdate = shared<number | null>(null);
/** The newest anomaly and incident events, for screen readers. */
export const newestAnomaly = shared<Anomaly | null>(null);
export const newestIncident = shared<Incident | null>(null);

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
/** Without an event for this long, data is requested anyway. */
const IDLE_MS = 15_000;

let stream: EventSource | null = null;
let wait = FIRST_WAIT_MS;
let retry = 0;

function requestRefresh(): void {
  refreshSignal.set(refreshSignal.get() + 1);
}

function onEvent(): void {
  lastUpdate.set(Date.now());
  requestRefresh();
}

function onOpen(): void {
  wait = FIRST_WAIT_MS;
  connection.set("live");
  onEvent();
}

function onError(): void {
  stop();
  connection.set("lost");
  retry = window.setTimeout(verifySessionAndStart, wait * (0.8 + 0.4 * Math.random()));
  wait = Math.min(LONGEST_WAIT_MS, wait * 1.7);
}

/** EventSource does not report why it was refused, so check the session first. */
async function verifySessionAndStart(): Promise<void> {
  try {
    await loadSession();
  } catch {
    onError();
    return;
  }
  if (!session.get()) return;
  requestRefresh();
  start();
}

function onAnomaly(event: MessageEvent<string>): void {
  newestAnomaly.set(JSON.parse(event.data) as Anomaly);
  onEvent();
}

export function start(): void {
  stop();
  stream = new EventSource(streamAddress());
  stream.onopen = onOpen;
  stream.onerror = onError;
  stream.addEventListener("tick", onEvent);
  stream.addEventListener("pause", (event: MessageEvent<string>) => {
    paused.set(JSON.parse(event.data) as Pause);
    onEvent();
  });
  stream.addEventListener("incident", (event: MessageEvent<string>) => {
    newestIncident.set(JSON.parse(event.data) as Incident);
    onEvent();
  });
  for (const noun of ["source", "recommendation", "action"]) stream.addEventListener(noun, onEvent);
  stream.addEventListener("anomaly", onAnomaly);
}

export function stop(): void {
  window.clearTimeout(retry);
  stream?.close();
  stream = null;
}

/** Reconnect now, without waiting for the backoff. */
export function reconnect(): void {
  wait = FIRST_WAIT_MS;
  stop();
  connection.set("connecting");
  void verifySessionAndStart();
}

function followVisibility(): void {
  if (!session.get()) return;
  if (document.hidden) {
    stop();
    connection.set("paused");
  } else {
    start();
  }
}

/** Connect while there is a session and the page is visible. */
export function startFollowing(): void {
  document.addEventListener("visibilitychange", followVisibility);
  window.addEventListener("online", reconnect);
  session.watch(() => (session.get() ? followVisibility() : stop()));
  window.setInterval(() => {
    if (connection.get() === "live" && Date.now() - (lastUpdate.get() ?? 0) > IDLE_MS) requestRefresh();
  }, IDLE_MS);
}
