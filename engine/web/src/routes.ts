/** The pages: what the navigation shows, in its order, and the piece of the program in which each lives. */

export type Piece = "series" | "anomalies" | "acting" | "planning";

export interface Place {
  /** First part of the address; "" = the start. */
  noun: string;
  /** In the navigation; absent = it is reached from another page. */
  name?: string;
  /** The page in the navigation that it belongs to. */
  under?: string;
  /** Loaded when first asked for; absent = it is there from the start. */
  piece?: Piece;
  /** Only where the engine has incidents and may act. */
  acts?: boolean;
}

/** To add a page: a line here, and its component in the piece (`pages/action-pages.tsx` and its like). */
export const PLACES: readonly Place[] = [
  { noun: "", name: "Overview" },
  { noun: "incidents", name: "Incidents", piece: "acting", acts: true },
  { noun: "inbox", name: "Inbox", piece: "acting", acts: true },
  { noun: "actions", name: "Actions", piece: "acting", acts: true },
  { noun: "tools", name: "Tools", piece: "acting", acts: true },
  { noun: "series", name: "Series", piece: "series" },
  { noun: "anomalies", name: "Anomalies", piece: "anomalies" },
  { noun: "capacity", name: "Capacity", piece: "planning", acts: true },
  { noun: "models", name: "Models", piece: "planning", acts: true },
  { noun: "audit", name: "Audit", piece: "acting", acts: true },
  { noun: "silences", under: "incidents", piece: "acting", acts: true },
];

export const placeOf = (noun: string | undefined): Place | undefined => PLACES.find((place) => place.noun === (noun ?? ""));
