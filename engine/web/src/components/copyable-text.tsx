/** A block of text with a copy button. */

import { useRef, useState } from "preact/hooks";

export function CopyableText({ text, what }: { text: string; what: string }) {
  const box = useRef<HTMLPreElement>(null);
  const [message, setMessage] = useState("");
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      setMessage("Copied.");
    } catch {
      // Browsers offer no clipboard without TLS: select the text, and the user copies it.
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
