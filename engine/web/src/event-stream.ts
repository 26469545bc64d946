/** What is new, as it happens: server-sent events, with a patient way back when the connection goes. */

import { loadSession, session, streamAddress } from "./api.ts";
import { shared } from "./shared-state.ts";
import { type Incident, type Pause, paused } from "./incidents-api.ts";
import type { Anomaly } from "./types.ts";

export type ConnectionState = "connecting" | "live" | "lost" | "paused";

export const connection = shared<ConnectionState>("connecting");
/** Goes up whenever something visible may have changed. */
export const refreshSignal = shared(0);
/** When we last lastUpdate from the engine, ms; null = never. */
export const lastUpdate = shared<number | null>(null);
/** The newestAnomaly anomaly and incident events, for those who listen rather than look. */
export const newestAnomaly = shared<Anomaly | null>(null);
export const newestIncident = shared<Incident | null>(null);

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
/** Without any event for so long we ask all the same: sources may be slow, sources may be silent. */
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

/** A stream says nothing about why it was refused, so ask who we are first. */
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

/** Try at once, for the impatient. */
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

/** Follow the session and the page's followVisibility from now on. */
export function startFollowing(): void {
  document.addEventListener("visibilitychange", followVisibility);
  window.addEventListener("online", reconnect);
  session.watch(() => (session.get() ? followVisibility() : stop()));
  window.setInterval(() => {
    if (connection.get() === "live" && Date.now() - (lastUpdate.get() ?? 0) > IDLE_MS) requestRefresh();
  }, IDLE_MS);
}
