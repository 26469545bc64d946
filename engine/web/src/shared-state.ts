/** A minimal observable value. */

import { useEffect, useState } from "preact/hooks";

export interface Shared<T> {
  get(): T;
  set(next: T): void;
  watch(listener: () => void): () => void;
}

export function shared<T>(initial: T): Shared<T> {
  let current = initial;
  const listeners = new Set<() => void>();
  return {
    get: () => current,
    set(next) {
      if (Object.is(next, current)) return;
      current = next;
      for (const listener of [...listeners]) listener();
    },
    watch(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

export function useShared<T>(of: Shared<T>): T {
  const [current, setCurrent] = useState(of.get());
  useEffect(() => {
    setCurrent(of.get());
    return of.watch(() => setCurrent(of.get()));
  }, [of]);
  return current;
}
