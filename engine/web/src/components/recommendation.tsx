/** One recommendation: change, effect, evidence, confidence, risk, and buttons to decide on it. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { type Action, applyNow, decide } from "../actions-api.ts";
import { duration } from "../format.ts";
import { useNow } from "../hooks.ts";
import type { Recommendation, Shadow } from "../incidents-api.ts";
import { shadowSummary } from "../incident-text.ts";
import { href } from "../router.ts";
import { ConfirmDialog, writeErrorText } from "./confirm-dialog.tsx";
import { patternText } from "./incident-row.tsx";
import { ScopedButton } from "./scoped-button.tsx";
import { RelativeTime, ClockTime } from "./series-name.tsx";
import { EffectGlyph, EffectText, ValueChange, RiskBadge, confidenceText } from "./values.tsx";

/** Subject of a recommendation that no knob or action can make: an operator applies or dismisses it. */
const BY_HAND = "by hand";

export interface CardProps {
  recommendation: Recommendation;
  unit: string;
  /** Called after a decision, with a message and the action it started. */
  onDecided: (text: string, action?: Action) => void;
}

export function RecommendationCard({ recommendation: r, unit, onDecided }: CardProps) {
  return (
    <article class="panel card" aria-label={r.title}>
      <header class="card-head">
        <h2>
          <a href={href(["inbox", r.id])}>{r.title}</a>
        </h2>
        <StateChips recommendation={r} />
      </header>
      <p class="change">
        <span class="where">
          {r.tool} · {r.target} · {r.subject}
        </span>
        {r.subject !== BY_HAND &&
          (r.is_action ? <span>one-click action</span> : <ValueChange before={r.before} after={r.after} unit={unit} />)}
      </p>
      {r.effect && (
        <div class="expected">
          <EffectText effect={r.effect} />
          <EffectGlyph effect={r.effect} />
        </div>
      )}
      <ul class="evidence">
        {r.evidence.map((sentence) => (
          <li key={sentence}>{sentence}</li>
        ))}
      </ul>
      <Facts recommendation={r} />
      {r.shadow && <ShadowText recommendation={r} shadow={r.shadow} unit={unit} />}
      <DecisionButtons recommendation={r} unit={unit} onDecided={onDecided} />
    </article>
  );
}

function StateChips({ recommendation: r }: { recommendation: Recommendation }) {
  const now = useNow(10_000);
  const left = (Date.parse(r.expires) - now) / 1000;
  return (
    <span class="standing-chips">
      <RiskBadge risk={r.risk} />
      <span class="quiet">{confidenceText(r.confidence)}</span>
      {r.state === "pending" ? (
        <span class="quiet">{left > 0 ? `expires in ${duration(left)}` : "expiring"}</span>
      ) : (
        <span class={`state ${r.state}`}>
          {r.state}
          {r.scheduled && r.state === "scheduled" && (
            <>
              {" for "}
              <ClockTime time={r.scheduled} seconds={false} />
            </>
          )}
          {r.approver && ` by ${r.approver}`}
        </span>
      )}
    </span>
  );
}

function Facts({ recommendation: r }: { recommendation: Recommendation }) {
  const facts: [string, ComponentChildren][] = [
    ["Wrong if", r.disproof],
    ["Cost", r.cost],
    ["Reason", r.reason],
    ["Pattern", patternText(r.pattern)],
    ["Raised for", r.incident_id ? <a href={href(["incidents", r.incident_id])}>an incident</a> : "no incident"],
    ["Proposed", <>by {r.proposer}, <RelativeTime time={r.created} /></>],
    ["Command", r.command && <code class="command">{r.command}</code>],
  ];
  return (
    <dl class="facts">
      {facts
        .filter(([, text]) => Boolean(text))
        .map(([name, text]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{text}</dd>
          </div>
        ))}
    </dl>
  );
}

function ShadowText({ recommendation, shadow, unit }: { recommendation: Recommendation; shadow: Shadow; unit: string }) {
  const now = useNow(10_000);
  return <p class="shadow">{shadowSummary(recommendation, shadow, unit, now)}</p>;
}

