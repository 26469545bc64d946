"""Prometheus source: discovers metrics, reads their history, and reads them at every interval.

Live reads query raw samples (an instant query with a range selector), so times are those of the scrapes and
rates come from real samples. An incomplete answer raises SourceError: unknown values are never 0.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import httpx
import numpy as np
import structlog

from trimtab.engine.errors import SourceError
from trimtab.engine.ports import Clock
from trimtab.engine.settings import Prometheus
from trimtab.engine.sources.prometheus.discovery import (
    DiscoveryResult,
    PrometheusApi,
    ScrapeTimings,
    discover,
    duration_s,
)
from trimtab.engine.sources.prometheus.history_reader import HistoryReader
from trimtab.engine.sources.prometheus.live_client import LiveClient, PrometheusCredentials
from trimtab.engine.sources.prometheus.query_plan import make_plan, parse_selector
from trimtab.engine.sources.prometheus.samples import SampleRuns
from trimtab.engine.sources.prometheus.series_replacement import is_replacement
from trimtab.engine.sources.prometheus.user_queries import UserQueries
from trimtab.engine.sources.prometheus.watched_series import WatchedReading, WatchedSeries
from trimtab.engine.sources.rates import NS
from trimtab.engine.types import History, Reading, SeriesInfo, SeriesKey

log = structlog.get_logger(__name__)

DEFAULT_INTERVAL_S = 15.0
REDISCOVERY_INTERVAL_S = 120.0
SERIES_PER_QUERY = 2000
_SETTLING_INTERVALS = 3
_DISCOVERY_TIMEOUT_S = 30.0
_MAX_CONCURRENT_QUERIES = 2
_QUERY_TIMEOUT_RATIO = 0.7
_SCRAPE_INTERVAL_PATTERN = re.compile(r"^global:\n(?:[ ].*\n)*?[ ]+scrape_interval: (\S+)", re.MULTILINE)

ApiConnector = Callable[[], AbstractContextManager[PrometheusApi]]


class PrometheusSource:
    """Source for a Prometheus or compatible server. Raises SettingsError for an invalid URL or selector.

    transport, connect_api : replacements of the HTTP transport and the API library, for tests
    """

    name = "prometheus"

    def __init__(
        self,
        settings: Prometheus,
        clock: Clock,
        max_series: int = 20_000,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        connect_api: ApiConnector | None = None,
    ) -> None:
        self.interval_s = settings.interval or DEFAULT_INTERVAL_S
        self.history_progress: float | None = None
        """0..1 while history is read, else None."""
        self._settings = settings
        self._clock = clock
        self._max_series = max_series
        self._credentials = PrometheusCredentials(settings)
        self._client = LiveClient(settings, self._credentials, transport)
        self._selector = parse_selector(settings.selector)
        self._connect_api = connect_api or self._open_library
        self._discovery = DiscoveryResult()
        self._watched = WatchedSeries(make_plan({}, {}, {}, 0), ScrapeTimings(), self.interval_s, max_series)
        self._user_queries = UserQueries(settings.queries, max_series)
        self._rediscovery_task: asyncio.Task[None] | None = None
        self._rediscovery_due_ns = 0
        self._is_failing = False
        self._settled_ns = 0
        self._server_time_ns = 0
        self._expected_keys: tuple[SeriesKey, ...] = ()
        self._keys: tuple[SeriesKey, ...] = ()

    def _open_library(self) -> AbstractContextManager[PrometheusApi]:
        from trimtab.engine.sources.prometheus.api_library import ApiLibrary

        timeout_s = max(_DISCOVERY_TIMEOUT_S, self._settings.timeout)
        return ApiLibrary(self._settings, self._credentials, timeout_s, self._client.route)

    async def open(self) -> None:
        """Discover metrics and read once. Raises SourceError when the answer is incomplete or empty."""
        self._client.load_tls()
        await self._client.route.resolve()
        found = await asyncio.to_thread(self._discover)
        if self._settings.interval is None:
            self.interval_s = found.scrapes.common_interval_s or await self._configured_interval_s()
        self._discovery = found
        self._replace_watched(self._build_watched(found))
        if not self._watched.plan.kinds and not self._settings.queries:
            raise SourceError(
                f"{self._client.server} has no series that match {self._settings.selector!r}; does it "
                "scrape, and is sources.prometheus.selector right?"
            )
        await self.read()

    def _discover(self) -> DiscoveryResult:
        with self._connect_api() as library:
            return discover(library, self._selector, self._clock.now(), self._discovery)

    def _build_watched(self, found: DiscoveryResult) -> WatchedSeries:
        """Return the series to watch now, with the state of those already watched. May take seconds."""
        before = self._watched
        plan = make_plan(
            found.series_counts, found.scrape_s, found.metadata, self._max_series,
            watched=before.plan.kinds, undecided=found.undecided,
        )  # fmt: skip
        if before.tick_s != self.interval_s:
            return WatchedSeries(plan, found.scrapes, self.interval_s, self._max_series)
        return before.successor(plan, found.scrapes, self._server_time_ns)

    def _replace_watched(self, watch: WatchedSeries) -> None:
        watch.reuse_keys(self._watched)
        self._watched = watch
        self._rediscovery_due_ns = self._clock.now() + int(REDISCOVERY_INTERVAL_S * NS)

    async def _configured_interval_s(self) -> float:
        """Return the scrape interval of the server's configuration, else the default, seconds."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                config = (await self._client.get("/api/v1/status/config")).data["yaml"]
        except (SourceError, TimeoutError, KeyError, TypeError) as error:
            log.info("scrape_interval_unknown", used_s=DEFAULT_INTERVAL_S, error=str(error))
            return DEFAULT_INTERVAL_S
        written = _SCRAPE_INTERVAL_PATTERN.search(config)
        return (duration_s(written[1]) if written else 0.0) or DEFAULT_INTERVAL_S

    async def read(self) -> Reading:
        """Return the newest samples. Raises SourceError when the answer is incomplete or late."""
        self._rediscover_when_due()
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._read()
        except TimeoutError as error:
            self._is_failing = True
            raise SourceError(
                f"{self._client.server} gave no complete answer within {self._settings.timeout:g} s "
                "(sources.prometheus.timeout); is it overloaded?"
            ) from error
        except SourceError:
            self._is_failing = True
            raise

    async def _read(self) -> Reading:
        watch = self._watched
        expressions = watch.expressions(self._selector, SERIES_PER_QUERY)
        answers = await self._fetch_samples(watch, expressions)
        server_time = min((at for _, at in answers), default=0)
        reading = watch.update([samples for samples, _ in answers], server_time)
        if expressions and not reading.fresh_count:
            raise SourceError(
                f"{self._client.server} has no fresh sample of {len(watch.plan.kinds)} metrics; "
                "is it scraping?"
            )
        self._server_time_ns = max(self._server_time_ns, server_time or self._clock.now())
        return self._make_reading(reading, complete=await self._is_complete(reading.keys))

    async def _fetch_samples(
        self, watch: WatchedSeries, expressions: Sequence[str]
    ) -> list[tuple[SampleRuns, int]]:
        """Return samples and server time of each expression; the user queries run at the same time.

        Each answer is parsed when it arrives, so that other tasks are not blocked for long.
        """
        gate = asyncio.Semaphore(_MAX_CONCURRENT_QUERIES)

        async def ask(expression: str) -> tuple[SampleRuns, int]:
            async with gate:
                answer = await self._client.query(expression)
                return watch.parse_samples(_matrix_rows(self._client.server, answer.data)), answer.server_time

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._fetch_user_queries())
                tasks = [group.create_task(ask(expression)) for expression in expressions]
        except* SourceError as errors:
            raise _first_error(errors) from None
        return [task.result() for task in tasks]

    async def _fetch_user_queries(self) -> None:
        """Run the user queries; a failed or slow query makes only its own series unknown."""
        results = self._user_queries

        async def ask(name: str) -> None:
            try:
                async with asyncio.timeout(self._settings.timeout * _QUERY_TIMEOUT_RATIO):
                    results.update(name, (await self._client.query(self._settings.queries[name].expr)).data)
            except SourceError as error:
                results.update(name, error)
            except TimeoutError:
                results.update(
                    name, SourceError(f"no answer within {_QUERY_TIMEOUT_RATIO:.0%} of the timeout")
                )

        await asyncio.gather(*(ask(name) for name in self._settings.queries))
        if results.errors.keys() == self._settings.queries.keys() != set() and not self._watched.plan.kinds:
            raise SourceError(next(iter(results.errors.values())))

    async def _is_complete(self, keys: tuple[SeriesKey, ...]) -> bool:
        """Return whether missing series are really gone.

        Not right after an outage or a start of the server, before it had the time to scrape all targets.
        """
        longest_s = max([self.interval_s, *self._discovery.scrapes.by_job.values()])
        settling = int(_SETTLING_INTERVALS * longest_s * NS)
        if self._is_failing:
            self._settled_ns = self._server_time_ns + settling
        self._is_failing = False
        if keys is self._expected_keys or not set(self._expected_keys) - set(keys):
            self._expected_keys = keys
            return True
        if self._server_time_ns >= self._settled_ns:
            self._settled_ns = await self._server_start_ns() + settling
        if self._server_time_ns < self._settled_ns:
            return False
        self._expected_keys = keys
        return True

    async def _server_start_ns(self) -> int:
        """Return the server's start time, int64 ns UTC; 0 when unknown."""
        try:
            started = (await self._client.get("/api/v1/status/runtimeinfo")).data["startTime"]
            return int(datetime.fromisoformat(started).timestamp() * NS)
        except (SourceError, KeyError, TypeError, ValueError) as error:
            log.debug("server_start_time_unknown", error=str(error))
            return 0

    def _make_reading(self, watched: WatchedReading, *, complete: bool) -> Reading:
        rows = self._user_queries.samples()
        keys = watched.keys + tuple(key for key, _, _ in rows) if rows else watched.keys
        if keys is not self._keys and keys != self._keys:
            self._keys = keys
        times = np.append(watched.times, np.array([at for _, at, _ in rows], np.int64))
        values = np.append(watched.values, [value for _, _, value in rows])
        return Reading(self._clock.now(), self._keys, times, values, complete)

    def _rediscover_when_due(self) -> None:
        running = self._rediscovery_task is not None and not self._rediscovery_task.done()
        if self._rediscovery_due_ns and not running and self._clock.now() >= self._rediscovery_due_ns:
            self._rediscovery_due_ns = self._clock.now() + int(REDISCOVERY_INTERVAL_S * NS)
            self._rediscovery_task = asyncio.create_task(self._rediscover())

    async def _rediscover(self) -> None:
        try:
            self._discovery = await asyncio.to_thread(self._discover)
            self._replace_watched(await asyncio.to_thread(self._build_watched, self._discovery))
        except SourceError as error:
            log.warning("rediscovery_failed", error=str(error))

    async def history(self, now_ns: int) -> AsyncIterator[History]:
        """Yield two weeks of coarse history, then hours of fine history; the cost is logged first.

        Raises SourceError only when reading cannot start; a failed chunk is skipped.
        """
        reader = HistoryReader(
            self._settings, self._selector, self._watched.plan, self._watched.layout.keys_by_name(),
            self._user_queries.keys_by_name(), self._max_series, self.interval_s, self._connect_api,
            self._set_progress,
        )  # fmt: skip
        async for chunk in reader.read(now_ns):
            yield chunk

    def _set_progress(self, share: float | None) -> None:
        self.history_progress = share

    def info(self, key: SeriesKey) -> SeriesInfo:
        """Return unit, kind and help of a series."""
        return self._user_queries.info(key) or self._watched.layout.infos.get(key) or SeriesInfo(key)

    def is_replacement(self, old: SeriesKey, new: SeriesKey) -> bool:
        """Return whether the series differ only in pod, instance, id and similar labels."""
        return is_replacement(old, new)

    def skipped_series(self) -> Sequence[str]:
        """Return the metrics and queries with series beyond the cap, and the number of these series."""
        whole = [f"{name} ({n} series)" for name, n in sorted(self._watched.plan.skipped.items())]
        part = [
            f"{name} ({n} of its series)"
            for name, n in sorted(self._watched.layout.refused_by_metric.items())
        ]
        asked = [
            f"query {name} ({n} of its series)" for name, n in self._user_queries.skipped_by_query().items()
        ]
        return whole + part + asked

    @property
    def skipped_series_count(self) -> int:
        """Number of series beyond the cap."""
        found = (
            self._watched.plan.skipped,
            self._watched.layout.refused_by_metric,
            self._user_queries.skipped,
        )
        return sum(sum(numbers.values()) for numbers in found)

    def detail(self) -> str:
        """Return one line about the server and its watched series."""
        waiting = len(self._discovery.undecided)
        return (
            f"{self._client.server}: {len(self._keys)} series of {len(self._watched.plan.kinds)} metrics"
            + (
                f", {waiting} metrics without a type wait until it is known whether they only grow"
                if waiting
                else ""
            )
            + (
                f", {self.skipped_series_count} series over the cap skipped"
                if self.skipped_series_count
                else ""
            )
            + "".join(f"; query {name} fails: {why}" for name, why in self._user_queries.errors.items())
        )

    async def close(self) -> None:
        """Stop rediscovery and close all connections."""
        if self._rediscovery_task is not None:
            self._rediscovery_task.cancel()
            await asyncio.gather(self._rediscovery_task, return_exceptions=True)
        await self._client.close()


def _matrix_rows(server: str, data: object) -> list[Mapping[str, Any]]:
    """Return the rows of a matrix. Raises SourceError for any other result."""
    if (
        not isinstance(data, dict)
        or data.get("resultType") != "matrix"
        or not isinstance(data.get("result"), list)
    ):
        raise SourceError(f"{server}: the answer is not a matrix; is there a Prometheus at this address?")
    rows: list[Mapping[str, Any]] = data["result"]
    return rows


def _first_error(errors: BaseExceptionGroup[SourceError]) -> SourceError:
    """Return the first single error of a group."""
    inner = errors.exceptions[0]
    return _first_error(inner) if isinstance(inner, BaseExceptionGroup) else inner
