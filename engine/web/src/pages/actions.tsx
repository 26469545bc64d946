/** Actions: running ones with their effect, and finished ones. */

import { useState } from "preact/hooks";
import { type Action, getAction, getActions } from "../actions-api.ts";
import { useLive, moveRowFocus } from "../hooks.ts";
import { ActionCard, ActionRow } from "../components/action.tsx";
import { AuditTable } from "../components/audit-table.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { href } from "../router.ts";
import { type StatusMessage, StatusLine, useUnits } from "./inbox.tsx";

const PAGE = 50;

function useRollbackMessage(reload: () => void): [StatusMessage | null, (back: Action) => void] {
  const [message, setMessage] = useState<StatusMessage | null>(null);
  const rolledBack = (back: Action): void => {
    setMessage({ text: "Rolled back.", action: back });
    reload();
  };
  return [message, rolledBack];
}

export function ActionsPage() {
  const running = useLive("running", (signal) => getActions({ unfinished: true, limit: PAGE }, signal));
  const all = useLive("actions", (signal) => getActions({ limit: PAGE }, signal), 4000);
  const [message, rolledBack] = useRollbackMessage(() => {
    running.reload();
    all.reload();
  });
  const unit = useUnits();
  const under = running.data?.items ?? [];
  const ids = new Set(under.map((action) => action.id));
  const past = all.data?.items.filter((action) => !ids.has(action.id)) ?? [];
  return (
    <>
      <h1>Actions</h1>
      <StatusLine message={message} />
      <LoadError of={running} what="Running actions" />
      {under.map((action) => (
        <ActionCard key={action.id} id={action.id} unit={unit} onRolledBack={rolledBack} />
      ))}
      {running.data && under.length === 0 && <p class="quiet">No actions are running.</p>}
      <LoadError of={all} what="Actions" />
      {!all.data && !all.error && <LoadingRows rows={6} />}
      {all.data?.items.length === 0 && (
        <Notice kind="calm" title="No actions yet">
          Changes approved in the <a href="#/inbox">inbox</a>, made manually under <a href="#/tools">tools</a>, or made in mode{" "}
          <code>auto</code> appear here.
        </Notice>
      )}
      {past.length > 0 && (
        <section class="panel" aria-labelledby="past-title">
          <div class="panel-head">
            <h2 id="past-title">Finished</h2>
          </div>
          <ul class="rows" onKeyDown={moveRowFocus}>
            {past.map((action) => (
              <ActionRow key={action.id} action={action} unit={unit(action)} />
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

export function ActionPage({ id }: { id: string }) {
  const found = useLive(`one-action-${id}`, (signal) => getAction(id, signal), 4000);
  const [message, rolledBack] = useRollbackMessage(found.reload);
  const unit = useUnits();
  const action = found.data;
  return (
    <>
      <nav class="crumbs" aria-label="Breadcrumb">
        <a href="#/actions">Actions</a>
      </nav>
      <h1>{action ? `${action.subject.replaceAll("_", " ")} of ${action.target}` : "Action"}</h1>
      <StatusLine message={message} />
      <ActionCard id={id} unit={unit} onRolledBack={rolledBack} />
      {action?.recommendation && (
        <p>
          Recommendation: <a href={href(["inbox", action.recommendation.id])}>{action.recommendation.title}</a>
        </p>
      )}
      {action && action.audit.length > 0 && (
        <section class="panel" aria-labelledby="audit-title">
          <div class="panel-head">
            <h2 id="audit-title">Audit log</h2>
          </div>
          <AuditTable rows={action.audit} />
        </section>
      )}
    </>
  );
}
