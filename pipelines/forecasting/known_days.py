"""Holidays and other known days, laid beside the past of series."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from trimtab.models.contracts import Panel
from trimtab.models.forecasting.panel_features import DAY_NS
from trimtab.pipelines.errors import InputError


def parse_days(given: Iterable[object]) -> frozenset[int]:
    """Days since 1970-01-01 of dates, as text, date or timestamp. Raises InputError that names the wrong one.

    >>> sorted(parse_days(["1970-01-02", pd.Timestamp("1970-01-05 08:00")]))
    [1, 4]
    """
    return frozenset(_day(one) for one in given)


def mark_known_days(panel: Panel, n_ahead: int, days: frozenset[int]) -> Panel:
    """The panel with `events` true in every row of a known day (UTC), n_ahead rows beyond its end too.

    Unchanged where no day is given.
    """
    if not days:
        return panel
    steps = np.arange(1 - len(panel.y), n_ahead + 1)
    rows = panel.end + np.round(steps[:, None] * panel.step_s * 1e9).astype(np.int64)
    return replace(panel, events=np.isin(rows // DAY_NS, list(days)))


def _day(one: object) -> int:
    wanted = f"events: {one!r} is no date; write 2026-12-25"
    if not isinstance(one, str | pd.Timestamp) and not hasattr(one, "isoformat"):
        raise InputError(wanted)
    try:
        stamp = pd.Timestamp(str(one))
    except ValueError as error:
        raise InputError(wanted) from error
    if pd.isna(stamp):
        raise InputError(wanted)
    return int(stamp.tz_localize(None).normalize().as_unit("ns").value // DAY_NS)
