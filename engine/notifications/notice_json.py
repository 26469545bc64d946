"""Conversion of notifications to and from JSON values, without the parts no message shows."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

from trimtab.engine.types import (
    Incident,
    IncidentState,
    Notice,
    NoticeKind,
    PatternMatch,
    Severity,
    Suspect,
)

MAX_SUSPECTS, MAX_ENTITIES, MAX_PATTERNS = 5, 50, 5


def trim_notice(notice: Notice) -> Notice:
    """Return the notification without the parts that no message shows, such as anomaly ids."""
    incident = notice.incident
    trimmed = replace(
        incident, anomaly_ids=(), change_ids=(), similar=(), entities=incident.entities[:MAX_ENTITIES],
        suspects=incident.suspects[:MAX_SUSPECTS],
        patterns=tuple(replace(match, series_ids=()) for match in incident.patterns[:MAX_PATTERNS]),
    )  # fmt: skip
    return replace(notice, incident=trimmed)


@lru_cache(maxsize=2048)
def notice_to_dict(notice: Notice) -> dict[str, Any]:
    """Return the notification as JSON values; an infinite size is written as "inf". Do not modify the result.

    Cached, because the whole state is saved at each delivery.
    """
    plain = asdict(notice)
    for suspect in plain["incident"]["suspects"]:
        if not math.isfinite(suspect["size"]):
            suspect["size"] = str(suspect["size"])
    return plain


def notice_from_dict(plain: Mapping[str, Any]) -> Notice:
    """Return the notification of JSON values. Raises KeyError, TypeError or ValueError for other values."""
    fields = dict(plain["incident"])
    incident = Incident(
        **{
            **fields,
            "state": IncidentState(fields["state"]),
            "level": Severity(fields["level"]),
            "suspects": tuple(
                Suspect(**{**item, "size": float(item["size"])}) for item in fields["suspects"]
            ),
            "patterns": tuple(_pattern_from_dict(item) for item in fields["patterns"]),
            **{name: tuple(fields[name]) for name in ("entities", "anomaly_ids", "change_ids", "similar")},
        }
    )
    return Notice(NoticeKind(plain["kind"]), incident, plain["fingerprint"], plain["time"], plain["why"])


def _pattern_from_dict(plain: Mapping[str, Any]) -> PatternMatch:
    return PatternMatch(
        **{**plain, **{name: tuple(plain[name]) for name in ("evidence", "series_ids", "remedies")}}
    )
