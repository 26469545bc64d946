/** The application: session, header, banners, page and footer. */

import { useEffect, useRef } from "preact/hooks";
import { loadSession, session } from "./api.ts";
import { useNow, useRoute } from "./hooks.ts";
import { clock } from "./format.ts";
import { startFollowing, lastUpdate, connection, reconnect } from "./event-stream.ts";
import { LazyPage } from "./pages/lazy.tsx";
import { LoginPage } from "./pages/login.tsx";
import { OverviewPage } from "./pages/overview.tsx";
import { Announcer, usePageTitle } from "./components/announcer.tsx";
import { Footer, Header } from "./components/header.tsx";
import { Notice } from "./components/notice.tsx";
import { PausedBanner } from "./components/pause-button.tsx";
import { pageRouteOf } from "./routes.ts";
import type { Route } from "./router.ts";
import { shared, useShared } from "./shared-state.ts";

/** Whether the session could not be requested. */
const unreachable = shared(false);

async function startSession(): Promise<void> {
  try {
    await loadSession();
    unreachable.set(false);
  } catch {
    unreachable.set(true);
    window.setTimeout(() => void startSession(), 3000);
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
    startFollowing();
    void startSession();
    document.addEventListener("keydown", focusSearch);
    return () => document.removeEventListener("keydown", focusSearch);
  }, []);
  const user = useShared(session);
  const failed = useShared(unreachable);
  const route = useRoute();
  if (user === null) return <LoginPage />;
  if (user === undefined) {
    return (
      <main class="page alone" id="main">
        {failed && (
          <Notice kind="error" title="Trimtab is not responding">
            Check that <code>trimtab up</code> is running. This page retries automatically.
          </Notice>
        )}
      </main>
    );
  }
  return (
    <>
      <a class="skip" href="#main" onClick={skipToContent}>
        Skip to content
      </a>
      <Header route={route} />
      <ConnectionBanner />
      <PausedBanner />
      <Announcer />
      <Main route={route} />
      <Footer />
    </>
  );
}

/** The router owns the hash, so the jump to `#main` is done here. */
function skipToContent(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Main({ route }: { route: Route }) {
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  const path = route.path.join("/");
  usePageTitle(route);
  useEffect(() => {
    if (!first.current) {
      window.scrollTo(0, 0);
      main.current?.focus({ preventScroll: true });
    }
    first.current = false;
  }, [path]);
  return (
    <main class="page" id="main" tabIndex={-1} ref={main}>
      <RoutedPage route={route} />
    </main>
  );
}

function RoutedPage({ route }: { route: Route }) {
  const page = pageRouteOf(route.path[0]);
  if (page?.bundle) return <LazyPage page={page} bundle={page.bundle} route={route} />;
  if (page) return <OverviewPage />;
  return (
    <Notice kind="error" title="Page not found">
      Go to the <a href="#/">overview</a>.
    </Notice>
  );
}

function ConnectionBanner() {
  const state = useShared(connection);
  const at = useShared(lastUpdate);
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
