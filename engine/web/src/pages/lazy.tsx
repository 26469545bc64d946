/** The pages about acting come when they are first asked for. */

import { useEffect, useState } from "preact/hooks";
import { acts } from "../loop.ts";
import { Notice, Waiting } from "../parts/notice.tsx";
import type { Route } from "../router.ts";
import { useShared } from "../store.ts";

type Pages = typeof import("./acting.tsx");

let loaded: Pages | null = null;

export function ActingPage({ route }: { route: Route }) {
  const [pages, setPages] = useState(loaded);
  const [failed, setFailed] = useState(false);
  const acting = useShared(acts);
  useEffect(() => {
    if (loaded) return;
    import("./acting.tsx").then(
      (module) => {
        loaded = module;
        setPages(module);
      },
      () => setFailed(true),
    );
  }, []);
  if (acting === false) {
    return (
      <Notice kind="wait" title="The engine does not act here">
        It watches and scores only. Incidents, recommendations and tools come with an engine that was started with them.
      </Notice>
    );
  }
  if (failed) {
    return (
      <Notice kind="error" title="This page could not be loaded">
        Trimtab may have been updated since the page was opened: load it again.
      </Notice>
    );
  }
  return pages && acting ? <pages.Acting route={route} /> : <Waiting rows={8} />;
}
