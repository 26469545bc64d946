/** One incident in a list: severity, title, entities, start and state. */

import { duration, plural } from "../format.ts";
import { href } from "../router.ts";
import type { Incident, Level } from "../incidents-api.ts";
import { ClockTime } from "./series-name.tsx";

const LEVELS: Level[] = ["low", "medium", "high", "critical"];

/** Severity as a word with one to four bars. */
export function Severity({ level, over = false }: { level: Level; over?: boolean }) {
  const bars = LEVELS.indexOf(level) + 1;
  return (
    <span class={`severity ${level}${over ? " over" : ""}`}>
      <svg viewBox="0 0 16 12" width="16" height="12" aria-hidden="true">
        {LEVELS.map((name, i) => (
          <rect key={name} class={i < bars ? "bar full" : "bar"} x={i * 4} y={9 - i * 3} width="3" height={3 + i * 3} />
        ))}
      </svg>
      {level}
    </span>
  );
}

/** `cache_thrash` -> `cache thrash`. */
export const patternText = (name: string): string => name.replaceAll("_", " ");

export function IncidentRow({ incident, now }: { incident: Incident; now: number }) {
  const open = incident.end === null;
  const lastedS = ((incident.end === null ? now : Date.parse(incident.end)) - Date.parse(incident.start)) / 1000;
  const calm = incident.state === "resolved";
  return (
    <li>
      <a class={`row incident-row${calm ? " over" : ""}`} href={href(["incidents", incident.id])}>
        <Severity level={incident.level} over={calm} />
        <span class="name">
          <span class="metric">{incident.title}</span>{" "}
          {incident.patterns.filter((pattern) => calm || pattern.until === null).map((pattern) => (
            <span class="source-chip" key={pattern.name + pattern.entity}>
              {patternText(pattern.name)}
            </span>
          ))}
        </span>
        <span class="standing">
          {incident.entities.slice(0, 2).join(", ")}
          {incident.entities.length > 2 && ` and ${incident.entities.length - 2} more`}
          {", "}
          {plural(incident.anomaly_ids.length, "anomaly", "anomalies")}
        </span>
        <span class="when">
          <ClockTime time={incident.start} />
          <span class="quiet">
            {open ? "ongoing, " : ""}
            {duration(lastedS)}
          </span>
        </span>
        <span class="quiet">{incident.state}</span>
      </a>
    </li>
  );
}
