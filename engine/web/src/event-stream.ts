/** What is new, as it happens: server-sent events, with a patient way back when the connection goes. */

import { loadSession, session, streamAddress } from "./api.ts";
import { shared } from "./shared-state.ts";
import { type Incident, type Pause, paused } from "./incidents-api.ts";
import type { Anomaly } from "./types.ts";

export type LiveState = "connecting" | "live" | "lost" | "paused";

export const live = shared<LiveState>("connecting");
/** Goes up whenever something visible may have changed. */
export const pulse = shared(0);
/** When we last heard from the engine, ms; null = never. */
export const heard = shared<number | null>(null);
/** The newest anomaly and incident events, for those who listen rather than look. */
export const newest = shared<Anomaly | null>(null);
export const newestIncident = shared<Incident | null>(null);

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
/** Without any event for so long we ask all the same: sources may be slow, sources may be silent. */
const IDLE_MS = 15_000;

let stream: EventSource | null = null;
let wait = FIRST_WAIT_MS;
let retry = 0;

function ask(): void {
  pulse.set(pulse.get() + 1);
}

function beat(): void {
  heard.set(Date.now());
  ask();
}

function opened(): void {
  wait = FIRST_WAIT_MS;
  live.set("live");
  beat();
}

function failed(): void {
  stop();
  live.set("lost");
  retry = window.setTimeout(again, wait * (0.8 + 0.4 * Math.random()));
  wait = Math.min(LONGEST_WAIT_MS, wait * 1.7);
}

/** A stream says nothing about why it was refused, so ask who we are first. */
async function again(): Promise<void> {
  try {
    await loadSession();
  } catch {
    failed();
    return;
  }
  if (!session.get()) return;
  ask();
  start();
}

function announced(event: MessageEvent<string>): void {
  newest.set(JSON.parse(event.data) as Anomaly);
  beat();
}

export function start(): void {
  stop();
  stream = new EventSource(streamAddress());
  stream.onopen = opened;
  stream.onerror = failed;
  stream.addEventListener("tick", beat);
  stream.addEventListener("pause", (event: MessageEvent<string>) => {
    paused.set(JSON.parse(event.data) as Pause);
    beat();
  });
  stream.addEventListener("incident", (event: MessageEvent<string>) => {
    newestIncident.set(JSON.parse(event.data) as Incident);
    beat();
  });
  for (const noun of ["source", "recommendation", "action"]) stream.addEventListener(noun, beat);
  stream.addEventListener("anomaly", announced);
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
  live.set("connecting");
  void again();
}

function visibility(): void {
  if (!session.get()) return;
  if (document.hidden) {
    stop();
    live.set("paused");
  } else {
    start();
  }
}

/** Follow the session and the page's visibility from now on. */
export function follow(): void {
  document.addEventListener("visibilitychange", visibility);
  window.addEventListener("online", reconnect);
  session.watch(() => (session.get() ? visibility() : stop()));
  window.setInterval(() => {
    if (live.get() === "live" && Date.now() - (heard.get() ?? 0) > IDLE_MS) ask();
  }, IDLE_MS);
}
