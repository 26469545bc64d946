/** Buttons for which a key needs a scope. */

import type { ComponentChildren } from "preact";
import { may } from "../incidents-api.ts";

interface ScopedButtonProps {
  scope: string;
  primary?: boolean;
  disabled?: boolean;
  onClick: () => void;
  children: ComponentChildren;
}

/** A button that says which scope it needs where that is lacking. */
export function ScopedButton({ scope, primary = false, disabled = false, onClick, children }: ScopedButtonProps) {
  const allowed = may(scope);
  return (
    <button
      type="button"
      class={primary ? "button primary" : "button"}
      disabled={disabled || !allowed}
      title={allowed ? undefined : `Your key lacks the scope ${scope}`}
      onClick={onClick}
    >
      {children}
    </button>
  );
}
