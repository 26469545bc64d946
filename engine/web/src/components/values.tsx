/** Values of knobs, their changes, and the expected effect of a change. */

import { NBSP, count, range, value } from "../format.ts";
import type { Effect, Risk, Value } from "../incidents-api.ts";
import { exactText, valueText } from "../incident-text.ts";

/** Old and new value; exact where rounding would hide the difference. */
export function ValueChange({ before, after, unit, zero = "" }: { before: Value; after: Value; unit: string; zero?: string }) {
  const rounded = [valueText(before, unit, zero), valueText(after, unit, zero)] as const;
  const same = rounded[0] === rounded[1] && before !== after;
  const [from, to] = same ? [exactText(before), exactText(after)] : rounded;
  return (
    <span class="from-to" title={`${exactText(before)} to ${exactText(after)}`}>
      {from} <span aria-label="to">→</span> <b>{to}</b>
    </span>
  );
}

/** `61 % → 96 % (91–98 %)`; the bracket is the 90 % interval. */
export function EffectText({ effect }: { effect: Effect }) {
  return (
    <span class="effect">
      <span class="effect-figure">{effect.figure}</span> {value(effect.before, effect.unit)}{" "}
      <span aria-label="to">→</span> <b>{value(effect.expected, effect.unit)}</b>{" "}
      <span class="quiet" title="90 % interval">
        ({range(effect.low, effect.high, effect.unit)})
      </span>
    </span>
  );
}

const WIDTH = 200;
const EDGE = 8;

/** The metric before the change, its expected value with interval, and `now`, its current value. */
export function EffectGlyph({ effect, now = null }: { effect: Effect; now?: number | null }) {
  const { before, expected, low, high } = effect;
  const known = [before, expected, low, high, now].filter((x): x is number => x !== null);
  if (known.length < 2) return null;
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const x = (at: number): number => EDGE + ((at - least) / (most - least || 1)) * (WIDTH - 2 * EDGE);
  return (
    <svg class="effect-glyph" viewBox={`0 0 ${WIDTH} 22`} width={WIDTH} height="22" aria-hidden="true">
      <path d={`M${EDGE} 11H${WIDTH - EDGE}`} class="band-axis" />
      {low !== null && high !== null && (
        <rect x={x(low)} y="5" width={Math.max(3, x(high) - x(low))} height="12" rx="2" class="band-range" />
      )}
      {before !== null && <path d={`M${x(before).toFixed(1)} 4v14`} class="effect-before" />}
      {expected !== null && <circle cx={x(expected)} cy="11" r="4" class="band-dot" />}
      {now !== null && <path d={`M${x(now).toFixed(1)} 11l-5 9h10z`} class="effect-now" />}
    </svg>
  );
}

export function RiskBadge({ risk }: { risk: Risk }) {
  return <span class={risk === "low" ? "badge over" : "badge"}>{`${risk}${NBSP}risk`}</span>;
}

/** Format a confidence 0..1; null gives an empty text. */
export const confidenceText = (share: number | null): string =>
  share === null ? "" : `${count(share * 100)}${NBSP}% confidence`;
