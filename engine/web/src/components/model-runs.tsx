/** Training runs of a model with progress and result, and a button to start one. */

import { useState } from "preact/hooks";
import { duration, number } from "../format.ts";
import { useLive, useNow } from "../hooks.ts";
import { type Run, type RunState, getRuns, train } from "../planning-api.ts";
import { ConfirmDialog } from "./confirm-dialog.tsx";
import { LoadError, LoadingRows } from "./notice.tsx";
import { ScopedButton } from "./scoped-button.tsx";
import { ClockTime } from "./series-name.tsx";

interface RunsProps {
  model: string;
  onDone: (text: string) => void;
}

const UNFINISHED = new Set<RunState>(["waiting", "running"]);

export function ModelRuns({ model, onDone }: RunsProps) {
  const found = useLive(`runs-${model}`, (signal) => getRuns(model, signal), 2000);
  const runs = found.data?.items ?? [];
  const busy = runs.some((run) => UNFINISHED.has(run.state));
  const done = (text: string): void => {
    onDone(text);
    found.reload();
  };
  return (
    <section class="panel" aria-labelledby="runs-title">
      <div class="panel-head">
        <h2 id="runs-title">Training runs</h2>
        <TrainButton model={model} busy={busy} onDone={done} />
      </div>
      <LoadError of={found} what="Training runs" />
      {!found.data && !found.error && <LoadingRows rows={3} />}
      {found.data && runs.length === 0 && <p class="quiet">No runs yet. Runs start on schedule or with Train now.</p>}
      <ul class="runs">
        {runs.map((run) => (
          <RunRow key={run.id} run={run} />
        ))}
      </ul>
    </section>
  );
}

function TrainButton({ model, busy, onDone }: RunsProps & { busy: boolean }) {
  const [dialogOpen, setDialogOpen] = useState(false);
  const act = async (): Promise<void> => {
    await train(model);
    onDone("Training started.");
  };
  return (
    <>
      <ScopedButton scope="execute" disabled={busy} onClick={() => setDialogOpen(true)}>
        {busy ? "Training in progress" : "Train now"}
      </ScopedButton>
      {dialogOpen && (
        <ConfirmDialog title={`Train ${model} now?`} verb="Train" act={act} onClose={() => setDialogOpen(false)}>
          <p>
            Trains a new version on the available history in a separate process and compares it with the champion. The version
            serves only if it passes the promotion gate.
          </p>
        </ConfirmDialog>
      )}
    </>
  );
}

const stageText = (stage: string): string => stage && `, ${stage.replaceAll("_", " ")}`;

function RunRow({ run }: { run: Run }) {
  const now = useNow(1000);
  const goes = UNFINISHED.has(run.state);
  const end = run.ended === null ? now : Date.parse(run.ended);
  return (
    <li class="run">
      <span class={`run-state is-${run.state}`}>
        <i aria-hidden="true" />
        {run.state}
      </span>
      <span class="run-what">
        {goes ? (
          <>
            <progress max={1} value={run.state === "waiting" ? 0 : run.progress} aria-label={`Progress of the run by ${run.by}`} />{" "}
            {run.state === "waiting" ? run.said : `${number(Math.round(run.progress * 100))} %${stageText(run.stage)}`}
          </>
        ) : (
          run.said || (run.state === "interrupted" ? "The process ended. The next run resumes from its saved state." : "")
        )}
      </span>
      <span class="quiet">
        <ClockTime time={run.started} seconds={false} /> by {run.by}
        {(goes || run.ended !== null) && `, ${duration((end - Date.parse(run.started)) / 1000)}`}
      </span>
    </li>
  );
}
