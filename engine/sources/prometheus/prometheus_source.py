"""Metrics of a Prometheus: found by themselves, warmed from its history, read at every interval.

Live reads ask for raw samples (an instant query with a range selector), so that times are those of the
scrapes and rates come from real samples. What is not a whole answer raises SourceError: unknown, never 0.
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
from trimtab.engine.sources.prometheus.discovery import Found, Recorded, Scrapes, discover, duration_s
from trimtab.engine.sources.prometheus.history_reader import HistoryReader
from trimtab.engine.sources.prometheus.live_client import Credentials, LiveClient
from trimtab.engine.sources.prometheus.query_plan import make_plan, parse_selector
from trimtab.engine.sources.prometheus.samples import Samples
from trimtab.engine.sources.prometheus.series_replacement import takes_place
from trimtab.engine.sources.prometheus.user_queries import QueryResults
from trimtab.engine.sources.prometheus.watched_series import Seen, Watch
from trimtab.engine.sources.rates import NS
from trimtab.engine.types import History, Reading, SeriesInfo, SeriesKey

log = structlog.get_logger(__name__)

DEFAULT_INTERVAL_S = 15.0
REDISCOVER_S = 120.0
SERIES_PER_QUERY = 2000
_SETTLING_INTERVALS = 3
_DISCOVERY_TIMEOUT_S = 30.0
_AT_ONCE = 2
_QUERY_SHARE = 0.7
_SCRAPE_INTERVAL = re.compile(r"^global:\n(?:[ ].*\n)*?[ ]+scrape_interval: (\S+)", re.MULTILINE)

OpenLibrary = Callable[[], AbstractContextManager[Recorded]]


class PrometheusSource:
    """A Prometheus, or what speaks its API. Raises SettingsError where its address or selector is wrong.

    transport, library : other ways to the server, for tests
    """

    name = "prometheus"

    def __init__(
        self,
        settings: Prometheus,
        clock: Clock,
        max_series: int = 20_000,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        library: OpenLibrary | None = None,
    ) -> None:
        self.interval_s = settings.interval or DEFAULT_INTERVAL_S
        self.history_progress: float | None = None
        """0..1 while history is read."""
        self._settings = settings
        self._clock = clock
        self._max_series = max_series
        self._credentials = Credentials(settings)
        self._client = LiveClient(settings, self._credentials, transport)
        self._selector = parse_selector(settings.selector)
        self._library = library or self._open_library
        self._found = Found()
        self._watch = Watch(make_plan({}, {}, {}, 0), Scrapes(), self.interval_s, max_series)
        self._queries = QueryResults(settings.queries, max_series)
        self._rediscovery: asyncio.Task[None] | None = None
        self._rediscover_at = 0
        self._failing = False
        self._settled_at = 0
        self._server_now = 0
        self._expected: tuple[SeriesKey, ...] = ()
        self._keys: tuple[SeriesKey, ...] = ()

    def _open_library(self) -> AbstractContextManager[Recorded]:
        from trimtab.engine.sources.prometheus.api_library import Library

        timeout_s = max(_DISCOVERY_TIMEOUT_S, self._settings.timeout)
        return Library(self._settings, self._credentials, timeout_s, self._client.route)

    async def open(self) -> None:
        """Find what there is. Raises SourceError where the server does not answer whole, or has nothing."""
        self._client.prepare()
        await self._client.route.found()
        found = await asyncio.to_thread(self._discover)
        if self._settings.interval is None:
            self.interval_s = found.scrapes.common_s or await self._configured_interval_s()
        self._found = found
        self._take_over(self._watch_of(found))
        if not self._watch.plan.kinds and not self._settings.queries:
            raise SourceError(
                f"{self._client.server} has no series that match {self._settings.selector!r}; does it "
                "scrape, and is sources.prometheus.selector right?"
            )
        await self.read()

    def _discover(self) -> Found:
        with self._library() as library:
            return discover(library, self._selector, self._clock.now(), self._found)

    def _watch_of(self, found: Found) -> Watch:
        """What is to be watched now, going on with what is watched already. Takes a while."""
        before = self._watch
        plan = make_plan(
            found.counts, found.scrape_s, found.metadata, self._max_series,
            watched=before.plan.kinds, undecided=found.undecided,
        )  # fmt: skip
        if before.tick_s != self.interval_s:
            return Watch(plan, found.scrapes, self.interval_s, self._max_series)
        return before.successor(plan, found.scrapes, self._server_now)

    def _take_over(self, watch: Watch) -> None:
        watch.go_on_from(self._watch)
        self._watch = watch
        self._rediscover_at = self._clock.now() + int(REDISCOVER_S * NS)

    async def _configured_interval_s(self) -> float:
        """From the configuration, where the server shows it."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                config = (await self._client.get("/api/v1/status/config")).data["yaml"]
        except (SourceError, TimeoutError, KeyError, TypeError) as error:
            log.info("prometheus tells no scrape interval", taken_s=DEFAULT_INTERVAL_S, why=str(error))
            return DEFAULT_INTERVAL_S
        written = _SCRAPE_INTERVAL.search(config)
        return (duration_s(written[1]) if written else 0.0) or DEFAULT_INTERVAL_S

    async def read(self) -> Reading:
        """The newest samples. Raises SourceError where the answer is not whole or not in time."""
        self._rediscover_when_due()
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._read()
        except TimeoutError as error:
            self._failing = True
            raise SourceError(
                f"{self._client.server} did not answer whole within {self._settings.timeout:g} s "
                "(sources.prometheus.timeout); is it overloaded?"
            ) from error
        except SourceError:
            self._failing = True
            raise

    async def _read(self) -> Reading:
        watch = self._watch
        expressions = watch.queries(self._selector, SERIES_PER_QUERY)
        answers = await self._ask_all(watch, expressions)
        server_time = min((at for _, at in answers), default=0)
        seen = watch.take([samples for samples, _ in answers], server_time)
        if expressions and not seen.fresh:
            raise SourceError(
                f"{self._client.server} answers without a fresh sample of {len(watch.plan.kinds)} metrics; "
                "is it scraping?"
            )
        self._server_now = max(self._server_now, server_time or self._clock.now())
        return self._reading(seen, complete=await self._is_complete(seen.keys))

    async def _ask_all(self, watch: Watch, expressions: Sequence[str]) -> list[tuple[Samples, int]]:
        """Samples and server time of each, and the user's queries beside them.

        Each answer is taken apart when it comes, so that no other work waits long.
        """
        gate = asyncio.Semaphore(_AT_ONCE)

        async def ask(expression: str) -> tuple[Samples, int]:
            async with gate:
                answer = await self._client.query(expression)
                return watch.samples(_matrix(self._client.server, answer.data)), answer.server_time

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask_queries())
                tasks = [group.create_task(ask(expression)) for expression in expressions]
        except* SourceError as errors:
            raise _first(errors) from None
        return [task.result() for task in tasks]

    async def _ask_queries(self) -> None:
        """The user's own; one that fails or is slow leaves its own series unknown, not the others'."""
        results = self._queries

        async def ask(name: str) -> None:
            try:
                async with asyncio.timeout(self._settings.timeout * _QUERY_SHARE):
                    results.take(name, (await self._client.query(self._settings.queries[name].expr)).data)
            except SourceError as error:
                results.take(name, error)
            except TimeoutError:
                results.take(name, SourceError(f"no answer within {_QUERY_SHARE:.0%} of the timeout"))

        await asyncio.gather(*(ask(name) for name in self._settings.queries))
        if results.failing.keys() == self._settings.queries.keys() != set() and not self._watch.plan.kinds:
            raise SourceError(next(iter(results.failing.values())))

    async def _is_complete(self, keys: tuple[SeriesKey, ...]) -> bool:
        """Whether a series that is missing is really gone.

        Not while a Prometheus that was away, or has just started, has not had the time to scrape all.
        """
        longest_s = max([self.interval_s, *self._found.scrapes.of_job.values()])
        settling = int(_SETTLING_INTERVALS * longest_s * NS)
        if self._failing:
            self._settled_at = self._server_now + settling
        self._failing = False
        if keys is self._expected or not set(self._expected) - set(keys):
            self._expected = keys
            return True
        if self._server_now >= self._settled_at:
            self._settled_at = await self._started_at() + settling
        if self._server_now < self._settled_at:
            return False
        self._expected = keys
        return True

    async def _started_at(self) -> int:
        """When the server started, int64 ns; 0 where it does not tell."""
        try:
            told = (await self._client.get("/api/v1/status/runtimeinfo")).data["startTime"]
            return int(datetime.fromisoformat(told).timestamp() * NS)
        except (SourceError, KeyError, TypeError, ValueError) as error:
            log.debug("prometheus tells no start time", why=str(error))
            return 0

    def _reading(self, seen: Seen, *, complete: bool) -> Reading:
        rows = self._queries.rows()
        keys = seen.keys + tuple(key for key, _, _ in rows) if rows else seen.keys
        if keys is not self._keys and keys != self._keys:
            self._keys = keys
        times = np.append(seen.times, np.array([at for _, at, _ in rows], np.int64))
        values = np.append(seen.values, [value for _, _, value in rows])
        return Reading(self._clock.now(), self._keys, times, values, complete)

    def _rediscover_when_due(self) -> None:
        running = self._rediscovery is not None and not self._rediscovery.done()
        if self._rediscover_at and not running and self._clock.now() >= self._rediscover_at:
            self._rediscover_at = self._clock.now() + int(REDISCOVER_S * NS)
            self._rediscovery = asyncio.create_task(self._rediscover())

    async def _rediscover(self) -> None:
        try:
            self._found = await asyncio.to_thread(self._discover)
            self._take_over(await asyncio.to_thread(self._watch_of, self._found))
        except SourceError as error:
            log.warning("prometheus could not be looked at for new metrics", why=str(error))

    async def history(self, now_ns: int) -> AsyncIterator[History]:
        """Two weeks coarsely, then hours finely, in chunks; what it costs is logged first.

        Raises SourceError only where history cannot be begun; a chunk that fails is skipped.
        """
        reader = HistoryReader(
            self._settings, self._selector, self._watch.plan, self._watch.layout.keys_by_name(),
            self._queries.keys_by_name(), self._max_series, self.interval_s, self._library, self._progress,
        )  # fmt: skip
        async for chunk in reader.read(now_ns):
            yield chunk

    def _progress(self, share: float | None) -> None:
        self.history_progress = share

    def info(self, key: SeriesKey) -> SeriesInfo:
        """Unit, kind and help of one of its series."""
        return self._queries.info(key) or self._watch.layout.infos.get(key) or SeriesInfo(key)

    def replaced(self, gone: SeriesKey, came: SeriesKey) -> bool:
        """Same metric and labels but for pod, instance, id and the like."""
        return takes_place(gone, came)

    def left_out(self) -> Sequence[str]:
        """Metrics and queries of which all or some series are over the cap, with their number."""
        whole = [f"{name} ({n} series)" for name, n in sorted(self._watch.plan.left_out.items())]
        part = [f"{name} ({n} of its series)" for name, n in sorted(self._watch.layout.refused.items())]
        asked = [f"query {name} ({n} of its series)" for name, n in self._queries.over_cap().items()]
        return whole + part + asked

    @property
    def left_out_series(self) -> int:
        """How many series are over the cap."""
        found = (self._watch.plan.left_out, self._watch.layout.refused, self._queries.left_out)
        return sum(sum(numbers.values()) for numbers in found)

    def detail(self) -> str:
        """One line about the server and what is watched of it."""
        waiting = len(self._found.undecided)
        return (
            f"{self._client.server}: {len(self._keys)} series of {len(self._watch.plan.kinds)} metrics"
            + (
                f", {waiting} metrics without a type wait until it is seen whether they only grow"
                if waiting
                else ""
            )
            + (f", {self.left_out_series} series over the cap left out" if self.left_out_series else "")
            + "".join(f"; query {name} fails: {why}" for name, why in self._queries.failing.items())
        )

    async def close(self) -> None:
        """Let go of connections."""
        if self._rediscovery is not None:
            self._rediscovery.cancel()
            await asyncio.gather(self._rediscovery, return_exceptions=True)
        await self._client.close()


def _matrix(server: str, data: object) -> list[Mapping[str, Any]]:
    """The rows of a matrix. Raises SourceError where the answer is something else."""
    if (
        not isinstance(data, dict)
        or data.get("resultType") != "matrix"
        or not isinstance(data.get("result"), list)
    ):
        raise SourceError(f"{server}: the answer is no matrix; is there a Prometheus at this address?")
    rows: list[Mapping[str, Any]] = data["result"]
    return rows


def _first(errors: BaseExceptionGroup[SourceError]) -> SourceError:
    """The first single error of a group."""
    inner = errors.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
