"""HTTP service tool: a service that declares its knobs and actions over HTTP, as `trimtab.service` does.

Changes are compare-and-set by RFC 9110: the ETag of the value that was read is sent back as If-Match.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ValidationError

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.settings.service_tools import HttpServiceTool
from trimtab.engine.tools.http_client import HttpClient, HttpReply
from trimtab.engine.tools.http_service.service_description import (
    KnobDescription,
    ServiceDescription,
    parse_metrics,
)
from trimtab.engine.tools.server_access import DeniedError
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

CHANGE_TIMEOUT_S, ACTION_TIMEOUT_S = 10.0, 25.0
"""Seconds for setting a knob and for an action; reading takes at most the setting `timeout`."""
_JSON_HEADERS = {"Content-Type": "application/json"}
_MAX_RESULT_CHARS = 300
Form = TypeVar("Form", bound=BaseModel)


class HttpService:
    """Tool for one service at one URL, which is its single target."""

    def __init__(self, name: str, settings: HttpServiceTool) -> None:
        self.name = name
        self.targets: Sequence[str] = settings.targets_of(name)
        self.trial = settings.trial
        self._settings = settings
        self._client = HttpClient(name, settings)
        self._actions: frozenset[str] = frozenset()

    async def status(self) -> ToolStatus:
        """Return UP when the service describes itself. Raises nothing."""
        try:
            service = await self._describe()
        except DeniedError as error:
            return ToolStatus(ToolState.DENIED, str(error))
        except ToolError as error:
            return ToolStatus(ToolState.UNREACHABLE, str(error))
        detail = f"{service.service}: {len(service.knobs)} knobs, {len(service.actions)} actions"
        return ToolStatus(ToolState.UP, detail, service.version)

    async def metrics(self, target: str) -> Mapping[str, float]:
        """Return the metrics of the path /metrics. Raises ToolError."""
        self._require_known_target(target)
        reply = await self._request("GET", "metrics")
        try:
            return parse_metrics(reply.body, reply.headers.get("content-type", ""))
        except (ValueError, LookupError, OverflowError) as error:  # prometheus_client raises the first two
            raise self._client.make_error("GET", "metrics", f"gives no metrics: {error}") from error

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        """Return the knobs that the service declares. Raises ToolError."""
        self._require_known_target(target)
        return tuple(knob.to_knob() for knob in (await self._describe()).knobs)

    async def read(self, target: str, knob: str) -> KnobReading:
        """Return a knob's current value. Raises NotFoundError, ToolError."""
        self._require_known_target(target)
        return (await self._get_knob(knob))[0].to_reading()

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:
        """Compare by ETag, set, and read back.

        Raises ConflictError, RefusedError, ToolError, ToolUncertainError.
        """
        self._require_permitted_target(target)
        current, etag = await self._get_knob(knob)
        if not values_equal(current.value, before):
            raise ConflictError(
                f"{knob} of {self.name} is {current.value!r}, not {before!r}; nothing was changed"
            )
        refusal = "" if after is None else current.refusal(after)
        if refusal:
            raise RefusedError(f"{knob} of {self.name} {refusal}")
        if not etag or etag.startswith("W/"):
            raise RefusedError(f"{knob} of {self.name} has no strong ETag, so it cannot be changed safely")
        put = await self._put_knob(knob, etag, after)
        try:
            read, _ = await self._get_knob(knob)
        except (ToolError, NotFoundError) as error:
            raise ToolUncertainError(f"{knob} was set, but cannot be read back: {error}") from error
        if not values_equal(read.value, put.value) or (
            after is not None and not values_equal(read.value, after)
        ):
            raise ToolUncertainError(
                f"{knob} of {self.name} was set to {after!r} and reads {read.value!r}; "
                "does something else set it?"
            )
        return AppliedChange(before, read.value, read.lasts, read.permanent)

    async def _put_knob(self, knob: str, etag: str, after: Value) -> KnobDescription:
        path = f"knobs/{quote(knob, safe='')}"
        reply = await self._client.request(
            "PUT", path, timeout_s=CHANGE_TIMEOUT_S, body=orjson.dumps({"value": after}), mutates=True,
            headers={**_JSON_HEADERS, "If-Match": etag},
        )  # fmt: skip
        if reply.status in {409, 412}:
            raise ConflictError(f"{knob} of {self.name} was changed in the meantime: {reply.summary()}")
        if reply.status == 422:
            raise RefusedError(f"{self.name} refuses {knob} = {after!r}: {reply.summary()}")
        self._client.raise_for_status("PUT", path, reply, mutates=True)
        try:
            return self._parse_reply(KnobDescription, "PUT", path, reply)
        except ToolError as error:
            raise ToolUncertainError(str(error)) from error

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:  # noqa: ARG002 - required by the port
        """Return None: the effect on memory is unknown."""
        return None

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        """Return the actions that the service declares. Raises ToolError."""
        self._require_known_target(target)
        return tuple(action.to_action() for action in (await self._describe()).actions)

    async def run(self, target: str, action: str, key: str) -> str:
        """Run an action; `key` is sent as Idempotency-Key. Raises NotFoundError, ToolError."""
        self._require_permitted_target(target)
        path = f"actions/{quote(action, safe='')}"
        reply = await self._client.request(
            "POST", path, timeout_s=ACTION_TIMEOUT_S, mutates=True, headers={"Idempotency-Key": key}
        )
        if reply.status == 404:
            raise NotFoundError(f"{self.name} has no action {action!r}")
        if reply.status == 409:
            raise ToolUncertainError(
                f"{action} of {self.name} is still running under this key: {reply.summary()}"
            )
        self._client.raise_for_status("POST", path, reply, mutates=True)
        try:
            return str(reply.json()["result"])[:_MAX_RESULT_CHARS]
        except (ValueError, KeyError, TypeError):
            return f"done (HTTP {reply.status})"

    def command(self, target: str, subject: str, after: Value) -> str:
        """Return a curl command; it reads the token from TOKEN and the value's ETag from ETAG."""
        self._require_known_target(target)
        base, name = self._settings.url.rstrip("/"), quote(subject, safe="")
        login = '-H "Authorization: Bearer $TOKEN"'
        if after is None and subject in self._actions:
            url = shlex.quote(f"{base}/actions/{name}")
            return f'curl -X POST {login} -H "Idempotency-Key: $(uuidgen)" {url}'
        body = shlex.quote(orjson.dumps({"value": after}).decode())
        url = shlex.quote(f"{base}/knobs/{name}")
        return f'curl -X PUT {login} -H "If-Match: $ETAG" -H "Content-Type: application/json" -d {body} {url}'

    def grant(self) -> str:
        """Return the commands that create a token, which gives access only to what the service declares."""
        return (
            "(umask 077; openssl rand -hex 32 > trimtab.token)\n"
            '# in the service: kit.app(token=Path("trimtab.token").read_text().strip())\n'
            f"# in trimtab.yaml: tools.{self.name}.bearer_token_file: trimtab.token\n"
        )

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def _describe(self) -> ServiceDescription:
        service = self._parse_reply(ServiceDescription, "GET", "", await self._request("GET", ""))
        self._actions = frozenset(action.name for action in service.actions)
        return service

    async def _get_knob(self, knob: str) -> tuple[KnobDescription, str]:
        path = f"knobs/{quote(knob, safe='')}"
        reply = await self._client.request("GET", path, timeout_s=self._settings.timeout)
        if reply.status == 404:
            raise NotFoundError(f"{self.name} has no knob {knob!r}")
        self._client.raise_for_status("GET", path, reply)
        description = self._parse_reply(KnobDescription, "GET", path, reply)
        if description.name != knob:
            raise self._client.make_error("GET", path, f"describes another knob, {description.name!r:.80}")
        return description, reply.headers.get("etag", "")

    async def _request(self, method: str, path: str) -> HttpReply:
        reply = await self._client.request(method, path, timeout_s=self._settings.timeout)
        self._client.raise_for_status(method, path, reply)
        return reply

    def _parse_reply(self, form: type[Form], method: str, path: str, reply: HttpReply) -> Form:
        try:
            return form.model_validate(reply.json())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "its answer"
            why = f"does not follow the protocol of trimtab.service: {where}: {first['msg']}"
        except ValueError as error:
            why = f"gives no valid JSON ({error}); is trimtab.service mounted at this address?"
        raise self._client.make_error(method, path, why)

    def _require_known_target(self, target: str) -> None:
        if target not in self.targets:
            raise NotFoundError(f"{self.name} has no target {target!r}; it has {', '.join(self.targets)}")

    def _require_permitted_target(self, target: str) -> None:
        if target not in self.targets:
            raise RefusedError(f"{target!r} is not one of tools.{self.name}.targets; nothing was done")


def values_equal(one: Value, other: Value) -> bool:
    """Return whether two values are equal; unlike in Python, true and 1 are not.

    >>> values_equal(1, 1.0), values_equal(1, True), values_equal(None, None)
    (True, False, True)
    """
    return one == other and isinstance(one, bool) == isinstance(other, bool)
