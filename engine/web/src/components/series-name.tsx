/** Series name, relative and clock time, and learning time. */

import { ago, clock, exactTime, learning } from "../format.ts";
import { useNow } from "../hooks.ts";
import type { Labels } from "../types.ts";

/** Metric name with labels and source. */
export function SeriesName({ metric, labels, source }: { metric: string; labels: Labels; source?: string }) {
  return (
    <span class="name">
      <span class="metric">{metric}</span>{" "}
      {Object.entries(labels).map(([key, text]) => (
        <span class="label" key={key}>
          <span class="label-key">{key}=</span>
          {text}{" "}
        </span>
      ))}
      {source && <span class="source-chip">{source}</span>}
    </span>
  );
}

/** `4 min ago`, with the exact time as its title. */
export function RelativeTime({ time }: { time: string }) {
  const now = useNow(time && Date.now() - Date.parse(time) < 90_000 ? 1000 : 10_000);
  return (
    <time dateTime={time} title={exactTime(Date.parse(time))}>
      {ago(Date.parse(time), now)}
    </time>
  );
}

/** `12:03:10`, with the exact time as its title. */
export function ClockTime({ time, seconds = true }: { time: string; seconds?: boolean }) {
  return (
    <time dateTime={time} title={exactTime(Date.parse(time))}>
      {clock(Date.parse(time), Date.now(), seconds)}
    </time>
  );
}

export function LearningTime({ seconds }: { seconds: number }) {
  return (
    <span class="learning" title="Scoring starts after enough samples of normal behaviour">
      {learning(seconds)}
    </span>
  );
}
