/** List of series with search, filter and paging. */

import { useRef, useState } from "preact/hooks";
import { getSeriesPage, getStatus } from "../api.ts";
import { count } from "../format.ts";
import { useLive, useDebounced, moveRowFocus } from "../hooks.ts";
import { type Option, SearchBox, Segmented, Select } from "../components/controls.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { SeriesHead, SeriesRow } from "../components/series-row.tsx";
import { replaceQuery } from "../router.ts";
import type { Page, Series } from "../types.ts";

const PAGE = 50;

const SORTS: readonly Option[] = [
  ["score", "by score"],
  ["name", "by name"],
];

export function SeriesPage({ query }: { query: Record<string, string> }) {
  const search = query.search ?? "";
  const source = query.source ?? "";
  const sort = query.sort === "name" ? "name" : "score";
  const rested = useDebounced(search);
  const filter = JSON.stringify([rested, source, sort]);
  const [pages, setPages] = useState<{ filter: string; cursors: string[] }>({ filter, cursors: [] });
  const cursors = pages.filter === filter ? pages.cursors : [];
  const after = cursors.at(-1) ?? "";
  const found = useLive(`series ${filter} ${after}`, (signal) =>
    getSeriesPage({ search: rested, source, sort, after, limit: PAGE }, signal),
  );
  const go = (next: string[]): void => setPages({ filter, cursors: next });
  return (
    <>
      <h1>Series</h1>
      <div class="filters">
        <SearchBox
          value={search}
          focused={query.focus === "search"}
          label="Search series"
          onInput={(text) => replaceQuery({ search: text, focus: undefined })}
        />
        <SourceSelect value={source} />
        <Segmented label="Order" value={sort} options={SORTS} onChange={(to) => replaceQuery({ sort: to })} />
      </div>
      <LoadError of={found} what="Series" />
      {found.data ? (
        <List page={found.data} search={rested} source={source} first={cursors.length * PAGE} />
      ) : (
        !found.error && <LoadingRows rows={12} />
      )}
      {found.data && (cursors.length > 0 || found.data.next) && (
        <Pager
          back={cursors.length > 0 ? () => go(cursors.slice(0, -1)) : null}
          on={found.data.next === null ? null : () => go([...cursors, found.data?.next ?? ""])}
        />
      )}
    </>
  );
}

export function SourceSelect({ value }: { value: string }) {
  const { data } = useLive("status-sources", getStatus, 15_000);
  const names = data?.sources.map((s) => s.name) ?? [];
  if (value && !names.includes(value)) names.push(value);
  const options: Option[] = [["", "all"], ...names.map((name): Option => [name, name])];
  return <Select label="Source" value={value} options={options} onChange={(to) => replaceQuery({ source: to })} />;
}

/** Keep the order of rows while the pointer or the focus is in the list; only values change. */
function useStableOrder(page: Page<Series>): { rows: Series[]; hold: (on: boolean) => void } {
  const held = useRef(false);
  const shown = useRef<Series[]>([]);
  const now = new Map(page.items.map((s) => [s.id, s]));
  const same = shown.current.filter((s) => now.has(s.id)).length >= page.items.length * 0.7;
  const rows =
    held.current && same && shown.current.length > 0 ? shown.current.map((s) => now.get(s.id) ?? s) : page.items;
  shown.current = rows;
  return { rows, hold: (on) => void (held.current = on) };
}

interface ListProps {
  page: Page<Series>;
  search: string;
  source: string;
  first: number;
}

function List({ page, search, source, first }: ListProps) {
  const { rows, hold } = useStableOrder(page);
  const total = page.total ?? rows.length;
  if (rows.length === 0) return <EmptyState search={search} source={source} />;
  return (
    <section class="panel" aria-label="Series">
      <SeriesHead />
      <ul
        class="rows"
        onKeyDown={moveRowFocus}
        onMouseEnter={() => hold(true)}
        onMouseLeave={() => hold(false)}
        onFocusIn={() => hold(true)}
        onFocusOut={() => hold(false)}
      >
        {rows.map((s) => (
          <SeriesRow key={s.id} series={s} withSource={source === ""} />
        ))}
      </ul>
      <p class="more quiet" role="status">
        {count(first + 1)}–{count(first + rows.length)} of {count(total)}
      </p>
    </section>
  );
}

function EmptyState({ search, source }: { search: string; source: string }) {
  if (search || source) {
    return (
      <Notice kind="calm" title="No matching series">
        Every word must occur in the name or in a label. Use <code>core=1</code> to match a label exactly.{" "}
        <button type="button" class="button small" onClick={() => replaceQuery({ search: "", source: "" })}>
          Show all
        </button>
      </Notice>
    );
  }
  return (
    <Notice kind="wait" title="No series yet">
      The first samples arrive within one interval of the source. See the <a href="#/">overview</a> for the state of each
      source.
    </Notice>
  );
}

function Pager({ back, on }: { back: (() => void) | null; on: (() => void) | null }) {
  return (
    <div class="pager">
      <button type="button" class="button" disabled={!back} onClick={() => back?.()}>
        Previous
      </button>
      <button type="button" class="button" disabled={!on} onClick={() => on?.()}>
        Next
      </button>
    </div>
  );
}
