"""A notice as plain values for JSON, cut to what a message says of it, and back."""

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
    """The notice without the parts of its incident that no message shows, as thousands of anomalies."""
    incident = notice.incident
    small = replace(
        incident, anomaly_ids=(), change_ids=(), similar=(), entities=incident.entities[:MAX_ENTITIES],
        suspects=incident.suspects[:MAX_SUSPECTS],
        patterns=tuple(replace(match, series_ids=()) for match in incident.patterns[:MAX_PATTERNS]),
    )  # fmt: skip
    return replace(notice, incident=small)


@lru_cache(maxsize=2048)
def notice_to_dict(notice: Notice) -> dict[str, Any]:
    """What JSON can hold; a size without bound is written as "inf". It is shared: change nothing in it.

    All that was told is written down at each delivery, so what was made plain once is kept.
    """
    plain = asdict(notice)
    for suspect in plain["incident"]["suspects"]:
        if not math.isfinite(suspect["size"]):
            suspect["size"] = str(suspect["size"])
    return plain


def notice_from_dict(plain: Mapping[str, Any]) -> Notice:
    """The notice that `to_plain` gave. Raises KeyError, TypeError or ValueError where it is another thing."""
    of = dict(plain["incident"])
    incident = Incident(
        **{
            **of,
            "state": IncidentState(of["state"]),
            "level": Severity(of["level"]),
            "suspects": tuple(Suspect(**{**one, "size": float(one["size"])}) for one in of["suspects"]),
            "patterns": tuple(_pattern_from_dict(one) for one in of["patterns"]),
            **{name: tuple(of[name]) for name in ("entities", "anomaly_ids", "change_ids", "similar")},
        }
    )
    return Notice(NoticeKind(plain["kind"]), incident, plain["fingerprint"], plain["time"], plain["why"])


def _pattern_from_dict(plain: Mapping[str, Any]) -> PatternMatch:
    return PatternMatch(
        **{**plain, **{name: tuple(plain[name]) for name in ("evidence", "series_ids", "remedies")}}
    )
