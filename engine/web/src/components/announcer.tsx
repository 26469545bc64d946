/** Screen reader announcements, and the title and icon of the browser tab. */

import { useEffect, useRef, useState } from "preact/hooks";
import { getStatus } from "../api.ts";
import { plural } from "../format.ts";
import { useLive } from "../hooks.ts";
import { newestAnomaly, newestIncident } from "../event-stream.ts";
import type { Route } from "../router.ts";
import { pageRouteOf } from "../routes.ts";
import { useShared } from "../shared-state.ts";

export function Announcer() {
  const event = useShared(newestAnomaly);
  const incident = useShared(newestIncident);
  const announced = useRef(new Set<string>());
  const [text, setText] = useState("");
  useEffect(() => {
    if (!event || event.end !== null || announced.current.has(event.id)) return;
    announced.current.add(event.id);
    setText(`New anomaly: ${event.series}, ${event.direction === "absent" ? "no samples" : `${event.direction} expected`}.`);
  }, [event]);
  useEffect(() => {
    if (!incident || incident.end !== null || announced.current.has(incident.id)) return;
    announced.current.add(incident.id);
    setText(`New incident, severity ${incident.level}: ${incident.title}.`);
  }, [incident]);
  return (
    <div class="only-heard" role="status" aria-live="polite" id="announcer">
      {text}
    </div>
  );
}

/** Set the title, `(3) Overview · Trimtab`, and the tab icon, which changes while there are open anomalies. */
export function usePageTitle(route: Route): void {
  const { data } = useLive("status-title", getStatus, 10_000);
  const open = Number(data?.engine.anomalies_open ?? 0);
  const page = pageRouteOf(route.path[0])?.name ?? "Overview";
  useEffect(() => {
    document.title = `${open > 0 ? `(${open}) ` : ""}${page} · Trimtab`;
    const icon = document.querySelector<HTMLLinkElement>("link[rel=icon]");
    const file = open > 0 ? "./favicon-unusual.svg" : "./favicon.svg";
    if (icon && icon.getAttribute("href") !== file) icon.setAttribute("href", file);
  }, [open, page]);
}

export const openAnomaliesText = (n: number): string => plural(n, "open anomaly", "open anomalies");
