/** Pieces of the program that come when a page of theirs is first asked for. */

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { acts } from "../incidents-api.ts";
import { Notice, Waiting } from "../components/notice.tsx";
import type { Piece, Place } from "../routes.ts";
import type { Route } from "../router.ts";
import { useShared } from "../shared-state.ts";

type Pages = ComponentType<{ route: Route }>;

const LOADERS: Record<Piece, () => Promise<{ Pages: Pages }>> = {
  series: () => import("./series-pages.tsx"),
  anomalies: () => import("./anomaly-pages.tsx"),
  acting: () => import("./action-pages.tsx"),
  planning: () => import("./planning-pages.tsx"),
};
const loaded = new Map<Piece, Pages>();

export function LazyPage({ place, piece, route }: { place: Place; piece: Piece; route: Route }) {
  const [, arrived] = useState<Piece | null>(null);
  const [failed, setFailed] = useState<Piece | null>(null);
  const acting = useShared(acts);
  useEffect(() => {
    if (loaded.has(piece)) return;
    LOADERS[piece]().then(
      (module) => {
        loaded.set(piece, module.Pages);
        arrived(piece);
      },
      () => setFailed(piece),
    );
  }, [piece]);
  if (place.acts && acting === false) {
    return (
      <Notice kind="wait" title="Actions are not enabled">
        This engine only monitors and scores series. Incidents, recommendations and tools need an engine that was started with
        them.
      </Notice>
    );
  }
  if (failed === piece) {
    return (
      <Notice kind="error" title="This page could not be loaded">
        Trimtab may have been updated since the page was opened. Reload the page.
      </Notice>
    );
  }
  const Page = loaded.get(piece);
  return Page && (acting || !place.acts) ? <Page route={route} /> : <Waiting rows={8} />;
}
