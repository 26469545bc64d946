/** Notices for empty and error states, and the loading placeholder. */

import type { ComponentChildren } from "preact";
import type { ApiError } from "../api.ts";
import type { Loaded } from "../hooks.ts";

interface NoticeProps {
  kind: "calm" | "wait" | "error";
  title: string;
  children?: ComponentChildren;
}

export function Notice({ kind, title, children }: NoticeProps) {
  return (
    <div class={`notice ${kind}`} role={kind === "error" ? "alert" : undefined}>
      <span class="notice-mark" aria-hidden="true" />
      <div>
        <p class="notice-title">{title}</p>
        {children && <p class="notice-text">{children}</p>}
      </div>
    </div>
  );
}

const ADVICE: [(status: number) => boolean, ComponentChildren][] = [
  [
    (s) => s === 0,
    <>
      Check that <code>trimtab up</code> is running. This page retries automatically.
    </>,
  ],
  [
    (s) => s === 403,
    <>
      Your key lacks the required scope. An administrator can create another key with <code>trimtab key create</code>.
    </>,
  ],
  [(s) => s === 404, "It may have been removed by retention, or the address is wrong."],
  [(s) => s === 429, "Too many requests. This page waits and retries."],
  [(s) => s >= 500, "See the engine log for details."],
];

function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Show the error of a load; nothing if it succeeded, or if older data is shown while the connection is lost. */
export function LoadError({ of, what }: { of: Loaded<unknown>; what: string }) {
  if (!of.error || (of.error.status === 0 && of.data !== null)) return null;
  return <ErrorNotice error={of.error} what={what} reload={of.reload} />;
}

export function ErrorNotice({ error, what, reload }: { error: ApiError; what: string; reload?: () => void }) {
  const advice = ADVICE.find(([fits]) => fits(error.status))?.[1];
  return (
    <Notice kind="error" title={`${what}: ${error.title}`}>
      {error.detail && error.detail !== error.title ? `${sentence(error.detail)} ` : ""}
      {advice}{" "}
      {reload && (
        <button type="button" class="button small" onClick={reload}>
          Try again
        </button>
      )}
    </Notice>
  );
}

/** Placeholder rows until the first response. */
export function LoadingRows({ rows = 5 }: { rows?: number }) {
  return (
    <div class="waiting" aria-busy="true" aria-label="Loading">
      {Array.from({ length: rows }, (_, i) => (
        <span key={i} />
      ))}
    </div>
  );
}
