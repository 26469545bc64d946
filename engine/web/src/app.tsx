/** The frame around every page. */

import { useEffect, useRef } from "preact/hooks";
import { loadSession, session } from "./api.ts";
import { useNow, useRoute } from "./hooks.ts";
import { clock } from "./format.ts";
import { follow, heard, live, reconnect } from "./event-stream.ts";
import { LazyPage } from "./pages/lazy.tsx";
import { LoginPage } from "./pages/login.tsx";
import { OverviewPage } from "./pages/overview.tsx";
import { Announcer, useUnusualTitle } from "./components/announcer.tsx";
import { Footer, Header } from "./components/header.tsx";
import { Notice } from "./components/notice.tsx";
import { PausedBanner } from "./components/pause-button.tsx";
import { placeOf } from "./routes.ts";
import type { Route } from "./router.ts";
import { shared, useShared } from "./shared-state.ts";

/** Why we could not even ask who we are. */
const unreachable = shared(false);

async function begin(): Promise<void> {
  try {
    await loadSession();
    unreachable.set(false);
  } catch {
    unreachable.set(true);
    window.setTimeout(() => void begin(), 3000);
  }
}

function focusSearch(event: KeyboardEvent): void {
  const target = event.target as HTMLElement;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const box = document.querySelector<HTMLInputElement>("input[type=search]");
  if (box) box.focus();
  else location.hash = "#/series?focus=search";
}

export function App() {
  useEffect(() => {
    follow();
    void begin();
    document.addEventListener("keydown", focusSearch);
    return () => document.removeEventListener("keydown", focusSearch);
  }, []);
  const who = useShared(session);
  const away = useShared(unreachable);
  const route = useRoute();
  if (who === null) return <LoginPage />;
  if (who === undefined) {
    return (
      <main class="page alone" id="main">
        {away && (
          <Notice kind="error" title="Trimtab is not responding">
            Check that <code>trimtab up</code> is running. This page retries automatically.
          </Notice>
        )}
      </main>
    );
  }
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to content
      </a>
      <Header route={route} />
      <Lost />
      <PausedBanner />
      <Announcer />
      <Main route={route} />
      <Footer />
    </>
  );
}

/** `#main` belongs to the router, so the jump is made by hand. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Main({ route }: { route: Route }) {
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  const where = route.path.join("/");
  useUnusualTitle(route);
  useEffect(() => {
    if (!first.current) {
      window.scrollTo(0, 0);
      main.current?.focus({ preventScroll: true });
    }
    first.current = false;
  }, [where]);
  return (
    <main class="page" id="main" tabIndex={-1} ref={main}>
      <PageOf route={route} />
    </main>
  );
}

function PageOf({ route }: { route: Route }) {
  const place = placeOf(route.path[0]);
  if (place?.piece) return <LazyPage place={place} piece={place.piece} route={route} />;
  if (place) return <OverviewPage />;
  return (
    <Notice kind="error" title="Page not found">
      Go to the <a href="#/">overview</a>.
    </Notice>
  );
}

function Lost() {
  const state = useShared(live);
  const at = useShared(heard);
  const now = useNow();
  if (state !== "lost") return null;
  return (
    <div class="banner" role="status">
      <span>
        Connection lost.{at !== null && ` Showing data from ${clock(at, now)}.`} Reconnecting automatically; check that{" "}
        <code>trimtab up</code> is running.
      </span>
      <button type="button" class="button small" onClick={reconnect}>
        Reconnect now
      </button>
    </div>
  );
}
