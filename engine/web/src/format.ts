/** Format numbers, units and times. Pure functions. */

const DASH = "–";
/** Keeps a number and its unit on one line. */
export const NBSP = "\u00a0";

const ALIASES: Record<string, string> = {
  bytes: "B",
  byte: "B",
  "bytes/s": "B/s",
  seconds: "s",
  second: "s",
  ratio: "%",
  percent: "pct",
  "%": "pct",
  celsius: "°C",
  hertz: "Hz",
  volts: "V",
  amperes: "A",
  joules: "J",
  watts: "W",
  "/s": "1/s",
  none: "",
  "1": "",
};

const SI: [number, string][] = [
  [1e15, "P"],
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

const BINARY: [number, string][] = [
  [2 ** 50, "Pi"],
  [2 ** 40, "Ti"],
  [2 ** 30, "Gi"],
  [2 ** 20, "Mi"],
  [2 ** 10, "Ki"],
];

/** Return whether a unit counts bytes, which are written in powers of 1024. */
export const isBytes = (unit: string): boolean => /^(B|bytes?)(\/s)?$/.test(unit);

const SPANS: [number, string][] = [
  [86_400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
  [1e-3, "ms"],
  [1e-6, "µs"],
  [1e-9, "ns"],
];

export interface Scale {
  /** Divide by this number, then append `suffix`. */
  divisor: number;
  suffix: string;
}

/** Return the scale for values of this magnitude. */
export function scaleFor(magnitude: number, unit: string): Scale {
  const known = ALIASES[unit] ?? unit;
  const size = Math.abs(magnitude);
  if (known === "%") return { divisor: 0.01, suffix: "%" };
  if (known === "pct") return { divisor: 1, suffix: "%" };
  if (known === "s") {
    const step = SPANS.find(([span]) => size >= (span > 1 ? span * 2 : span));
    const [divisor, suffix] = size === 0 ? [1, "s"] : (step ?? [1e-9, "ns"]);
    return { divisor, suffix };
  }
  const suffix = known === "1/s" ? "/s" : known;
  const bytes = isBytes(known);
  const step = bytes || size >= 1e4 ? (bytes ? BINARY : SI).find(([factor]) => size >= factor) : undefined;
  return step ? { divisor: step[0], suffix: step[1] + suffix } : { divisor: 1, suffix };
}

function digits(x: number, decimals: number): string {
  return x.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals, useGrouping: true });
}

/** Format a number with about three significant digits; whole numbers stay whole. */
export function number(x: number): string {
  if (!Number.isFinite(x)) return x > 0 ? "∞" : x < 0 ? "−∞" : DASH;
  const size = Math.abs(Number(x.toPrecision(3)));
  if (Number.isInteger(x) || size >= 100) return digits(Math.round(x), 0).replace("-", "−");
  if (size >= 10) return digits(x, 1).replace("-", "−");
  if (size >= 1) return digits(x, 2).replace("-", "−");
  if (size >= 1e-3) return String(Number(x.toPrecision(2))).replace("-", "−");
  return x.toExponential(1).replace("-", "−");
}

function joined(text: string, suffix: string): string {
  if (suffix === "") return text;
  return suffix === "/s" ? `${text}${suffix}` : `${text}${NBSP}${suffix}`;
}

/** A value with its unit: `98.2 %`, `1.25 GiB`, `340 µs`, `12.3/s`. */
export function value(x: number | null | undefined, unit: string): string {
  if (x === null || x === undefined || Number.isNaN(x)) return DASH;
  const { divisor, suffix } = scaleFor(x, unit);
  return joined(number(tidy(x / divisor)), suffix);
}

/** Remove floating-point noise: 0.29 / 0.01 is 28.999999999999996. */
function tidy(x: number): number {
  return Number(x.toPrecision(12));
}

