"""Scores and expected bands back to Prometheus, by remote_write 1.0."""

import asyncio
import contextlib
import random
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx
import numpy as np
import structlog

from trimtab.engine.errors import SettingsError
from trimtab.engine.net.addresses import Target
from trimtab.engine.net.outbound_http import Receiver, retry_after_s
from trimtab.engine.ports import Clock
from trimtab.engine.settings import Writer
from trimtab.engine.sinks.remote_write_encoding import (
    compress,
    label_bytes,
    labels_of,
    series_bytes,
    time_field,
)
from trimtab.engine.types import Floats, SeriesKey, TickScores

log = structlog.get_logger(__name__)

BATCH_SAMPLES = 5_000
QUEUE_SAMPLES = 1_000_000
"""About 10 MB; what comes on top pushes the oldest tick out."""
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
GIVE_UP_S = 300.0
CLOSE_S = 5.0
HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "User-Agent": "trimtab",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
_COLUMNS = {"y": "values"}


class WriterMetrics(Protocol):
    """Where the sink counts."""

    def sent(self, sink: str, n: int) -> None:
        """A receiver took n samples."""
        ...

    def dropped(self, sink: str, reason: str, n: int) -> None:
        """N samples were given up."""
        ...


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What became of a batch: reason "" = taken; `retry` = worth another try, not before after_s seconds."""

    reason: str = ""
    detail: str = ""
    retry: bool = False
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    source: str
    time: int
    keys: tuple[SeriesKey, ...]
    columns: tuple[tuple[str, Floats], ...]
    samples: int


class RemoteWriteSink:
    """Buffers ticks and sends them in batches, in order, from a task of its own.

    A receiver that answers 5xx or 429, or not at all, is asked again with full jitter for `GIVE_UP_S`
    seconds; what it refuses with another 4xx or a redirect is dropped and counted.
    """

    name = "remote_write"

    def __init__(
        self,
        settings: Writer,
        metrics: WriterMetrics,
        clock: Clock,
        jitter: random.Random | None = None,
        queue_samples: int = QUEUE_SAMPLES,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._receiver = Receiver(Target.of("writer.remote_write_url", settings.remote_write_url), settings)
        self._queue: deque[_Waiting] = deque()
        self._queue_samples = queue_samples
        self._queued = 0
        self._labels: dict[str, dict[SeriesKey, tuple[bytes, ...]]] = {}
        self._something = asyncio.Event()
        self._idle = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._complained = ""

    async def send(self, keys: Sequence[SeriesKey], scores: TickScores) -> None:
        """Take one tick into the buffer; the oldest ones make room and are counted as dropped."""
        columns = tuple(
            (name, np.array(getattr(scores, _COLUMNS.get(name, name))[: len(keys)], np.float64))
            for name in self._settings.provide_series
        )
        samples = sum(int(np.count_nonzero(~np.isnan(values))) for _, values in columns)
        if samples == 0:
            return
        self._queue.append(_Waiting(scores.source, scores.time, tuple(keys), columns, samples))
        self._queued += samples
        while self._queued > self._queue_samples and len(self._queue) > 1:
            self._drop("queue full", self._take().samples)
        self._something.set()
        self._idle.clear()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="remote_write sink")

    async def close(self) -> None:
        """Send what is buffered, for at most CLOSE_S seconds, and let go."""
        if self._worker is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._idle.wait()
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
            self._worker = None
        while self._queue:
            self._drop("closed", self._take().samples)
        await self._receiver.close()

    def _take(self) -> _Waiting:
        oldest = self._queue.popleft()
        self._queued -= oldest.samples
        return oldest

    def _drop(self, reason: str, samples: int, detail: str = "") -> None:
        self._metrics.dropped(self.name, reason, samples)
        self._complain(reason, detail)

    def _complain(self, reason: str, detail: str) -> None:
        """One line each time that the trouble changes, not one a batch."""
        if reason == self._complained:
            return
        self._complained = reason
        where = f"{self._receiver.target.host}:{self._receiver.target.port}"
        if reason:
            log.warning("remote_write has trouble", receiver=where, reason=reason, detail=detail)
        else:
            log.info("remote_write works again", receiver=where)

    async def _work(self) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                self._something.clear()
                await self._something.wait()
            await self._deliver_tick(self._take())

    async def _deliver_tick(self, tick: _Waiting) -> None:
        left = tick.samples
        batches = self._batches(tick)
        try:
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                body, samples = batch
                await self._deliver(body, samples)
                left -= samples
        except asyncio.CancelledError:
            self._drop("closed", left)
            raise
        except Exception as error:
            plain = "".join(traceback.format_exception(error))  # without local variables, which hold secrets
            log.error("remote_write failed", source=tick.source, traceback=plain)
            self._drop("fault", left)

    def _batches(self, tick: _Waiting) -> Iterator[tuple[bytes, int]]:
        """Compressed requests of at most BATCH_SAMPLES samples each, with their number."""
        tail = time_field(tick.time)
        labels = self._labels_of(tick)
        parts: list[bytes] = []
        for column, (_, values) in enumerate(tick.columns):
            for slot in np.flatnonzero(~np.isnan(values)).tolist():
                parts.append(series_bytes(labels[tick.keys[slot]][column], float(values[slot]), tail))
                if len(parts) == BATCH_SAMPLES:
                    yield compress(b"".join(parts)), len(parts)
                    parts = []
        if parts:
            yield compress(b"".join(parts)), len(parts)

    def _labels_of(self, tick: _Waiting) -> dict[SeriesKey, tuple[bytes, ...]]:
        """Encoded labels of each series, kept from tick to tick while the series is there."""
        before = self._labels.get(tick.source, {})
        names = [name for name, _ in tick.columns]
        now = {
            key: before.get(key) or tuple(label_bytes(labels_of(key, name)) for name in names)
            for key in tick.keys
        }
        self._labels[tick.source] = now
        return now

    async def _deliver(self, body: bytes, samples: int) -> None:
        """Send until it is taken, refused, or GIVE_UP_S seconds have passed."""
        deadline = self._clock.now() + int(GIVE_UP_S * 1e9)
        attempt = 0
        while True:
            verdict = await self._try(body)
            if not verdict.reason:
                self._metrics.sent(self.name, samples)
                self._complain("", "")
                return
            longest = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2**attempt)
            again = self._clock.now() + int(1e9 * max(self._jitter.uniform(0, longest), verdict.after_s))
            if not verdict.retry or again > deadline:
                self._drop(verdict.reason, samples, verdict.detail)
                return
            self._complain(verdict.reason, verdict.detail)
            attempt = min(attempt + 1, 10)
            await self._clock.sleep_until(again)

    async def _try(self, body: bytes) -> _Verdict:
        try:
            answer = await self._receiver.post(body, HEADERS)
        except SettingsError as error:
            return _Verdict("not allowed", str(error))
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            return _Verdict("unreachable", f"{type(error).__name__}: {error}", retry=True)
        if answer.status in range(200, 300):
            return _Verdict()
        detail = f"HTTP {answer.status}: {answer.excerpt}"
        if answer.status == 429 or answer.status >= 500:
            return _Verdict(
                "busy", detail, retry=True, after_s=retry_after_s(answer.retry_after, self._clock.now())
            )
        return _Verdict("refused", detail)
