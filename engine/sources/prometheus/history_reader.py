"""History reader: two weeks of coarse values for seasons, then hours at the native step for noise.

Coarse values come from range queries; the rate of a counter is its increase over the step. Fine values come
from raw samples and use the same kernels as live ones, so they are comparable.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import structlog

from trimtab.engine.errors import SourceError
from trimtab.engine.settings import Prometheus
from trimtab.engine.sources.prometheus.discovery import PrometheusApi
from trimtab.engine.sources.prometheus.query_plan import OWN_SERIES, QueryPlan, name_matcher
from trimtab.engine.sources.prometheus.samples import SampleRuns, parse_matrix
from trimtab.engine.sources.prometheus.series_layout import SeriesLayout
from trimtab.engine.sources.prometheus.user_queries import query_series_key, select_series
from trimtab.engine.sources.rates import NS, rates_of_rows, resample_to_grid
from trimtab.engine.types import Floats, History, Ints, SeriesKey

log = structlog.get_logger(__name__)

POINTS_PER_QUERY = 200_000
"""Limits an answer to about 6 MB and its Python objects to 40 MB."""
_STEPS_PER_QUERY = 10_000
_GAP_SCRAPES = 2.5
_MAX_CONSECUTIVE_FAILURES = 5
_EARLY_DIVISOR = 4
"""A sample up to a quarter of the step early counts for the tick, like in live ticks."""


@dataclass(frozen=True, slots=True)
class TickGrid:
    """Ticks start, start + step_s ... before end; int64 ns UTC, multiples of the step."""

    start: int
    end: int
    step_s: float

    @classmethod
    def ending_at(cls, now: int, window_s: float, step_s: float) -> "TickGrid":
        """Return the whole steps of the last window_s seconds before now."""
        step = round(step_s * NS)
        end = now // step * step
        return cls(end - max(int(window_s / step_s), 1) * step, end, step_s)

    @property
    def times(self) -> Ints:
        """Times of the ticks, (n_ticks,)."""
        return np.arange(self.start, self.end, round(self.step_s * NS), dtype=np.int64)

    def __len__(self) -> int:
        return (self.end - self.start) // round(self.step_s * NS)

    def split(self, n: int) -> list["TickGrid"]:
        """Split the grid into n parts of about equal length, oldest first."""
        step = round(self.step_s * NS)
        edges = np.unique(np.linspace(0, len(self), min(n, len(self)) + 1).astype(np.int64)).tolist()
        return [
            TickGrid(self.start + a * step, self.start + b * step, self.step_s) for a, b in pairwise(edges)
        ]


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """One query for recorded values.

    names  : metrics, or empty for a user `query`
    points : expected number of samples
    """

    grid: TickGrid
    coarse: bool
    names: tuple[str, ...] = ()
    query: str = ""
    scrape_s: float = 0.0
    series: int = 0
    points: int = 0


def plan_history_queries(
    plan: QueryPlan, queries: Mapping[str, int], grid: TickGrid, *, coarse: bool, limit: int
) -> list[HistoryQuery]:
    """Return queries that read every watched metric on the grid, each with at most about `limit` points.

    queries : user query -> number of its series
    """
    wanted = []
    steps = len(grid)
    for batch in plan.batches(max(limit // max(steps, 1), 1)):
        each = steps if coarse else round(len(grid) * grid.step_s / batch.scrape_s)
        wanted.append(
            HistoryQuery(grid, coarse, batch.names, "", batch.scrape_s, batch.series, batch.series * each)
        )
    wanted += [HistoryQuery(grid, coarse, (), name, grid.step_s, n, n * steps) for name, n in queries.items()]
    jobs = []
    for job in wanted:
        by_range = coarse or job.query != ""
        n = max(-(-job.points // limit), -(-steps // _STEPS_PER_QUERY) if by_range else 1, 1)
        parts = job.grid.split(n)
        jobs += [
            HistoryQuery(
                part, coarse, job.names, job.query, job.scrape_s, job.series, job.points // len(parts)
            )
            for part in parts
        ]
    return jobs


class HistoryReader:
    """Reads the history of the watched series; see `PrometheusSource.history`.

    keys        : metric -> watched series
    queries     : user query -> watched series
    max_series  : most series of all user queries, including recorded ones that are not watched now
    step_s      : step of the fine history, seconds
    on_progress : called with the progress, 0..1, and with None at the end
    """

    def __init__(
        self,
        settings: Prometheus,
        selector: str,
        plan: QueryPlan,
        keys: Mapping[str, list[SeriesKey]],
        queries: Mapping[str, list[SeriesKey]],
        max_series: int,
        step_s: float,
        connect_api: Callable[[], AbstractContextManager[PrometheusApi]],
        on_progress: Callable[[float | None], None],
    ) -> None:
        self.failed_count = 0
        self._settings = settings
        self._selector = selector
        self._plan = plan
        self._keys = keys
        self._queries = {name: dict.fromkeys(watched) for name, watched in queries.items()}
        self._max_series = max_series
        self._step_s = step_s
        self._connect_api = connect_api
        self._on_progress = on_progress

    def plan_queries(self, now: int) -> list[HistoryQuery]:
        """Return all queries, coarse ones first."""
        s = self._settings
        queries = {name: max(len(watched), 1) for name, watched in self._queries.items()}
        seasons = TickGrid.ending_at(now, s.season_window, s.season_step)
        noise = TickGrid.ending_at(now, s.noise_window, self._step_s)
        return [
            *plan_history_queries(self._plan, queries, seasons, coarse=True, limit=POINTS_PER_QUERY),
            *plan_history_queries(self._plan, queries, noise, coarse=False, limit=POINTS_PER_QUERY),
        ]

    async def read(self, now: int) -> AsyncIterator[History]:
        """Yield chunks of history. A failed chunk is logged and skipped; five failures in a row end it."""
        jobs = self.plan_queries(now)
        log.info(
            "history_read_started",
            series=sum(map(len, (*self._keys.values(), *self._queries.values()))),
            points=sum(job.points for job in jobs),
            queries=len(jobs),
        )
        in_a_row = 0
        library = await asyncio.to_thread(self._connect_api)
        with library as recorded:
            waiting = asyncio.create_task(asyncio.to_thread(self.fetch, recorded, jobs[0]))
            try:
                for i in range(len(jobs)):
                    chunk = await self._chunk_or_none(waiting, jobs[i])
                    in_a_row = 0 if chunk is not None else in_a_row + 1
                    if in_a_row == _MAX_CONSECUTIVE_FAILURES:
                        log.warning("history_read_aborted", queries_left=len(jobs) - i - 1)
                        return
                    if i + 1 < len(jobs):
                        waiting = asyncio.create_task(asyncio.to_thread(self.fetch, recorded, jobs[i + 1]))
                    self._on_progress((i + 1) / len(jobs))
                    if chunk is not None and chunk.keys:
                        yield chunk
            finally:
                waiting.cancel()
                self._on_progress(None)

    async def _chunk_or_none(self, waiting: "asyncio.Task[History]", job: HistoryQuery) -> History | None:
        try:
            return await waiting
        except SourceError as error:
            self.failed_count += 1
            what = job.query or ", ".join(job.names[:3])
            log.warning("history_chunk_skipped", metrics=what, error=str(error), skipped=self.failed_count)
            return None

    def fetch(self, library: PrometheusApi, job: HistoryQuery) -> History:
        """Return one chunk. Blocks; raises SourceError. A watched series without data is a NaN column."""
        if job.query:
            keys, values = self._fetch_user_query(library, job)
            wanted = self._select_query_series(job.query, keys)
        else:
            keys, values = self._fetch_coarse(library, job) if job.coarse else self._fetch_fine(library, job)
            wanted = tuple(key for name in job.names for key in self._keys.get(name, ()))
        column = {key: i for i, key in enumerate(keys)}
        picked = np.array([column.get(key, -1) for key in wanted], np.int64)
        out = np.full((len(job.grid), len(wanted)), np.nan)
        out[:, picked >= 0] = values[:, picked[picked >= 0]]
        return History(job.grid.step_s, wanted, job.grid.times, out, job.coarse)

    def _select_query_series(self, query: str, recorded: list[SeriesKey]) -> tuple[SeriesKey, ...]:
        """Return the series of a query's history: watched ones, then others up to `max_series`."""
        taken = self._queries[query]
        room = self._max_series - sum(map(len, self._queries.values()))
        new = [key for key in recorded if key not in taken]
        taken.update(dict.fromkeys(select_series(new, (), max(room, 0))))
        if len(new) > room:
            log.warning("query_history_over_cap", query=query, series_left_out=len(new) - room)
        return tuple(taken)

    def _selection(self, job: HistoryQuery) -> str:
        own = ',for=""' if any(name in OWN_SERIES for name in job.names) else ""
        return f"{{{self._selector},{name_matcher(job.names)}{own}}}"

    def _new_layout(self) -> SeriesLayout:
        return SeriesLayout(self._plan.kinds, self._plan.metadata, max_series=2**31)

    def _fetch_coarse(self, library: PrometheusApi, job: HistoryQuery) -> tuple[list[SeriesKey], Floats]:
        step = round(job.grid.step_s * NS)
        rows = library.query_range(
            self._selection(job), job.grid.start - step, job.grid.end - step, job.grid.step_s
        )
        layout = self._new_layout()
        samples = parse_matrix(rows, layout.find_or_add_slot)
        level = _to_table(samples, job.grid.start - step, job.grid.step_s, (len(job.grid) + 1, layout.n_raw))
        rate = rates_of_rows(level, job.grid.step_s)
        return layout.keys, layout.watched_values(level[1:], rate[1:])

    def _fetch_fine(self, library: PrometheusApi, job: HistoryQuery) -> tuple[list[SeriesKey], Floats]:
        window_s = len(job.grid) * job.grid.step_s + job.grid.step_s + _GAP_SCRAPES * job.scrape_s
        rows = library.query_at(f"{self._selection(job)}[{round(window_s * 1000)}ms]", job.grid.end)
        layout = self._new_layout()
        samples = parse_matrix(rows, layout.find_or_add_slot)
        level, rate = resample_to_grid(
            samples.values, samples.times, samples.slot_of_sample, (len(job.grid), layout.n_raw),
            start=job.grid.start - round(job.grid.step_s * NS) // _EARLY_DIVISOR,
            step_s=job.grid.step_s, max_gap_s=_GAP_SCRAPES * job.scrape_s,
        )  # fmt: skip
        return layout.keys, layout.watched_values(level, rate)

    def _fetch_user_query(self, library: PrometheusApi, job: HistoryQuery) -> tuple[list[SeriesKey], Floats]:
        query = self._settings.queries[job.query]
        step = round(job.grid.step_s * NS)
        rows = library.query_range(query.expr, job.grid.start, job.grid.end - step, job.grid.step_s)
        keys: dict[SeriesKey, int] = {}
        samples = parse_matrix(
            rows, lambda metric: keys.setdefault(query_series_key(job.query, metric), len(keys))
        )
        values = _to_table(samples, job.grid.start, job.grid.step_s, (len(job.grid), len(keys)))
        low, high = query.data_range or (-np.inf, np.inf)
        return list(keys), np.where((values >= low) & (values <= high) & np.isfinite(values), values, np.nan)


def _to_table(samples: SampleRuns, start: int, step_s: float, shape: tuple[int, int]) -> Floats:
    """Return samples that already lie on the grid as a table, (n_ticks, n_series)."""
    row = np.rint((samples.times - start) / (step_s * NS)).astype(np.int64)
    inside = (row >= 0) & (row < shape[0])
    out = np.full(shape, np.nan)
    out[row[inside], samples.slot_of_sample[inside]] = samples.values[inside]
    return out
