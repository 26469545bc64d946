/** Incidents, and values of knobs, in words. Pure. */

import type { Knob } from "./acts.ts";
import { NBSP, clock, count, duration, plural, value } from "./format.ts";
import type { Incident, Value } from "./loop.ts";

/** The sentences that tell an incident: when, how wide, who moved first, what it looks like. */
export function incidentStory(incident: Incident, now: number): string {
  const { start, end, entities, anomaly_ids: ids, suspects, patterns } = incident;
  const begun = Date.parse(start);
  const span = duration(((end === null ? now : Date.parse(end)) - begun) / 1000);
  const where = entities.length === 1 ? `of ${entities[0]}` : `of ${count(entities.length)} parts`;
  const wide = `${plural(ids.length, "anomaly", "anomalies")} ${where} began at ${clock(begun, now)}`;
  const told = [`${wide} and ${end === null ? `have gone on for ${span}` : `ended after ${span}`}.`];
  const first = suspects[0];
  if (first) told.push(`${first.entity} is the first suspect: ${sentence(first.why)}`);
  const pattern = patterns.find((one) => one.until === null) ?? patterns[0];
  if (pattern) {
    const how = `${count(pattern.confidence * 100)}${NBSP}% sure`;
    const what = `${pattern.name.replaceAll("_", " ")} of ${pattern.entity}`;
    told.push(
      pattern.until === null
        ? `It looks like ${what} (${how}).`
        : `It looked like ${what} until ${clock(Date.parse(pattern.until), now)}.`,
    );
  }
  if (incident.mass) told.push("So much moved at once that a common cause is likelier than a fault of one part; nothing acts by itself on it.");
  else if (incident.user_facing) told.push("Users feel it.");
  return told.join(" ");
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** A value without rounding. */
export function exactly(x: Value): string {
  return typeof x === "number" ? x.toLocaleString("en", { maximumFractionDigits: 12 }) : String(x);
}

/** A knob's value as people read it: `268 MB`, `on`, `allkeys-lru`, `not set`. */
export function valueWords(x: Value, unit: string): string {
  if (x === null) return "not set";
  if (typeof x === "boolean") return x ? "on" : "off";
  if (typeof x === "string") return x === "" ? "empty" : x;
  return unit === "" ? exactly(x) : value(x, unit);
}

/** What was written, as a value of the knob; undefined = it is none. */
export function parsedValue(knob: Pick<Knob, "type" | "choices">, text: string): Value | undefined {
  const written = text.trim();
  if (written === "") return null;
  if (knob.type === "bool") return written === "true" ? true : written === "false" ? false : undefined;
  if (knob.type === "choice") return knob.choices.includes(written) ? written : undefined;
  const number = Number(written);
  if (!Number.isFinite(number)) return undefined;
  return knob.type === "int" && !Number.isInteger(number) ? undefined : number;
}
