/** The managed systems: how each does, and whether it is used. */

import { useState } from "preact/hooks";
import { type Tool, type ToolDetail, type ToolState, getTool, getTools, switchTool } from "../actions-api.ts";
import { useLive } from "../hooks.ts";
import { Ask } from "../components/confirm-dialog.tsx";
import { Fault, Notice, Waiting } from "../components/notice.tsx";
import { Scoped } from "../components/scoped-button.tsx";
import { TargetPanel } from "../components/target.tsx";
import { href } from "../router.ts";
import { SaidLine, type Said } from "./inbox.tsx";

const LOOKS: Record<ToolState, string> = {
  up: "up",
  "export only": "up",
  denied: "unknown",
  unreachable: "unknown",
  quarantined: "unknown",
  disabled: "starting",
};

export function ToolsPage() {
  const found = useLive("tools", getTools, 3000);
  return (
    <>
      <h1>Tools</h1>
      <Fault of={found} what="Tools" />
      {!found.data && !found.error && <Waiting rows={4} />}
      {found.data?.items.length === 0 && (
        <Notice kind="calm" title="No tools configured">
          Add them to trimtab.yaml under <code>tools</code>, for example{" "}
          <code>{"redis: {url: redis://localhost:6379/0, targets: [cache-1]}"}</code>. Trimtab changes nothing until a mode
          allows it.
        </Notice>
      )}
      <div class="tool-list">
        {found.data?.items.map((tool) => (
          <section class="panel tool" key={tool.name} aria-label={tool.name}>
            <Head tool={tool} again={found.again} />
            <ul class="tool-targets">
              {tool.targets.map((target) => (
                <li key={target}>
                  <a href={href(["tools", tool.name])}>{target}</a>
                </li>
              ))}
            </ul>
          </section>
        ))}
      </div>
    </>
  );
}

function Head({ tool, again }: { tool: Tool; again: () => void }) {
  return (
    <>
      <div class={`source ${LOOKS[tool.status.state]} tool-head`}>
        <span class="source-state">
          <i aria-hidden="true" />
          {tool.status.state}
        </span>
        <span>
          <a class="source-name" href={href(["tools", tool.name])}>
            {tool.name}
          </a>{" "}
          <span class="quiet">
            {whatItIs(tool)}
          </span>{" "}
          {tool.trial && <span class="source-chip">trial</span>}
        </span>
        <Switch tool={tool} again={again} />
      </div>
      {tool.status.detail && <p class="source-detail">{tool.status.detail}</p>}
      <Modes modes={tool.modes} />
    </>
  );
}

/** `redis 7.0.15`, without saying the same word twice. */
function whatItIs({ name, kind, status }: Tool): string {
  if (status.version.startsWith(kind)) return status.version;
  return `${kind === name ? "" : kind} ${status.version}`.trim();
}

function Modes({ modes }: { modes: Record<string, string> }) {
  const others = modes["*"];
  const named = Object.entries(modes).filter(([subject]) => subject !== "*");
  return (
    <p class="quiet modes">
      {named.map(([subject, mode]) => (
        <span key={subject}>
          {subject}: <b>{mode}</b>
        </span>
      ))}
      {others && (
        <span>
          {named.length > 0 ? "all others" : "all"}: <b>{others}</b>
        </span>
      )}
    </p>
  );
}

function Switch({ tool, again }: { tool: Tool; again: () => void }) {
  const [asking, setAsking] = useState(false);
  const act = async (): Promise<void> => {
    await switchTool(tool.name, !tool.enabled);
    again();
  };
  const quarantined = tool.status.state === "quarantined";
  const verb = tool.enabled && !quarantined ? "Disable" : "Enable";
  const on = async (): Promise<void> => {
    await switchTool(tool.name, true);
    again();
  };
  return (
    <>
      <Scoped scope="admin" onClick={() => setAsking(true)}>
        {verb}
      </Scoped>
      {asking && (
        <Ask title={`${verb} ${tool.name}?`} verb={verb} act={verb === "Enable" ? on : act} onClose={() => setAsking(false)}>
          <p>
            {verb === "Disable"
              ? "The tool is no longer read or changed. Existing changes stay in place."
              : "The tool is read from now on and changed as far as its modes allow."}
          </p>
        </Ask>
      )}
    </>
  );
}

export function ToolPage({ name }: { name: string }) {
  const found = useLive(`tool-${name}`, (signal) => getTool(name, signal), 3000);
  const [said, setSaid] = useState<Said | null>(null);
  const tool = found.data;
  if (!tool) return found.error ? <Fault of={found} what="This tool" /> : <Waiting rows={8} />;
  const readable = tool.status.state === "up" || tool.status.state === "export only";
  return (
    <>
      <nav class="crumbs" aria-label="Where you are">
        <a href="#/tools">Tools</a>
      </nav>
      <h1>{tool.name}</h1>
      <section class="panel tool" aria-label="State">
        <Head tool={tool} again={found.again} />
        <Grant tool={tool} />
      </section>
      <SaidLine said={said} />
      {readable &&
        tool.targets.map((target) => (
          <TargetPanel key={target} tool={tool.name} target={target} onDone={(words, action) => setSaid({ words, action })} />
        ))}
      {!readable && (
        <Notice kind="wait" title="Targets unavailable">
          {tool.enabled ? "They appear here once the tool responds." : "Enable the tool to see its metrics and settings."}
        </Notice>
      )}
    </>
  );
}

function Grant({ tool }: { tool: ToolDetail }) {
  if (!tool.grant) return null;
  return (
    <details class="numbers">
      <summary>How to grant least-privilege access</summary>
      <pre class="command">{tool.grant}</pre>
    </details>
  );
}
