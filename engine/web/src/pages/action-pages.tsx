/** Pages of incidents, recommendations, actions, tools and audit, loaded on demand. */

import type { Route } from "../router.ts";
import "../styles/actions.css";
import "../styles/action-pages.css";
import { ActionPage, ActionsPage } from "./actions.tsx";
import { AuditPage } from "./audit.tsx";
import { InboxPage, RecommendationPage } from "./inbox.tsx";
import { IncidentPage } from "./incident.tsx";
import { IncidentsPage } from "./incidents.tsx";
import { SilencesPage } from "./silences.tsx";
import { ToolPage, ToolsPage } from "./tools.tsx";

export function Pages({ route }: { route: Route }) {
  const [noun, id] = route.path;
  if (noun === "incidents") return id === undefined ? <IncidentsPage query={route.query} /> : <IncidentPage key={id} id={id} />;
  if (noun === "inbox") return id === undefined ? <InboxPage query={route.query} /> : <RecommendationPage key={id} id={id} />;
  if (noun === "actions") return id === undefined ? <ActionsPage /> : <ActionPage key={id} id={id} />;
  if (noun === "tools") return id === undefined ? <ToolsPage /> : <ToolPage key={id} name={id} />;
  if (noun === "silences") return <SilencesPage />;
  return <AuditPage />;
}
