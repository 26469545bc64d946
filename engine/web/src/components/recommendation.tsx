/** One recommendation: what, why, how sure, what would prove it wrong, and the buttons to decide it. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { type Action, applyNow, decide } from "../actions-api.ts";
import { duration } from "../format.ts";
import { useNow } from "../hooks.ts";
import type { Recommendation, Shadow } from "../incidents-api.ts";
import { shadowStory } from "../incident-text.ts";
import { href } from "../router.ts";
import { Ask, whyNot } from "./confirm-dialog.tsx";
import { patternWords } from "./incident-row.tsx";
import { Scoped } from "./scoped-button.tsx";
import { Ago, At } from "./series-name.tsx";
import { EffectGlyph, EffectWords, FromTo, RiskBadge, sure } from "./values.tsx";

/** The subject of advice that no knob and no action does: people do it elsewhere, or dismiss it. */
const BY_HAND = "by hand";

export interface CardProps {
  recommendation: Recommendation;
  unit: string;
  /** Something was decided, in words. */
  onDecided: (words: string, action?: Action) => void;
}

export function RecommendationCard({ recommendation: r, unit, onDecided }: CardProps) {
  return (
    <article class="panel card" aria-label={r.title}>
      <header class="card-head">
        <h2>
          <a href={href(["inbox", r.id])}>{r.title}</a>
        </h2>
        <Standing recommendation={r} />
      </header>
      <p class="change">
        <span class="where">
          {r.tool} · {r.target} · {r.subject}
        </span>
        {r.subject !== BY_HAND &&
          (r.is_action ? <span>one-click action</span> : <FromTo before={r.before} after={r.after} unit={unit} />)}
      </p>
      {r.effect && (
        <div class="expected">
          <EffectWords effect={r.effect} />
          <EffectGlyph effect={r.effect} />
        </div>
      )}
      <ul class="evidence">
        {r.evidence.map((sentence) => (
          <li key={sentence}>{sentence}</li>
        ))}
      </ul>
      <Facts recommendation={r} />
      {r.shadow && <Shade recommendation={r} shadow={r.shadow} unit={unit} />}
      <Decide recommendation={r} unit={unit} onDecided={onDecided} />
    </article>
  );
}

function Standing({ recommendation: r }: { recommendation: Recommendation }) {
  const now = useNow(10_000);
  const left = (Date.parse(r.expires) - now) / 1000;
  return (
    <span class="standing-chips">
      <RiskBadge risk={r.risk} />
      <span class="quiet">{sure(r.confidence)}</span>
      {r.state === "pending" ? (
        <span class="quiet">{left > 0 ? `expires in ${duration(left)}` : "expiring"}</span>
      ) : (
        <span class={`state ${r.state}`}>
          {r.state}
          {r.scheduled && r.state === "scheduled" && (
            <>
              {" for "}
              <At time={r.scheduled} seconds={false} />
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
    ["Pattern", patternWords(r.pattern)],
    ["Raised for", r.incident_id ? <a href={href(["incidents", r.incident_id])}>an incident</a> : "no incident"],
    ["Proposed", <>by {r.proposer}, <Ago time={r.created} /></>],
    ["Manual command", r.command && <code class="command">{r.command}</code>],
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

function Shade({ recommendation, shadow, unit }: { recommendation: Recommendation; shadow: Shadow; unit: string }) {
  const now = useNow(10_000);
  return <p class="shadow">{shadowStory(recommendation, shadow, unit, now)}</p>;
}

type Asking = "dismiss" | "schedule" | "apply" | "approve" | null;

function Decide({ recommendation: r, unit, onDecided }: CardProps) {
  const [asking, setAsking] = useState<Asking>(null);
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
      setWrong(whyNot(error));
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
          <Scoped scope="approve" primary disabled={busy} onClick={() => (r.risk === "high" ? setAsking("approve") : void atOnce())}>
            Approve
          </Scoped>
        )}
        {doable && (
          <Scoped scope="execute" onClick={() => setAsking("apply")}>
            Apply now
          </Scoped>
        )}
        {r.state !== "scheduled" && doable && (
          <Scoped scope="approve" onClick={() => setAsking("schedule")}>
            Schedule
          </Scoped>
        )}
        <Scoped scope="approve" onClick={() => setAsking("dismiss")}>
          Dismiss
        </Scoped>
      </div>
      {asking && <AskFor what={asking} recommendation={r} unit={unit} approve={approve} onDecided={onDecided} onClose={() => setAsking(null)} />}
    </>
  );
}

interface AskForProps extends CardProps {
  what: NonNullable<Asking>;
  approve: () => Promise<void>;
  onClose: () => void;
}

function AskFor({ what, recommendation: r, unit, approve, onDecided, onClose }: AskForProps) {
  const about = (
    <p>
      <b>{r.title}</b>
      {!r.is_action && (
        <>
          : {r.subject} <FromTo before={r.before} after={r.after} unit={unit} />
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
      <Ask title="Dismiss this recommendation?" verb="Dismiss" wants="reason" act={act} onClose={onClose}>
        {about}
        <p class="quiet">The same change is not proposed again without new evidence.</p>
      </Ask>
    );
  }
  if (what === "schedule") {
    const act = async (at: string): Promise<void> => {
      await decide(r.id, "schedule", { at: new Date(at).toISOString() });
      onDecided(`Scheduled: ${r.title}.`);
    };
    return (
      <Ask title="Schedule this recommendation?" verb="Schedule" wants="a time" act={act} onClose={onClose}>
        {about}
      </Ask>
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
    <Ask title={what === "approve" ? "Approve this recommendation?" : "Apply this recommendation now?"} verb={what === "approve" ? "Approve" : "Apply"} warm={r.risk !== "low"} act={act} onClose={onClose}>
      {about}
      <p class="quiet">
        <RiskBadge risk={r.risk} /> {r.cost && `Cost: ${r.cost}. `}The effect is verified, and the change is rolled back if it does harm.
      </p>
    </Ask>
  );
}
