/** Hooks: data that refreshes itself, current time, route, debounced input, and keyboard navigation of lists. */

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api.ts";
import { lastUpdate, refreshSignal } from "./event-stream.ts";
import { type Route, parse } from "./router.ts";

export interface Loaded<T> {
  data: T | null;
  error: ApiError | null;
  /** Load the data now. */
  reload: () => void;
}

function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, "This page cannot display the response", String(error));
}

/**
 * Load at once and whenever `key` changes; then reload on events of the engine, at most each `everyMs`.
 * Old data stays until newer data arrives, also when a load fails.
 * The part of `key` before its first space names the item: when it changes, the old data is dropped.
 */
export function useLive<T>(key: string, load: (signal: AbortSignal) => Promise<T>, everyMs = 2000): Loaded<T> {
  const [state, setState] = useState<{ about: string; data: T | null; error: ApiError | null }>({
    about: "",
    data: null,
    error: null,
  });
  const loader = useRef(load);
  loader.current = load;
  const now = useRef<() => void>(() => undefined);
  const about = key.split(" ", 1)[0] ?? "";

  useEffect(() => {
    const control = new AbortController();
    let busy = false;
    let requestedAt = 0;
    let timer = 0;

    const run = async (): Promise<void> => {
      busy = true;
      requestedAt = Date.now();
      try {
        const data = await loader.current(control.signal);
        if (control.signal.aborted) return;
        setState({ about, data, error: null });
        lastUpdate.set(Date.now());
      } catch (error) {
        if (control.signal.aborted) return;
        setState((old) => ({ about, data: old.about === about ? old.data : null, error: asApiError(error) }));
      } finally {
        busy = false;
      }
    };
    const due = (): void => {
      window.clearTimeout(timer);
      if (document.hidden) return;
      const left = requestedAt + everyMs - Date.now();
      if (busy || left > 0) timer = window.setTimeout(due, Math.max(left, 100));
      else void run();
    };
    now.current = () => void run();
    void run();
    const unwatch = refreshSignal.watch(due);
    return () => {
      unwatch();
      window.clearTimeout(timer);
      control.abort();
    };
  }, [key, about, everyMs]);

  const mine = state.about === about;
  return { data: mine ? state.data : null, error: mine ? state.error : null, reload: () => now.current() };
}

/** Return the current time, ms, updated each `everyMs`. */
export function useNow(everyMs = 1000): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = window.setInterval(() => !document.hidden && setNow(Date.now()), everyMs);
    return () => window.clearInterval(timer);
  }, [everyMs]);
  return now;
}

export function useRoute(): Route {
  const [route, setRoute] = useState(parse(location.hash));
  useEffect(() => {
    const changed = (): void => setRoute(parse(location.hash));
    changed();
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  return route;
}

/** Return `input` once it has not changed for `delayMs`. */
export function useDebounced<T>(input: T, delayMs = 250): T {
  const [settled, setSettled] = useState(input);
  useEffect(() => {
    const timer = window.setTimeout(() => setSettled(input), delayMs);
    return () => window.clearTimeout(timer);
  }, [input, delayMs]);
  return settled;
}

/** Move the focus between the links of a list with arrow keys, Home and End. */
export function moveRowFocus(event: KeyboardEvent): void {
  const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
  const list = event.currentTarget as HTMLElement;
  const rows = [...list.querySelectorAll<HTMLElement>("a.row")];
  const at = rows.indexOf(document.activeElement as HTMLElement);
  if (step === undefined || at < 0) return;
  event.preventDefault();
  rows[Math.min(rows.length - 1, Math.max(0, at + step))]?.focus();
}
