/** Describe incidents, shadow actions and values of knobs. Pure functions. */

import type { Knob } from "./actions-api.ts";
import { NBSP, clock, count, duration, plural, value } from "./format.ts";
import type { Incident, Recommendation, Shadow, Value } from "./incidents-api.ts";

/** Summarise an incident: start, extent, top suspect and matching pattern. */
export function incidentSummary(incident: Incident, now: number): string {
  const { start, end, entities, anomaly_ids: ids, suspects, patterns } = incident;
  const begun = Date.parse(start);
  const span = duration(((end === null ? now : Date.parse(end)) - begun) / 1000);
  const where = entities.length === 1 ? `in ${entities[0]}` : `in ${count(entities.length)} entities`;
  const wide = `${plural(ids.length, "anomaly", "anomalies")} ${where} started at ${clock(begun, now)}`;
  const sentences = [`${wide}; ${end === null ? `ongoing for ${span}` : `ended after ${span}`}.`];
  const first = suspects[0];
  if (first) sentences.push(`${first.entity} is the top suspect: ${sentence(first.why)}`);
  const pattern = patterns.find((one) => one.until === null) ?? patterns[0];
  if (pattern) {
    const how = `${count(pattern.confidence * 100)}${NBSP}% confidence`;
    const what = `${pattern.name.replaceAll("_", " ")} on ${pattern.entity}`;
    sentences.push(
      pattern.until === null
        ? `Matching pattern: ${what} (${how}).`
        : `Matching pattern until ${clock(Date.parse(pattern.until), now)}: ${what}.`,
    );
  }
  if (incident.mass) sentences.push("Many series changed at once, so a common cause is likely. Automatic actions are suspended.");
  else if (incident.user_facing) sentences.push("Users are affected.");
  return sentences.join(" ");
}

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Format a value without rounding. */
export function exactText(x: Value): string {
  return typeof x === "number" ? x.toLocaleString("en", { maximumFractionDigits: 12 }) : String(x);
}

/** Format a knob's value: `256 MiB`, `on`, `allkeys-lru`, `not set`; 0 with its meaning. */
export function valueText(x: Value, unit: string, zero = ""): string {
  if (x === null) return "not set";
  if (x === 0 && zero) return `${value(0, unit)} = ${zero}`;
  if (typeof x === "boolean") return x ? "on" : "off";
  if (typeof x === "string") return x === "" ? "empty" : x;
  return unit === "" ? exactText(x) : value(x, unit);
}

const TIMES: Record<string, number> = { ms: 1e-3, s: 1, min: 60, m: 60, h: 3600, d: 86_400 };
const POWERS = ["", "k", "m", "g", "t"];

/**
 * Return the factor from a written unit to `unit`: `MiB` to B, `min` to s; undefined = not convertible.
 * `MB` is a power of 1024, as in trimtab.yaml, Redis and PostgreSQL.
 */
function factor(written: string, unit: string): number | undefined {
  if (written === "" || written === unit) return 1;
  if (unit === "B") {
    const [, power = "none"] = /^([kmgt]?)i?b?$/i.exec(written) ?? [];
    const at = POWERS.indexOf(power.toLowerCase());
    return at < 0 ? undefined : 1024 ** at;
  }
  if (unit === "ratio" && written === "%") return 0.01;
  const [one, other] = [TIMES[written], TIMES[unit]];
  return one === undefined || other === undefined ? undefined : one / other;
}

/** Parse an input as a value of the knob: `64 MiB`, `1.5 h`, `67,108,864`; undefined = invalid. */
export function parsedValue(knob: Pick<Knob, "type" | "choices" | "unit">, text: string): Value | undefined {
  const written = text.trim();
  if (written === "") return null;
  if (knob.type === "bool") return written === "true" ? true : written === "false" ? false : undefined;
  if (knob.type === "choice") return knob.choices.includes(written) ? written : undefined;
  const [, digits = "", unit = ""] = /^(-?[\d.]+(?:,\d{3})*(?:e[+-]?\d+)?)\s*([a-z%/]*)$/i.exec(written) ?? [];
  const times = factor(unit, knob.unit);
  if (digits === "" || times === undefined) return undefined;
  const number = Number((Number(digits.replaceAll(",", "")) * times).toPrecision(15));
  if (!Number.isFinite(number)) return undefined;
  return knob.type === "int" && !Number.isInteger(number) ? undefined : number;
}

/** Format a value for editing: `16 MiB` where that is exact. */
export function writtenValue(x: Value, unit: string): string {
  if (x === null) return "";
  if (typeof x !== "number" || unit !== "B") return String(x);
  const at = [4, 3, 2, 1].find((power) => x >= 1024 ** power && Number.isInteger((x / 1024 ** power) * 1000));
  return at === undefined ? String(x) : `${x / 1024 ** at} ${["", "KiB", "MiB", "GiB", "TiB"][at]}`;
}

type Resettable = Pick<Knob, "default" | "denied" | "unit" | "zero">;

/** Describe what a reset does. */
export function resetText(knob: Resettable): string {
  if (knob.default === null) return "Resets the setting to the server default, which is unknown.";
  return `Resets the setting to the server default: ${valueText(knob.default, knob.unit, knob.zero)}.`;
}

/** Return whether a reset may surprise: to an unknown default, to no limit, or to a denied value. */
export function resetIsRisky(knob: Resettable): boolean {
  return knob.default === null || (knob.default === 0 && knob.zero !== "") || knob.denied.includes(knob.default);
}

const OUTCOMES: Record<Shadow["end"], string> = {
  "": "The problem is still open",
  over: "The problem ended without it",
  done: "An operator made the change",
  changed: "Another change was made on the target",
  "went on": "The problem was still present",
};

/** Summarise what mode auto would have done, and the outcome without it. */
export function shadowSummary(r: Recommendation, shadow: Shadow, unit: string, now: number): string {
  const at = clock(Date.parse(shadow.time), now, false);
  const end = shadow.ended === null ? null : Date.parse(shadow.ended);
  const span = duration(((end ?? now) - Date.parse(shadow.time)) / 1000);
  const what = r.is_action
    ? `run ${r.subject.replaceAll("_", " ")} on ${r.target}`
    : `set ${r.subject} ${valueText(shadow.before, unit)} → ${valueText(shadow.after, unit)}`;
  const sentences = [`Mode auto would have ${what} at ${at}.`];
  sentences.push(`${OUTCOMES[shadow.end]}${end === null ? "" : ` at ${clock(end, now, false)},`} after ${span}.`);
  if (shadow.figure && shadow.figure_before !== null) {
    const since = shadow.figure_since === null ? "" : `, ${value(shadow.figure_since, shadow.unit)} on average since`;
    sentences.push(`The ${shadow.figure} was ${value(shadow.figure_before, shadow.unit)} at that time${since}.`);
  }
  if (shadow.worst !== null && shadow.worst >= (shadow.severity ?? 0) + 0.1) {
    sentences.push(`The incident became worse in the meantime: severity ${shadow.severity?.toFixed(2)} → ${shadow.worst.toFixed(2)}.`);
  }
  return sentences.join(" ");
}
