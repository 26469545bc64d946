/** Types of API responses. Times are ISO 8601 UTC; null = unknown. */

export type Labels = Record<string, string>;
export type Direction = "above" | "below" | "absent";
export type Verdict = "right" | "wrong";

export interface Band {
  yhat: number | null;
  yhat_lower: number | null;
  yhat_upper: number | null;
}

export interface Series extends Band {
  id: string;
  series: string;
  source: string;
  metric: string;
  labels: Labels;
  unit: string;
  kind: string;
  time: string | null;
  value: number | null;
  anomaly_score: number | null;
  /** Estimated seconds until the series is scored; 0 = it is scored. */
  learning_s: number;
  anomaly_id: string | null;
  detector?: string | null;
}

export interface Anomaly {
  id: string;
  series_id: string;
  series: string;
  source: string;
  labels: Labels;
  start: string;
  end: string | null;
  peak_time: string;
  score: number | null;
  direction: Direction;
  value: number | null;
  expected: number | null;
  lower: number | null;
  upper: number | null;
  detectors: string[];
  reason: string;
}

export interface Feedback {
  verdict: Verdict;
  note: string;
  author: string;
  time: string;
}

export interface AnomalyDetail extends Anomaly {
  feedback: Feedback[];
}

export interface SourceStatus {
  name: string;
  state: "starting" | "up" | "unknown";
  interval_s: number;
  series: number;
  since: string | null;
  detail: string;
  left_out: number;
  warm_progress: number | null;
}

export interface Status {
  version: string;
  /** Whether the engine has incidents, recommendations and actions. */
  acts: boolean;
  ready: boolean;
  waiting_for: string;
  engine: Record<string, number | string | null>;
  sources: SourceStatus[];
}

export interface Page<T> {
  items: T[];
  next: string | null;
  total?: number;
}

/** Columns of equal length, oldest first. */
export interface Columns<T = string> {
  time: T[];
  value: (number | null)[];
  anomaly_score: (number | null)[];
  yhat: (number | null)[];
  yhat_lower: (number | null)[];
  yhat_upper: (number | null)[];
}

export interface Scores {
  id: string;
  series: string;
  unit: string;
  columns: Columns;
}

export interface Session {
  name: string;
  scopes: string[];
  csrf: string;
}
