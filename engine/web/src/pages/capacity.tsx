/** Capacity targets: wanted count with its reason, forecast load and cost. */

import { useLive } from "../hooks.ts";
import { getRecommendations } from "../incidents-api.ts";
import { CopyableText } from "../components/copyable-text.tsx";
import { LoadChart } from "../components/load-chart.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { RelativeTime } from "../components/series-name.tsx";
import { confidenceText } from "../components/values.tsx";
import { CAPACITY_YAML, costText, countText, estimateText, kedaYaml, reasonText } from "../forecast-text.ts";
import { type Capacity, getCapacity } from "../planning-api.ts";
import { value } from "../format.ts";
import { href } from "../router.ts";

const EVERY_MS = 5000;

export function CapacityPage() {
  const found = useLive("capacity", getCapacity, EVERY_MS);
  return (
    <>
      <h1>Capacity</h1>
      <LoadError of={found} what="Capacity" />
      {!found.data && !found.error && <LoadingRows rows={6} />}
      {found.data?.items.length === 0 && <EmptyState />}
      {found.data?.items.map((one) => (
        <CapacityCard key={one.name} of={one} />
      ))}
    </>
  );
}

function EmptyState() {
  return (
    <>
      <Notice kind="calm" title="No capacity targets configured">
        List services, pools or caches in trimtab.yaml. This page then shows how many instances each needs for the current and
        the forecast load. Nothing changes automatically: an autoscaler reads the count, or you approve a change by a tool.
      </Notice>
      <CopyableText text={CAPACITY_YAML} what="settings" />
    </>
  );
}

function CapacityCard({ of: c }: { of: Capacity }) {
  const per = c.capacity_per_replica?.value ?? null;
  return (
    <article class="panel capacity" aria-label={c.name}>
      <header class="card-head">
        <h2>{c.name}</h2>
        <span class="standing-chips">
          {c.wanted !== null && <span class="quiet">{confidenceText(c.confidence)}</span>}
          <span class="quiet">
            <RelativeTime time={c.time} />
          </span>
        </span>
      </header>
      <Counts of={c} />
      <div class="capacity-body">
        {c.path && c.path.ahead_s.length > 0 && (
          <LoadChart path={c.path} unit={c.unit} load={c.load} currentCapacity={product(c.ready, per)} wantedCapacity={product(c.wanted, per)} />
        )}
        <Facts of={c} />
      </div>
      <CapacityLinks of={c} />
    </article>
  );
}

const product = (n: number | null, each: number | null): number | null => (n === null || each === null ? null : n * each);

function Counts({ of: c }: { of: Capacity }) {
  const same = c.wanted !== null && c.wanted === c.current;
  return (
    <div class="wanted">
      <p class="wanted-count">
        {c.wanted === null ? (
          <b class="not-known">unknown</b>
        ) : (
          <>
            <b>{countText(c.wanted, c.kind)}</b> wanted
          </>
        )}
        <span class="quiet">
          {same ? "no change" : `${countText(c.current, c.kind)} now`}
          {c.ready !== null && c.current !== null && c.ready < c.current && `, ${countText(c.ready, c.kind)} ready`}
        </span>
      </p>
      <p>
        {reasonText(c)}
        {c.wanted === null && " Autoscalers receive no count and make no change."}
      </p>
    </div>
  );
}

function Facts({ of: c }: { of: Capacity }) {
  const cost = costText(c);
  const facts: [string, string][] = [
    ["Current load", value(c.load, c.unit)],
    ["Capacity per instance", estimateText(c.capacity_per_replica, c.unit)],
    ["Start-up time", estimateText(c.startup_s, "s")],
    ["Target utilisation", value(c.target_utilisation, "ratio")],
    ["Needed for current load", c.floor === null ? "unknown" : countText(c.floor, c.kind)],
    ["Needed for forecast load", c.ahead === null ? "no forecast yet" : countText(c.ahead, c.kind)],
    ["Cost", cost ?? "unknown: set cost_per_replica_hour"],
    ["Look-ahead", c.path ? `${value(Math.max(...c.path.ahead_s), "s")} (start-up time)` : "not available yet"],
  ];
  return (
    <dl class="plan-facts">
      {facts.map(([name, text]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{text}</dd>
        </div>
      ))}
    </dl>
  );
}

const OPEN_STATES = new Set(["pending", "approved", "scheduled", "applied"]);

/** Links to the recommendation and the load series, and the KEDA trigger. */
function CapacityLinks({ of: c }: { of: Capacity }) {
  const { data } = useLive(
    `advice-${c.tool}-${c.target}-${c.knob}`,
    async (signal) =>
      c.tool ? (await getRecommendations({ tool: c.tool, target: c.target, limit: 20 }, signal)).items : [],
    EVERY_MS,
  );
  const advice = data?.find((r) => r.subject === c.knob && OPEN_STATES.has(r.state));
  const engine = new URL("./", location.href.split("#", 1)[0]).href.replace(/\/$/, "");
  return (
    <div class="ways">
      <p>
        {advice && (
          <>
            Recommendation: <a href={href(["inbox", advice.id])}>{advice.title}</a> ({advice.state}).{" "}
          </>
        )}
        {!advice && (
          <span class="quiet">
            {c.tool
              ? `No open recommendation. ${c.tool} can change ${c.knob} of ${c.target || c.tool}. `
              : "Read-only: no tool is configured to change it. "}
          </span>
        )}
        {c.load_id ? (
          <a href={href(["series", c.load_id])}>Load series and forecast</a>
        ) : (
          c.series_ids[0] && <a href={href(["series", c.series_ids[0]])}>Input series</a>
        )}
      </p>
      <details class="numbers">
        <summary>Use with KEDA</summary>
        <CopyableText text={kedaYaml(c.name, engine)} what="trigger" />
      </details>
    </div>
  );
}
