/** Silences of notifications: list, add and end. */

import { useState } from "preact/hooks";
import { type Silence, addSilence, endSilence, getSilences } from "../actions-api.ts";
import { useLive } from "../hooks.ts";
import { may } from "../incidents-api.ts";
import { ConfirmDialog, writeErrorText } from "../components/confirm-dialog.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { ScopedButton } from "../components/scoped-button.tsx";
import { ClockTime } from "../components/series-name.tsx";

export function SilencesPage() {
  const found = useLive("silences", getSilences, 5000);
  const [message, setMessage] = useState("");
  const done = (text: string): void => {
    setMessage(text);
    found.reload();
  };
  const items = found.data?.items ?? [];
  return (
    <>
      <nav class="crumbs" aria-label="Breadcrumb">
        <a href="#/incidents">Incidents</a>
      </nav>
      <h1>Silences</h1>
      <p class="quiet">
        A silence suppresses notifications of incidents that affect only the listed entities. These incidents are still
        detected, shown and acted on. If one is still open when the silence ends, its notification is sent then.
      </p>
      <Form done={done} />
      <p class="said" role="status">
        {message}
      </p>
      <LoadError of={found} what="Silences" />
      {!found.data && !found.error && <LoadingRows rows={4} />}
      {found.data && items.length === 0 && (
        <Notice kind="calm" title="No silences">
          Silences of the last 30 days are listed here.
        </Notice>
      )}
      {items.length > 0 && <List items={items} done={done} />}
    </>
  );
}

const SPANS: readonly [minutes: number, name: string][] = [
  [30, "30 minutes"],
  [60, "1 hour"],
  [120, "2 hours"],
  [480, "8 hours"],
  [1440, "1 day"],
  [10_080, "1 week"],
];

function Form({ done }: { done: (text: string) => void }) {
  const [entities, setEntities] = useState("");
  const [begin, setBegin] = useState("");
  const [minutes, setMinutes] = useState(60);
  const [note, setNote] = useState("");
  const [wrong, setWrong] = useState("");
  const names = entities.split(/[\s,]+/).filter(Boolean);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setWrong("");
    const from = begin ? new Date(begin) : null;
    const until = new Date((from?.getTime() ?? Date.now()) + minutes * 60_000).toISOString();
    try {
      await addSilence({ entities: names, from: from?.toISOString() ?? null, until, note: note.trim() });
      setEntities("");
      setNote("");
      done(`Silenced: ${names.join(", ")}.`);
    } catch (error) {
      setWrong(writeErrorText(error));
    }
  };
  return (
    <form class="panel silence-form" aria-label="Add a silence" onSubmit={(event) => void submit(event)}>
      <label class="given-field">
        Entities: names or patterns, e.g. redis/*
        <input type="text" value={entities} onInput={(event) => setEntities(event.currentTarget.value)} />
      </label>
      <label class="given-field">
        Start (your local time zone); empty for now
        <input type="datetime-local" value={begin} onInput={(event) => setBegin(event.currentTarget.value)} />
      </label>
      <label class="given-field">
        Duration
        <select value={minutes} onChange={(event) => setMinutes(Number(event.currentTarget.value))}>
          {SPANS.map(([span, name]) => (
            <option key={span} value={span}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label class="given-field">
        Reason
        <input type="text" maxLength={1000} value={note} onInput={(event) => setNote(event.currentTarget.value)} />
      </label>
      <button
        type="submit"
        class="button primary"
        disabled={names.length === 0 || !may("approve")}
        title={may("approve") ? undefined : "Your key lacks the scope approve"}
      >
        Silence
      </button>
      {wrong && (
        <p role="alert" class="wrong">
          {wrong}
        </p>
      )}
    </form>
  );
}

function List({ items, done }: { items: Silence[]; done: (text: string) => void }) {
  return (
    <section class="panel table" aria-label="Silences, newest first">
      <table class="knobs silences stack">
        <thead>
          <tr>
            {["Entities", "Start", "End", "State", "By", "Reason", ""].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {items.map((silence) => (
            <Row key={silence.id} silence={silence} done={done} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Row({ silence, done }: { silence: Silence; done: (text: string) => void }) {
  const [dialogOpen, setDialogOpen] = useState(false);
  const names = silence.entities.join(", ");
  const fixed = silence.id.startsWith("settings/");
  const act = async (): Promise<void> => {
    await endSilence(silence.id);
    done(`Silence ended: ${names}.`);
  };
  return (
    <tr>
      <th scope="row">{names}</th>
      <td data-name="Start">
        <ClockTime time={silence.from} seconds={false} />
      </td>
      <td data-name="End">
        <ClockTime time={silence.until} seconds={false} />
      </td>
      <td data-name="State">
        <span class={silence.state === "over" ? "badge over" : "badge"}>{silence.state}</span>
      </td>
      <td data-name="By">{silence.by}</td>
      <td data-name="Reason">{silence.note}</td>
      <td>
        {silence.state !== "over" && !fixed && (
          <ScopedButton scope="approve" onClick={() => setDialogOpen(true)}>
            End
          </ScopedButton>
        )}
        {fixed && <span class="quiet">from settings</span>}
        {dialogOpen && (
          <ConfirmDialog title={`End the silence for ${names}?`} verb="End" act={act} onClose={() => setDialogOpen(false)}>
            <p>Notifications of incidents that are still open are sent at the next tick.</p>
          </ConfirmDialog>
        )}
      </td>
    </tr>
  );
}
