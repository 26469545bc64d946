/** One target of a tool: its metrics, knobs and actions. */

import { useState } from "preact/hooks";
import { type Action, type Knob, type KnobEntry, type ToolAction, getTarget, runAction, setKnob } from "../actions-api.ts";
import { range, value } from "../format.ts";
import { useLive } from "../hooks.ts";
import type { Value } from "../incidents-api.ts";
import { exactText, parsedValue, resetIsRisky, resetText, valueText, writtenValue } from "../incident-text.ts";
import { unitOfMetric } from "../anomaly-text.ts";
import { ConfirmDialog } from "./confirm-dialog.tsx";
import { LoadError, LoadingRows } from "./notice.tsx";
import { ScopedButton } from "./scoped-button.tsx";
import { ValueChange, RiskBadge } from "./values.tsx";

type Done = (text: string, action: Action) => void;

export function TargetPanel({ tool, target, onDone }: { tool: string; target: string; onDone: Done }) {
  const found = useLive(`target-${tool}-${target}`, (signal) => getTarget(tool, target, signal), 5000);
  const view = found.data;
  const done: Done = (text, action) => {
    onDone(text, action);
    found.reload();
  };
  return (
    <section class="panel target" aria-label={target}>
      <div class="panel-head">
        <h2>{target}</h2>
      </div>
      <LoadError of={found} what={target} />
      {!view && !found.error && <LoadingRows rows={5} />}
      {view?.problem && <p class="wrong">Some values could not be read: {view.problem}</p>}
      {view && <MetricsPanel metrics={view.metrics} />}
      {view && view.actions.length > 0 && (
        <div class="decide">
          {view.actions.map((action) => (
            <ToolActionButton key={action.name} tool={tool} target={target} action={action} onDone={done} />
          ))}
        </div>
      )}
      {view && view.knobs.length > 0 && <Knobs entries={view.knobs} onDone={done} />}
    </section>
  );
}

type Figure = [name: string, figure: number | null];
const SHOWN = 12;

/** The first metrics, which a tool orders by importance, and the rest on demand. */
function MetricsPanel({ metrics }: { metrics: Record<string, number | null> }) {
  const all = Object.entries(metrics);
  return (
    <div>
      <MetricList figures={all.slice(0, SHOWN)} />
      {all.length > SHOWN && (
        <details class="numbers">
          <summary>{`${all.length - SHOWN} more metrics`}</summary>
          <MetricList figures={all.slice(SHOWN)} />
        </details>
      )}
    </div>
  );
}

function MetricList({ figures }: { figures: Figure[] }) {
  return (
    <dl class="figures">
      {figures.map(([name, figure]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value(figure, unitOfMetric(name))}</dd>
        </div>
      ))}
    </dl>
  );
}

interface ToolActionButtonProps {
  tool: string;
  target: string;
  action: ToolAction;
  onDone: Done;
}

function ToolActionButton({ tool, target, action, onDone }: ToolActionButtonProps) {
  const [dialogOpen, setDialogOpen] = useState(false);
  const name = action.name.replaceAll("_", " ");
  const act = async (): Promise<void> => onDone(`Ran ${name} on ${target}.`, await runAction(tool, target, action.name));
  return (
    <>
      <ScopedButton scope="execute" onClick={() => setDialogOpen(true)}>
        {name}
      </ScopedButton>
      {dialogOpen && (
        <ConfirmDialog title={`Run ${name} on ${target}?`} verb={`Run ${name}`} warm={action.risk !== "low"} act={act} onClose={() => setDialogOpen(false)}>
          <p>{action.help}</p>
          <p class="quiet">
            <RiskBadge risk={action.risk} /> {action.reduces && "Reduces capacity temporarily. "}Guard rules apply.
          </p>
        </ConfirmDialog>
      )}
    </>
  );
}

