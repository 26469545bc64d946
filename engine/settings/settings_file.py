"""trimtab.yaml + environment + command line -> frozen Settings, or an error that says what to change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from trimtab.engine.errors import SettingsError
from trimtab.engine.redaction import HIDDEN, clean_text
from trimtab.engine.settings import Settings
from trimtab.engine.settings.schema import (
    holds_paths,
    is_secret,
    is_section,
    kind_of,
    names_in,
    nearest,
)
from trimtab.engine.settings.yaml_lines import Key, Raw, read_yaml

PREFIX = "TRIMTAB_"
SHORT = {"TRIMTAB_ADMIN_KEY_FILE": ("api", "admin_key_file"), "TRIMTAB_ADMIN_KEY": ("api", "admin_key")}
"""Names of the environment that need no section."""
OPTIONS = {
    "settings.data_dir": "--data",
    "sources.prometheus.url": "--prometheus",
    "api.host": "--host",
    "api.port": "--port",
    "schedulers.load.fit_window": "--since",
}
"""Options of the command line by the setting that they set: a mistake in one is told by its name."""
_LONGEST_SHOWN = 80


def load_settings(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Settings:
    """Read everything that can be set; the environment goes over the file, `overrides` over both.

    path      : trimtab.yaml; None = no file. Relative paths in it start where it stands.
    environ   : names such as TRIMTAB_SETTINGS__DATA_DIR or TRIMTAB_API__ADMIN_KEY_FILE
    overrides : dotted name -> value, from the command line; None values are left out

    Raises SettingsError: one line a mistake, with key, value (never of a secret), place and what is allowed.

    >>> load_settings(None, {"TRIMTAB_SOURCES__HOST__INTERVAL": "2s"}).sources.host.interval
    2.0
    """
    raw = read_yaml(path) if path is not None else Raw()
    _fill_empty_sections(raw.values, ())
    if path is not None:
        _resolve_paths(raw.values, (), path.absolute().parent)
    for name, value in sorted(environ.items()):
        _take_variable(raw, name, value)
    for dotted, given in (overrides or {}).items():
        if given is not None:
            raw.set(tuple(dotted.split(".")), given, OPTIONS.get(dotted, "command line"))
    _refuse_two_secrets(raw, raw.values, ())
    try:
        settings = Settings.model_validate(raw.values)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(e, raw) for e in error.errors(include_url=False))) from None
    return _with_home(settings, raw)


def _fill_empty_sections(values: dict[str, Any], key: Key) -> None:
    """`prometheus:` with nothing below means its defaults."""
    for name, value in values.items():
        if value is None and is_section(kind_of((*key, name))):
            values[name] = {}
        elif isinstance(value, dict):
            _fill_empty_sections(value, (*key, name))


def _resolve_paths(values: dict[str, Any], key: Key, base: Path) -> None:
    for name, value in values.items():
        inside = (*key, name)
        if isinstance(value, dict):
            _resolve_paths(value, inside, base)
        elif holds_paths(inside) and isinstance(value, str):
            values[name] = _from(base, value)
        elif holds_paths(inside) and isinstance(value, list):
            values[name] = [_from(base, item) if isinstance(item, str) else item for item in value]


def _from(base: Path, text: str) -> str:
    return text if text.startswith("~") else str(base / text)


def _take_variable(raw: Raw, name: str, value: str) -> None:
    if not name.startswith(PREFIX):
        return
    place = f"environment {name}"
    if name in SHORT:
        raw.set(SHORT[name], value, place)
        return
    words = tuple(name.removeprefix(PREFIX).lower().split("__"))
    if len(words) == 1:
        _refuse_single_underscore(name)
        return
    key = _known_case(words)
    raw.set(key, _parsed(key, value, place), place)


def _refuse_single_underscore(name: str) -> None:
    rest = name.removeprefix(PREFIX).lower()
    for section in names_in(()):
        if rest.startswith(f"{section}_"):
            meant = f"{PREFIX}{section.upper()}__{rest.removeprefix(f'{section}_').upper()}"
            raise SettingsError(
                f"environment {name} is not a setting; did you mean {meant} (two underscores)?"
            )


def _known_case(words: Key) -> Key:
    """The words as the settings write them; where any name goes, in lower case."""
    key: Key = ()
    for word in words:
        same = [name for name in names_in(key) if name.lower() == word]
        key = (*key, same[0] if same else word)
    return key


def _parsed(key: Key, value: str, place: str) -> object:
    """A variable's text; where the setting holds several values it is read as YAML."""
    kind = kind_of(key)
    if not (is_section(kind) or get_origin(kind) in {tuple, dict}):
        return value
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        parsed = None
    if isinstance(parsed, list | dict):
        return parsed
    if get_origin(kind) is tuple:
        return [part.strip() for part in value.split(",") if part.strip()]
    wanted = "{name: value, ...}"
    raise SettingsError(f"{place}: {'.'.join(key)} wants YAML such as {wanted}")


def _refuse_two_secrets(raw: Raw, values: dict[str, Any], key: Key) -> None:
    for name, value in values.items():
        inside = (*key, name)
        if isinstance(value, dict):
            _refuse_two_secrets(raw, value, inside)
        elif kind_of(inside) is SecretStr and values.get(f"{name}_file") and value:
            other = raw.place((*key, f"{name}_file"))
            dotted = ".".join(inside)
            raise SettingsError(
                f"{raw.place(inside)}: {dotted} and {dotted}_file ({other}) are both set; keep one"
            )


def _with_home(settings: Settings, raw: Raw) -> Settings:
    general = settings.settings
    try:
        data_dir = general.data_dir.expanduser().absolute()
    except RuntimeError:
        key = ("settings", "data_dir")
        raise SettingsError(
            f"{raw.place(key)}: settings.data_dir is {str(general.data_dir)!r}, but this user has no home "
            "folder; set TRIMTAB_SETTINGS__DATA_DIR to a folder that can be written"
        ) from None
    return settings.model_copy(update={"settings": general.model_copy(update={"data_dir": data_dir})})


def _explain(error: ErrorDetails, raw: Raw) -> str:
    key = tuple(str(part) for part in error["loc"])
    place, dotted = raw.place(key), ".".join(key)
    if error["type"] == "extra_forbidden":
        return f"{place}: {_unknown(key)}"
    if error["type"] == "missing":
        return f"{raw.place(key[:-1])}: {dotted} is missing"
    wanted = error["msg"].removeprefix("Value error, ").replace("Input should be", "it must be", 1)
    wanted = clean_text(wanted[:1].lower() + wanted[1:])
    if error["type"] == "value_error" and isinstance(error["input"], dict):
        return f"{_given(key, raw) or place}: {dotted}: {wanted}"
    return f"{place}: {dotted} is {_shown(key, error['input'])}; {wanted}"


def _given(key: Key, raw: Raw) -> str:
    """The options that reach into a section, with what was given; "" = none does."""
    inside = ((tuple(dotted.split(".")), option) for dotted, option in OPTIONS.items())
    given = (
        f"{option} {_shown(name, raw.value(name))}"
        for name, option in inside
        if name[: len(key)] == key and raw.places.get(name) == option
    )
    return ", ".join(given)


def _unknown(key: Key) -> str:
    dotted = ".".join(key)
    meant = nearest(key)
    hint = f"did you mean {meant}? " if meant else ""
    return f"{dotted} is not a setting; {hint}(allowed here: {', '.join(sorted(names_in(key[:-1])))})"


def _shown(key: Key, value: object) -> str:
    if is_secret(key):
        return HIDDEN
    if isinstance(value, dict):
        return "a section"
    text = clean_text(repr(value))
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
