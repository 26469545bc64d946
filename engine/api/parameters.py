"""Types and parsers of path and query parameters: ids, times, cursors, limits."""

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator

from trimtab.engine.api.path_names import decode_name
from trimtab.engine.errors import InputError

_ISO = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_INT64 = 2**63 - 1

SERIES_ID = r"^[0-9a-f]{32}$"
ULID_FORM = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"

SeriesId = Annotated[
    str, Path(pattern=SERIES_ID, description="Id of a series, 32 hex digits.", examples=["0" * 32])
]
AnomalyId = Annotated[
    str, Path(pattern=ULID_FORM, description="Id of an anomaly, a ULID.", examples=["01JGFJJZ00" + "0" * 16])
]
KeyId = Annotated[str, Path(pattern=ULID_FORM, description="Id of a key, a ULID.")]
IncidentId = Annotated[
    str, Path(pattern=ULID_FORM, description="Id of an incident, a ULID.", examples=["01JGFJJZ00" + "0" * 16])
]
RecommendationId = Annotated[
    str, Path(pattern=ULID_FORM, description="Id of a recommendation.", examples=["01JGFJJZ00" + "0" * 16])
]
ActionId = Annotated[
    str, Path(pattern=ULID_FORM, description="Id of an action, a ULID.", examples=["01JGFJJZ00" + "0" * 16])
]
SilenceId = Annotated[
    str, Path(pattern=ULID_FORM, description="Id of a silence, a ULID.", examples=["01JGFJJZ00" + "0" * 16])
]
ToolName = Annotated[
    str,
    AfterValidator(decode_name),
    Path(max_length=200, description="Name of a tool, as in the settings.", examples=["redis"]),
]
TargetName = Annotated[
    str,
    AfterValidator(decode_name),
    Path(max_length=200, description="Name of a target of the tool; write `/` as %2F.", examples=["cache-1"]),
]
ModelName = Annotated[str, Path(max_length=200, description="Name of a model.", examples=["load"])]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items per page.")]
After = Annotated[str | None, Query(max_length=500, description="`next` of the previous page.")]
Since = Annotated[
    str | None,
    Query(
        description="Start of the period (inclusive), ISO 8601 with offset.",
        examples=["2026-01-01T00:00:00Z"],
    ),
]
Until = Annotated[
    str | None,
    Query(
        description="End of the period (exclusive), ISO 8601 with offset.", examples=["2026-01-01T01:00:00Z"]
    ),
]
SearchText = Annotated[
    str, Query(max_length=500, description="Words and label=value pairs that must all match.")
]


def parse_time(name: str, text: str) -> int:
    """Parse an ISO 8601 time with offset to int64 ns UTC. Raises InputError with an example.

    >>> parse_time("since", "1970-01-01T01:00:00.5+01:00")
    500000000
    """
    found = _ISO.fullmatch(text)
    hint = "; write + as %2B in a URL" if " " in text else ""
    message = f"{name} is {text[:100]!r}, which is not a time such as 2026-01-01T00:00:00Z{hint}"
    if found is None:
        raise InputError(message)
    try:
        moment = datetime.fromisoformat(found[1] + found[3])
        since_epoch = moment - _EPOCH
    except (ValueError, OverflowError):
        raise InputError(f"{message}: no such date or time exists") from None
    fraction = int((found[2] or "0").ljust(9, "0"))
    time = (since_epoch.days * 86_400 + since_epoch.seconds) * 1_000_000_000 + fraction
    if not -_MAX_INT64 <= time <= _MAX_INT64:
        raise InputError(f"{message}: the year must be 1678 to 2262")
    return time


def parse_optional_time(name: str, text: str | None) -> int | None:
    """Like `parse_time`; None stays None."""
    return None if text is None else parse_time(name, text)


def parse_ulid(name: str, text: str) -> str:
    """Check that a parameter is a ULID and return it. Raises InputError."""
    if not re.fullmatch(ULID_FORM, text):
        raise InputError(
            f"{name} is {text[:100]!r}, which is not a ULID; use an `id` or `next` of a response"
        )
    return text