/** `0.4–0.9 GiB`: one unit for both ends; bytes far apart have a unit each. */
export function range(lower: number | null, upper: number | null, unit: string): string {
  if (lower === null && upper === null) return DASH;
  if (lower === null) return `up to ${value(upper, unit)}`;
  if (upper === null) return `from ${value(lower, unit)}`;
  const { divisor, suffix } = scaleFor(Math.max(Math.abs(lower), Math.abs(upper)), unit);
  if (isBytes(unit) && lower > 0 && upper >= 16 * lower) return `${value(lower, unit)}${DASH}${value(upper, unit)}`;
  const low = number(tidy(lower / divisor));
  const high = number(tidy(upper / divisor));
  if (low === high) return joined(low, suffix);
  return joined(low.startsWith("−") || high.startsWith("−") ? `${low} to ${high}` : `${low}–${high}`, suffix);
}

/** Format the labels of an axis: one unit, as many decimals as the step needs. */
export function axis(splits: readonly number[], unit: string): string[] {
  const top = Math.max(...splits.map(Math.abs), 0);
  const { divisor, suffix } = scaleFor(top, unit);
  const step = splits.length > 1 ? Math.abs((splits[1] ?? 0) - (splits[0] ?? 0)) / divisor : 1;
  const decimals = decimalsOf(step);
  return splits.map((x) => joined(digits(tidy(x / divisor), decimals).replace("-", "−"), suffix));
}

/** Return the number of decimals that a step needs, at most six. */
function decimalsOf(step: number): number {
  if (step <= 0) return 0;
  const fitting = [0, 1, 2, 3].find((d) => Math.abs(step * 10 ** d - Math.round(step * 10 ** d)) < 1e-6);
  return fitting ?? Math.min(6, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
}

/** Format a score; above 1 is an anomaly. */
export function score(x: number | null | undefined): string {
  if (x === null || x === undefined || Number.isNaN(x)) return DASH;
  return x >= 100 ? digits(x, 0) : x >= 10 ? digits(x, 1) : digits(x, 2);
}

/** Format a duration in seconds: `45 s`, `4 min`, `1 h 12 min`, `2 d 3 h`. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 1440) return pair(Math.floor(minutes / 60), "h", minutes % 60, "min");
  const hours = Math.round(s / 3600);
  return pair(Math.floor(hours / 24), "d", hours % 24, "h");
}

function pair(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}

/** `just now`, `12 s ago`, `4 min ago`. */
export function ago(time: number, now: number): string {
  const seconds = (now - time) / 1000;
  if (seconds < 3) return "just now";
  const whole = duration(seconds).split(" ");
  return `${whole.slice(0, 2).join(" ")} ago`;
}

/** `learning, about 4 min`. */
export function learning(seconds: number): string {
  if (!Number.isFinite(seconds)) return "learning";
  if (seconds < 5400) return `learning, about ${Math.max(1, Math.ceil(seconds / 60))} min`;
  if (seconds < 48 * 3600) return `learning, about ${Math.round(seconds / 3600)} h`;
  return `learning, about ${Math.round(seconds / 86_400)} d`;
}

const two = (n: number): string => String(n).padStart(2, "0");

/** Format the local time of day, with the date if it is not today. */
export function clock(time: number, now: number, withSeconds = true): string {
  const at = new Date(time);
  const day = new Date(now).toDateString() === at.toDateString();
  const text = `${two(at.getHours())}:${two(at.getMinutes())}${withSeconds ? `:${two(at.getSeconds())}` : ""}`;
  if (day) return text;
  return `${at.getDate()} ${at.toLocaleString("en", { month: "short" })} ${text}`;
}

/** Format the exact time for tooltips: local time with zone, and UTC. */
export function exactTime(time: number): string {
  const at = new Date(time);
  return `${at.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "long" })} · ${at.toISOString()}`;
}

/** A count with thousands separated. */
export function count(n: number | string | null | undefined): string {
  return typeof n === "number" && Number.isFinite(n) ? digits(Math.round(n), 0) : DASH;
}

/** `1 series`, `3 anomalies`. */
export function plural(n: number, one: string, many: string): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}
