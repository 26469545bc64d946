/** A text to take along. */

import { useRef, useState } from "preact/hooks";

export function CopyableText({ text, what }: { text: string; what: string }) {
  const box = useRef<HTMLPreElement>(null);
  const [message, setMessage] = useState("");
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      setMessage("Copied.");
    } catch {
      // Without TLS a browser has no clipboard for us: mark it, and the person presses the keys.
      if (box.current) getSelection()?.selectAllChildren(box.current);
      setMessage("Selected. Press Ctrl+C or ⌘C to copy.");
    }
  };
  return (
    <div class="copied">
      <pre class="yaml" ref={box} tabIndex={0} aria-label={what}>
        {text}
      </pre>
      <p>
        <button type="button" class="button small" onClick={() => void copy()}>
          Copy {what}
        </button>{" "}
        <span role="status" class="quiet">
          {message}
        </span>
      </p>
    </div>
  );
}
