"""Holidays and other known days as a feature of a panel."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from trimtab.models.contracts import Panel
from trimtab.models.forecasting.panel_features import DAY_NS
from trimtab.pipelines.errors import InputError


def parse_days(given: Iterable[object]) -> frozenset[int]:
    """Return dates (text, date or timestamp) as days since 1970-01-01. Raises InputError.

    >>> sorted(parse_days(["1970-01-02", pd.Timestamp("1970-01-05 08:00")]))
    [1, 4]
    """
    return frozenset(_parse_day(one) for one in given)


def mark_known_days(panel: Panel, n_ahead: int, days: frozenset[int]) -> Panel:
    """Set `events` to true in each row of a known day (UTC), including n_ahead rows beyond the end.

    Returns the panel unchanged if no day is given.
    """
    if not days:
        return panel
    steps = np.arange(1 - len(panel.y), n_ahead + 1)
    rows = panel.end + np.round(steps[:, None] * panel.step_s * 1e9).astype(np.int64)
    return replace(panel, events=np.isin(rows // DAY_NS, list(days)))


def _parse_day(one: object) -> int:
    wanted = f"events: {one!r} is not a date; use a form like 2026-12-25"
    if not isinstance(one, str | pd.Timestamp) and not hasattr(one, "isoformat"):
        raise InputError(wanted)
    try:
        stamp = pd.Timestamp(str(one))
    except ValueError as error:
        raise InputError(wanted) from error
    if pd.isna(stamp):
        raise InputError(wanted)
    return int(stamp.tz_localize(None).normalize().as_unit("ns").value // DAY_NS)
