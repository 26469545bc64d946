/** The pages of the dashboard, in the order of the navigation. */

/** A group of pages that is loaded on demand. */
export type Bundle = "series" | "anomalies" | "actions" | "planning";

export interface PageRoute {
  /** First part of the address; "" = the start page. */
  segment: string;
  /** Name in the navigation; absent = not in the navigation. */
  name?: string;
  /** Segment of the page that the navigation highlights instead. */
  parent?: string;
  /** Bundle of the page; absent = part of the first view. */
  bundle?: Bundle;
  /** Whether the page needs an engine with incidents and actions. */
  needsActions?: boolean;
}

/** To add a page: add a line here, and its component to the bundle (`pages/action-pages.tsx` and others). */
export const ROUTES: readonly PageRoute[] = [
  { segment: "", name: "Overview" },
  { segment: "incidents", name: "Incidents", bundle: "actions", needsActions: true },
  { segment: "inbox", name: "Inbox", bundle: "actions", needsActions: true },
  { segment: "actions", name: "Actions", bundle: "actions", needsActions: true },
  { segment: "tools", name: "Tools", bundle: "actions", needsActions: true },
  { segment: "series", name: "Series", bundle: "series" },
  { segment: "anomalies", name: "Anomalies", bundle: "anomalies" },
  { segment: "capacity", name: "Capacity", bundle: "planning", needsActions: true },
  { segment: "models", name: "Models", bundle: "planning", needsActions: true },
  { segment: "audit", name: "Audit", bundle: "actions", needsActions: true },
  { segment: "silences", parent: "incidents", bundle: "actions", needsActions: true },
];

export const pageRouteOf = (segment: string | undefined): PageRoute | undefined =>
  ROUTES.find((page) => page.segment === (segment ?? ""));
