/** Load page bundles on demand. */

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { actionsEnabled } from "../incidents-api.ts";
import { Notice, LoadingRows } from "../components/notice.tsx";
import type { Bundle, PageRoute } from "../routes.ts";
import type { Route } from "../router.ts";
import { useShared } from "../shared-state.ts";

type Pages = ComponentType<{ route: Route }>;

const LOADERS: Record<Bundle, () => Promise<{ Pages: Pages }>> = {
  series: () => import("./series-pages.tsx"),
  anomalies: () => import("./anomaly-pages.tsx"),
  actions: () => import("./action-pages.tsx"),
  planning: () => import("./planning-pages.tsx"),
};
const loaded = new Map<Bundle, Pages>();

export function LazyPage({ page, bundle, route }: { page: PageRoute; bundle: Bundle; route: Route }) {
  const [, setArrived] = useState<Bundle | null>(null);
  const [failed, setFailed] = useState<Bundle | null>(null);
  const enabled = useShared(actionsEnabled);
  useEffect(() => {
    if (loaded.has(bundle)) return;
    LOADERS[bundle]().then(
      (module) => {
        loaded.set(bundle, module.Pages);
        setArrived(bundle);
      },
      () => setFailed(bundle),
    );
  }, [bundle]);
  if (page.needsActions && enabled === false) {
    return (
      <Notice kind="wait" title="Actions are not enabled">
        This engine only monitors and scores series. Incidents, recommendations and tools need an engine that was started with
        them.
      </Notice>
    );
  }
  if (failed === bundle) {
    return (
      <Notice kind="error" title="This page could not be loaded">
        Trimtab may have been updated since the page was opened. Reload the page.
      </Notice>
    );
  }
  const Page = loaded.get(bundle);
  return Page && (enabled || !page.needsActions) ? <Page route={route} /> : <LoadingRows rows={8} />;
}
