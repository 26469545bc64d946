"""Webhook tool: actions that are a signed POST to a receiver, by the Standard Webhooks specification.

webhook-id         the idempotency key: the receiver ignores an id that it has already handled
webhook-timestamp  seconds since 1970; the receiver rejects old messages
webhook-signature  v1,BASE64 of HMAC-SHA256(secret, "ID.TIMESTAMP.BODY")
"""

import asyncio
import shlex
import time
from collections.abc import Callable, Mapping, Sequence

import orjson

from trimtab.engine.errors import NotFoundError, RefusedError, SettingsError, ToolError
from trimtab.engine.net.addresses import Endpoint, PinnedHost
from trimtab.engine.net.signing import decode_secret, webhook_signature
from trimtab.engine.settings.service_tools import WebhookTool
from trimtab.engine.tools.http_client import HttpClient
from trimtab.engine.types import (
    AppliedChange,
    Knob,
    KnobReading,
    MemoryOutlook,
    ToolAction,
    ToolState,
    ToolStatus,
    Value,
)

REQUEST_TIMEOUT_S = 10.0
_MIN_SECRET_BYTES = 24
_MAX_RESULT_CHARS = 300


class Webhook:
    """Tool for one webhook receiver. It has no knobs and no metrics; its targets are names from the settings.

    now : returns the time in nanoseconds UTC
    """

    def __init__(self, name: str, settings: WebhookTool, now: Callable[[], int] = time.time_ns) -> None:
        self.name = name
        self.targets: Sequence[str] = settings.targets_of(name)
        self.trial = settings.trial
        self._settings = settings
        self._now = now
        self._client = HttpClient(name, settings)

    async def status(self) -> ToolStatus:
        """Return whether the receiver accepts connections; no request is sent. Raises nothing."""
        target = Endpoint.parse(f"tools.{self.name}.url", self._settings.url)
        try:
            async with asyncio.timeout(self._settings.timeout):
                await asyncio.to_thread(self._read_secret)
                address = await PinnedHost(target.host, target.port).resolve_async()
                _, writer = await asyncio.open_connection(address, target.port)
                writer.close()
        except (OSError, TimeoutError, SettingsError, ToolError) as error:
            why = str(error) or type(error).__name__
            return ToolStatus(ToolState.UNREACHABLE, f"{target.host_header} cannot be used: {why}")
        return ToolStatus(ToolState.UP, f"{target.host_header} accepts connections; no request was sent")

    async def metrics(self, target: str) -> Mapping[str, float]:
        """Return an empty mapping: a webhook has no metrics."""
        self._require_known_target(target)
        return {}

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        """Return an empty tuple: a webhook has no knobs."""
        self._require_known_target(target)
        return ()

    async def read(self, target: str, knob: str) -> KnobReading:  # noqa: ARG002 - required by the port
        """Raise NotFoundError: a webhook has no knobs."""
        raise NotFoundError(f"{self.name} is a webhook, it has no knob {knob!r}")

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:  # noqa: ARG002 - as above
        """Raise NotFoundError: a webhook has no knobs."""
        raise NotFoundError(f"{self.name} is a webhook, it has no knob {knob!r}")

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:  # noqa: ARG002 - required by the port
        """Return None: the effect on memory is unknown."""
        return None

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        """Return the actions of the settings."""
        self._require_known_target(target)
        return tuple(
            ToolAction(name, about.help, about.risk, about.reduces, about.idempotent)
            for name, about in self._settings.actions.items()
        )

    async def run(self, target: str, action: str, key: str) -> str:
        """Send the request once. Raises NotFoundError, RefusedError, ToolError, ToolUncertainError."""
        if target not in self.targets:
            raise RefusedError(f"{target!r} is not one of tools.{self.name}.targets; nothing was done")
        self._require_known_action(action)
        body = self._body(target, action, key)
        try:
            secret = await asyncio.to_thread(self._read_secret)
        except OSError as error:
            raise ToolError(f"tools.{self.name}.secret_file cannot be read: {error.strerror}") from error
        seconds = self._now() // 1_000_000_000
        headers = {
            "Content-Type": "application/json", "Idempotency-Key": key, "webhook-id": key,
            "webhook-timestamp": str(seconds),
            "webhook-signature": webhook_signature(secret, key, seconds, body),
        }  # fmt: skip
        reply = await self._client.request(
            "POST", None, timeout_s=REQUEST_TIMEOUT_S, body=body, headers=headers, mutates=True
        )
        self._client.raise_for_status("POST", None, reply, mutates=True)
        return f"accepted (HTTP {reply.status}) {reply.summary()}".strip()[:_MAX_RESULT_CHARS]

    def command(self, target: str, subject: str, after: Value) -> str:  # noqa: ARG002 - required by the port
        """Return a curl command; the signature goes into the variable SIGNATURE."""
        body = shlex.quote(self._body(target, subject, "by-hand-1").decode())
        return (
            f"curl -X POST -H 'Content-Type: application/json' -H 'webhook-id: by-hand-1' "
            f'-H "webhook-timestamp: $(date +%s)" -H "webhook-signature: $SIGNATURE" -d {body} '
            f"{shlex.quote(self._settings.url)}"
        )

    def grant(self) -> str:
        """Return the commands that create the secret shared with the receiver."""
        return (
            '(umask 077; printf "whsec_%s" "$(openssl rand -base64 32)" > trimtab.secret)\n'
            f"# in trimtab.yaml: tools.{self.name}.secret_file: trimtab.secret; the receiver needs it too\n"
        )

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    def _body(self, target: str, action: str, key: str) -> bytes:
        return orjson.dumps({"tool": self.name, "target": target, "action": action, "key": key})

    def _read_secret(self) -> bytes:
        """Return the secret, read at each call because secrets are rotated. Raises OSError, ToolError."""
        given, file = self._settings.secret, self._settings.secret_file
        text = given.get_secret_value() if given is not None else ""
        if file is not None:
            text = file.expanduser().read_text("utf-8", errors="replace").strip()
        try:
            secret = decode_secret(text)
        except ValueError:
            secret = b""
        if len(secret) < _MIN_SECRET_BYTES:
            raise ToolError(
                f"tools.{self.name}.secret has {len(secret)} usable bytes; at least {_MIN_SECRET_BYTES} are "
                "needed, as plain text or as whsec_ followed by base64"
            )
        return secret

    def _require_known_action(self, action: str) -> None:
        if action not in self._settings.actions:
            known = ", ".join(self._settings.actions)
            raise NotFoundError(f"{self.name} has no action {action!r}; it has {known}")

    def _require_known_target(self, target: str) -> None:
        if target not in self.targets:
            raise NotFoundError(f"{self.name} has no target {target!r}; it has {', '.join(self.targets)}")
