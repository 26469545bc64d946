/** Tools: state, modes and targets. */

import { useState } from "preact/hooks";
import { type Tool, type ToolDetail, type ToolState, getTool, getTools, switchTool } from "../actions-api.ts";
import { useLive } from "../hooks.ts";
import { ConfirmDialog } from "../components/confirm-dialog.tsx";
import { LoadError, Notice, LoadingRows } from "../components/notice.tsx";
import { ScopedButton } from "../components/scoped-button.tsx";
import { TargetPanel } from "../components/target.tsx";
import { href } from "../router.ts";
import { StatusLine, type StatusMessage } from "./inbox.tsx";

const STATE_CLASS: Record<ToolState, string> = {
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
      <LoadError of={found} what="Tools" />
      {!found.data && !found.error && <LoadingRows rows={4} />}
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
            <ToolHeader tool={tool} reload={found.reload} />
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

function ToolHeader({ tool, reload }: { tool: Tool; reload: () => void }) {
  return (
    <>
      <div class={`source ${STATE_CLASS[tool.status.state]} tool-head`}>
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
        <ToolSwitch tool={tool} reload={reload} />
      </div>
      {tool.status.detail && <p class="source-detail">{tool.status.detail}</p>}
      <Modes modes={tool.modes} />
    </>
  );
}

/** `redis 7.0.15`, without repeating the tool's name. */
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

function ToolSwitch({ tool, reload }: { tool: Tool; reload: () => void }) {
  const [dialogOpen, setDialogOpen] = useState(false);
  const act = async (): Promise<void> => {
    await switchTool(tool.name, !tool.enabled);
    reload();
  };
  const quarantined = tool.status.state === "quarantined";
  const verb = tool.enabled && !quarantined ? "Disable" : "Enable";
  const on = async (): Promise<void> => {
    await switchTool(tool.name, true);
    reload();
  };
  return (
    <>
      <ScopedButton scope="admin" onClick={() => setDialogOpen(true)}>
        {verb}
      </ScopedButton>
      {dialogOpen && (
        <ConfirmDialog title={`${verb} ${tool.name}?`} verb={verb} act={verb === "Enable" ? on : act} onClose={() => setDialogOpen(false)}>
          <p>
            {verb === "Disable"
              ? "The tool is no longer read or changed. Existing changes stay in place."
              : "The tool is read from now on and changed as far as its modes allow."}
          </p>
        </ConfirmDialog>
      )}
    </>
  );
}

export function ToolPage({ name }: { name: string }) {
  const found = useLive(`tool-${name}`, (signal) => getTool(name, signal), 3000);
  const [message, setMessage] = useState<StatusMessage | null>(null);
  const tool = found.data;
  if (!tool) return found.error ? <LoadError of={found} what="This tool" /> : <LoadingRows rows={8} />;
  const readable = tool.status.state === "up" || tool.status.state === "export only";
  return (
    <>
      <nav class="crumbs" aria-label="Where you are">
        <a href="#/tools">Tools</a>
      </nav>
      <h1>{tool.name}</h1>
      <section class="panel tool" aria-label="State">
        <ToolHeader tool={tool} reload={found.reload} />
        <GrantHelp tool={tool} />
      </section>
      <StatusLine message={message} />
      {readable &&
        tool.targets.map((target) => (
          <TargetPanel key={target} tool={tool.name} target={target} onDone={(text, action) => setMessage({ text, action })} />
        ))}
      {!readable && (
        <Notice kind="wait" title="Targets unavailable">
          {tool.enabled ? "They appear here once the tool responds." : "Enable the tool to see its metrics and settings."}
        </Notice>
      )}
    </>
  );
}

function GrantHelp({ tool }: { tool: ToolDetail }) {
  if (!tool.grant) return null;
  return (
    <details class="numbers">
      <summary>How to grant least-privilege access</summary>
      <pre class="command">{tool.grant}</pre>
    </details>
  );
}
