/** Rows of the audit. */

import type { AuditRow } from "../acts.ts";
import { At } from "./series-name.tsx";

function detailWords(details: AuditRow["details"]): string {
  return Object.entries(details)
    .filter(([, text]) => text !== null && text !== "")
    .map(([name, text]) => `${name}=${text}`)
    .join(" ");
}

export function AuditTable({ rows }: { rows: AuditRow[] }) {
  return (
    <div class="table">
      <table class="audit">
        <thead>
          <tr>
            {["No.", "Time", "Who", "What", "About", "Details"].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.seq} title={`hash ${row.hash}`}>
              <td>{row.seq}</td>
              <td>
                <At time={row.time} />
              </td>
              <td>{row.actor}</td>
              <td>{row.what}</td>
              <td>
                <code>{row.subject}</code>
              </td>
              <td>{detailWords(row.details)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
