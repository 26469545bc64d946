"""What `Settings` allows where: names, kinds, neighbours. For the loader and its messages."""

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
    """The bare type of a setting; None where there is no such setting.

    >>> kind_of(("settings", "data_dir")).__name__, kind_of(("nothing",))
    ('Path', None)
    """
    here: Any = Settings
    for name in key:
        if is_section(here):
            fields = tool_fields(key[1]) if here is ToolSettings else here.model_fields
            known = fields.get(name)
            here = None if known is None else strip_annotations(known.annotation)
        elif get_origin(here) is dict:
            here = strip_annotations(get_args(here)[1])
        else:
            return None
    return here


def strip_annotations(annotation: Any) -> Any:  # noqa: ANN401 - as above
    """The type without Annotated and None."""
    if get_origin(annotation) is Annotated:
        return strip_annotations(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        inside = [a for a in get_args(annotation) if a is not type(None)]
        return strip_annotations(inside[0]) if len(inside) == 1 else annotation
    return annotation


def is_section(kind: object) -> bool:
    """Whether this is a part with named settings."""
    return isinstance(kind, type) and issubclass(kind, Section)


def names_below(key: Key) -> tuple[str, ...]:
    """The settings of a section; () where any name will do."""
    kind = setting_type(key)
    if kind is ToolSettings:
        return tuple(tool_fields(key[1]))
    return tuple(kind.model_fields) if is_section(kind) else ()


def is_secret_key(key: Key) -> bool:
    """Whether its value must not be shown."""
    return setting_type(key) is SecretStr or any(is_secret_name(name) for name in key)


def holds_paths(key: Key) -> bool:
    """Whether it is a path, or several."""
    kind = setting_type(key)
    return kind is Path or (get_origin(kind) is tuple and get_args(kind)[0] is Path)


def closest_setting(key: Key) -> str | None:
    """The setting that was probably meant, in dotted form.

    >>> nearest(("sources", "promethus")), nearest(("data_dir",))
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
