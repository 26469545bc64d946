/** One action: its change, state, effect, outcome and rollback. */

import { useState } from "preact/hooks";
import { type Action, type ActionState, getAction, rollBack } from "../actions-api.ts";
import { getScores } from "../api.ts";
import { type ChartData, parseScores, withGaps } from "../chart-data.ts";
import { value } from "../format.ts";
import { useLive } from "../hooks.ts";
import { type Effect } from "../incidents-api.ts";
import { href } from "../router.ts";
import { ConfirmDialog } from "./confirm-dialog.tsx";
import { Sparkline } from "./icons.tsx";
import { LoadError } from "./notice.tsx";
import { ScopedButton } from "./scoped-button.tsx";
import { RelativeTime, ClockTime } from "./series-name.tsx";
import { EffectGlyph, EffectText, ValueChange } from "./values.tsx";

const STATE_TEXT: Record<ActionState, string> = {
  proposed: "proposed",
  executing: "executing",
  verifying: "verifying",
  kept: "kept",
  rolled_back: "rolled back",
  inconclusive: "no clear effect",
  failed: "failed",
  unknown: "unknown",
  refused: "refused",
};
const ROLLBACK_STATES = new Set<ActionState>(["verifying", "kept", "inconclusive", "unknown"]);
const STATE_HELP: Partial<Record<ActionState, string>> = {
  unknown: "The tool did not respond, so the change may or may not have been made. It is not retried automatically: check the tool.",
  failed: "Nothing was changed.",
  refused: "A guard rule refused the action and nothing was sent. The outcome states the reason.",
};

export function ActionStateBadge({ action: { state, started } }: { action: Action }) {
  return (
    <span class={`state ${state}`}>
      <i aria-hidden="true" />
      {state === "failed" && started === null ? "not sent" : STATE_TEXT[state]}
    </span>
  );
}

function ActionTitle({ action, unit }: { action: Action; unit: string }) {
  return (
    <>
      <span class="metric">{action.subject.replaceAll("_", " ")}</span>{" "}
      <span class="source-chip">
        {action.tool} · {action.target}
      </span>{" "}
      {!action.is_action && <ValueChange before={action.before} after={action.after} unit={unit} />}
    </>
  );
}

export function ActionRow({ action, unit }: { action: Action; unit: string }) {
  return (
    <li>
      <a class="row action-row" href={href(["actions", action.id])}>
        <ActionStateBadge action={action} />
        <span class="name">
          <ActionTitle action={action} unit={unit} />
        </span>
        <span class="standing">
          {action.undoes && "rollback of another action; "}
          {action.outcome?.words ?? action.told}
        </span>
        <span class="when">
          <ClockTime time={action.created} />
          <span class="quiet">by {action.by}</span>
        </span>
      </a>
    </li>
  );
}

export function ActionCard({ id, unit, onRolledBack }: { id: string; unit: (a: Action) => string; onRolledBack: (back: Action) => void }) {
  const found = useLive(`action-${id}`, (signal) => getAction(id, signal));
  const action = found.data;
  if (!action) return <LoadError of={found} what="This action" />;
  const effect = action.recommendation?.effect ?? null;
  return (
    <article class="panel card" aria-label={`${action.subject} of ${action.target}`}>
      <header class="card-head">
        <h2>
          <ActionTitle action={action} unit={unit(action)} />
        </h2>
        <span class="standing-chips">
          <ActionStateBadge action={action} />
          {action.time_scale < 1 && (
            <span class="badge" title="Verification and waiting times are shortened because this target is a trial">
              trial, time × {action.time_scale}
            </span>
          )}
        </span>
      </header>
      <p class="quiet">
        {action.is_action ? "Run by" : "Set by"} {action.by} <RelativeTime time={action.created} />, mode {action.mode}
        {action.ended && (
          <>
            ; ended <RelativeTime time={action.ended} />
          </>
        )}
        .{action.told && ` Tool response: ${action.told}.`} {STATE_HELP[action.state]}
      </p>
      {effect && <LiveEffect effect={effect} action={action} />}
      {action.outcome && <Outcome action={action} />}
      <RollbackButton action={action} unit={unit(action)} onRolledBack={onRolledBack} />
    </article>
  );
}

function Outcome({ action }: { action: Action }) {
  const measured = action.outcome?.effect;
  return (
    <p>
      <b>{action.outcome?.words}</b>
      {measured && (
        <>
          ; measured: <EffectText effect={measured} />
        </>
      )}
    </p>
  );
}

const BEFORE_MS = 10 * 60_000;
const AFTER_MS = 30 * 60_000;

/** The metric since before the change, compared with the expected effect. */
function LiveEffect({ effect, action }: { effect: Effect; action: Action }) {
  const begun = Date.parse(action.started ?? action.created);
  const since = begun - BEFORE_MS;
  const until = Math.min(Date.now(), (action.ended ? Date.parse(action.ended) : Date.now()) + AFTER_MS);
  const { data } = useLive(
    `effect-${action.id}`,
    async (signal) => (effect.series_id ? withGaps(parseScores(await getScores(effect.series_id, since, until, 300, signal))) : null),
    action.ended ? 30_000 : 2000,
  );
  const now = data ? lastOf(data) : null;
  return (
    <div class="live-effect">
      <div class="expected">
        <EffectText effect={effect} />
        <span>
          now <b>{value(now, effect.unit)}</b>
        </span>
        <EffectGlyph effect={effect} now={now} />
      </div>
      {data && data.time.length > 0 && (
        <figure class="effect-trace">
          <Sparkline data={data} since={since} until={until} label={`${effect.figure} since 10 min before the change`} />
          <svg class="moment" viewBox="0 0 100 36" preserveAspectRatio="none" aria-hidden="true">
            <path d={`M${((begun - since) / (until - since || 1)) * 97.5} 0V36`} />
          </svg>
          <figcaption>
            {effect.figure} since 10 min before the change; the line marks the change
          </figcaption>
        </figure>
      )}
    </div>
  );
}

function lastOf(data: ChartData): number | null {
  return data.value.findLast((x) => x !== null) ?? null;
}

function RollbackButton({ action, unit, onRolledBack }: { action: Action; unit: string; onRolledBack: (back: Action) => void }) {
  const [dialogOpen, setDialogOpen] = useState(false);
  if (!ROLLBACK_STATES.has(action.state) || action.is_action || action.undoes) return null;
  const act = async (): Promise<void> => onRolledBack(await rollBack(action.id));
  return (
    <div class="decide">
      <ScopedButton scope="execute" onClick={() => setDialogOpen(true)}>
        Roll back
      </ScopedButton>
      {dialogOpen && (
        <ConfirmDialog title="Roll back this change?" verb="Roll back" act={act} onClose={() => setDialogOpen(false)}>
          <p>
            {action.subject} of {action.target}: <ValueChange before={action.after} after={action.before} unit={unit} />
          </p>
          <p class="quiet">
            The rollback runs only if the value was not changed since. It also works while actions are paused.
          </p>
        </ConfirmDialog>
      )}
    </div>
  );
}
