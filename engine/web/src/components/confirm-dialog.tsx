/** Dialog that confirms a write and optionally asks for a reason or a time. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api.ts";

export interface ConfirmDialogProps {
  title: string;
  /** Label of the confirm button. */
  verb: string;
  /** What the user enters; absent = nothing. */
  input?: "required reason" | "optional reason" | "time";
  warm?: boolean;
  /** Whether the content of the dialog prevents confirmation. */
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

/** Local time in one hour, in the format of `datetime-local`. */
function localTimeInOneHour(): string {
  const at = new Date(Date.now() + 3_600_000);
  at.setMinutes(at.getMinutes() - at.getTimezoneOffset());
  return at.toISOString().slice(0, 16);
}

/** Return the error text of a failed write, with what to do. */
export function writeErrorText(error: unknown): string {
  if (!(error instanceof ApiError)) return String(error);
  if (error.status === 0) return "Trimtab is not responding, so the result is unknown. Check the current state before you retry.";
  if (error.status === 403) return `${error.message} An administrator can create another key with trimtab key create.`;
  return error.title === "Refused" ? `Refused: ${error.message}` : error.message;
}
