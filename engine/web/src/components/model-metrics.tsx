/** How a version was judged, beside the champion of its time and seasonal naive. */

import { FIGURES, type FigureRow, differenceText, figureRows, figureText } from "../forecast-text.ts";
import type { ModelVersion } from "../planning-api.ts";

interface FiguresProps {
  of: ModelVersion;
  champion: ModelVersion | undefined;
}

export function ModelFigures({ of, champion }: FiguresProps) {
  const rows = figureRows(of);
  if (rows.length === 0) return null;
  const challenges = of.role === "challenger";
  const against = rows.some((row) => row.other !== null);
  const other = against ? (challenges && champion ? `champion ${champion.version}` : "previous champion") : "";
  return (
    <section class="panel" aria-labelledby="figures-title">
      <div class="panel-head">
        <h2 id="figures-title">
          {challenges ? `Challenger ${of.version} compared with the champion` : `Evaluation of ${of.role || "version"} ${of.version}`}
        </h2>
        <span class="quiet">on the same held-out windows</span>
      </div>
      <div class="table">
        <table class="judged">
          <thead>
            <tr>
              <th scope="col">Metric</th>
              <th scope="col">
                {of.role || "version"} {of.version}
              </th>
              {against && <th scope="col">{other}</th>}
              <th scope="col">{against ? "change" : "vs. naive"}</th>
              <th scope="col">seasonal naive</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <Row key={row.key} row={row} against={against} />
            ))}
          </tbody>
        </table>
      </div>
      <p class="gate">
        Promotion gate: <b>{of.said || "no decision yet"}</b>.
      </p>
    </section>
  );
}

function Row({ row, against }: { row: FigureRow; against: boolean }) {
  const { key, mine, other, naive, better } = row;
  return (
    <tr>
      <th scope="row" title={FIGURES[key]?.help}>
        {FIGURES[key]?.name}
      </th>
      <td>
        <b>{figureText(key, mine)}</b>
      </td>
      {against && <td>{figureText(key, other)}</td>}
      <td class={better}>
        {differenceText(key, mine, against ? other : naive)}
        {better && ` ${better}`}
      </td>
      <td>{figureText(key, naive)}</td>
    </tr>
  );
}
