/** One incident: its story, where it may have begun, what it looks like, what changed, and what would help. */

import { useState } from "preact/hooks";
import { type Action, type IncidentDetail, getIncident, sayOfIncident } from "../actions-api.ts";
import type { Window } from "../chart/plot.ts";
import { clock, count, plural } from "../format.ts";
import { type Loaded, useLive, useNow, walkList } from "../hooks.ts";
import type { Change, Pattern } from "../incidents-api.ts";
import { incidentStory } from "../incident-text.ts";
import { AnomalyRow, Timeline } from "../components/anomaly-row.tsx";
import { Ask } from "../components/confirm-dialog.tsx";
import { Severity, patternWords } from "../components/incident-row.tsx";
import { Fault, Waiting } from "../components/notice.tsx";
import { RecommendationCard } from "../components/recommendation.tsx";
import { Scoped } from "../components/scoped-button.tsx";
import { Regroup } from "../components/merge-split.tsx";
import { Ago, At } from "../components/series-name.tsx";
import { Suspects } from "../components/suspects.tsx";
import { href } from "../router.ts";
import { type Said, SaidLine, useUnits } from "./inbox.tsx";

const BEFORE_MS = 20 * 60_000;
const AFTER_MS = 10 * 60_000;
const STEP_MS = 15_000;
const LISTED = 20;

/** The incident with enough of the usual around it to compare; it moves on in steps, so that pictures rest. */
function around(incident: IncidentDetail, now: number): Window {
  const start = Date.parse(incident.start);
  const end = incident.end === null ? now : Date.parse(incident.end);
  const until = Math.min(now, end + AFTER_MS);
  return [start - Math.max(BEFORE_MS, (end - start) / 2), Math.ceil(until / STEP_MS) * STEP_MS];
}

export function IncidentPage({ id }: { id: string }) {
  const found = useLive(`incident-${id}`, (signal) => getIncident(id, signal), 4000);
  const now = useNow(5000);
  const incident = found.data;
  if (!incident) return found.error ? <Fault of={found} what="This incident" /> : <Waiting rows={8} />;
  const window = around(incident, now);
  return (
    <>
      <nav class="crumbs" aria-label="Breadcrumb">
        <a href="#/incidents">Incidents</a>
      </nav>
      <Heading found={found} incident={incident} now={now} />
      <Course incident={incident} window={window} now={now} />
      <Helps incident={incident} again={found.again} />
      <Suspects suspects={incident.suspects} window={window} />
      <div class="aside">
        <Patterns patterns={incident.patterns} />
        <Changes changes={incident.changes} />
      </div>
      <Alike incident={incident} />
      <Anomalies incident={incident} now={now} />
    </>
  );
}

interface HeadingProps {
  found: Loaded<IncidentDetail>;
  incident: IncidentDetail;
  now: number;
}

function Heading({ found, incident, now }: HeadingProps) {
  return (
    <header class="subject">
      <h1>{incident.title}</h1>
      <p class="now">
        <Severity level={incident.level} over={incident.state === "resolved"} />
        <span class={incident.state === "open" ? "badge" : "badge over"}>
          {incident.state}
          {incident.acknowledged_by && ` by ${incident.acknowledged_by}`}
        </span>
        <span class="quiet">
          {incident.end === null ? "ongoing" : "ended"}, started <Ago time={incident.start} />
        </span>
        {incident.mass && <span class="badge">mass event</span>}
        <Verbs incident={incident} again={found.again} />
      </p>
      <p class="story">{incidentStory(incident, now)}</p>
      {incident.note && (
        <p class="quiet">
          Note: <q>{incident.note}</q>
        </p>
      )}
      {incident.merged_into && (
        <p>
          Merged into <a href={href(["incidents", incident.merged_into])}>another incident</a>.
        </p>
      )}
    </header>
  );
}

const VERBS = {
  acknowledge: ["Acknowledge", "Shows others that you are handling the incident."],
  resolve: ["Resolve", "Marks the incident as over or harmless."],
  reopen: ["Reopen", "Marks the incident as not over."],
} as const;

function Verbs({ incident, again }: { incident: IncidentDetail; again: () => void }) {
  const [asking, setAsking] = useState<keyof typeof VERBS | null>(null);
  const possible: (keyof typeof VERBS)[] =
    incident.state === "open" ? ["acknowledge", "resolve"] : incident.state === "acknowledged" ? ["resolve", "reopen"] : ["reopen"];
  const act = async (note: string): Promise<void> => {
    if (asking) await sayOfIncident(incident.id, asking, note);
    again();
  };
  return (
    <span class="verbs">
      {possible.map((verb) => (
        <Scoped key={verb} scope="propose" onClick={() => setAsking(verb)}>
          {VERBS[verb][0]}
        </Scoped>
      ))}
      {!incident.merged_into && <Regroup incident={incident} />}
      {asking && (
        <Ask title={`${VERBS[asking][0]} this incident?`} verb={VERBS[asking][0]} wants="perhaps a reason" act={act} onClose={() => setAsking(null)}>
          <p>{VERBS[asking][1]}</p>
        </Ask>
      )}
    </span>
  );
}

