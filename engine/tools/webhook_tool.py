"""Actions that are a signed POST to somebody's receiver, by the Standard Webhooks specification.

webhook-id         the idempotency key: a receiver that has seen it does nothing new
webhook-timestamp  seconds since 1970; a receiver refuses what is minutes old
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
    """One receiver. It has no knobs and shows no figures; its targets are names that it knows.

    now : nanoseconds UTC
    """

    def __init__(self, name: str, settings: WebhookTool, now: Callable[[], int] = time.time_ns) -> None:
        self.name = name
        self.targets: Sequence[str] = settings.targets_of(name)
        self.trial = settings.trial
        self._settings = settings
        self._now = now
        self._client = HttpClient(name, settings)

    async def status(self) -> ToolStatus:
        """Whether it takes connections: nothing can be asked of it without an effect. Raises nothing."""
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
        return ToolStatus(ToolState.UP, f"{target.host_header} takes connections; it was told nothing")

    async def metrics(self, target: str) -> Mapping[str, float]:
        """None."""
        self._require_known_target(target)
        return {}

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        """None."""
        self._require_known_target(target)
        return ()

    async def read(self, target: str, knob: str) -> KnobReading:  # noqa: ARG002 - the port gives the target
        """Raises NotFoundError: it has no knobs."""
        raise NotFoundError(f"{self.name} is a webhook, it has no knob {knob!r}")

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:  # noqa: ARG002 - as above
        """Raises NotFoundError: it has no knobs."""
        raise NotFoundError(f"{self.name} is a webhook, it has no knob {knob!r}")

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:  # noqa: ARG002 - the port gives them
        """Nothing is known of the memory that a value takes."""
        return None

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        """Those of the settings."""
        self._require_known_target(target)
        return tuple(
            ToolAction(name, about.help, about.risk, about.reduces, about.idempotent)
            for name, about in self._settings.actions.items()
        )

    async def run(self, target: str, action: str, key: str) -> str:
        """Tell it, once, within TOTAL_S. Raises NotFoundError, RefusedError, ToolError."""
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
            "webhook-timestamp": str(seconds), "webhook-signature": webhook_signature(secret, key, seconds, body),
        }  # fmt: skip
        reply = await self._client.request(
            "POST", None, timeout_s=REQUEST_TIMEOUT_S, body=body, headers=headers, mutates=True
        )
        self._client.raise_for_status("POST", None, reply, mutates=True)
        return f"taken (HTTP {reply.status}) {reply.summary()}".strip()[:_MAX_RESULT_CHARS]

    def command(self, target: str, subject: str, after: Value) -> str:  # noqa: ARG002 - the port gives a value
        """A curl line; the receiver wants a signature in place of SIGNATURE."""
        body = shlex.quote(self._body(target, subject, "by-hand-1").decode())
        return (
            f"curl -X POST -H 'Content-Type: application/json' -H 'webhook-id: by-hand-1' "
            f'-H "webhook-timestamp: $(date +%s)" -H "webhook-signature: $SIGNATURE" -d {body} '
            f"{shlex.quote(self._settings.url)}"
        )

    def grant(self) -> str:
        """A secret that the receiver shares."""
        return (
            '(umask 077; printf "whsec_%s" "$(openssl rand -base64 32)" > trimtab.secret)\n'
            f"# in trimtab.yaml: tools.{self.name}.secret_file: trimtab.secret, as the receiver has\n"
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    def _body(self, target: str, action: str, key: str) -> bytes:
        return orjson.dumps({"tool": self.name, "target": target, "action": action, "key": key})

    def _read_secret(self) -> bytes:
        """Read anew each time: secrets are rotated. Raises OSError, ToolError."""
        given, file = self._settings.secret, self._settings.secret_file
        text = given.get_secret_value() if given is not None else ""
        if file is not None:
            text = file.expanduser().read_text("utf-8", errors="replace").strip()
        try:
            found = decode_secret(text)
        except ValueError:
            found = b""
        if len(found) < _MIN_SECRET_BYTES:
            raise ToolError(
                f"tools.{self.name}.secret has {len(found)} usable bytes, wanted {_MIN_SECRET_BYTES} or more: "
                "plain text, or whsec_ and base64"
            )
        return found

    def _require_known_action(self, action: str) -> None:
        if action not in self._settings.actions:
            known = ", ".join(self._settings.actions)
            raise NotFoundError(f"{self.name} has no action {action!r}; it has {known}")

    def _require_known_target(self, target: str) -> None:
        if target not in self.targets:
            raise NotFoundError(f"{self.name} has no target {target!r}; it has {', '.join(self.targets)}")
