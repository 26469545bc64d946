/** List of incidents, newest first. */

import { useState } from "preact/hooks";
import type { Query } from "../api.ts";
import { useLive, useNow, useDebounced, moveRowFocus } from "../hooks.ts";
import { type Incident, getIncidents } from "../incidents-api.ts";
import { writeErrorText } from "../components/confirm-dialog.tsx";
import { type Option, SearchBox, Segmented } from "../components/controls.tsx";
import { IncidentRow } from "../components/incident-row.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { replaceQuery } from "../router.ts";

const PAGE = 50;
const STATES: readonly Option[] = [
  ["", "all"],
  ["open", "open"],
  ["acknowledged", "acknowledged"],
  ["resolved", "resolved"],
];

export function IncidentsPage({ query }: { query: Record<string, string> }) {
  const now = useNow(5000);
  const search = useDebounced(query.search ?? "");
  const filters: Query = { search, state: query.state ?? "", limit: PAGE };
  const filter = JSON.stringify([search, query.state ?? ""]);
  const found = useLive(`incidents ${filter}`, (signal) => getIncidents(filters, signal), 3000);
  const { older, next, more, wrong } = useOlder(filter, filters, found.data?.next ?? null);
  const known = new Set(found.data?.items.map((incident) => incident.id));
  const items = [...(found.data?.items ?? []), ...older.filter((incident) => !known.has(incident.id))];
  return (
    <>
      <h1>Incidents</h1>
      <div class="filters">
        <SearchBox value={query.search ?? ""} label="Search incidents" onInput={(text) => replaceQuery({ search: text })} />
        <Segmented
          label="State"
          value={query.state ?? ""}
          options={STATES}
          onChange={(to) => replaceQuery({ state: to })}
        />
        <a href="#/silences">Silences</a>
      </div>
      <LoadError of={found} what="Incidents" />
      {!found.data && !found.error && <LoadingRows rows={8} />}
      {found.data && items.length === 0 && <EmptyState filtered={Boolean(search || query.state)} />}
      {items.length > 0 && (
        <section class="panel" aria-label="Incidents">
          <ul class="rows" onKeyDown={moveRowFocus}>
            {items.map((incident) => (
              <IncidentRow key={incident.id} incident={incident} now={now} />
            ))}
          </ul>
        </section>
      )}
      {wrong && (
        <p role="alert" class="wrong">
          {wrong}
        </p>
      )}
      {next && (
        <div class="pager">
          <button type="button" class="button" onClick={() => void more()}>
            Load more
          </button>
        </div>
      )}
    </>
  );
}

/** Load pages after the first one, which refreshes itself. */
function useOlder(filter: string, filters: Query, first: string | null) {
  const [loaded, setLoaded] = useState<{ filter: string; items: Incident[]; next: string | null }>({
    filter,
    items: [],
    next: null,
  });
  const [wrong, setWrong] = useState("");
  const mine = loaded.filter === filter && loaded.items.length > 0;
  const next = mine ? loaded.next : first;
  const more = async (): Promise<void> => {
    setWrong("");
    try {
      const page = await getIncidents({ ...filters, after: next ?? "" });
      setLoaded({ filter, items: [...(mine ? loaded.items : []), ...page.items], next: page.next });
    } catch (error) {
      setWrong(writeErrorText(error));
    }
  };
  return { older: mine ? loaded.items : [], next, more, wrong };
}

function EmptyState({ filtered }: { filtered: boolean }) {
  if (!filtered) {
    return (
      <Notice kind="calm" title="No incidents yet">
        Related anomalies are grouped into incidents. See <a href="#/anomalies">anomalies</a> for individual ones.
      </Notice>
    );
  }
  return (
    <Notice kind="calm" title="No matching incidents">
      <button type="button" class="button small" onClick={() => replaceQuery({ search: "", state: "" })}>
        Clear filters
      </button>
    </Notice>
  );
}
