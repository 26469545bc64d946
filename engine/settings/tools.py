"""Settings `tools:`, the managed systems by name; `kind` selects the settings class."""

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from ipaddress import ip_address
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.fields import FieldInfo

from trimtab.engine.settings.guardrails import Modes
from trimtab.engine.settings.section import Duration, Section, Size
from trimtab.engine.types import Mode

ENTRY_POINT_GROUP = "trimtab.tool_settings"
"""Entry points of settings classes of third-party tools; the tools are in the group `trimtab.tools`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PATTERN_CHARACTERS = re.compile(r"[*?\[\]{}\s]")

SETTINGS_BY_KIND = {
    "http_service": "trimtab.engine.settings.service_tools:HttpServiceTool",
    "pm2": "trimtab.engine.settings.service_tools:Pm2Tool",
    "postgresql": "trimtab.engine.settings.data_store_tools:PostgresqlTool",
    "process": "trimtab.engine.settings.service_tools:ProcessTool",
    "redis": "trimtab.engine.settings.data_store_tools:RedisTool",
    "webhook": "trimtab.engine.settings.service_tools:WebhookTool",
}
"""Kind -> its settings class."""


class ToolSettings(Section):
    """Settings of every tool.

    targets      : names of what may be changed, no patterns; None = the tool's own name
    trial        : nothing depends on the tool, so guardrails may be scaled for it; loopback only
    memory_limit : memory of its machine or container, bytes; required if the tool is on another machine
    timeout      : total timeout of one request, seconds; a change may take up to 30 s
    """

    kind: str
    enabled: bool = True
    mode: Modes = "recommend"
    targets: tuple[str, ...] | None = None
    trial: bool = False
    memory_limit: Size | None = None
    timeout: Duration = Field(5.0, le=9.0)

    def hosts(self) -> tuple[str, ...]:
        """Return the hosts it connects to; () = only this machine."""
        return ()

    def targets_of(self, name: str) -> tuple[str, ...]:
        """Return the targets of the tool with this name."""
        return self.targets or (name,)

    def subjects(self) -> frozenset[str] | None:
        """Return the names of all knobs and actions of its kind; None if only the running tool knows them."""
        return None

    def mode_by_subject(self) -> dict[str, Mode]:
        """Return the mode by subject key, always including "*"."""
        modes = {"*": self.mode} if isinstance(self.mode, str) else self.mode
        return {"*": Mode.RECOMMEND, **{subject: Mode(mode) for subject, mode in modes.items()}}

    @model_validator(mode="after")
    def _validate_target_names(self) -> Self:
        if self.targets is None:
            return self
        if not self.targets:
            raise ValueError("targets is empty; list names, such as [cache-1], or remove the line")
        for target in self.targets:
            if not target or _PATTERN_CHARACTERS.search(target):
                raise ValueError(f"targets contains {target!r}; write full names, patterns are not allowed")
        if len(set(self.targets)) < len(self.targets):
            raise ValueError("targets contains a name twice; keep one")
        return self

    @model_validator(mode="after")
    def _validate_trial(self) -> Self:
        far = [host for host in self.hosts() if not is_loopback(host)]
        if self.trial and far:
            raise ValueError(f"trial is allowed on this machine only, not on {far[0]}; remove the line")
        return self


def is_loopback(host: str) -> bool:
    """Return whether a host is certainly this machine, without a DNS lookup.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("cache.example")
    (True, True, False)
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("/")


def tool_kinds() -> list[str]:
    """Return every kind that has a settings class, sorted."""
    return sorted({*SETTINGS_BY_KIND, *entry_points(group=ENTRY_POINT_GROUP).names})


def tool_settings_class(kind: str) -> type[ToolSettings] | None:
    """Return the settings class of a kind; None for an unknown kind.

    >>> tool_settings_class("redis").__name__, tool_settings_class("nothing")
    ('RedisTool', None)
    """
    if kind in SETTINGS_BY_KIND:
        module, _, attribute = SETTINGS_BY_KIND[kind].partition(":")
        settings_class: type[ToolSettings] = getattr(import_module(module), attribute)
        return settings_class
    for point in entry_points(group=ENTRY_POINT_GROUP, name=kind):
        loaded: type[ToolSettings] = point.load()
        return loaded
    return None


def tool_fields(name: str) -> dict[str, FieldInfo]:
    """Return the fields of the tool kind `name`; if it is no kind, the fields of all built-in kinds.

    >>> "password_file" in tool_fields("cache-1")
    True
    """
    settings_class = tool_settings_class(name)
    classes = (
        [tool_settings_class(kind) for kind in SETTINGS_BY_KIND]
        if settings_class is None
        else [settings_class]
    )
    return {field: info for each in classes if each for field, info in each.model_fields.items()}


def _fill_in_kinds(value: object) -> object:
    """Set the kind of each tool without one to the tool's name."""
    if not isinstance(value, dict):
        return value
    for name in value:
        if not _NAME.fullmatch(str(name)):
            raise ValueError(f"{name!r} is not a tool name; use letters, digits, '.', '_' and '-'")
    return {name: {"kind": name, **item} if isinstance(item, dict) else item for name, item in value.items()}


def _validate_by_kind(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    if not isinstance(value, dict):
        return handler(value)
    kind = value.get("kind")
    settings_class = tool_settings_class(kind) if isinstance(kind, str) else None
    if settings_class is None:
        near = get_close_matches(str(kind), tool_kinds(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"{kind!r} is not a kind of tool; {hint}set kind: to one of {', '.join(tool_kinds())}"
        )
    return settings_class.model_validate(value)


def unknown_mode_keys(modes: Iterable[str], targets: Iterable[str], subjects: Collection[str]) -> set[str]:
    """Return the keys of a `mode:` mapping that match no knob or action of these targets.

    >>> sorted(unknown_mode_keys(["*", "hz", "a/hz", "a/*", "b/*", "ttl"], ["a"], ["hz"]))
    ['b/*', 'ttl']
    """
    target_keys = {f"{target}/{subject}" for target in targets for subject in (*subjects, "*")}
    return set(modes) - target_keys - set(subjects) - {"*"}


def _check_mode_keys(tools: dict[str, ToolSettings]) -> dict[str, ToolSettings]:
    """Raise ValueError for keys of `mode:` that match nothing, if the kind declares its subjects."""
    for name, part in tools.items():
        subjects = part.subjects()
        if subjects is None:
            continue
        unknown = unknown_mode_keys(part.mode_by_subject(), part.targets_of(name), subjects)
        if unknown:
            key = min(unknown)
            subject = key.rpartition("/")[2]
            near = get_close_matches(subject, sorted(subjects), n=1)
            hint = f"did you mean {near[0]}? " if near and near[0] != subject else ""
            raise ValueError(
                f"{name}.mode names {key!r}, which is neither a knob or action of {part.kind} nor one of "
                f"its targets; {hint}write '*', 'TARGET/*', or one of {', '.join(sorted(subjects))}"
            )
    return tools


Tools = Annotated[
    dict[str, Annotated[SerializeAsAny[ToolSettings], WrapValidator(_validate_by_kind)]],
    BeforeValidator(_fill_in_kinds),
    AfterValidator(_check_mode_keys),
]
