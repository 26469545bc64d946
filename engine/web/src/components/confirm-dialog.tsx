/** Asks before something is done: what it is, and why or when. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api.ts";

export interface ConfirmDialogProps {
  title: string;
  /** The word on the button that does it. */
  verb: string;
  /** What is to be entered: a reason (needed or not), a time to come, or nothing. */
  input?: "required reason" | "optional reason" | "time";
  warm?: boolean;
  /** What was written in the question does not do yet. */
  blocked?: boolean;
  act: (entered: string) => Promise<unknown>;
  onClose: () => void;
  children?: ComponentChildren;
}

export function ConfirmDialog({ title, verb, input, warm = false, blocked = false, act, onClose, children }: ConfirmDialogProps) {
  const box = useRef<HTMLDialogElement>(null);
  const [entered, setEntered] = useState(input === "time" ? localTimeInOneHour() : "");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
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
    setError("");
    try {
      await act(entered.trim());
      onClose();
    } catch (failure) {
      setError(writeErrorText(failure));
      setBusy(false);
    }
  };
  const ready = !busy && !blocked && (entered.trim() !== "" || (input !== "required reason" && input !== "time"));
  return (
    <dialog class="ask" ref={box} aria-labelledby="ask-title" onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <h2 id="ask-title">{title}</h2>
        {children}
        {input && <DialogInput input={input} value={entered} onInput={setEntered} />}
        {error && (
          <p role="alert" class="wrong">
            {error}
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

interface DialogInputProps {
  input: NonNullable<ConfirmDialogProps["input"]>;
  value: string;
  onInput: (text: string) => void;
}

function DialogInput({ input, value, onInput }: DialogInputProps) {
  if (input === "time") {
    return (
      <label class="given-field">
        Time (your local time zone)
        <input type="datetime-local" required value={value} onInput={(event) => onInput(event.currentTarget.value)} />
      </label>
    );
  }
  return (
    <label class="given-field">
      {input === "required reason" ? "Reason" : "Reason (optional)"}
      <textarea rows={2} maxLength={1000} value={value} onInput={(event) => onInput(event.currentTarget.value)} />
    </label>
  );
}

/** As `datetime-local` writes it. */
function localTimeInOneHour(): string {
  const at = new Date(Date.now() + 3_600_000);
  at.setMinutes(at.getMinutes() - at.getTimezoneOffset());
  return at.toISOString().slice(0, 16);
}

/** What a person can do with the failure of a write. */
export function writeErrorText(error: unknown): string {
  if (!(error instanceof ApiError)) return String(error);
  if (error.status === 0) return "Trimtab is not responding, so the result is unknown. Check the current state before you retry.";
  if (error.status === 403) return `${error.message} An administrator can create another key with trimtab key create.`;
  return error.title === "Refused" ? `Refused: ${error.message}` : error.message;
}
