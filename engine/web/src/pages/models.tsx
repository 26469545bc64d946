/** Forecast models: serving version, evaluation, versions and training runs. */

import { useState } from "preact/hooks";
import { useLive } from "../hooks.ts";
import { ModelMetrics } from "../components/model-metrics.tsx";
import { ModelRuns } from "../components/model-runs.tsx";
import { ModelVersions } from "../components/model-versions.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { RelativeTime } from "../components/series-name.tsx";
import { liveErrorText, seriesCountText } from "../forecast-text.ts";
import { type Model, getModels } from "../planning-api.ts";

export function ModelsPage() {
  const found = useLive("models", getModels, 5000);
  const off = found.error?.status === 503;
  return (
    <>
      <h1>Models</h1>
      {off && (
        <Notice kind="calm" title="Forecasting is disabled">
          {found.error?.detail} Set <code>{"schedulers: {load: {enabled: true}}"}</code> in trimtab.yaml to forecast loads and to
          train a model on their history.
        </Notice>
      )}
      {!off && <LoadError of={found} what="Models" />}
      {!found.data && !found.error && <LoadingRows rows={6} />}
      {found.data?.items.map((model) => (
        <ModelPanels key={model.id} model={model} reload={found.reload} />
      ))}
    </>
  );
}

function ModelPanels({ model, reload }: { model: Model; reload: () => void }) {
  const [message, setMessage] = useState("");
  const done = (text: string): void => {
    setMessage(text);
    reload();
  };
  const evaluated = ["challenger", "champion"].map((role) => model.versions.find((v) => v.role === role)).find(Boolean) ?? model.versions[0];
  return (
    <>
      <Serving model={model} />
      <p class="said" role="status">
        {message}
      </p>
      {evaluated && <ModelMetrics of={evaluated} champion={model.versions.find((v) => v.role === "champion")} />}
      <ModelVersions model={model} onDone={done} />
      <RefusedVersions refused={model.refused} />
      <ModelRuns model={model.id} onDone={done} />
    </>
  );
}

function Serving({ model: m }: { model: Model }) {
  return (
    <section class="panel serving" aria-labelledby={`model-${m.id}`}>
      <div class="panel-head">
        <h2 id={`model-${m.id}`}>{m.id}</h2>
        <span class="quiet">registry: {m.registry}</span>
      </div>
      <p>
        {m.made === null ? (
          "No forecasts yet."
        ) : (
          <>
            <b>{m.serving ? `Version ${m.serving}` : "Seasonal naive"}</b> forecasts {seriesCountText(m.series)}, last{" "}
            <RelativeTime time={m.made} />.
          </>
        )}{" "}
        {!m.serving && !m.problem && fallbackText(m)}{" "}
        <span title="Pinball loss of forecasts against observed values, scaled by the error of seasonal naive; lower is better">
          {liveErrorText(m.error, m.versions.find((v) => v.version === m.serving))}
        </span>
      </p>
      {m.problem && <p class="wrong">{m.problem}</p>}
      <NotPromoted model={m} />
    </section>
  );
}

/** Explain why the newest version was not promoted. */
function NotPromoted({ model }: { model: Model }) {
  const newest = model.versions[0];
  if (!newest?.said.startsWith("refused: ")) return null;
  return (
    <p class="kept-out">
      The newest version, {newest.version}, was not promoted: {newest.said.slice("refused: ".length)}. No action is needed: the
      next training tries again. More history (<code>schedulers.load.fit_window</code>) and more series improve the model. To
      serve this version anyway, promote it below.
    </p>
  );
}

/** Describe which model forecasts while no version serves. */
function fallbackText({ versions }: Model): string {
  const champion = versions.find((v) => v.role === "champion");
  if (champion) return `Version ${champion.version}, the champion, serves from the next forecast on.`;
  return "There is no champion yet. Until a version passes the promotion gate, seasonal naive forecasts.";
}

function RefusedVersions({ refused }: { refused: Record<string, string> }) {
  const all = Object.entries(refused);
  if (all.length === 0) return null;
  return (
    <section class="panel" aria-labelledby="refused-title">
      <div class="panel-head">
        <h2 id="refused-title">Refused</h2>
        <span class="quiet">not loaded; none of their code was run</span>
      </div>
      <dl class="refused">
        {all.map(([version, why]) => (
          <div key={version}>
            <dt>version {version}</dt>
            <dd>{why}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
