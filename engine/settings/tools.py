"""`tools:` the systems that are managed, by name; each is told apart by its `kind`."""

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
"""Entry points of other packages' settings classes, beside their tools in the group `trimtab.tools`."""

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
"""Kind -> the class of its settings."""


class ToolSettings(Section):
    """What can be set of every tool.

    targets      : what may be changed, by name, never a pattern; not given = the tool's own name
    trial        : nobody depends on it: guardrails may be scaled for it. Loopback only
    memory_limit : bytes that its machine or container gives it; needed where the tool is on another machine
    timeout      : in total, for one question to it; a change may take up to 30 s
    """

    kind: str
    enabled: bool = True
    mode: Modes = "recommend"
    targets: tuple[str, ...] | None = None
    trial: bool = False
    memory_limit: Size | None = None
    timeout: Duration = Field(5.0, le=9.0)

    def hosts(self) -> tuple[str, ...]:
        """The machines that it talks to; () = this one only."""
        return ()

    def targets_of(self, name: str) -> tuple[str, ...]:
        """What may be changed, for the tool of that name."""
        return self.targets or (name,)

    def subjects(self) -> frozenset[str] | None:
        """Names of all knobs and actions that its kind can have; None = only the running tool knows them."""
        return None

    def mode_by_subject(self) -> dict[str, Mode]:
        """Mode by subject, always with "*"."""
        given = {"*": self.mode} if isinstance(self.mode, str) else self.mode
        return {"*": Mode.RECOMMEND, **{subject: Mode(mode) for subject, mode in given.items()}}

    @model_validator(mode="after")
    def _targets_are_named(self) -> Self:
        if self.targets is None:
            return self
        if not self.targets:
            raise ValueError("targets is empty; name each, such as [cache-1], or leave the line out")
        for target in self.targets:
            if not target or _PATTERN_CHARACTERS.search(target):
                raise ValueError(f"targets holds {target!r}; write whole names, patterns are refused")
        if len(set(self.targets)) < len(self.targets):
            raise ValueError("targets names one twice; keep one")
        return self

    @model_validator(mode="after")
    def _trial_is_on_loopback(self) -> Self:
        far = [host for host in self.hosts() if not is_loopback(host)]
        if self.trial and far:
            raise ValueError(f"trial is for this machine only, {far[0]} is another; remove the line")
        return self


def is_loopback(host: str) -> bool:
    """Whether it surely is this machine, without asking a name server.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("cache.example")
    (True, True, False)
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.startswith("/")


def tool_kinds() -> list[str]:
    """Every kind that has settings, sorted."""
    return sorted({*SETTINGS_BY_KIND, *entry_points(group=ENTRY_POINT_GROUP).names})


def tool_settings_class(kind: str) -> type[ToolSettings] | None:
    """The class of a kind's settings; None where nobody has that kind.

    >>> settings_class("redis").__name__, settings_class("nothing")
    ('RedisTool', None)
    """
    if kind in SETTINGS_BY_KIND:
        module, _, attribute = SETTINGS_BY_KIND[kind].partition(":")
        found: type[ToolSettings] = getattr(import_module(module), attribute)
        return found
    for point in entry_points(group=ENTRY_POINT_GROUP, name=kind):
        loaded: type[ToolSettings] = point.load()
        return loaded
    return None


def tool_fields(name: str) -> dict[str, FieldInfo]:
    """What can be set of the tool of that name; where the name is no kind, of all kinds of ours.

    >>> "password_file" in fields_of("cache-1")
    True
    """
    found = tool_settings_class(name)
    classes = [tool_settings_class(kind) for kind in SETTINGS_BY_KIND] if found is None else [found]
    return {field: info for each in classes if each for field, info in each.model_fields.items()}


def _fill_in_kinds(value: object) -> object:
    """A tool that says no kind is of the kind that it is called."""
    if not isinstance(value, dict):
        return value
    for name in value:
        if not _NAME.fullmatch(str(name)):
            raise ValueError(f"a tool is called {name!r}; use letters, digits, '.', '_' and '-'")
    return {name: {"kind": name, **item} if isinstance(item, dict) else item for name, item in value.items()}


def _validate_by_kind(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    if not isinstance(value, dict):
        return handler(value)
    kind = value.get("kind")
    found = tool_settings_class(kind) if isinstance(kind, str) else None
    if found is None:
        near = get_close_matches(str(kind), tool_kinds(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"no kind of tool is called {kind!r}; {hint}write kind: and one of {', '.join(tool_kinds())}"
        )
    return found.model_validate(value)


def unknown_mode_keys(modes: Iterable[str], targets: Iterable[str], subjects: Collection[str]) -> set[str]:
    """The keys of a `mode:` map that no knob or action of these targets is called by.

    >>> sorted(means_nothing(["*", "hz", "a/hz", "a/*", "b/*", "ttl"], ["a"], ["hz"]))
    ['b/*', 'ttl']
    """
    here = {f"{target}/{subject}" for target in targets for subject in (*subjects, "*")}
    return set(modes) - here - set(subjects) - {"*"}


def _check_mode_keys(tools: dict[str, ToolSettings]) -> dict[str, ToolSettings]:
    """Refuses keys of `mode:` that mean nothing, where the kind of a tool says what there is."""
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
                f"{name}.mode names {key!r}, which is no knob or action of a {part.kind} and no target of "
                f"this one; {hint}write '*', a target and '/*', or one of {', '.join(sorted(subjects))}"
            )
    return tools


Tools = Annotated[
    dict[str, Annotated[SerializeAsAny[ToolSettings], WrapValidator(_validate_by_kind)]],
    BeforeValidator(_fill_in_kinds),
    AfterValidator(_check_mode_keys),
]
