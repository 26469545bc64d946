/** Audit log and verification of its hash chain. */

import { useState } from "preact/hooks";
import { type AuditRow, type AuditVerification, getAudit, verifyAudit } from "../actions-api.ts";
import { count, plural } from "../format.ts";
import { useLive } from "../hooks.ts";
import { writeErrorText } from "../components/confirm-dialog.tsx";
import { AuditTable } from "../components/audit-table.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";

const PAGE = 100;

export function AuditPage() {
  const newest = useLive("audit", (signal) => getAudit({ limit: PAGE }, signal), 5000);
  const [older, setOlder] = useState<AuditRow[]>([]);
  const [wrong, setWrong] = useState("");
  const first = newest.data?.items ?? [];
  const least = Math.min(...first.map((row) => row.seq), ...older.map((row) => row.seq));
  const rows = [...first, ...older.filter((row) => row.seq < (first.at(-1)?.seq ?? Infinity))];
  const more = async (): Promise<void> => {
    setWrong("");
    try {
      const page = await getAudit({ limit: PAGE, after: least });
      setOlder((old) => [...old, ...page.items]);
    } catch (error) {
      setWrong(writeErrorText(error));
    }
  };
  return (
    <>
      <h1>Audit</h1>
      <ChainVerification />
      <LoadError of={newest} what="Audit log" />
      {!newest.data && !newest.error && <LoadingRows rows={10} />}
      {newest.data && rows.length === 0 && (
        <Notice kind="calm" title="No entries yet">
          Every recommendation, approval, action, pause and tool change is recorded here. Later edits of a row are detected.
        </Notice>
      )}
      {rows.length > 0 && (
        <section class="panel" aria-label="Audit log, newest first">
          <AuditTable rows={rows} />
        </section>
      )}
      {wrong && (
        <p role="alert" class="wrong">
          {wrong}
        </p>
      )}
      {rows.length > 0 && least > 1 && (
        <div class="pager">
          <button type="button" class="button" onClick={() => void more()}>
            Load more
          </button>
        </div>
      )}
    </>
  );
}

function ChainVerification() {
  const [busy, setBusy] = useState(false);
  const [found, setFound] = useState<AuditVerification | null>(null);
  const [wrong, setWrong] = useState("");
  const check = async (): Promise<void> => {
    setBusy(true);
    setWrong("");
    try {
      setFound(await verifyAudit());
    } catch (error) {
      setWrong(writeErrorText(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="check" role="status">
      <button type="button" class="button small" disabled={busy} onClick={() => void check()}>
        {busy ? "Verifying…" : "Verify the hash chain"}
      </button>
      {found?.ok && <span class="whole">Verified: {plural(found.rows, "row", "rows")}, every hash matches the previous row.</span>}
      {found && !found.ok && (
        <span class="wrong">
          Verification failed: {found.problem}. Of {count(found.rows)} rows, do not trust any after that point. Keep the database
          and check who had write access.
        </span>
      )}
      {wrong && <span class="wrong">{wrong}</span>}
    </div>
  );
}
