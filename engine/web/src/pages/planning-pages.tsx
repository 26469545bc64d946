/** Pages of capacity and models, loaded on demand. */

import type { Route } from "../router.ts";
import "../styles/planning.css";
import { CapacityPage } from "./capacity.tsx";
import { ModelsPage } from "./models.tsx";

export function Pages({ route }: { route: Route }) {
  return route.path[0] === "capacity" ? <CapacityPage /> : <ModelsPage />;
}