type DialogKind = "dismiss" | "schedule" | "apply" | "approve" | null;

function DecisionButtons({ recommendation: r, unit, onDecided }: CardProps) {
  const [dialog, setDialog] = useState<DialogKind>(null);
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState("");
  const open = r.state === "pending" || r.state === "approved" || r.state === "scheduled";
  if (!open) return null;
  const doable = r.subject !== BY_HAND;
  const approve = async (): Promise<void> => {
    await decide(r.id, "approve");
    onDecided(`Approved: ${r.title}. It runs as soon as the guard rules allow it.`);
  };
  const atOnce = async (): Promise<void> => {
    setBusy(true);
    setWrong("");
    try {
      await approve();
    } catch (error) {
      setWrong(writeErrorText(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      {wrong && (
        <p role="alert" class="wrong">
          {wrong}
        </p>
      )}
      <div class="decide">
        {r.state === "pending" && doable && (
          <ScopedButton scope="approve" primary disabled={busy} onClick={() => (r.risk === "high" ? setDialog("approve") : void atOnce())}>
            Approve
          </ScopedButton>
        )}
        {doable && (
          <ScopedButton scope="execute" onClick={() => setDialog("apply")}>
            Apply now
          </ScopedButton>
        )}
        {r.state !== "scheduled" && doable && (
          <ScopedButton scope="approve" onClick={() => setDialog("schedule")}>
            Schedule
          </ScopedButton>
        )}
        <ScopedButton scope="approve" onClick={() => setDialog("dismiss")}>
          Dismiss
        </ScopedButton>
      </div>
      {dialog && <DecisionDialog what={dialog} recommendation={r} unit={unit} approve={approve} onDecided={onDecided} onClose={() => setDialog(null)} />}
    </>
  );
}

interface DecisionDialogProps extends CardProps {
  what: NonNullable<DialogKind>;
  approve: () => Promise<void>;
  onClose: () => void;
}

function DecisionDialog({ what, recommendation: r, unit, approve, onDecided, onClose }: DecisionDialogProps) {
  const about = (
    <p>
      <b>{r.title}</b>
      {!r.is_action && (
        <>
          : {r.subject} <ValueChange before={r.before} after={r.after} unit={unit} />
        </>
      )}
    </p>
  );
  if (what === "dismiss") {
    const act = async (reason: string): Promise<void> => {
      await decide(r.id, "dismiss", { reason });
      onDecided(`Dismissed: ${r.title}.`);
    };
    return (
      <ConfirmDialog title="Dismiss this recommendation?" verb="Dismiss" input="required reason" act={act} onClose={onClose}>
        {about}
        <p class="quiet">The same change is not proposed again without new evidence.</p>
      </ConfirmDialog>
    );
  }
  if (what === "schedule") {
    const act = async (at: string): Promise<void> => {
      await decide(r.id, "schedule", { at: new Date(at).toISOString() });
      onDecided(`Scheduled: ${r.title}.`);
    };
    return (
      <ConfirmDialog title="Schedule this recommendation?" verb="Schedule" input="time" act={act} onClose={onClose}>
        {about}
      </ConfirmDialog>
    );
  }
  const act = async (): Promise<void> => {
    if (what === "approve") {
      await approve();
      return;
    }
    const action = await applyNow(r.id);
    const then = action.state === "proposed" ? "It runs as soon as the guard rules allow it." : "Verification is running.";
    onDecided(`Applied: ${r.title}. ${then}`, action);
  };
  return (
    <ConfirmDialog title={what === "approve" ? "Approve this recommendation?" : "Apply this recommendation now?"} verb={what === "approve" ? "Approve" : "Apply"} warm={r.risk !== "low"} act={act} onClose={onClose}>
      {about}
      <p class="quiet">
        <RiskBadge risk={r.risk} /> {r.cost && `Cost: ${r.cost}. `}The effect is verified, and the change is rolled back if it does harm.
      </p>
    </ConfirmDialog>
  );
}
