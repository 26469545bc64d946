"""Schema of the settings: types and names by key, for the loader and its messages."""

import difflib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import SecretStr

from trimtab.engine.redaction import is_secret_name
from trimtab.engine.settings import Section, Settings
from trimtab.engine.settings.tools import ToolSettings, tool_fields
from trimtab.engine.settings.yaml_lines import Key


def setting_type(key: Key) -> Any:  # noqa: ANN401 - a type, a Section class or a generic alias
    """Return the type of a setting without Annotated and None; None if the setting does not exist.

    >>> setting_type(("settings", "data_dir")).__name__, setting_type(("nothing",))
    ('Path', None)
    """
    current: Any = Settings
    for name in key:
        if is_section(current):
            fields = tool_fields(key[1]) if current is ToolSettings else current.model_fields
            field = fields.get(name)
            current = None if field is None else strip_annotations(field.annotation)
        elif get_origin(current) is dict:
            current = strip_annotations(get_args(current)[1])
        else:
            return None
    return current


def strip_annotations(annotation: Any) -> Any:  # noqa: ANN401 - a type or a generic alias
    """Return the type without Annotated and None."""
    if get_origin(annotation) is Annotated:
        return strip_annotations(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        inside = [a for a in get_args(annotation) if a is not type(None)]
        return strip_annotations(inside[0]) if len(inside) == 1 else annotation
    return annotation


def is_section(kind: object) -> bool:
    """Return whether a type is a section with named settings."""
    return isinstance(kind, type) and issubclass(kind, Section)


def names_below(key: Key) -> tuple[str, ...]:
    """Return the names below a section; () if any name is allowed."""
    kind = setting_type(key)
    if kind is ToolSettings:
        return tuple(tool_fields(key[1]))
    return tuple(kind.model_fields) if is_section(kind) else ()


def is_secret_key(key: Key) -> bool:
    """Return whether the value of a setting must not be shown."""
    return setting_type(key) is SecretStr or any(is_secret_name(name) for name in key)


def holds_paths(key: Key) -> bool:
    """Return whether a setting is a path or a tuple of paths."""
    kind = setting_type(key)
    return kind is Path or (get_origin(kind) is tuple and get_args(kind)[0] is Path)


def closest_setting(key: Key) -> str | None:
    """Return the most similar setting in dotted form; None if there is none.

    >>> closest_setting(("sources", "promethus")), closest_setting(("data_dir",))
    ('sources.prometheus', 'settings.data_dir')
    """
    near = difflib.get_close_matches(key[-1], names_below(key[:-1]), n=1)
    if near:
        return ".".join((*key[:-1], near[0]))
    everywhere = {
        path[-1]: path for path in _walk_keys(()) if path[-1] not in {"headers", "headers_file", "enabled"}
    }
    far = difflib.get_close_matches(key[-1], everywhere, n=1, cutoff=0.85)
    return ".".join(everywhere[far[0]]) if far else None


def _walk_keys(key: Key) -> Iterator[Key]:
    for name in names_below(key):
        yield from _walk_keys((*key, name))
        yield (*key, name)
