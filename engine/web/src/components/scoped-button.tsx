/** Button that needs a scope. */

import type { ComponentChildren } from "preact";
import { may } from "../incidents-api.ts";

interface ScopedButtonProps {
  scope: string;
  primary?: boolean;
  disabled?: boolean;
  onClick: () => void;
  children: ComponentChildren;
}

/** A button that is disabled and names the scope if the key lacks it. */
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
