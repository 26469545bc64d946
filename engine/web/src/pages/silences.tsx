/** Of what nobody is told for a time. */

import { useState } from "preact/hooks";
import { type Silence, addSilence, endSilence, getSilences } from "../actions-api.ts";
import { useLive } from "../hooks.ts";
import { may } from "../incidents-api.ts";
import { Ask, whyNot } from "../components/confirm-dialog.tsx";
import { Fault, Notice, Waiting } from "../components/notice.tsx";
import { Scoped } from "../components/scoped-button.tsx";
import { At } from "../components/series-name.tsx";

export function SilencesPage() {
  const found = useLive("silences", getSilences, 5000);
  const [said, setSaid] = useState("");
  const done = (words: string): void => {
    setSaid(words);
    found.again();
  };
  const items = found.data?.items ?? [];
  return (
    <>
      <nav class="crumbs" aria-label="Where you are">
        <a href="#/incidents">Incidents</a>
      </nav>
      <h1>Silences</h1>
      <p class="quiet">
        While one holds, nobody is told of incidents that touch only what it names. They are seen, shown here, and acted on as
        ever; what still goes on when it ends is told then.
      </p>
      <Form done={done} />
      <p class="said" role="status">
        {said}
      </p>
      <Fault of={found} what="Silences" />
      {!found.data && !found.error && <Waiting rows={4} />}
      {found.data && items.length === 0 && (
        <Notice kind="calm" title="Nothing is silent">
          Those of the last 30 days are listed here, too.
        </Notice>
      )}
      {items.length > 0 && <List items={items} done={done} />}
    </>
  );
}

const SPANS: readonly [minutes: number, name: string][] = [
  [30, "30 minutes"],
  [60, "an hour"],
  [120, "2 hours"],
  [480, "8 hours"],
  [1440, "a day"],
  [10_080, "a week"],
];

function Form({ done }: { done: (words: string) => void }) {
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
      done(`Silent: ${names.join(", ")}.`);
    } catch (error) {
      setWrong(whyNot(error));
    }
  };
  return (
    <form class="panel silence-form" aria-label="Silence something" onSubmit={(event) => void submit(event)}>
      <label class="given-field">
        What: names or patterns, as redis/*
        <input type="text" value={entities} onInput={(event) => setEntities(event.currentTarget.value)} />
      </label>
      <label class="given-field">
        From (your local time); empty = now
        <input type="datetime-local" value={begin} onInput={(event) => setBegin(event.currentTarget.value)} />
      </label>
      <label class="given-field">
        For
        <select value={minutes} onChange={(event) => setMinutes(Number(event.currentTarget.value))}>
          {SPANS.map(([span, name]) => (
            <option key={span} value={span}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label class="given-field">
        Why
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

function List({ items, done }: { items: Silence[]; done: (words: string) => void }) {
  return (
    <section class="panel table" aria-label="Silences, newest first">
      <table class="knobs silences stack">
        <thead>
          <tr>
            {["What", "From", "Until", "State", "By", "Why", ""].map((name) => (
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

function Row({ silence, done }: { silence: Silence; done: (words: string) => void }) {
  const [asking, setAsking] = useState(false);
  const names = silence.entities.join(", ");
  const fixed = silence.id.startsWith("settings/");
  const act = async (): Promise<void> => {
    await endSilence(silence.id);
    done(`Told again: ${names}.`);
  };
  return (
    <tr>
      <th scope="row">{names}</th>
      <td data-name="From">
        <At time={silence.from} seconds={false} />
      </td>
      <td data-name="Until">
        <At time={silence.until} seconds={false} />
      </td>
      <td data-name="State">
        <span class={silence.state === "over" ? "badge over" : "badge"}>{silence.state}</span>
      </td>
      <td data-name="By">{silence.by}</td>
      <td data-name="Why">{silence.note}</td>
      <td>
        {silence.state !== "over" && !fixed && (
          <Scoped scope="approve" onClick={() => setAsking(true)}>
            End
          </Scoped>
        )}
        {fixed && <span class="quiet">in the settings</span>}
        {asking && (
          <Ask title={`End the silence of ${names}?`} verb="End" act={act} onClose={() => setAsking(false)}>
            <p>What it held back and still goes on is told at the next tick.</p>
          </Ask>
        )}
      </td>
    </tr>
  );
}
