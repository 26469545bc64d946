/** Header and footer of every page. */

import { useEffect, useRef } from "preact/hooks";
import { getStatus, session, signOut } from "../api.ts";
import { clock, exactTime } from "../format.ts";
import { useLive } from "../hooks.ts";
import { type ConnectionState, lastUpdate, connection, reconnect } from "../event-stream.ts";
import { actionsEnabled, getRecommendations } from "../incidents-api.ts";
import { ROUTES, pageRouteOf } from "../routes.ts";
import type { Route } from "../router.ts";
import { useShared } from "../shared-state.ts";
import { theme, toggleTheme } from "../theme.ts";
import { Logo } from "./icons.tsx";
import { PauseButton } from "./pause-button.tsx";

const STATES: Record<ConnectionState, string> = {
  connecting: "connecting",
  live: "live",
  lost: "connection lost",
  paused: "paused",
};

export function Header({ route }: { route: Route }) {
  return (
    <header class="top">
      <div class="top-inner">
        <a class="brand" href="#/" aria-label="Trimtab, overview">
          <Logo />
          <span class="brand-name">Trimtab</span>
        </a>
        <Nav route={route} />
        <ConnectionIndicator />
        <PauseButton />
        <ThemeButton />
      </div>
    </header>
  );
}

function Nav({ route }: { route: Route }) {
  const enabled = useShared(actionsEnabled);
  const bar = useRef<HTMLElement>(null);
  const current = pageRouteOf(route.path[0]);
  const here = current?.parent ?? current?.segment;
  useEffect(() => {
    bar.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [here, enabled]);
  const links = ROUTES.filter((page) => page.name && (enabled || !page.needsActions));
  return (
    <nav aria-label="Pages" ref={bar}>
      {links.map(({ segment, name }) => (
        <a key={segment} href={`#/${segment}`} aria-current={here === segment ? "page" : undefined}>
          {name}
          {segment === "inbox" && <PendingCount />}
        </a>
      ))}
    </nav>
  );
}

const MAX_COUNTED = 50;

/** Number of pending recommendations. */
function PendingCount() {
  const { data } = useLive(
    "inbox-count",
    (signal) => getRecommendations({ state: "pending", limit: MAX_COUNTED }, signal),
    5000,
  );
  if (!data || data.items.length === 0) return null;
  return (
    <span class="count-chip">
      {data.items.length}
      {data.next && "+"}
      <span class="only-heard"> pending</span>
    </span>
  );
}

function ConnectionIndicator() {
  const state = useShared(connection);
  const at = useShared(lastUpdate);
  return (
    <span class={`pulse ${state}`} title={at === null ? STATES[state] : `Last update from the engine: ${exactTime(at)}`}>
      <span class="pulse-dot" aria-hidden="true" />
      <span class="pulse-word">{STATES[state]}</span>
      {at !== null && <span class="pulse-time">{clock(at, Date.now())}</span>}
    </span>
  );
}

function ThemeButton() {
  const dark = useShared(theme) === "dark";
  const label = dark ? "Use light colours" : "Use dark colours";
  return (
    <button type="button" class="icon-button" onClick={toggleTheme} aria-label={label} title={label}>
      <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
        {dark ? (
          <g fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round">
            <circle cx="10" cy="10" r="3.4" />
            <path d="M10 2.500v1.500M10 16v1.500M2.5 10H4M16 10h1.500M4.7 4.700l1 1M14.3 14.300l1 1M4.7 15.300l1-1M14.3 5.700l1-1" />
          </g>
        ) : (
          <path
            d="M16 12.200A6.6 6.6 0 0 1 7.8 4a6.6 6.6 0 1 0 8.2 8.200z"
            fill="none"
            stroke="currentColor"
            stroke-width="1.6"
            stroke-linejoin="round"
          />
        )}
      </svg>
    </button>
  );
}

export function Footer() {
  const user = useShared(session);
  const { data } = useLive("status-footer", getStatus, 60_000);
  return (
    <footer class="bottom">
      <span>Trimtab {data?.version}</span>
      <a href="./api-docs">API</a>
      <span class="keys">
        <kbd>/</kbd> search <kbd>↑</kbd> <kbd>↓</kbd> rows <kbd>Enter</kbd> open
      </span>
      <span class="who">
        {user && !user.name.startsWith("session") ? user.name : "signed in"}{" "}
        <button type="button" class="link-button" onClick={() => void signOut().catch(reconnect)}>
          Sign out
        </button>
      </span>
    </footer>
  );
}
