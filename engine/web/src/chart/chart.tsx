/** Chart of a series with readout, keyboard control, and a description in text. */

import { useEffect, useRef, useState } from "preact/hooks";
import { type ChartData, lowerBound, summary } from "../chart-data.ts";
import { clock, exactTime, range, score, value } from "../format.ts";
import { Notice } from "../components/notice.tsx";
import { useShared } from "../shared-state.ts";
import { theme } from "../theme.ts";
import type { Anomaly } from "../types.ts";
import type { ChartOverlay, SeriesPlot, Span, Window } from "./plot.ts";

interface ChartProps {
  name: string;
  data: ChartData;
  unit: string;
  window: Window;
  anomalies: Anomaly[];
  /** Style of `data.more`; null without it. */
  over?: ChartOverlay | null;
  onZoom: (window: Window) => void;
  onReset: () => void;
}

export function spansOf(anomalies: Anomaly[], until: number): Span[] {
  return anomalies.map((a) => ({
    from: Date.parse(a.start),
    to: a.end === null ? Math.max(until, Date.now()) : Date.parse(a.end),
  }));
}

function inWindow(anomalies: Anomaly[], [since, until]: Window): Anomaly[] {
  return anomalies.filter((a) => Date.parse(a.start) <= until && (a.end === null || Date.parse(a.end) >= since));
}

export function Chart(props: ChartProps) {
  const { data, unit, window, anomalies, over = null } = props;
  const root = useRef<HTMLDivElement>(null);
  const plot = useRef<SeriesPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const colours = useShared(theme);
  const [at, setAt] = useState<number | null>(null);
  const [drawn, setDrawn] = useState(0);
  const [failed, setFailed] = useState(false);
  const keyed = useRef(false);

  useEffect(() => {
    let gone = false;
    const draw = async (): Promise<void> => {
      const loaded = await import("./plot.ts").catch(() => null);
      if (gone || !root.current) return;
      if (!loaded) {
        setFailed(true);
        return;
      }
      const { SeriesPlot } = loaded;
      plot.current = new SeriesPlot(root.current, latest.current.data, latest.current.window, {
        unit,
        over: latest.current.over ?? null,
        onCursor: setAt,
        onZoom: (to) => latest.current.onZoom(to),
        onReset: () => latest.current.onReset(),
      });
      setDrawn((n) => n + 1);
    };
    void draw();
    return () => {
      gone = true;
      plot.current?.destroy();
      plot.current = null;
    };
  }, [unit, colours, over]);

  useEffect(() => {
    plot.current?.show(data, window, spansOf(anomalies, window[1]));
  }, [data, window[0], window[1], anomalies, drawn]);

  const row = at !== null && data.value[at] !== undefined ? at : lastKnown(data);
  const onKeyDown = (event: KeyboardEvent): void => {
    const next = keyed.current && at !== null ? at : lastKnown(data);
    keyed.current = handleKey(event, props, next, (index) => plot.current?.point(index)) || keyed.current;
  };
  return (
    <figure class="chart">
      {failed && (
        <Notice kind="error" title="The chart could not be loaded">
          Trimtab may have been updated since the page was opened. Reload the page.
        </Notice>
      )}
      <Readout data={data} row={row} unit={unit} pointed={at !== null} over={over} />
      <div
        class="plots"
        ref={root}
        tabIndex={0}
        role="group"
        aria-label={`Chart of ${props.name}. Arrow keys move the cursor, plus and minus zoom, 0 resets the zoom.`}
        onKeyDown={onKeyDown}
        onBlur={() => (keyed.current = false)}
      />
      <figcaption>
        {summary(data, unit, inWindow(anomalies, window).length, Date.now())}
        <Numbers data={data} unit={unit} />
      </figcaption>
    </figure>
  );
}

function lastKnown(data: ChartData): number {
  return data.value.findLastIndex((v) => v !== null);
}

/** Zoom by `factor` around the middle of the window. */
export function zoomed([since, until]: Window, factor: number): Window {
  const half = ((until - since) / 2) * factor;
  const middle = (since + until) / 2;
  return [Math.round(middle - half), Math.round(middle + half)];
}

function handleKey(event: KeyboardEvent, props: ChartProps, at: number, point: (index: number) => void): boolean {
  const { data, window } = props;
  const end = Math.max(0, lowerBound(data.time, window[1] + 1) - 1);
  const step = Math.max(1, Math.round((lowerBound(data.time, window[1]) - lowerBound(data.time, window[0])) / 100));
  const actions: Record<string, () => void> = {
    ArrowLeft: () => point(Math.max(lowerBound(data.time, window[0]), at - step)),
    ArrowRight: () => point(Math.min(end, at + step)),
    Home: () => point(lowerBound(data.time, window[0])),
    End: () => point(end),
    "+": () => props.onZoom(zoomed(window, 0.5)),
    "=": () => props.onZoom(zoomed(window, 0.5)),
    "-": () => props.onZoom(zoomed(window, 2)),
    "0": props.onReset,
    Escape: props.onReset,
  };
  const action = actions[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return false;
  event.preventDefault();
  action();
  return /^(Arrow|Home|End)/.test(event.key);
}

interface ReadoutProps {
  data: ChartData;
  row: number;
  unit: string;
  pointed: boolean;
  over: ChartOverlay | null;
}

function Readout({ data, row, unit, pointed, over }: ReadoutProps) {
  const time = data.time[row];
  const s = data.anomaly_score[row];
  const anomalous = typeof s === "number" && s > 1;
  const more = over?.describe(data, row, unit);
  return (
    <dl class={`readout${pointed ? " pointed" : ""}`} aria-live={pointed ? "polite" : "off"}>
      <div class="readout-time">
        <dt>{pointed ? "at" : "last"}</dt>
        <dd title={time === undefined ? "" : exactTime(time)}>{time === undefined ? "–" : clock(time, Date.now())}</dd>
      </div>
      <div class="is-value">
        <dt>value</dt>
        <dd>{value(data.value[row], unit)}</dd>
      </div>
      <div class="is-band">
        <dt>expected</dt>
        <dd>{range(data.yhat_lower[row] ?? null, data.yhat_upper[row] ?? null, unit)}</dd>
      </div>
      <div class={anomalous ? "is-score unusual" : "is-score"}>
        <dt>score</dt>
        <dd>{score(s)}</dd>
      </div>
      {more && (
        <div class="is-more">
          <dt>{more[0]}</dt>
          <dd>{more[1]}</dd>
        </div>
      )}
    </dl>
  );
}

const SHOWN = 20;

/** The last rows as a table. */
function Numbers({ data, unit }: { data: ChartData; unit: string }) {
  const [open, setOpen] = useState(false);
  const rows = open ? data.time.map((_, i) => i).filter((i) => data.value[i] !== null).slice(-SHOWN).reverse() : [];
  return (
    <details class="numbers" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Numbers</summary>
      <div class="table">
        <table>
          <caption class="only-heard">The last {SHOWN} samples, newest first</caption>
          <thead>
            <tr>
              {["Time", "Value", "Expected", "Score"].map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((i) => (
              <tr key={data.time[i]}>
                <td>{clock(data.time[i] ?? 0, Date.now())}</td>
                <td>{value(data.value[i], unit)}</td>
                <td>{range(data.yhat_lower[i] ?? null, data.yhat_upper[i] ?? null, unit)}</td>
                <td>{score(data.anomaly_score[i])}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
