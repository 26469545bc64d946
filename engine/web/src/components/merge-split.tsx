/** Buttons and dialogs to merge an incident into another one, or to split it. */

import { useState } from "preact/hooks";
import { type IncidentDetail, mergeIncident, splitIncident } from "../actions-api.ts";
import { useLive } from "../hooks.ts";
import { getIncidents } from "../incidents-api.ts";
import { href } from "../router.ts";
import { ConfirmDialog } from "./confirm-dialog.tsx";
import { ScopedButton } from "./scoped-button.tsx";
import { ClockTime } from "./series-name.tsx";

const MAX_CHOICES = 50;

export function MergeSplit({ incident }: { incident: IncidentDetail }) {
  const [dialog, setDialog] = useState<"merge" | "split" | null>(null);
  const close = (): void => setDialog(null);
  return (
    <>
      <ScopedButton scope="propose" onClick={() => setDialog("merge")}>
        Merge
      </ScopedButton>
      {incident.anomalies.length > 1 && (
        <ScopedButton scope="propose" onClick={() => setDialog("split")}>
          Split
        </ScopedButton>
      )}
      {dialog === "merge" && <MergeDialog incident={incident} onClose={close} />}
      {dialog === "split" && <SplitDialog incident={incident} onClose={close} />}
    </>
  );
}

interface MergeSplitProps {
  incident: IncidentDetail;
  onClose: () => void;
}

function MergeDialog({ incident, onClose }: MergeSplitProps) {
  const { data } = useLive("to-merge", (signal) => getIncidents({ limit: MAX_CHOICES }, signal), 30_000);
  const [into, setInto] = useState("");
  const others = data?.items.filter((other) => other.id !== incident.id) ?? [];
  const act = async (): Promise<void> => {
    location.hash = href(["incidents", (await mergeIncident(incident.id, into)).id]);
  };
  return (
    <ConfirmDialog title="Merge into another incident?" verb="Merge" blocked={into === ""} act={act} onClose={onClose}>
      <label class="given-field">
        Target incident
        <select value={into} onChange={(event) => setInto(event.currentTarget.value)}>
          <option value="">select an incident</option>
          {others.map((other) => (
            <option key={other.id} value={other.id}>
              {`${other.title} (${other.state})`}
            </option>
          ))}
        </select>
      </label>
      {data && others.length === 0 && <p class="quiet">There are no other incidents.</p>}
    </ConfirmDialog>
  );
}

function SplitDialog({ incident, onClose }: MergeSplitProps) {
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const toggle = (id: string): void => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  const act = async (): Promise<void> => {
    location.hash = href(["incidents", (await splitIncident(incident.id, [...chosen])).id]);
  };
  const some = chosen.size > 0 && chosen.size < incident.anomaly_ids.length;
  return (
    <ConfirmDialog title="Split this incident?" verb="Split" blocked={!some} act={act} onClose={onClose}>
      <fieldset class="choices">
        <legend>Move to a new incident</legend>
        {incident.anomalies.map((anomaly) => (
          <label key={anomaly.id}>
            <input type="checkbox" checked={chosen.has(anomaly.id)} onChange={() => toggle(anomaly.id)} />
            <span>
              {anomaly.series}{" "}
              <span class="quiet">
                since <ClockTime time={anomaly.start} />
              </span>
            </span>
          </label>
        ))}
      </fieldset>
    </ConfirmDialog>
  );
}
