"""YAML with line numbers: the values of trimtab.yaml and the file and line of each."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trimtab.engine.errors import SettingsError

Key = tuple[str, ...]


@dataclass(slots=True)
class RawSettings:
    """Settings before validation, and the origin of each value ("trimtab.yaml:12")."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)

    def origin_of(self, key: Key) -> str:
        """Return the origin of a value, or of the nearest enclosing section."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        return "settings"

    def value_at(self, key: Key) -> object:
        """Return the value of a key; None if it is not set."""
        value: object = self.values
        for name in key:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def set(self, key: Key, value: object, place: str) -> None:
        """Set a value and create its enclosing sections."""
        section = self.values
        for name in key[:-1]:
            inside = section.get(name)
            if not isinstance(inside, dict):
                inside = section[name] = {}
            section = inside
        section[key[-1]] = value
        self.origins[key] = place


def read_yaml(path: Path) -> RawSettings:
    """Read a YAML file. Raises SettingsError with the line if it is not a YAML mapping."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    return parse_yaml(text, path.name)


def parse_yaml(text: str, name: str) -> RawSettings:
    r"""Parse YAML text; `name` is the file name for messages. Raises SettingsError.

    >>> parse_yaml("api:\n  port: 1", "trimtab.yaml").origin_of(("api", "port"))
    'trimtab.yaml:2'
    """
    raw = RawSettings()
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return raw
        if not isinstance(root, yaml.MappingNode):
            raise SettingsError(
                f"{name}:1: expected sections such as `settings:` and `sources:`, not {root.value!r}"
            )
        raw.values = _mapping(loader, root, (), raw, name, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError(f"{name}:{line}: not YAML: {error.problem or error}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{name}: not YAML: {error}") from None
    finally:
        loader.dispose()
    return raw


def _mapping(
    loader: yaml.SafeLoader,
    node: yaml.MappingNode,
    key: Key,
    raw: RawSettings,
    name: str,
    above: tuple[yaml.Node, ...],
) -> dict[str, Any]:
    if node in above:
        raise SettingsError(f"{name}:{node.start_mark.line + 1}: this anchor contains itself")
    _refuse_repeats(node, key, name)
    loader.flatten_mapping(node)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        inside = (*key, str(key_node.value))
        raw.origins[inside] = f"{name}:{key_node.start_mark.line + 1}"
        if isinstance(value_node, yaml.MappingNode):
            values[inside[-1]] = _mapping(loader, value_node, inside, raw, name, (*above, node))
        else:
            values[inside[-1]] = loader.construct_object(value_node, deep=True)
    return values


def _refuse_repeats(node: yaml.MappingNode, key: Key, name: str) -> None:
    first: dict[str, int] = {}
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        if key_node.value in first and key_node.value != "<<":
            where = ".".join((*key, str(key_node.value)))
            raise SettingsError(
                f"{name}:{line}: {where} is set here and in line {first[key_node.value]}; keep one"
            )
        first[key_node.value] = line
