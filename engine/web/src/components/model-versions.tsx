/** Versions of a model with role, errors and gate result, and buttons to promote and roll back. */

import { useState } from "preact/hooks";
import { value } from "../format.ts";
import { errorText } from "../forecast-text.ts";
import { type Model, type ModelVersion, promote, rollBackModel } from "../planning-api.ts";
import { ConfirmDialog } from "./confirm-dialog.tsx";
import { ScopedButton } from "./scoped-button.tsx";
import { ClockTime } from "./series-name.tsx";

interface VersionsProps {
  model: Model;
  onDone: (text: string) => void;
}

export function ModelVersions({ model, onDone }: VersionsProps) {
  const previous = model.versions.find((v) => v.role === "previous");
  return (
    <section class="panel" aria-labelledby="versions-title">
      <div class="panel-head">
        <h2 id="versions-title">Versions</h2>
        {previous && <RollbackButton model={model} to={previous} onDone={onDone} />}
      </div>
      {model.versions.length === 0 ? (
        <p class="quiet">No versions yet. The first training run creates one. Until a version passes the promotion gate, seasonal naive forecasts.</p>
      ) : (
        <div class="table">
          <table class="versions">
            <thead>
              <tr>
                {["Version", "Created", "Trained until", "Loss at the gate", "Live error", "Size", "Gate result", ""].map((name) => (
                  <th key={name} scope="col">
                    {name || <span class="only-heard">Promote</span>}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {model.versions.map((version) => (
                <VersionRow key={version.version} model={model} version={version} onDone={onDone} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function VersionRow({ model, version: v, onDone }: VersionsProps & { version: ModelVersion }) {
  return (
    <tr>
      <th scope="row">
        <b>{v.version}</b> {v.role && <span class={v.role === "champion" ? "role champion" : "role"}>{v.role}</span>}
        <span class="quiet kind">{v.forecaster || v.kind || "unreadable"}</span>
      </th>
      <td data-name="Created">
        <ClockTime time={v.stored} seconds={false} />
      </td>
      <td data-name="Trained until">{v.trained_until === null ? "–" : <ClockTime time={v.trained_until} seconds={false} />}</td>
      <td data-name="Loss at the gate">{errorText(v.figures["challenger.pinball"])}</td>
      <td data-name="Live error">{errorText(v.live)}</td>
      <td data-name="Size">{value(v.size_bytes, "B")}</td>
      <td data-name="Gate result" class="said-of">
        {v.said}
      </td>
      <td>{v.role !== "champion" && <PromoteButton model={model} version={v} onDone={onDone} />}</td>
    </tr>
  );
}

function PromoteButton({ model, version, onDone }: VersionsProps & { version: ModelVersion }) {
  const [dialogOpen, setDialogOpen] = useState(false);
  const name = version.version;
  const refused = version.said.startsWith("refused");
  const act = async (): Promise<void> => {
    await promote(model.id, name);
    onDone(`Version ${name} is now the champion.`);
  };
  return (
    <>
      <ScopedButton scope="approve" onClick={() => setDialogOpen(true)}>
        Promote
      </ScopedButton>
      {dialogOpen && (
        <ConfirmDialog title={`Promote version ${name}?`} verb="Promote" warm={refused} act={act} onClose={() => setDialogOpen(false)}>
          <p>
            The version replaces {model.serving ? `version ${model.serving}` : "seasonal naive"} once its files are verified. You can
            roll back later.
          </p>
          <p class={refused ? "wrong" : "quiet"}>Promotion gate: {version.said || "no decision"}.</p>
        </ConfirmDialog>
      )}
    </>
  );
}

function RollbackButton({ model, to, onDone }: VersionsProps & { to: ModelVersion }) {
  const [dialogOpen, setDialogOpen] = useState(false);
  const act = async (): Promise<void> => {
    await rollBackModel(model.id);
    onDone(`Version ${to.version} is the champion again.`);
  };
  return (
    <>
      <ScopedButton scope="approve" onClick={() => setDialogOpen(true)}>
        Roll back
      </ScopedButton>
      {dialogOpen && (
        <ConfirmDialog title={`Roll back to version ${to.version}?`} verb="Roll back" act={act} onClose={() => setDialogOpen(false)}>
          <p>
            Version {to.version}, the previous champion, serves from the next forecast on. Version {model.serving} is kept.
          </p>
        </ConfirmDialog>
      )}
    </>
  );
}
