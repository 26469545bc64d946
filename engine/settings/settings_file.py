"""Loads trimtab.yaml, environment and command line into frozen Settings, with helpful errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

import yaml
from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from trimtab.engine.errors import SettingsError
from trimtab.engine.redaction import HIDDEN, redact_text
from trimtab.engine.settings import Settings
from trimtab.engine.settings.schema import (
    closest_setting,
    holds_paths,
    is_secret_key,
    is_section,
    names_below,
    setting_type,
)
from trimtab.engine.settings.yaml_lines import Key, RawSettings, read_yaml

VARIABLE_PREFIX = "TRIMTAB_"
SHORT_VARIABLES = {
    "TRIMTAB_ADMIN_KEY_FILE": ("api", "admin_key_file"),
    "TRIMTAB_ADMIN_KEY": ("api", "admin_key"),
}
"""Environment variables without a section in their name."""
OPTION_BY_SETTING = {
    "settings.data_dir": "--data",
    "sources.prometheus.url": "--prometheus",
    "api.host": "--host",
    "api.port": "--port",
    "schedulers.load.fit_window": "--since",
}
"""Command-line options by the setting they set, for error messages."""
_MAX_VALUE_LENGTH = 80


def load_settings(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object] | None = None
) -> Settings:
    """Load the settings; the environment overrides the file, and `overrides` overrides both.

    path      : trimtab.yaml; None = no file. Relative paths in it are relative to its folder.
    environ   : variables such as TRIMTAB_SETTINGS__DATA_DIR or TRIMTAB_API__ADMIN_KEY_FILE
    overrides : dotted name -> value, from the command line; None values are ignored

    Raises SettingsError with one line per error: origin, key, value (never of a secret) and what is allowed.

    >>> load_settings(None, {"TRIMTAB_SOURCES__HOST__INTERVAL": "2s"}).sources.host.interval
    2.0
    """
    raw = read_yaml(path) if path is not None else RawSettings()
    _fill_empty_sections(raw.values, ())
    if path is not None:
        _resolve_paths(raw.values, (), path.absolute().parent)
    for name, value in sorted(environ.items()):
        _apply_variable(raw, name, value)
    for dotted, override in (overrides or {}).items():
        if override is not None:
            raw.set(tuple(dotted.split(".")), override, OPTION_BY_SETTING.get(dotted, "command line"))
    _refuse_two_secrets(raw, raw.values, ())
    try:
        settings = Settings.model_validate(raw.values)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(e, raw) for e in error.errors(include_url=False))) from None
    return _expand_data_dir(settings, raw)


def _fill_empty_sections(values: dict[str, Any], key: Key) -> None:
    """Replace an empty section, such as `prometheus:`, by a section with defaults."""
    for name, value in values.items():
        if value is None and is_section(setting_type((*key, name))):
            values[name] = {}
        elif isinstance(value, dict):
            _fill_empty_sections(value, (*key, name))


def _resolve_paths(values: dict[str, Any], key: Key, base: Path) -> None:
    for name, value in values.items():
        inside = (*key, name)
        if isinstance(value, dict):
            _resolve_paths(value, inside, base)
        elif holds_paths(inside) and isinstance(value, str):
            values[name] = _absolute_path(base, value)
        elif holds_paths(inside) and isinstance(value, list):
            values[name] = [_absolute_path(base, item) if isinstance(item, str) else item for item in value]


def _absolute_path(base: Path, text: str) -> str:
    return text if text.startswith("~") else str(base / text)


def _apply_variable(raw: RawSettings, name: str, value: str) -> None:
    if not name.startswith(VARIABLE_PREFIX):
        return
    place = f"environment {name}"
    if name in SHORT_VARIABLES:
        raw.set(SHORT_VARIABLES[name], value, place)
        return
    words = tuple(name.removeprefix(VARIABLE_PREFIX).lower().split("__"))
    if len(words) == 1:
        _refuse_single_underscore(name)
        return
    key = _match_case(words)
    raw.set(key, _parse_variable(key, value, place), place)


def _refuse_single_underscore(name: str) -> None:
    rest = name.removeprefix(VARIABLE_PREFIX).lower()
    for section in names_below(()):
        if rest.startswith(f"{section}_"):
            meant = f"{VARIABLE_PREFIX}{section.upper()}__{rest.removeprefix(f'{section}_').upper()}"
            raise SettingsError(
                f"environment {name} is not a setting; did you mean {meant} (two underscores)?"
            )


def _match_case(words: Key) -> Key:
    """Return the words with the case of the setting names; free names stay in lower case."""
    key: Key = ()
    for word in words:
        same = [name for name in names_below(key) if name.lower() == word]
        key = (*key, same[0] if same else word)
    return key


def _parse_variable(key: Key, value: str, place: str) -> object:
    """Return the text of a variable, parsed as YAML if the setting has several values."""
    kind = setting_type(key)
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
    example = "{name: value, ...}"
    raise SettingsError(f"{place}: {'.'.join(key)} expects YAML such as {example}")


def _refuse_two_secrets(raw: RawSettings, values: dict[str, Any], key: Key) -> None:
    for name, value in values.items():
        inside = (*key, name)
        if isinstance(value, dict):
            _refuse_two_secrets(raw, value, inside)
        elif setting_type(inside) is SecretStr and values.get(f"{name}_file") and value:
            other = raw.origin_of((*key, f"{name}_file"))
            dotted = ".".join(inside)
            raise SettingsError(
                f"{raw.origin_of(inside)}: {dotted} and {dotted}_file ({other}) are both set; keep one"
            )


def _expand_data_dir(settings: Settings, raw: RawSettings) -> Settings:
    general = settings.settings
    try:
        data_dir = general.data_dir.expanduser().absolute()
    except RuntimeError:
        key = ("settings", "data_dir")
        raise SettingsError(
            f"{raw.origin_of(key)}: settings.data_dir is {str(general.data_dir)!r}, but this user has no "
            "home folder; set TRIMTAB_SETTINGS__DATA_DIR to a writable folder"
        ) from None
    return settings.model_copy(update={"settings": general.model_copy(update={"data_dir": data_dir})})


def _explain(error: ErrorDetails, raw: RawSettings) -> str:
    key = tuple(str(part) for part in error["loc"])
    place, dotted = raw.origin_of(key), ".".join(key)
    if error["type"] == "extra_forbidden":
        return f"{place}: {_unknown_setting(key)}"
    if error["type"] == "missing":
        return f"{raw.origin_of(key[:-1])}: {dotted} is missing"
    advice = error["msg"].removeprefix("Value error, ").replace("Input should be", "it must be", 1)
    advice = redact_text(advice[:1].lower() + advice[1:])
    if error["type"] == "value_error" and isinstance(error["input"], dict):
        return f"{_given_options(key, raw) or place}: {dotted}: {advice}"
    return f"{place}: {dotted} is {_format_value(key, error['input'])}; {advice}"


def _given_options(key: Key, raw: RawSettings) -> str:
    """Return the command-line options that set values in a section, with their values; "" if none does."""
    inside = ((tuple(dotted.split(".")), option) for dotted, option in OPTION_BY_SETTING.items())
    options = (
        f"{option} {_format_value(name, raw.value_at(name))}"
        for name, option in inside
        if name[: len(key)] == key and raw.origins.get(name) == option
    )
    return ", ".join(options)


def _unknown_setting(key: Key) -> str:
    dotted = ".".join(key)
    meant = closest_setting(key)
    hint = f"did you mean {meant}? " if meant else ""
    return f"{dotted} is not a setting; {hint}(allowed here: {', '.join(sorted(names_below(key[:-1])))})"


def _format_value(key: Key, value: object) -> str:
    if is_secret_key(key):
        return HIDDEN
    if isinstance(value, dict):
        return "a section"
    text = redact_text(repr(value))
    return text if len(text) <= _MAX_VALUE_LENGTH else text[:_MAX_VALUE_LENGTH] + "..."
