"""Recorded history of many series as a DataFrame with columns unique_id, ds and y."""

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
"""Samples per series and query; Prometheus refuses more than 11,000."""


class History(Protocol):
    """A source of recorded history."""

    def read(self, selector: str, start: datetime, end: datetime, step_s: float) -> pd.DataFrame:
        """Return unique_id (Prometheus form), ds (UTC) and y (float64, NaN = no sample), one row per sample.

        start, end : time-zone aware; both included
        step_s     : seconds between samples

        Raises HistoryError if the history is not available.
        """
        ...


class PrometheusHistory:
    """Implements `History` over a Prometheus server; long ranges are queried in chunks.

    url       : address of the server, with a path prefix if it has one
    headers   : sent with each request (Authorization, X-Scope-OrgID ...)
    timeout_s : timeout of each request in seconds
    """

    def __init__(self, url: str, headers: dict[str, str] | None = None, timeout_s: float = 30.0) -> None:
        self.url = url
        self.headers = headers
        self.timeout_s = timeout_s

    def read(self, selector: str, start: datetime, end: datetime, step_s: float) -> pd.DataFrame:
        """Query [start, end] in chunks of time and join the results by series."""
        if step_s != round(step_s):
            raise InputError(f"step: {step_s:g} s is not a whole number of seconds")
        samples_by_series: dict[str, list[np.ndarray[Any, Any]]] = {}
        with self._client() as client:
            for begin, until in time_chunks(start, end, step_s):
                for series in self._query(client, selector, begin, until, step_s):
                    rows = np.array(series["values"], dtype=object).reshape(-1, 2).astype(np.float64)
                    samples_by_series.setdefault(format_series(series["metric"]), []).append(rows)
        return _to_frame(samples_by_series)

    def _client(self) -> Any:  # noqa: ANN401 - prometheus-api-client has no types
        from prometheus_api_client import PrometheusConnect
        from urllib3.util.retry import Retry

        if urlsplit(self.url).scheme not in {"http", "https"}:
            raise InputError(
                f"url: {_without_credentials(self.url)!r} is not an http(s) address of a Prometheus server"
            )
        retry = Retry(total=1, backoff_factor=0.2, status_forcelist=[502, 503, 504])
        return PrometheusConnect(self.url.rstrip("/"), self.headers, retry=retry, timeout=self.timeout_s)

    def _query(
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
            raise HistoryError(
                f"{_without_credentials(self.url)} refused {selector!r}: {_error_text(str(error))}"
            ) from None
        except (RequestException, KeyError, TypeError) as error:
            kind = type(error).__name__
            raise HistoryError(
                f"{_without_credentials(self.url)} did not answer {selector!r} ({kind}); check "
                "that Prometheus is running and that the address is right"
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
    """Return recorded series of a Prometheus server as a table that `trimtab.score` accepts.

    url       : "http://localhost:9090"; a user and password in it never appear in messages
    selector  : PromQL: `up{job="x"}`, `rate(http_requests_total[5m])` ...
    since     : length of the range before `until`: "14d", "6h", or seconds
    step      : time between samples: "1m", or whole seconds
    until     : end of the range, time-zone aware; None = now
    headers   : sent with each request
    timeout_s : timeout of each request in seconds

    Returns unique_id (series in Prometheus form), ds (UTC) and y (float64; NaN = no sample, also for
    infinity). Raises HistoryError if the server does not answer, refuses the query, or has no such series.
    """
    end = until or datetime.now(UTC)
    if end.tzinfo is None:
        raise InputError(
            f"until: {end.isoformat()} has no time zone; use an aware time, such as datetime.now(UTC)"
        )
    start = end - timedelta(seconds=positive_duration_s(since, "since"))
    frame = PrometheusHistory(url, headers, timeout_s).read(
        selector, start, end, positive_duration_s(step, "step")
    )
    if frame.empty:
        raise HistoryError(
            f"{_without_credentials(url)} has no samples of {selector!r} from {start:%Y-%m-%d %H:%M} to "
            f"{end:%Y-%m-%d %H:%M} UTC; check the selector, or use a longer since"
        )
    return frame


def time_chunks(start: datetime, end: datetime, step_s: float) -> Iterator[tuple[datetime, datetime]]:
    """Split [start, end] into parts of at most MAX_POINTS samples; no sample is in two parts."""
    step = timedelta(seconds=step_s)
    start = start.replace(microsecond=0)
    while start <= end:
        until = min(start + (MAX_POINTS - 1) * step, end)
        yield start, until
        start = until + step


def format_series(labels: dict[str, str]) -> str:
    """Return a series' name and sorted labels in Prometheus form.

    >>> format_series({"__name__": "up", "job": "x"})
    'up{job="x"}'
    """
    name = labels.get("__name__", "")
    rest = sorted((key, value) for key, value in labels.items() if key != "__name__")
    inside = ",".join(f'{key}="{_escaped(value)}"' for key, value in rest)
    return f"{name}{{{inside}}}" if inside or not name else name


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _error_text(answer: str) -> str:
    match = re.search(r'"error":"((?:[^"\\]|\\.)*)"', answer)
    return match.group(1) if match else answer[:300]


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _to_frame(samples_by_series: dict[str, list[np.ndarray[Any, Any]]]) -> pd.DataFrame:
    rows_by_series = {name: np.concatenate(rows) for name, rows in sorted(samples_by_series.items())}
    counts = [len(rows) for rows in rows_by_series.values()]
    rows = np.concatenate(list(rows_by_series.values())) if rows_by_series else np.empty((0, 2))
    stamps = np.round(rows[:, 0] * 1000).astype("datetime64[ms]")
    return pd.DataFrame(
        {
            "unique_id": np.repeat(np.array(list(rows_by_series), dtype=object), counts),
            "ds": pd.DatetimeIndex(stamps.astype("datetime64[ns]"), tz="UTC"),
            "y": np.where(np.isfinite(rows[:, 1]), rows[:, 1], np.nan),
        }
    )
