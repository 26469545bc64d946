/** The versions of a model: who they are, how they do, and the buttons that say which one serves. */

import { useState } from "preact/hooks";
import { value } from "../format.ts";
import { errorText } from "../forecast-text.ts";
import { type Model, type ModelVersion, promote, rollBackModel } from "../planning-api.ts";
import { Ask } from "./confirm-dialog.tsx";
import { Scoped } from "./scoped-button.tsx";
import { At } from "./series-name.tsx";

interface VersionsProps {
  model: Model;
  onDone: (words: string) => void;
}

export function ModelVersions({ model, onDone }: VersionsProps) {
  const previous = model.versions.find((v) => v.role === "previous");
  return (
    <section class="panel" aria-labelledby="versions-title">
      <div class="panel-head">
        <h2 id="versions-title">Versions</h2>
        {previous && <RollBack model={model} to={previous} onDone={onDone} />}
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
                <Version key={version.version} model={model} version={version} onDone={onDone} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Version({ model, version: v, onDone }: VersionsProps & { version: ModelVersion }) {
  return (
    <tr>
      <th scope="row">
        <b>{v.version}</b> {v.role && <span class={v.role === "champion" ? "role champion" : "role"}>{v.role}</span>}
        <span class="quiet kind">{v.forecaster || v.kind || "unreadable"}</span>
      </th>
      <td data-name="Created">
        <At time={v.stored} seconds={false} />
      </td>
      <td data-name="Trained until">{v.trained_until === null ? "–" : <At time={v.trained_until} seconds={false} />}</td>
      <td data-name="Loss at the gate">{errorText(v.figures["challenger.pinball"])}</td>
      <td data-name="Live error">{errorText(v.live)}</td>
      <td data-name="Size">{value(v.size_bytes, "B")}</td>
      <td data-name="Gate result" class="said-of">
        {v.said}
      </td>
      <td>{v.role !== "champion" && <Promote model={model} version={v} onDone={onDone} />}</td>
    </tr>
  );
}

function Promote({ model, version, onDone }: VersionsProps & { version: ModelVersion }) {
  const [asking, setAsking] = useState(false);
  const name = version.version;
  const refused = version.said.startsWith("refused");
  const act = async (): Promise<void> => {
    await promote(model.id, name);
    onDone(`Version ${name} is now the champion.`);
  };
  return (
    <>
      <Scoped scope="approve" onClick={() => setAsking(true)}>
        Promote
      </Scoped>
      {asking && (
        <Ask title={`Promote version ${name}?`} verb="Promote" warm={refused} act={act} onClose={() => setAsking(false)}>
          <p>
            The version replaces {model.serving ? `version ${model.serving}` : "seasonal naive"} once its files are verified. You can
            roll back later.
          </p>
          <p class={refused ? "wrong" : "quiet"}>Promotion gate: {version.said || "no decision"}.</p>
        </Ask>
      )}
    </>
  );
}

function RollBack({ model, to, onDone }: VersionsProps & { to: ModelVersion }) {
  const [asking, setAsking] = useState(false);
  const act = async (): Promise<void> => {
    await rollBackModel(model.id);
    onDone(`Version ${to.version} is the champion again.`);
  };
  return (
    <>
      <Scoped scope="approve" onClick={() => setAsking(true)}>
        Roll back
      </Scoped>
      {asking && (
        <Ask title={`Roll back to version ${to.version}?`} verb="Roll back" act={act} onClose={() => setAsking(false)}>
          <p>
            Version {to.version}, the previous champion, serves from the next forecast on. Version {model.serving} is kept.
          </p>
        </Ask>
      )}
    </>
  );
}
