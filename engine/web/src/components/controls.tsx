/** Search box, select and segmented buttons. */

import { useEffect, useRef } from "preact/hooks";

interface SearchProps {
  value: string;
  onInput: (text: string) => void;
  focused?: boolean;
  label: string;
}

export function SearchBox({ value, onInput, focused = false, label }: SearchProps) {
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (focused) box.current?.focus();
  }, [focused]);
  return (
    <label class="search">
      <span class="only-heard">{label}</span>
      <svg viewBox="0 0 16 16" width="15" height="15" aria-hidden="true">
        <path d="M10.5 10.500L14 14M11.5 7a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0z" />
      </svg>
      <input
        ref={box}
        type="search"
        value={value}
        placeholder="text or label=value"
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => onInput(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape" && value === "") event.currentTarget.blur();
          if (event.key === "ArrowDown") {
            event.preventDefault();
            document.querySelector<HTMLElement>("a.row")?.focus();
          }
        }}
      />
      <kbd aria-hidden="true">/</kbd>
    </label>
  );
}

export type Option = readonly [value: string, text: string];

interface ChoiceProps {
  label: string;
  value: string;
  options: readonly Option[];
  onChange: (value: string) => void;
}

export function Select({ label, value, options, onChange }: ChoiceProps) {
  return (
    <label class="select">
      <span class="select-label">{label}</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A row of buttons, one of them pressed. */
export function Segmented({ label, value, options, onChange }: ChoiceProps) {
  return (
    <div class="segmented" role="group" aria-label={label}>
      {options.map(([key, text]) => (
        <button type="button" key={key} aria-pressed={key === value} onClick={() => onChange(key)}>
          {text}
        </button>
      ))}
    </div>
  );
}

export const DURATIONS: Record<string, number> = {
  "15m": 900_000,
  "1h": 3_600_000,
  "6h": 21_600_000,
  "1d": 86_400_000,
  "7d": 604_800_000,
};

export const RANGES: readonly Option[] = Object.keys(DURATIONS).map((key) => [key, key] as const);
