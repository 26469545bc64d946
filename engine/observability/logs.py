"""Logging: one JSON object per line, or a readable form on a terminal; secrets are redacted in both.

Trimtab's own events and those of libraries (uvicorn, SQLAlchemy, alembic) use the same handler. Every line
written during a tick, request or job carries its trace id.
"""

import logging
import secrets
import sys
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

import orjson
import structlog
from pydantic import BaseModel, SecretStr
from structlog.typing import EventDict, Processor

from trimtab.engine.redaction import HIDDEN, is_secret_name, redact

LogFormat = Literal["auto", "json", "console"]
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_MIN_LEVELS = {
    "uvicorn": "warning", "uvicorn.error": "warning", "uvicorn.access": "error",
    "httpx": "warning", "httpcore": "warning", "watchfiles": "warning",
    "numba": "warning", "alembic": "warning", "sqlalchemy": "warning", "asyncio": "warning",
}  # fmt: skip
"""Minimum levels of libraries whose lower levels add nothing to Trimtab's own log lines."""
_ROUTINE_EVENTS = ("request", "tick")
_MIN_SECRET_LENGTH = 6


class Redactor:
    """structlog processor that redacts secrets by key name, by form, and by value.

    secret_values : secrets to redact wherever they occur; values shorter than 6 characters are ignored

    >>> Redactor({"hunter22"})(None, "info", {"event": "no hunter22", "token": "x", "series": 3})
    {'event': 'no (hidden)', 'token': '(hidden)', 'series': 3}
    """

    def __init__(self, secret_values: Iterable[str] = ()) -> None:
        self.secret_values = {value for value in secret_values if len(value) >= _MIN_SECRET_LENGTH}

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> EventDict:
        """Return the event with secrets redacted."""
        internal = {key: event.pop(key) for key in ("_record", "_from_structlog") if key in event}
        cleaned = redact(event)
        if not isinstance(cleaned, dict):
            raise TypeError(f"an event is a mapping, not {type(event).__name__}")
        return {**self._hide_values(cleaned), **internal}

    def _hide_values(self, value: Any) -> Any:  # noqa: ANN401 - any part of an event
        if isinstance(value, str):
            # Longest first, because one secret may be the prefix of another.
            for secret in sorted(self.secret_values, key=len, reverse=True):
                value = value.replace(secret, HIDDEN)
            return value
        if isinstance(value, dict):
            return {key: self._hide_values(item) for key, item in value.items()}
        return [self._hide_values(item) for item in value] if isinstance(value, list) else value


_redactor = Redactor()


_LIBRARIES_WITH_HANDLERS = (
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "mlflow",
    "alembic",
    "sqlalchemy.engine",
)
"""Libraries that install handlers of their own, or (MLflow) replace those of others."""


def configure_logs(level: str = "info", form: LogFormat = "auto", stream: TextIO | None = None) -> None:
    """Send all log output to `stream` (default: stderr).

    level : debug, info, warning or error
    form  : "auto" = console form on a terminal, else JSON
    """
    out = stream or sys.stderr
    console = form == "console" or (form == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper("iso", utc=True, key="time"),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=_final_processors(console, out), foreign_pre_chain=shared
        )
    )
    if console:
        handler.addFilter(_is_shown_on_terminal)
    root = logging.getLogger()
    root.handlers = [handler]
    logging.captureWarnings(capture=True)
    for name in _LIBRARIES_WITH_HANDLERS:
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    set_log_level(level)


def _is_shown_on_terminal(record: logging.LogRecord) -> bool:
    """Return whether a terminal shows the record: routine events only if they have anomalies or failed."""
    event = record.msg if isinstance(record.msg, dict) else {}
    if event.get("event") not in _ROUTINE_EVENTS or logging.getLogger().level <= logging.DEBUG:
        return True
    return bool(event.get("anomalies")) or event.get("status", 0) >= 400


def _final_processors(console: bool, out: TextIO) -> list[Processor]:
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if console:
        plain = structlog.dev.plain_traceback
        render: Processor = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=plain, timestamp_key="time", sort_keys=False
        )
        return [remove, structlog.processors.format_exc_info, _redactor, render]
    return [
        remove,
        structlog.processors.format_exc_info,
        _redactor,
        structlog.processors.JSONRenderer(_render_json),
    ]


def _render_json(event: object, **_: object) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def set_log_level(level: str) -> None:
    """Set the log level. Raises ValueError for an unknown level."""
    if level not in _LEVELS:
        raise ValueError(f"log level {level!r} is unknown; use one of {', '.join(_LEVELS)}")
    logging.getLogger().setLevel(_LEVELS[level])
    for name, min_level in _MIN_LEVELS.items():
        logging.getLogger(name).setLevel(max(_LEVELS[min_level], _LEVELS[level]))


def hide_values(values: Iterable[str]) -> None:
    """Redact these strings in all further log output; strings shorter than 6 characters are ignored."""
    # A new set, because other threads iterate over the old one.
    _redactor.secret_values = _redactor.secret_values | Redactor(values).secret_values


def collect_secrets(settings: BaseModel) -> set[str]:
    """Return every secret value in the settings and in the secret files they name."""
    values: set[str] = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        values |= _value_secrets(value)
        if isinstance(value, Path) and is_secret_name(name.removesuffix("_file")):
            values |= _file_secret(value)
    return values


def _file_secret(path: Path) -> set[str]:
    try:
        return {path.expanduser().read_text("utf-8").strip()}
    except (OSError, UnicodeDecodeError):
        return set()  # the user of the file reports the error


def _value_secrets(value: object) -> set[str]:
    if isinstance(value, SecretStr):
        return {value.get_secret_value()}
    if isinstance(value, BaseModel):
        return collect_secrets(value)
    if isinstance(value, dict):
        files = [item for item in value.values() if isinstance(item, Path)]
        inside = [_value_secrets(item) for item in value.values()]
        return set().union(*inside, *map(_file_secret, files))
    return set()


@contextmanager
def trace_context(**fields: object) -> Iterator[str]:
    """Bind a new trace id (32 hex digits) and these fields to every log line written inside the block."""
    trace_id = secrets.token_hex(16)
    with structlog.contextvars.bound_contextvars(trace_id=trace_id, **fields):
        yield trace_id
