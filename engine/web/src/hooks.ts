/** Data that keeps itself fresh, the time of day, the address, and lists that arrow keys walk through. */

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api.ts";
import { lastUpdate, refreshSignal } from "./event-stream.ts";
import { type Route, parse } from "./router.ts";

export interface Loaded<T> {
  data: T | null;
  error: ApiError | null;
  /** Load reload now. */
  reload: () => void;
}

function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, "This page cannot display the response", String(error));
}

/**
 * Load at once and whenever `key` changes; then reload as the engine ticks, at most each `everyMs`.
 * What was there stays while something newer is on its way, and when it fails.
 * A key that starts otherwise (up to its first space) is another thing: the old data goes.
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

/** The time, moving on each `everyMs`. */
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

/** A value that follows `input` after it has rested for a moment. */
export function useDebounced<T>(input: T, delayMs = 250): T {
  const [settled, setSettled] = useState(input);
  useEffect(() => {
    const timer = window.setTimeout(() => setSettled(input), delayMs);
    return () => window.clearTimeout(timer);
  }, [input, delayMs]);
  return settled;
}

/** Arrow keys, Home and End move between the links of a list. */
export function moveRowFocus(event: KeyboardEvent): void {
  const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
  const list = event.currentTarget as HTMLElement;
  const rows = [...list.querySelectorAll<HTMLElement>("a.row")];
  const at = rows.indexOf(document.activeElement as HTMLElement);
  if (step === undefined || at < 0) return;
  event.preventDefault();
  rows[Math.min(rows.length - 1, Math.max(0, at + step))]?.focus();
}
