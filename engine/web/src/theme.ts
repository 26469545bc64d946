/** Light and dark theme: follows the system until the user chooses one. */

import { shared } from "./shared-state.ts";

export type Theme = "light" | "dark";

const KEY = "trimtab-theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");

/** Theme set by `public/theme.js` before the first paint. */
export const theme = shared<Theme>(document.documentElement.dataset.theme === "dark" ? "dark" : "light");

function use(next: Theme): void {
  document.documentElement.dataset.theme = next;
  theme.set(next);
}

function remembered(): boolean {
  try {
    return localStorage.getItem(KEY) !== null;
  } catch {
    return false;
  }
}

system.addEventListener("change", () => {
  if (!remembered()) use(system.matches ? "dark" : "light");
});

export function toggleTheme(): void {
  const next: Theme = theme.get() === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // Storage may be blocked; the choice then lasts until the page is closed.
  }
  use(next);
}

/** Return a colour of the style sheet, for drawing on a canvas. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
