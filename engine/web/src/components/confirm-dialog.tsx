/** Asks before something is done: what it is, and why or when. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api.ts";

export interface AskProps {
  title: string;
  /** The word on the button that does it. */
  verb: string;
  /** What is to be given: a reason (needed or not), a time to come, or nothing. */
  wants?: "reason" | "perhaps a reason" | "a time";
  warm?: boolean;
  /** What was written in the question does not do yet. */
  blocked?: boolean;
  act: (given: string) => Promise<unknown>;
  onClose: () => void;
  children?: ComponentChildren;
}

export function Ask({ title, verb, wants, warm = false, blocked = false, act, onClose, children }: AskProps) {
  const box = useRef<HTMLDialogElement>(null);
  const [given, setGiven] = useState(wants === "a time" ? inAnHour() : "");
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState("");
  useEffect(() => {
    const before = document.activeElement;
    box.current?.showModal();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setWrong("");
    try {
      await act(given.trim());
      onClose();
    } catch (error) {
      setWrong(whyNot(error));
      setBusy(false);
    }
  };
  const ready = !busy && !blocked && (given.trim() !== "" || (wants !== "reason" && wants !== "a time"));
  return (
    <dialog class="ask" ref={box} aria-labelledby="ask-title" onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <h2 id="ask-title">{title}</h2>
        {children}
        {wants && <Given wants={wants} value={given} onInput={setGiven} />}
        {wrong && (
          <p role="alert" class="wrong">
            {wrong}
          </p>
        )}
        <div class="ask-buttons">
          <button type="button" class="button" onClick={() => box.current?.close()}>
            Cancel
          </button>
          <button type="submit" class={warm ? "button warm" : "button primary"} disabled={!ready}>
            {busy ? "Working…" : verb}
          </button>
        </div>
      </form>
    </dialog>
  );
}

interface GivenProps {
  wants: NonNullable<AskProps["wants"]>;
  value: string;
  onInput: (text: string) => void;
}

function Given({ wants, value, onInput }: GivenProps) {
  if (wants === "a time") {
    return (
      <label class="given-field">
        Time (your local time zone)
        <input type="datetime-local" required value={value} onInput={(event) => onInput(event.currentTarget.value)} />
      </label>
    );
  }
  return (
    <label class="given-field">
      {wants === "reason" ? "Reason" : "Reason (optional)"}
      <textarea rows={2} maxLength={1000} value={value} onInput={(event) => onInput(event.currentTarget.value)} />
    </label>
  );
}

/** As `datetime-local` writes it. */
function inAnHour(): string {
  const at = new Date(Date.now() + 3_600_000);
  at.setMinutes(at.getMinutes() - at.getTimezoneOffset());
  return at.toISOString().slice(0, 16);
}

/** What a person can do with the failure of a write. */
export function whyNot(error: unknown): string {
  if (!(error instanceof ApiError)) return String(error);
  if (error.status === 0) return "Trimtab is not responding, so the result is unknown. Check the current state before you retry.";
  if (error.status === 403) return `${error.message} An administrator can create another key with trimtab key create.`;
  return error.title === "Refused" ? `Refused: ${error.message}` : error.message;
}