/** When each part of it was unusual, with the changes on the same line of time. */
function Course({ incident, window: [since, until], now }: { incident: IncidentDetail; window: Window; now: number }) {
  if (incident.anomalies.length === 0) return null;
  const x = (time: string): number => ((Date.parse(time) - since) / (until - since)) * 100;
  const shown = incident.changes.filter((change) => Date.parse(change.time) >= since && Date.parse(change.time) <= until);
  return (
    <figure class="panel times course">
      <Timeline anomalies={incident.anomalies} since={since} until={until} />
      {shown.length > 0 && (
        <svg class="change-marks" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={plural(shown.length, "change", "changes")}>
          {shown.map((change) => (
            <path key={change.id} d={`M${x(change.time)} 0v8`}>
              <title>{change.title}</title>
            </path>
          ))}
        </svg>
      )}
      <figcaption class="ends">
        <span>{clock(since, now, false)}</span>
        <span>{shown.length > 0 && "markers: changes"}</span>
        <span>{clock(until, now, false)}</span>
      </figcaption>
    </figure>
  );
}

function Helps({ incident, again }: { incident: IncidentDetail; again: () => void }) {
  const [said, setSaid] = useState<Said | null>(null);
  const unit = useUnits();
  const decided = (words: string, action?: Action): void => {
    setSaid({ words, action });
    again();
  };
  return (
    <>
      <SaidLine said={said} />
      {incident.recommendations.map((r) => (
        <RecommendationCard key={r.id} recommendation={r} unit={unit(r)} onDecided={decided} />
      ))}
    </>
  );
}

function Patterns({ patterns }: { patterns: Pattern[] }) {
  return (
    <section class="panel" aria-labelledby="patterns-title">
      <div class="panel-head">
        <h2 id="patterns-title">Matching patterns</h2>
      </div>
      {patterns.length === 0 && <p class="quiet">No known pattern matches.</p>}
      {patterns.map((pattern) => (
        <div class="pattern" key={pattern.name + pattern.entity}>
          <p>
            <b>{patternWords(pattern.name)}</b> on {pattern.entity}{" "}
            {pattern.until === null ? (
              <span class="quiet">{count(pattern.confidence * 100)} % confidence</span>
            ) : (
              <span class="quiet">
                matched until <At time={pattern.until} />
              </span>
            )}
          </p>
          <ul class="evidence">
            {pattern.evidence.map((sentence) => (
              <li key={sentence}>{sentence}</li>
            ))}
          </ul>
          {pattern.remedies.length > 0 && <p class="quiet">Usual remedies: {pattern.remedies.join(", ")}</p>}
        </div>
      ))}
    </section>
  );
}

function Changes({ changes }: { changes: Change[] }) {
  return (
    <section class="panel" aria-labelledby="changes-title">
      <div class="panel-head">
        <h2 id="changes-title">Changes near the incident</h2>
      </div>
      {changes.length === 0 && (
        <p class="quiet">
          No deploys, restarts or configuration changes recorded. Report them with <code>POST /api/changes</code>.
        </p>
      )}
      <ul class="changes">
        {changes.map((change) => (
          <li key={change.id}>
            <At time={change.time} /> <b>{change.kind}</b> {/^https?:/.test(change.url) ? <a href={change.url} rel="noreferrer">{change.title}</a> : change.title}{" "}
            <span class="quiet">by {change.by}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Alike({ incident }: { incident: IncidentDetail }) {
  if (incident.alike.length === 0) return null;
  return (
    <section class="panel" aria-labelledby="alike-title">
      <div class="panel-head">
        <h2 id="alike-title">Similar incidents</h2>
        <span class="quiet">most similar first</span>
      </div>
      <ul class="changes">
        {incident.alike.map((past) => (
          <li key={past.id}>
            <At time={past.start} seconds={false} /> <a href={href(["incidents", past.id])}>{past.title}</a>
            {past.done.length === 0 ? (
              <span class="quiet"> no action by Trimtab</span>
            ) : (
              past.done.map((done) => (
                <span class="done" key={done.title + done.words}>
                  {done.title}: <b>{done.words}</b>
                </span>
              ))
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Anomalies({ incident, now }: { incident: IncidentDetail; now: number }) {
  const total = incident.anomaly_ids.length;
  if (incident.anomalies.length === 0) return null;
  return (
    <section class="panel" aria-labelledby="parts-title">
      <div class="panel-head">
        <h2 id="parts-title">Anomalies</h2>
        {total > LISTED && <span class="quiet">{`${LISTED} of ${count(total)}`}</span>}
      </div>
      <ul class="rows" onKeyDown={walkList}>
        {incident.anomalies.slice(0, LISTED).map((a) => (
          <AnomalyRow key={a.id} anomaly={a} now={now} />
        ))}
      </ul>
    </section>
  );
}