function Knobs({ entries, onDone }: { entries: KnobEntry[]; onDone: Done }) {
  return (
    <div class="table">
      <table class="knobs stack">
        <thead>
          <tr>
            {["Setting", "Value", "Allowed", "Change lasts", ""].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {entries.map((entry) => (
            <KnobRow key={entry.knob.name} entry={entry} onDone={onDone} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function allowed(knob: Knob): string {
  if (knob.type === "bool") return "on or off";
  if (knob.type === "choice") return knob.choices.filter((choice) => !knob.denied.includes(choice)).join(", ");
  return knob.low === null && knob.high === null ? "no known bounds" : range(knob.low, knob.high, knob.unit);
}

function KnobRow({ entry, onDone }: { entry: KnobEntry; onDone: Done }) {
  const { knob, reading } = entry;
  const [dialogOpen, setDialogOpen] = useState(false);
  return (
    <tr>
      <th scope="row" title={knob.help}>
        <span class="metric">{knob.name}</span>
        <span class="quiet help">{knob.help}</span>
      </th>
      <td data-name="Value" title={reading ? String(reading.value) : ""}>
        {reading ? valueText(reading.value, knob.unit, knob.zero) : "could not be read"}
        {reading && !reading.set_here && <span class="quiet"> default</span>}
        {reading?.note && <span class="quiet help">{reading.note}</span>}
      </td>
      <td data-name="Allowed">{allowed(knob)}</td>
      <td data-name="Change lasts">
        {reading?.lasts}
        {knob.restart_needed && <span class="quiet help">takes effect after a restart</span>}
      </td>
      <td>
        {reading && (
          <ScopedButton scope="execute" onClick={() => setDialogOpen(true)}>
            Set
          </ScopedButton>
        )}
        {dialogOpen && reading && (
          <SetKnob entry={entry} before={reading.value} onDone={onDone} onClose={() => setDialogOpen(false)} />
        )}
      </td>
    </tr>
  );
}

interface SetKnobProps {
  entry: KnobEntry;
  before: Value;
  onDone: Done;
  onClose: () => void;
}

function SetKnob({ entry, before, onDone, onClose }: SetKnobProps) {
  const { tool, target, knob } = entry;
  const [text, setText] = useState(writtenValue(before, knob.unit));
  const [meant, setMeant] = useState(false);
  const after = parsedValue(knob, text);
  const risky = after === null && resetIsRisky(knob);
  const act = async (): Promise<void> => {
    if (after === undefined) return;
    onDone(`Set ${knob.name} of ${target}.`, await setKnob(tool, target, knob.name, before, after));
  };
  const blocked = after === undefined || after === before || (risky && !meant);
  return (
    <ConfirmDialog title={`Set ${knob.name} of ${target}`} verb={after === null ? "Reset" : "Set"} warm={risky} blocked={blocked} act={act} onClose={onClose}>
      <label class="given-field">
        {knob.unit ? `Value in ${knob.unit}${EXAMPLES[knob.unit] ?? ""}` : "Value"}; leave empty to reset
        <ValueInput knob={knob} text={text} onInput={setText} />
      </label>
      <p class="understood" role="status">
        {after === undefined && <span class="wrong">Allowed: {allowed(knob)}</span>}
        {after === null && resetText(knob)}
        {after !== undefined && after !== null && <ParsedValue knob={knob} before={before} after={after} />}
      </p>
      {risky && (
        <label class="meant">
          <input type="checkbox" checked={meant} onChange={(event) => setMeant(event.currentTarget.checked)} /> I want to reset this setting
        </label>
      )}
      <p class="quiet">
        Applied only if the current value is still {valueText(before, knob.unit, knob.zero)} and the guard rules allow it. A
        previous value can be restored immediately.
      </p>
    </ConfirmDialog>
  );
}

/** Example inputs by unit, appended to the label of the field. */
const EXAMPLES: Record<string, string> = { B: ", e.g. 64 MiB", s: ", e.g. 30 s or 5 min", ms: ", e.g. 200 ms or 2 s", ratio: ", e.g. 25 %" };

function ParsedValue({ knob, before, after }: { knob: Knob; before: Value; after: Value }) {
  return (
    <>
      <ValueChange before={before} after={after} unit={knob.unit} zero={knob.zero} />
      {knob.unit === "B" && <span class="quiet"> = {exactText(after)} B</span>}
    </>
  );
}

function ValueInput({ knob, text, onInput }: { knob: Knob; text: string; onInput: (text: string) => void }) {
  const choices = knob.type === "bool" ? ["true", "false"] : knob.choices;
  if (knob.type === "bool" || knob.type === "choice") {
    return (
      <select value={text} onChange={(event) => onInput(event.currentTarget.value)}>
        <option value="">default</option>
        {choices.map((choice) => (
          <option key={choice} value={choice} disabled={knob.denied.map(String).includes(choice)}>
            {choice}
          </option>
        ))}
      </select>
    );
  }
  return <input type="text" inputMode="decimal" value={text} onInput={(event) => onInput(event.currentTarget.value)} />;
}
