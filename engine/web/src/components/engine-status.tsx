/** State of the engine: uptime, tick time, lag, memory and CPU, with the values since the page was opened. */

import { useEffect, useState } from "preact/hooks";
import { duration, value } from "../format.ts";
import type { Status } from "../types.ts";
import { MiniChart } from "./icons.tsx";

interface Gauge {
  key: string;
  name: string;
  unit: string;
  help: string;
}

const GAUGES: Gauge[] = [
  { key: "tick_seconds", name: "Tick", unit: "s", help: "Time to score all series once" },
  { key: "tick_lag_s", name: "Lag", unit: "s", help: "Delay of the scores behind the newest sample" },
  { key: "memory_bytes", name: "Memory", unit: "B", help: "Resident memory of the engine" },
  { key: "cpu_ratio", name: "CPU", unit: "ratio", help: "Share of one core" },
];

const MAX_VALUES = 60;

function engineMetric(status: Status, key: string): number | null {
  const found = status.engine[key];
  return typeof found === "number" ? found : null;
}

/** Return the newest values of each gauge, one per status response. */
function useTraces(status: Status): Record<string, number[]> {
  const [traces, setTraces] = useState<Record<string, number[]>>({});
  useEffect(() => {
    setTraces((old) => {
      const next: Record<string, number[]> = {};
      for (const { key } of GAUGES) {
        const now = engineMetric(status, key);
        next[key] = now === null ? (old[key] ?? []) : [...(old[key] ?? []), now].slice(-MAX_VALUES);
      }
      return next;
    });
  }, [status]);
  return traces;
}

export function EngineStatus({ status }: { status: Status }) {
  const traces = useTraces(status);
  const uptime = engineMetric(status, "uptime_s");
  const fastest = Math.min(...status.sources.map((s) => s.interval_s));
  const behind = (engineMetric(status, "tick_seconds") ?? 0) > 0.8 * fastest;
  return (
    <section class="panel" aria-labelledby="engine-title">
      <div class="panel-head">
        <h2 id="engine-title">Engine</h2>
        <span class="quiet">{uptime !== null && `up ${duration(uptime)}`}</span>
      </div>
      {behind && (
        <p class="wrong">
          The engine cannot keep up: a tick takes {value(engineMetric(status, "tick_seconds"), "s")} of {duration(fastest)}. Monitor
          fewer series or increase the scrape interval.
        </p>
      )}
      <dl class="gauges">
        {GAUGES.map((gauge) => (
          <div key={gauge.key} title={gauge.help}>
            <dt>{gauge.name}</dt>
            <dd>{value(engineMetric(status, gauge.key), gauge.unit)}</dd>
            <MiniChart numbers={traces[gauge.key] ?? []} />
          </div>
        ))}
      </dl>
    </section>
  );
}
