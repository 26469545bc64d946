/** List of anomalies with filters, newest first. */

import { useEffect, useState } from "preact/hooks";
import { type AnomalyQuery, ApiError, getAnomalies } from "../api.ts";
import { useLive, useNow, useDebounced, moveRowFocus } from "../hooks.ts";
import { AnomalyRow, Timeline } from "../components/anomaly-row.tsx";
import { DURATIONS, type Option, SearchBox, Segmented, Select } from "../components/controls.tsx";
import { ErrorNotice, LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { replaceQuery } from "../router.ts";
import type { Anomaly, Page } from "../types.ts";
import { clock } from "../format.ts";
import { SourceSelect } from "./series.tsx";

const PAGE = 50;

const TIMES: readonly Option[] = [
  ["1h", "1h"],
  ["6h", "6h"],
  ["1d", "1d"],
  ["7d", "7d"],
  ["", "all"],
];
const DIRECTIONS: readonly Option[] = [
  ["", "any"],
  ["above", "above"],
  ["below", "below"],
  ["absent", "absent"],
];
const SCORES: readonly Option[] = [
  ["", "any"],
  ["1.5", "1.5+"],
  ["2", "2+"],
  ["3", "3+"],
  ["5", "5+"],
];

type Query = Record<string, string>;

/** Return the API query of the filters; `since` is relative to the time of the call. */
function anomalyQuery(query: Query, search: string): AnomalyQuery {
  const length = DURATIONS[query.time ?? ""];
  const out: AnomalyQuery = { search, limit: PAGE };
  if (query.open === "1") out.open = true;
  if (query.source) out.source = query.source;
  if (query.direction) out.direction = query.direction;
  if (query.score) out.min_score = query.score;
  if (length) out.since = new Date(Date.now() - length).toISOString();
  return out;
}

interface Older {
  filter: string;
  items: Anomaly[];
  next: string | null;
  busy: boolean;
  error: ApiError | null;
}

/** Load pages after the first one, which refreshes itself. */
function useOlder(filter: string, first: Page<Anomaly> | null, query: AnomalyQuery) {
  const fresh: Older = { filter, items: [], next: null, busy: false, error: null };
  const [older, setOlder] = useState<Older>(fresh);
  useEffect(() => setOlder(fresh), [filter]);
  const shown = older.filter === filter ? older : fresh;
  const started = shown.items.length > 0;
  const known = new Set(first?.items.map((a) => a.id));
  const items = [...(first?.items ?? []), ...shown.items.filter((a) => !known.has(a.id))];
  const next = started ? shown.next : (first?.next ?? null);
  const more = async (): Promise<void> => {
    setOlder({ ...shown, busy: true, error: null });
    try {
      const page = await getAnomalies({ ...query, after: started ? (shown.next ?? "") : (first?.next ?? "") });
      setOlder({ ...shown, items: [...shown.items, ...page.items], next: page.next, busy: false, error: null });
    } catch (error) {
      const apiError = error instanceof ApiError ? error : new ApiError(0, String(error), "");
      setOlder({ ...shown, busy: false, error: apiError });
    }
  };
  return { items, next, busy: shown.busy, error: shown.error, more };
}

export function AnomaliesPage({ query }: { query: Query }) {
  const search = useDebounced(query.search ?? "");
  const filter = JSON.stringify([search, query.open, query.source, query.direction, query.score, query.time]);
  const first = useLive(`anomalies ${filter}`, (signal) => getAnomalies(anomalyQuery(query, search), signal), 3000);
  const list = useOlder(filter, first.data, anomalyQuery(query, search));
  const filtered = Boolean(search || query.open || query.source || query.direction || query.score || query.time);
  return (
    <>
      <h1>Anomalies</h1>
      <Filters query={query} />
      <LoadError of={first} what="Anomalies" />
      {!first.data && !first.error && <LoadingRows rows={10} />}
      {first.data && list.items.length === 0 && <EmptyState filtered={filtered} />}
      {list.items.length > 0 && <List items={list.items} length={DURATIONS[query.time ?? ""]} />}
      {list.error && <ErrorNotice error={list.error} what="More anomalies" />}
      {list.next && (
        <div class="pager">
          <button type="button" class="button" disabled={list.busy} onClick={() => void list.more()}>
            {list.busy ? "Loading…" : "Load more"}
          </button>
        </div>
      )}
    </>
  );
}

function Filters({ query }: { query: Query }) {
  const set = (name: string) => (to: string) => replaceQuery({ [name]: to });
  return (
    <div class="filters">
      <SearchBox
        value={query.search ?? ""}
        label="Search anomalies"
        onInput={(text) => replaceQuery({ search: text })}
      />
      <button
        type="button"
        class="button toggle"
        aria-pressed={query.open === "1"}
        onClick={() => replaceQuery({ open: query.open === "1" ? undefined : "1" })}
      >
        Open only
      </button>
      <Segmented label="Time range" value={query.time ?? ""} options={TIMES} onChange={set("time")} />
      <SourceSelect value={query.source ?? ""} />
      <Select label="Direction" value={query.direction ?? ""} options={DIRECTIONS} onChange={set("direction")} />
      <Select label="Score" value={query.score ?? ""} options={SCORES} onChange={set("score")} />
    </div>
  );
}

function List({ items, length }: { items: Anomaly[]; length: number | undefined }) {
  const now = useNow(5000);
  const earliest = Math.min(...items.map((a) => Date.parse(a.start)));
  const since = length ? now - length : Math.min(earliest, now - 600_000);
  return (
    <>
      <figure class="panel times">
        <Timeline anomalies={items} since={since} until={now} />
        <figcaption class="ends">
          <span>{clock(since, now, false)}</span>
          <span>now</span>
        </figcaption>
      </figure>
      <section class="panel" aria-label="Anomalies">
        <ul class="rows" onKeyDown={moveRowFocus}>
          {items.map((a) => (
            <AnomalyRow key={a.id} anomaly={a} now={now} />
          ))}
        </ul>
      </section>
    </>
  );
}

function EmptyState({ filtered }: { filtered: boolean }) {
  if (!filtered) {
    return (
      <Notice kind="calm" title="No anomalies yet">
        Trimtab first learns the normal behaviour of each series. The <a href="#/">overview</a> shows the progress.
      </Notice>
    );
  }
  const clear = { search: "", open: "", source: "", direction: "", score: "", time: "" };
  return (
    <Notice kind="calm" title="No matching anomalies">
      <button type="button" class="button small" onClick={() => replaceQuery(clear)}>
        Clear filters
      </button>
    </Notice>
  );
}
