/** Recommendations: approve, apply, schedule or dismiss. */

import { useState } from "preact/hooks";
import { type Action, type KnobEntry, getKnobs, getRecommendation, getShadowSummary } from "../actions-api.ts";
import { plural } from "../format.ts";
import { useLive } from "../hooks.ts";
import { getRecommendations } from "../incidents-api.ts";
import { ActionRow } from "../components/action.tsx";
import { type Option, Segmented } from "../components/controls.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { RecommendationCard } from "../components/recommendation.tsx";
import { href, replaceQuery } from "../router.ts";

const STATES: readonly Option[] = [
  ["", "pending"],
  ["approved", "approved"],
  ["scheduled", "scheduled"],
  ["applied", "applied"],
  ["all", "all"],
];
const PAGE = 50;

/** Return a function that gives the unit of a recommendation's knob; "" = unknown. */
export function useUnits(): (r: { tool: string; target: string; subject: string }) => string {
  const { data } = useLive("knobs", getKnobs, 60_000);
  const of = (k: KnobEntry): string => JSON.stringify([k.tool, k.target, k.knob.name]);
  const units = new Map(data?.items.map((k) => [of(k), k.knob.unit]));
  return (r) => units.get(JSON.stringify([r.tool, r.target, r.subject])) ?? "";
}

export interface StatusMessage {
  text: string;
  action?: Action | undefined;
}

/** Result of the last decision, with a link to the action. */
export function StatusLine({ message }: { message: StatusMessage | null }) {
  return (
    <p class="said" role="status">
      {message && `${message.text} `}
      {message?.action && <a href={href(["actions", message.action.id])}>View action</a>}
    </p>
  );
}

export function InboxPage({ query }: { query: Record<string, string> }) {
  const shown = query.state ?? "";
  const state = shown === "all" ? "" : shown || "pending";
  const found = useLive(`inbox ${state}`, (signal) => getRecommendations({ state, limit: PAGE }, signal));
  const [message, setMessage] = useState<StatusMessage | null>(null);
  const unit = useUnits();
  const decided = (text: string, action?: Action): void => {
    setMessage({ text, action });
    found.reload();
  };
  return (
    <>
      <h1>Recommendations</h1>
      <div class="filters">
        <Segmented label="State" value={shown} options={STATES} onChange={(to) => replaceQuery({ state: to })} />
      </div>
      <ShadowTotals />
      <StatusLine message={message} />
      <LoadError of={found} what="Recommendations" />
      {!found.data && !found.error && <LoadingRows rows={8} />}
      {found.data?.items.length === 0 && <EmptyState toDecide={shown === ""} />}
      {found.data?.items.map((r) => (
        <RecommendationCard key={r.id} recommendation={r} unit={unit(r)} onDecided={decided} />
      ))}
      {found.data?.next && <p class="more quiet">Older recommendations are not shown. Filter by state or use the API.</p>}
    </>
  );
}

/** Totals of what mode auto would have done, by outcome without it. */
function ShadowTotals() {
  const { data } = useLive("shadow", getShadowSummary, 30_000);
  if (!data || data.actions === 0) return null;
  const ends: [number, string][] = [
    [data.over, "ended on its own"],
    [data.done, "done by an operator"],
    [data.changed, "superseded by another change"],
    [data.went_on, "still present after a day"],
    [data.open, "still open"],
  ];
  const outcomes = ends.filter(([n]) => n > 0).map(([n, words]) => `${n} ${words}`);
  return (
    <p class="quiet">
      Mode auto would have run {plural(data.actions, "action", "actions")}. Outcome without them: {outcomes.join(", ")}
      {data.worse > 0 && `; ${data.worse} became worse`}.
    </p>
  );
}

function EmptyState({ toDecide }: { toDecide: boolean }) {
  if (!toDecide) {
    return (
      <Notice kind="calm" title="No recommendations in this state">
        <button type="button" class="button small" onClick={() => replaceQuery({ state: "all" })}>
          Show all
        </button>
      </Notice>
    );
  }
  return (
    <Notice kind="calm" title="No pending recommendations">
      Changes that would help appear here with their evidence. See <a href="#/tools">tools</a> for what can be changed.
    </Notice>
  );
}

export function RecommendationPage({ id }: { id: string }) {
  const found = useLive(`recommendation-${id}`, (signal) => getRecommendation(id, signal));
  const [message, setMessage] = useState<StatusMessage | null>(null);
  const unit = useUnits();
  const r = found.data;
  if (!r) return found.error ? <LoadError of={found} what="This recommendation" /> : <LoadingRows rows={6} />;
  const decided = (text: string, action?: Action): void => {
    setMessage({ text, action });
    found.reload();
  };
  return (
    <>
      <nav class="crumbs" aria-label="Breadcrumb">
        <a href="#/inbox">Recommendations</a>
      </nav>
      <h1>{r.title}</h1>
      <StatusLine message={message} />
      <RecommendationCard recommendation={r} unit={unit(r)} onDecided={decided} />
      {r.incident_id && (
        <p>
          <a href={href(["incidents", r.incident_id])}>Related incident</a>
        </p>
      )}
      {r.actions.length > 0 && (
        <section class="panel" aria-labelledby="acts-title">
          <div class="panel-head">
            <h2 id="acts-title">Actions</h2>
          </div>
          <ul class="rows">
            {r.actions.map((action) => (
              <ActionRow key={action.id} action={action} unit={unit(action)} />
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

