/** Sources and their state. */

import { count, duration, plural } from "../format.ts";
import { href } from "../router.ts";
import type { SourceStatus } from "../types.ts";
import { RelativeTime } from "./series-name.tsx";

const STATES: Record<SourceStatus["state"], string> = { up: "up", starting: "starting", unknown: "unavailable" };

export function Sources({ sources }: { sources: SourceStatus[] }) {
  return (
    <section class="panel" aria-labelledby="sources-title">
      <div class="panel-head">
        <h2 id="sources-title">Sources</h2>
      </div>
      {sources.length === 0 && (
        <p class="quiet">
          No sources configured. Add one to <code>trimtab.yaml</code> under <code>sources</code>, or start{" "}
          <code>trimtab up --prometheus URL</code>.
        </p>
      )}
      <ul class="sources">
        {sources.map((source) => (
          <Source key={source.name} source={source} />
        ))}
      </ul>
    </section>
  );
}

function Source({ source }: { source: SourceStatus }) {
  const warming = source.warm_progress !== null && source.warm_progress < 1;
  return (
    <li class={`source ${source.state}`}>
      <span class="source-state">
        <i aria-hidden="true" />
        {STATES[source.state]}
      </span>
      <div class="source-body">
        <p>
          <a href={href(["series"], { source: source.name })} class="source-name">
            {source.name}
          </a>{" "}
          <span class="quiet">
            {plural(source.series, "series", "series")}, every {duration(source.interval_s)}
            {source.since && source.state !== "up" && (
              <>
                , since <RelativeTime time={source.since} />
              </>
            )}
          </span>
        </p>
        {source.detail && <p class="source-detail">{source.detail}</p>}
        {source.state === "unknown" && <p class="quiet">Its series count as unknown until the source responds.</p>}
        {warming && <Warming share={source.warm_progress ?? 0} />}
        {source.left_out > 0 && (
          <p class="quiet">
            {count(source.left_out)} series exceed the limit and are not monitored; run <code>trimtab doctor</code> to list them.
          </p>
        )}
      </div>
    </li>
  );
}

function Warming({ share }: { share: number }) {
  const percent = Math.round(share * 100);
  return (
    <p class="warming">
      <progress max={100} value={percent} aria-label="Reading history" />
      <span class="quiet">reading history, {percent} %</span>
    </p>
  );
}
