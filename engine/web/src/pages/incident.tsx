/** One incident: summary, timeline, recommendations, suspects, patterns, changes and anomalies. */

import { useState } from "preact/hooks";
import { type Action, type IncidentDetail, getIncident, updateIncident } from "../actions-api.ts";
import type { Window } from "../chart/plot.ts";
import { clock, count, plural } from "../format.ts";
import { type Loaded, useLive, useNow, moveRowFocus } from "../hooks.ts";
import type { Change, Pattern } from "../incidents-api.ts";
import { incidentSummary } from "../incident-text.ts";
import { AnomalyRow, Timeline } from "../components/anomaly-row.tsx";
import { ConfirmDialog } from "../components/confirm-dialog.tsx";
import { Severity, patternText } from "../components/incident-row.tsx";
import { LoadError, LoadingRows } from "../components/notice.tsx";
import { RecommendationCard } from "../components/recommendation.tsx";
import { ScopedButton } from "../components/scoped-button.tsx";
import { MergeSplit } from "../components/merge-split.tsx";
import { RelativeTime, ClockTime } from "../components/series-name.tsx";
import { Suspects } from "../components/suspects.tsx";
import { href } from "../router.ts";
import { type StatusMessage, StatusLine, useUnits } from "./inbox.tsx";

const BEFORE_MS = 20 * 60_000;
const AFTER_MS = 10 * 60_000;
const STEP_MS = 15_000;
const LISTED = 20;

/** Return a window around the incident; it advances in steps, so that charts do not redraw constantly. */
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
  if (!incident) return found.error ? <LoadError of={found} what="This incident" /> : <LoadingRows rows={8} />;
  const window = around(incident, now);
  return (
    <>
      <nav class="crumbs" aria-label="Breadcrumb">
        <a href="#/incidents">Incidents</a>
      </nav>
      <Heading found={found} incident={incident} now={now} />
      <IncidentTimeline incident={incident} window={window} now={now} />
      <Recommendations incident={incident} reload={found.reload} />
      <Suspects suspects={incident.suspects} window={window} />
      <div class="aside">
        <Patterns patterns={incident.patterns} />
        <Changes changes={incident.changes} />
      </div>
      <SimilarIncidents incident={incident} />
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
          {incident.end === null ? "ongoing" : "ended"}, started <RelativeTime time={incident.start} />
        </span>
        {incident.mass && <span class="badge">mass event</span>}
        <IncidentButtons incident={incident} reload={found.reload} />
      </p>
      <p class="story">{incidentSummary(incident, now)}</p>
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

const OPERATIONS = {
  acknowledge: ["Acknowledge", "Shows others that you are handling the incident."],
  resolve: ["Resolve", "Marks the incident as over or harmless."],
  reopen: ["Reopen", "Marks the incident as not over."],
} as const;

function IncidentButtons({ incident, reload }: { incident: IncidentDetail; reload: () => void }) {
  const [dialog, setDialog] = useState<keyof typeof OPERATIONS | null>(null);
  const possible: (keyof typeof OPERATIONS)[] =
    incident.state === "open" ? ["acknowledge", "resolve"] : incident.state === "acknowledged" ? ["resolve", "reopen"] : ["reopen"];
  const act = async (note: string): Promise<void> => {
    if (dialog) await updateIncident(incident.id, dialog, note);
    reload();
  };
  return (
    <span class="verbs">
      {possible.map((verb) => (
        <ScopedButton key={verb} scope="propose" onClick={() => setDialog(verb)}>
          {OPERATIONS[verb][0]}
        </ScopedButton>
      ))}
      {!incident.merged_into && <MergeSplit incident={incident} />}
      {dialog && (
        <ConfirmDialog title={`${OPERATIONS[dialog][0]} this incident?`} verb={OPERATIONS[dialog][0]} input="optional reason" act={act} onClose={() => setDialog(null)}>
          <p>{OPERATIONS[dialog][1]}</p>
        </ConfirmDialog>
      )}
    </span>
  );
}

/** Timeline of the anomalies, with markers for changes. */
function IncidentTimeline({ incident, window: [since, until], now }: { incident: IncidentDetail; window: Window; now: number }) {
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

function Recommendations({ incident, reload }: { incident: IncidentDetail; reload: () => void }) {
  const [message, setMessage] = useState<StatusMessage | null>(null);
  const unit = useUnits();
  const decided = (text: string, action?: Action): void => {
    setMessage({ text, action });
    reload();
  };
  return (
    <>
      <StatusLine message={message} />
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
            <b>{patternText(pattern.name)}</b> on {pattern.entity}{" "}
            {pattern.until === null ? (
              <span class="quiet">{count(pattern.confidence * 100)} % confidence</span>
            ) : (
              <span class="quiet">
                matched until <ClockTime time={pattern.until} />
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
            <ClockTime time={change.time} /> <b>{change.kind}</b> {/^https?:/.test(change.url) ? <a href={change.url} rel="noreferrer">{change.title}</a> : change.title}{" "}
            <span class="quiet">by {change.by}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function SimilarIncidents({ incident }: { incident: IncidentDetail }) {
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
            <ClockTime time={past.start} seconds={false} /> <a href={href(["incidents", past.id])}>{past.title}</a>
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
      <ul class="rows" onKeyDown={moveRowFocus}>
        {incident.anomalies.slice(0, LISTED).map((a) => (
          <AnomalyRow key={a.id} anomaly={a} now={now} />
        ))}
      </ul>
    </section>
  );
}
