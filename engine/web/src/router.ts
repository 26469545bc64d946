/** The route in the part of the address after `#`. */

export interface Route {
  /** Decoded path parts: [] overview, ["series", id] ... */
  path: string[];
  query: Record<string, string>;
}

/** `#/series/ab?range=1h` -> path ["series", "ab"], query {range: "1h"}. */
export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#/, "").split("?", 2);
  return {
    path: path.split("/").filter(Boolean).map(decoded),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Return the address of a page; empty query values are omitted. */
export function href(path: string[], query: Record<string, string | undefined> = {}): string {
  const nonEmpty = Object.entries(query).filter((pair): pair is [string, string] => Boolean(pair[1]));
  const text = new URLSearchParams(nonEmpty).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Change the query of the current page without a new history entry. */
export function replaceQuery(change: Record<string, string | undefined>): void {
  const here = parse(location.hash);
  const next = href(here.path, { ...here.query, ...change });
  if (next === location.hash) return;
  history.replaceState(null, "", next);
  window.dispatchEvent(new HashChangeEvent("hashchange"));
}
