/** Table of audit rows. */

import type { AuditRow } from "../actions-api.ts";
import { ClockTime } from "./series-name.tsx";

function detailText(details: AuditRow["details"]): string {
  return Object.entries(details)
    .filter(([, text]) => text !== null && text !== "")
    .map(([name, text]) => `${name}=${text}`)
    .join(" ");
}

export function AuditTable({ rows }: { rows: AuditRow[] }) {
  return (
    <div class="table">
      <table class="audit stack">
        <thead>
          <tr>
            {["No.", "Time", "Actor", "Event", "Subject", "Details"].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.seq} title={`hash ${row.hash}`}>
              <td data-name="No.">{row.seq}</td>
              <td data-name="Time">
                <ClockTime time={row.time} />
              </td>
              <td data-name="Actor">{row.actor}</td>
              <td data-name="Event">{row.what}</td>
              <td data-name="Subject">
                <code>{row.subject}</code>
              </td>
              <td data-name="Details">{detailText(row.details)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
