/** Light or dark: the system's choice, unless somebody chose here. */

import { shared } from "./shared-state.ts";

export type Theme = "light" | "dark";

const KEY = "trimtab-theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");

/** `public/theme.js` has set it before the first paint. */
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
    // Storage may be forbidden: the choice then lasts as long as the page.
  }
  use(next);
}

/** A colour of the style sheet, for what is drawn on a canvas. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
