/** Button, dialog and banner of the global pause. */

import { useState } from "preact/hooks";
import { useLive } from "../hooks.ts";
import { actionsEnabled, loadPause, may, pauseAll, paused, resumeAll } from "../incidents-api.ts";
import { useShared } from "../shared-state.ts";
import { ConfirmDialog } from "./confirm-dialog.tsx";
import { RelativeTime } from "./series-name.tsx";

export function PauseButton() {
  useLive("pause", loadPause, 5000);
  const enabled = useShared(actionsEnabled);
  const state = useShared(paused);
  const [dialogOpen, setDialogOpen] = useState(false);
  if (!enabled || !state) return null;
  const allowed = may(state.on ? "approve" : "execute");
  const title = state.on ? "Actions are paused. Resume all actions" : "Actions are enabled. Pause all actions";
  return (
    <>
      <button
        type="button"
        class={state.on ? "pause-button on" : "pause-button"}
        disabled={!allowed}
        title={allowed ? title : `Your key lacks the scope ${state.on ? "approve" : "execute"}`}
        onClick={() => setDialogOpen(true)}
      >
        <svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
          <path d={state.on ? "M4 2.500v11l9.500-5.500z" : "M4 2.500h3v11H4zM9 2.500h3v11H9z"} />
        </svg>
        {state.on ? "Resume" : "Pause"}
      </button>
      {dialogOpen && <PauseDialog on={state.on} onClose={() => setDialogOpen(false)} />}
    </>
  );
}

function PauseDialog({ on, onClose }: { on: boolean; onClose: () => void }) {
  if (on) {
    return (
      <ConfirmDialog title="Resume actions?" verb="Resume" input="optional reason" act={resumeAll} onClose={onClose}>
        <p>Approved and automatic actions can run again, subject to the guard rules.</p>
      </ConfirmDialog>
    );
  }
  return (
    <ConfirmDialog title="Pause all actions?" verb="Pause" input="optional reason" warm act={pauseAll} onClose={onClose}>
      <p>
        No action starts until an operator resumes, even after a restart. Running actions are still verified, but the engine
        does not roll them back automatically. Operators can still use <b>Roll back</b>.
      </p>
    </ConfirmDialog>
  );
}

export function PausedBanner() {
  const state = useShared(paused);
  if (!state?.on) return null;
  return (
    <div class="banner paused" role="status">
      <span>
        <b>Actions are paused.</b> {state.by && `By ${state.by}`}
        {state.since && (
          <>
            , <RelativeTime time={state.since} />
          </>
        )}
        {state.reason && `: ${state.reason}`}
      </span>
    </div>
  );
}
