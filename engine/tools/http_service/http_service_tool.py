"""A service that declares its knobs and actions over HTTP; `trimtab.service` documents what is spoken.

Changes are compare-and-set by RFC 9110: the ETag that came with the value goes back as If-Match.
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
from trimtab.engine.tools.refusals import DeniedError
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
"""For setting a knob, between two looks at it, and for an action; a look has `timeout` of the settings."""
_JSON_HEADERS = {"Content-Type": "application/json"}
_MAX_RESULT_CHARS = 300
Form = TypeVar("Form", bound=BaseModel)


class HttpService:
    """One service at one URL; its single target."""

    def __init__(self, name: str, settings: HttpServiceTool) -> None:
        self.name = name
        self.targets: Sequence[str] = settings.targets_of(name)
        self.trial = settings.trial
        self._settings = settings
        self._client = HttpClient(name, settings)
        self._actions: frozenset[str] = frozenset()

    async def status(self) -> ToolStatus:
        """Up where it describes itself to us. Raises nothing."""
        try:
            about = await self._describe()
        except DeniedError as error:
            return ToolStatus(ToolState.DENIED, str(error))
        except ToolError as error:
            return ToolStatus(ToolState.UNREACHABLE, str(error))
        detail = f"{about.service}: {len(about.knobs)} knobs, {len(about.actions)} actions"
        return ToolStatus(ToolState.UP, detail, about.version)

    async def metrics(self, target: str) -> Mapping[str, float]:
        """What it shows at /metrics. Raises ToolError."""
        self._require_known_target(target)
        reply = await self._request("GET", "metrics")
        try:
            return parse_metrics(reply.body, reply.headers.get("content-type", ""))
        except (ValueError, LookupError, OverflowError) as error:  # prometheus_client raises the first two
            raise self._client.make_error("GET", "metrics", f"gives no figures: {error}") from error

    async def knobs(self, target: str) -> tuple[Knob, ...]:
        """Those that it declares. Raises ToolError."""
        self._require_known_target(target)
        return tuple(form.to_knob() for form in (await self._describe()).knobs)

    async def read(self, target: str, knob: str) -> KnobReading:
        """The value now. Raises NotFoundError, ToolError."""
        self._require_known_target(target)
        return (await self._get_knob(knob))[0].to_reading()

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:
        """Compare by ETag, set, and read back. Raises ConflictError, RefusedError, ToolError."""
        self._require_permitted_target(target)
        form, etag = await self._get_knob(knob)
        if not values_equal(form.value, before):
            raise ConflictError(
                f"{knob} of {self.name} is {form.value!r} now, not {before!r}; nothing was changed"
            )
        refused = "" if after is None else form.refusal(after)
        if refused:
            raise RefusedError(f"{knob} of {self.name} {refused}")
        if not etag or etag.startswith("W/"):
            raise RefusedError(f"{knob} of {self.name} has no strong ETag, so it cannot be changed safely")
        told = await self._put_knob(knob, etag, after)
        try:
            seen, _ = await self._get_knob(knob)
        except (ToolError, NotFoundError) as error:
            raise ToolUncertainError(f"{knob} was set, but cannot be read back: {error}") from error
        if not values_equal(seen.value, told.value) or (
            after is not None and not values_equal(seen.value, after)
        ):
            raise ToolUncertainError(
                f"{knob} of {self.name} was set to {after!r} and reads {seen.value!r}; who else sets it?"
            )
        return AppliedChange(before, seen.value, seen.lasts, seen.permanent)

    async def _put_knob(self, knob: str, etag: str, after: Value) -> KnobDescription:
        path = f"knobs/{quote(knob, safe='')}"
        reply = await self._client.request(
            "PUT", path, timeout_s=CHANGE_TIMEOUT_S, body=orjson.dumps({"value": after}), mutates=True,
            headers={**_JSON_HEADERS, "If-Match": etag},
        )  # fmt: skip
        if reply.status in {409, 412}:
            raise ConflictError(f"{knob} of {self.name} was changed meanwhile: {reply.summary()}")
        if reply.status == 422:
            raise RefusedError(f"{self.name} refuses {knob} = {after!r}: {reply.summary()}")
        self._client.raise_for_status("PUT", path, reply, mutates=True)
        try:
            return self._parse_reply(KnobDescription, "PUT", path, reply)
        except ToolError as error:
            raise ToolUncertainError(str(error)) from error

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:  # noqa: ARG002 - the port gives them
        """Nothing is known of the memory that a value takes."""
        return None

    async def actions(self, target: str) -> tuple[ToolAction, ...]:
        """Those that it declares. Raises ToolError."""
        self._require_known_target(target)
        return tuple(form.to_action() for form in (await self._describe()).actions)

    async def run(self, target: str, action: str, key: str) -> str:
        """Do it; `key` goes out as Idempotency-Key. Raises NotFoundError, ToolError."""
        self._require_permitted_target(target)
        path = f"actions/{quote(action, safe='')}"
        reply = await self._client.request(
            "POST", path, timeout_s=ACTION_TIMEOUT_S, mutates=True, headers={"Idempotency-Key": key}
        )
        if reply.status == 404:
            raise NotFoundError(f"{self.name} has no action {action!r}")
        if reply.status == 409:
            raise ToolUncertainError(f"{action} of {self.name} still runs under this key: {reply.summary()}")
        self._client.raise_for_status("POST", path, reply, mutates=True)
        try:
            return str(reply.json()["result"])[:_MAX_RESULT_CHARS]
        except (ValueError, KeyError, TypeError):
            return f"done (HTTP {reply.status})"

    def command(self, target: str, subject: str, after: Value) -> str:
        """A curl line; the token stands in TOKEN, the ETag of the value in ETAG."""
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
        """A token of its own; it opens what the service declares and nothing else."""
        return (
            "(umask 077; openssl rand -hex 32 > trimtab.token)\n"
            '# in the service: kit.app(token=Path("trimtab.token").read_text().strip())\n'
            f"# in trimtab.yaml: tools.{self.name}.bearer_token_file: trimtab.token\n"
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    async def _describe(self) -> ServiceDescription:
        about = self._parse_reply(ServiceDescription, "GET", "", await self._request("GET", ""))
        self._actions = frozenset(form.name for form in about.actions)
        return about

    async def _get_knob(self, knob: str) -> tuple[KnobDescription, str]:
        path = f"knobs/{quote(knob, safe='')}"
        reply = await self._client.request("GET", path, timeout_s=self._settings.timeout)
        if reply.status == 404:
            raise NotFoundError(f"{self.name} has no knob {knob!r}")
        self._client.raise_for_status("GET", path, reply)
        form = self._parse_reply(KnobDescription, "GET", path, reply)
        if form.name != knob:
            raise self._client.make_error("GET", path, f"tells of another knob, {form.name!r:.80}")
        return form, reply.headers.get("etag", "")

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
            why = f"does not speak as trimtab.service does: {where}: {first['msg']}"
        except ValueError as error:
            why = f"gives no whole JSON ({error}); is the kit mounted at this address?"
        raise self._client.make_error(method, path, why)

    def _require_known_target(self, target: str) -> None:
        if target not in self.targets:
            raise NotFoundError(f"{self.name} has no target {target!r}; it has {', '.join(self.targets)}")

    def _require_permitted_target(self, target: str) -> None:
        if target not in self.targets:
            raise RefusedError(f"{target!r} is not one of tools.{self.name}.targets; nothing was done")


def values_equal(one: Value, other: Value) -> bool:
    """Whether two values are equal; true and 1 are not.

    >>> values_equal(1, 1.0), values_equal(1, True), values_equal(None, None)
    (True, False, True)
    """
    return one == other and isinstance(one, bool) == isinstance(other, bool)
