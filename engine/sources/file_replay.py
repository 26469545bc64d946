"""File replay source: recorded CSV and Parquet files replayed tick by tick as if they were live."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog

from trimtab.engine.errors import InputError, SourceError
from trimtab.engine.ports import Clock
from trimtab.engine.settings import Files
from trimtab.engine.sources.no_history import NoHistory
from trimtab.engine.types import Floats, Ints, Reading, SeriesInfo, SeriesKey

if TYPE_CHECKING:
    from trimtab.pipelines.io.recording import Block

log = structlog.get_logger(__name__)

_NS = 1_000_000_000
_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def tick_numbers(times: Ints, interval_ns: int) -> Ints:
    """Return the tick number of each row, (n,): at most one row per tick, extra rows move to later ticks.

    >>> tick_numbers(np.array([0, 61, 119, 180]) * 10**9, 60 * 10**9).tolist()
    [0, 1, 2, 3]
    """
    row = np.arange(len(times))
    return np.maximum.accumulate(times // interval_ns - row) + row


def common_interval_ns(times: Sequence[Ints], default_ns: int) -> int:
    """Return the smallest of the series' median spacings; non-increasing times are ignored."""
    steps = [np.diff(series_times) for series_times in times]
    medians = [int(np.median(step[step > 0])) for step in steps if (step > 0).any()]
    return min(medians, default=default_ns)


@dataclass(frozen=True, slots=True)
class ReplayTable:
    """Samples of all series, sorted by tick.

    tick_starts : (n_ticks + 1,) index of each tick's first sample
    """

    interval_ns: int
    keys: tuple[SeriesKey, ...]
    tick_numbers: Ints
    tick_starts: Ints
    slots: Ints
    values: Floats

    def reading(self, k: int) -> Reading:
        """Return the reading of row k; NaN for a series without a sample in that tick."""
        part = slice(self.tick_starts[k], self.tick_starts[k + 1])
        values = np.full(len(self.keys), np.nan)
        values[self.slots[part]] = self.values[part]
        time = int(self.tick_numbers[k]) * self.interval_ns
        return Reading(time, self.keys, np.full(len(self.keys), time, np.int64), values)


class FilesSource(NoHistory):
    """Source of recorded series: one Reading per tick with the recorded time, then None.

    settings    : paths; speed (recorded seconds per second, 0 = as fast as possible); interval of row numbers
    start_after : int64 ns UTC; ticks up to this time were scored before a restart and are skipped
    max_series  : series beyond this number are skipped

    `interval_s` is known after `open()`: the smallest median spacing of the series. A row that would share
    its tick with the row before it (a repeated time, a step back) moves to the next tick, so none is lost.
    """

    name = "files"

    def __init__(
        self, settings: Files, clock: Clock, start_after: int | None = None, max_series: int = 20_000
    ) -> None:
        self.interval_s = settings.interval or 60.0
        self.start_after = start_after
        self._settings = settings
        self._clock = clock
        self._max_series = max_series
        self._replay: ReplayTable | None = None
        self._next_tick = 0
        self._replay_start: tuple[int, int] | None = None
        self._skipped_series: tuple[str, ...] = ()

    async def open(self) -> None:
        """Read the files. Raises SourceError that names the file, line and column of an error."""
        try:
            replay = await asyncio.to_thread(self._load)
        except InputError as error:
            raise SourceError(f"files: {error}") from error
        self._replay = replay
        self.interval_s = replay.interval_ns / _NS
        self._next_tick, self._replay_start = 0, None
        if self.start_after is not None:
            self._next_tick = int(
                np.searchsorted(replay.tick_numbers * replay.interval_ns, self.start_after, "right")
            )

    async def read(self) -> Reading | None:
        """Return the next tick when it is due; None at the end."""
        replay = self._require_open()
        if self._next_tick >= len(replay.tick_numbers):
            return None
        reading = replay.reading(self._next_tick)
        self._next_tick += 1
        await self._wait_until_due(reading.time)
        return reading

    async def _wait_until_due(self, time: int) -> None:
        if self._settings.speed == 0:
            await asyncio.sleep(0)
            return
        if self._replay_start is None:
            self._replay_start = (self._clock.now(), time)
        now, first = self._replay_start
        await self._clock.sleep_until(now + round((time - first) / self._settings.speed))

    def _require_open(self) -> ReplayTable:
        if self._replay is None:
            raise SourceError("files: not open; await open() first")
        return self._replay

    def info(self, key: SeriesKey) -> SeriesInfo:
        """Return no unit: recordings have none."""
        return SeriesInfo(key)

    def skipped_series(self) -> Sequence[str]:
        """Return the series beyond `max_series`."""
        return self._skipped_series

    def detail(self) -> str:
        """Return the files and the replay's progress."""
        names = ", ".join(path.name for path in self._settings.paths[:3])
        more = len(self._settings.paths) - 3
        total = 0 if self._replay is None else len(self._replay.tick_numbers)
        return (
            f"{names}{f' and {more} more' if more > 0 else ''}: {self._next_tick} of {total} ticks replayed"
        )

    async def close(self) -> None:
        """Drop the loaded rows."""
        self._replay = None

    def _load(self) -> ReplayTable:
        from trimtab.pipelines.io.recording import read_frame
        from trimtab.pipelines.io.tables import read_table

        pairs: list[tuple[SeriesKey, Block, int]] = []
        for path, label in _file_labels(self._settings.paths):
            sheet = read_table(path)
            recording = read_frame(
                sheet.table.to_pandas(), self._settings.interval or 60.0, sheet.name, sheet.locate_row
            )
            if recording.warning:
                log.warning("recording_out_of_order", detail=recording.warning)
            pairs += [
                (_series_key(name, block.entity, label), block, k)
                for block in recording.blocks
                for k, name in enumerate(block.names)
            ]
        if not pairs:
            raise InputError("there is no series to replay; list recordings in sources.files.paths")
        self._skipped_series = tuple(str(key) for key, _, _ in pairs[self._max_series :])
        return _build_replay(pairs[: self._max_series], round(self.interval_s * _NS))


def _file_labels(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """Return each file with a unique label: its name, or its full path when names collide."""
    count = Counter(path.name for path in paths)
    return [(path, path.name if count[path.name] == 1 else str(path)) for path in paths]


def _series_key(name: str, entity: str, file: str) -> SeriesKey:
    labels = {"file": file} | ({"entity": entity} if entity else {})
    if _METRIC.fullmatch(name):
        return SeriesKey.of("files", name, labels)
    return SeriesKey.of("files", "value", labels | {"series": name})


def _build_replay(pairs: "Sequence[tuple[SeriesKey, Block, int]]", default_ns: int) -> ReplayTable:
    interval_ns = common_interval_ns([block.times for _, block, _ in pairs], default_ns)
    ticks = np.concatenate([tick_numbers(block.times, interval_ns) for _, block, _ in pairs])
    slots = np.repeat(np.arange(len(pairs)), [len(block.times) for _, block, _ in pairs])
    values = np.concatenate([block.values[:, k] for _, block, k in pairs])
    order = np.argsort(ticks, kind="stable")
    distinct, tick_starts = np.unique(ticks[order], return_index=True)
    return ReplayTable(
        interval_ns,
        tuple(key for key, _, _ in pairs),
        distinct,
        np.append(tick_starts, len(order)),
        slots[order],
        values[order],
    )
