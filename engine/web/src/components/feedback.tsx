/** Operator feedback on an anomaly: real anomaly or false alarm, with a note. */

import { useState } from "preact/hooks";
import { ApiError, giveFeedback } from "../api.ts";
import type { AnomalyDetail, Verdict } from "../types.ts";
import { RelativeTime } from "./series-name.tsx";

const VERDICT_TEXT: Record<Verdict, string> = { right: "Real anomaly", wrong: "False alarm" };

export function FeedbackPanel({ anomaly, onGiven }: { anomaly: AnomalyDetail; onGiven: () => void }) {
  const [note, setNote] = useState("");
  const [busy, setBusy] = useState(false);
  const [message, setMessage] = useState("");
  const [wrong, setWrong] = useState("");
  const give = async (verdict: Verdict): Promise<void> => {
    setBusy(true);
    setWrong("");
    try {
      await giveFeedback(anomaly.id, verdict, note.trim());
      setMessage("Feedback saved.");
      setNote("");
      onGiven();
    } catch (error) {
      setWrong(errorText(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <section class="panel feedback" aria-labelledby="feedback-title">
      <div class="panel-head">
        <h2 id="feedback-title">Feedback</h2>
      </div>
      <label class="note">
        <span class="only-heard">Note</span>
        <textarea
          rows={2}
          maxLength={1000}
          placeholder="Optional note: what was the cause?"
          value={note}
          onInput={(event) => setNote(event.currentTarget.value)}
        />
      </label>
      <div class="verdicts">
        {(["right", "wrong"] as const).map((verdict) => (
          <button type="button" key={verdict} class={`button ${verdict}`} disabled={busy} onClick={() => void give(verdict)}>
            {VERDICT_TEXT[verdict]}
          </button>
        ))}
      </div>
      <p role="status" class="quiet">
        {message}
      </p>
      {wrong && (
        <p role="alert" class="wrong">
          {wrong}
        </p>
      )}
      <FeedbackList anomaly={anomaly} />
    </section>
  );
}

function errorText(error: unknown): string {
  if (error instanceof ApiError && error.status === 403) return `${error.message} Your key is read-only.`;
  return error instanceof Error ? `Not saved: ${error.message}` : String(error);
}

function FeedbackList({ anomaly }: { anomaly: AnomalyDetail }) {
  if (anomaly.feedback.length === 0) return null;
  return (
    <ul class="given">
      {[...anomaly.feedback].reverse().map((f) => (
        <li key={f.author + f.time}>
          <b>{VERDICT_TEXT[f.verdict]}</b> {f.note && <q>{f.note}</q>}{" "}
          <span class="quiet">
            {f.author}, <RelativeTime time={f.time} />
          </span>
        </li>
      ))}
    </ul>
  );
}
