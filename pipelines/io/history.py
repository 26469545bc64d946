"""Collected history: which series, from when to when -> DataFrame unique_id, ds, y."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pandas as pd

from trimtab.pipelines.errors import HistoryError, InputError
from trimtab.pipelines.io.durations import positive_duration_s

MAX_POINTS = 1440
"""Points a series that one question asks for; Prometheus refuses more than 11,000."""


class History(Protocol):
    """A place where history can be had."""

    def read(self, selector: str, start: datetime, end: datetime, step_s: float) -> pd.DataFrame:
        """unique_id (the Prometheus form), ds (UTC), y (float64, NaN = no sample), one row a sample.

        start, end : aware; both included. Raises HistoryError.
        """
        ...


class PrometheusHistory:
    """Recorded series of a Prometheus server, by prometheus-api-client, in chunks.

    url       : of the server, with a path prefix where there is one
    headers   : sent with each request (Authorization, X-Scope-OrgID ...)
    timeout_s : of each request
    """

    def __init__(self, url: str, headers: dict[str, str] | None = None, timeout_s: float = 30.0) -> None:
        self.url = url
        self.headers = headers
        self.timeout_s = timeout_s

    def read(self, selector: str, start: datetime, end: datetime, step_s: float) -> pd.DataFrame:
        """Range queries over [start, end], one a chunk of time, joined by series."""
        if step_s != round(step_s):
            raise InputError(f"step: {step_s:g} s; wanted whole seconds")
        parts: dict[str, list[np.ndarray[Any, Any]]] = {}
        with self._client() as client:
            for begin, until in time_chunks(start, end, step_s):
                for series in self._ask(client, selector, begin, until, step_s):
                    rows = np.array(series["values"], dtype=object).reshape(-1, 2).astype(np.float64)
                    parts.setdefault(format_series(series["metric"]), []).append(rows)
        return _frame(parts)

    def _client(self) -> Any:  # noqa: ANN401 - prometheus-api-client has no types
        from prometheus_api_client import PrometheusConnect
        from urllib3.util.retry import Retry

        if urlsplit(self.url).scheme not in {"http", "https"}:
            raise InputError(f"url: {_public(self.url)!r} is no http(s) address of a Prometheus server")
        retry = Retry(total=1, backoff_factor=0.2, status_forcelist=[502, 503, 504])
        return PrometheusConnect(self.url.rstrip("/"), self.headers, retry=retry, timeout=self.timeout_s)

    def _ask(
        self,
        client: Any,  # noqa: ANN401 - prometheus-api-client has no types
        selector: str,
        begin: datetime,
        until: datetime,
        step_s: float,
    ) -> list[dict[str, Any]]:
        from prometheus_api_client.exceptions import PrometheusApiClientException
        from requests import RequestException

        try:
            found: list[dict[str, Any]] = client.custom_query_range(selector, begin, until, f"{step_s:g}s")
        except PrometheusApiClientException as error:
            raise HistoryError(f"{_public(self.url)} refused {selector!r}: {_reason(str(error))}") from None
        except (RequestException, KeyError, TypeError) as error:
            kind = type(error).__name__
            raise HistoryError(
                f"{_public(self.url)} did not answer {selector!r} ({kind}); is Prometheus running there, "
                "and is the address right?"
            ) from None
        return found


def history(
    url: str,
    selector: str,
    since: str | float = "14d",
    step: str | float = "1m",
    *,
    until: datetime | None = None,
    headers: dict[str, str] | None = None,
    timeout_s: float = 30.0,
) -> pd.DataFrame:
    """Recorded series of a Prometheus server as a table that `trimtab.score` reads.

    url      : "http://localhost:9090"; user and password in it are never shown
    selector : PromQL: `up{job="x"}`, `rate(http_requests_total[5m])` ...
    since    : how far back from `until` (now): "14d", "6h", or seconds
    step     : between samples: "1m", or seconds
    headers  : sent with each request

    Gives unique_id (the series in Prometheus form), ds (UTC), y (float64; NaN and infinity are no sample).
    Raises HistoryError when the server does not answer, refuses the query, or has no such series.
    """
    end = until or datetime.now(UTC)
    if end.tzinfo is None:
        raise InputError(f"until: {end.isoformat()} has no time zone; give it one, such as datetime.now(UTC)")
    start = end - timedelta(seconds=positive_duration_s(since, "since"))
    frame = PrometheusHistory(url, headers, timeout_s).read(
        selector, start, end, positive_duration_s(step, "step")
    )
    if frame.empty:
        raise HistoryError(
            f"{_public(url)} has no samples of {selector!r} from {start:%Y-%m-%d %H:%M} to "
            f"{end:%Y-%m-%d %H:%M} UTC; try the selector on its page, or a longer since"
        )
    return frame


def time_chunks(start: datetime, end: datetime, step_s: float) -> Iterator[tuple[datetime, datetime]]:
    """Parts of [start, end] with at most POINTS points each; no point stands in two of them."""
    step = timedelta(seconds=step_s)
    start = start.replace(microsecond=0)
    while start <= end:
        until = min(start + (MAX_POINTS - 1) * step, end)
        yield start, until
        start = until + step


def format_series(labels: dict[str, str]) -> str:
    """Name and sorted labels as Prometheus writes them.

    >>> format_series({"__name__": "up", "job": "x"})
    'up{job="x"}'
    """
    name = labels.get("__name__", "")
    rest = sorted((key, value) for key, value in labels.items() if key != "__name__")
    inside = ",".join(f'{key}="{_escaped(value)}"' for key, value in rest)
    return f"{name}{{{inside}}}" if inside or not name else name


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _reason(answer: str) -> str:
    told = re.search(r'"error":"((?:[^"\\]|\\.)*)"', answer)
    return told.group(1) if told else answer[:300]


def _public(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _frame(parts: dict[str, list[np.ndarray[Any, Any]]]) -> pd.DataFrame:
    whole = {name: np.concatenate(rows) for name, rows in sorted(parts.items())}
    counts = [len(rows) for rows in whole.values()]
    rows = np.concatenate(list(whole.values())) if whole else np.empty((0, 2))
    stamps = np.round(rows[:, 0] * 1000).astype("datetime64[ms]")
    return pd.DataFrame(
        {
            "unique_id": np.repeat(np.array(list(whole), dtype=object), counts),
            "ds": pd.DatetimeIndex(stamps.astype("datetime64[ns]"), tz="UTC"),
            "y": np.where(np.isfinite(rows[:, 1]), rows[:, 1], np.nan),
        }
    )
