/** Sign-in page. */

import { useState } from "preact/hooks";
import { ApiError, signIn } from "../api.ts";
import { Logo } from "../components/icons.tsx";

function errorText(error: unknown): string {
  if (error instanceof ApiError && error.status === 401) {
    return "This key is unknown, expired or revoked. Paste the whole key, including its prefix.";
  }
  if (error instanceof ApiError && error.status === 0) return "Trimtab is not responding. Check that `trimtab up` is running.";
  return error instanceof Error ? error.message : String(error);
}

export function LoginPage() {
  const [key, setKey] = useState("");
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState("");
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setWrong("");
    try {
      await signIn(key.trim());
    } catch (error) {
      setWrong(errorText(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <main class="login" id="main">
      <div class="login-card">
        <p class="login-brand">
          <Logo /> Trimtab
        </p>
        <h1>Sign in</h1>
        <section>
          <h2>Open the login link</h2>
          <p>
            The first <code>trimtab up</code> prints a login link in its terminal. <code>trimtab key login</code> prints another
            one. Each link works once, for ten minutes.
          </p>
        </section>
        <section>
          <h2>Or paste a key</h2>
          <form onSubmit={(event) => void submit(event)}>
            <label for="key" class="only-heard">
              API key
            </label>
            <input
              id="key"
              type="password"
              autocomplete="current-password"
              required
              value={key}
              aria-invalid={wrong !== ""}
              aria-describedby="key-help key-wrong"
              onInput={(event) => setKey(event.currentTarget.value)}
            />
            <button type="submit" class="button primary" disabled={busy || key.trim() === ""}>
              {busy ? "Signing in…" : "Sign in"}
            </button>
          </form>
          <p id="key-wrong" class="wrong" role="alert">
            {wrong}
          </p>
          <p id="key-help" class="quiet">
            Create a key with <code>trimtab key create</code>. Without a terminal, find the first key in the file{" "}
            <code>admin.key</code> in the data folder (<code>~/.local/share/trimtab</code> by default).
          </p>
        </section>
      </div>
    </main>
  );
}
