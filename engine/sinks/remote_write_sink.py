"""remote_write sink: sends scores and expected bands to Prometheus (remote_write 1.0)."""

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
from trimtab.engine.net.addresses import Endpoint
from trimtab.engine.net.outbound_http import OutboundHttp, parse_retry_after_s
from trimtab.engine.ports import Clock
from trimtab.engine.settings import Writer
from trimtab.engine.sinks.remote_write_encoding import (
    compress,
    encode_labels,
    encode_series,
    encode_timestamp,
    output_labels,
)
from trimtab.engine.types import Floats, SeriesKey, TickScores

log = structlog.get_logger(__name__)

BATCH_SAMPLES = 5_000
QUEUE_SAMPLES = 1_000_000
"""About 10 MB; beyond it the oldest tick is dropped."""
FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0
GIVE_UP_S = 300.0
CLOSE_S = 5.0
HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "User-Agent": "trimtab",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
_COLUMN_NAMES = {"y": "values"}


class SinkMetrics(Protocol):
    """Metrics of a sink."""

    def count_samples_sent(self, sink: str, n: int) -> None:
        """Count n samples that a receiver accepted."""
        ...

    def count_samples_dropped(self, sink: str, reason: str, n: int) -> None:
        """Count n dropped samples."""
        ...


@dataclass(frozen=True, slots=True)
class _SendResult:
    """Result of sending a batch. reason "" = accepted; retry = try again, after at least after_s seconds."""

    reason: str = ""
    detail: str = ""
    retry: bool = False
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _QueuedTick:
    source: str
    time: int
    keys: tuple[SeriesKey, ...]
    columns: tuple[tuple[str, Floats], ...]
    samples: int


class RemoteWriteSink:
    """Buffers ticks and sends them in batches, in order, from a background task.

    settings      : section writer
    metrics       : counts sent and dropped samples
    clock         : time and sleeping
    jitter        : random generator for retry delays
    queue_samples : maximum number of buffered samples

    A batch that fails with 5xx, 429 or no response is retried with full jitter for `GIVE_UP_S` seconds. A
    batch that is refused with another 4xx or a redirect is dropped and counted.
    """

    name = "remote_write"

    def __init__(
        self,
        settings: Writer,
        metrics: SinkMetrics,
        clock: Clock,
        jitter: random.Random | None = None,
        queue_samples: int = QUEUE_SAMPLES,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, not for security
        self._receiver = OutboundHttp(
            Endpoint.parse("writer.remote_write_url", settings.remote_write_url), settings
        )
        self._queue: deque[_QueuedTick] = deque()
        self._max_queued_samples = queue_samples
        self._queued_samples = 0
        self._labels: dict[str, dict[SeriesKey, tuple[bytes, ...]]] = {}
        self._has_ticks = asyncio.Event()
        self._idle = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._reported_reason = ""

    async def send(self, keys: Sequence[SeriesKey], scores: TickScores) -> None:
        """Buffer one tick. If the buffer is full, the oldest ticks are dropped and counted."""
        columns = tuple(
            (name, np.array(getattr(scores, _COLUMN_NAMES.get(name, name))[: len(keys)], np.float64))
            for name in self._settings.provide_series
        )
        samples = sum(int(np.count_nonzero(~np.isnan(values))) for _, values in columns)
        if samples == 0:
            return
        self._queue.append(_QueuedTick(scores.source, scores.time, tuple(keys), columns, samples))
        self._queued_samples += samples
        while self._queued_samples > self._max_queued_samples and len(self._queue) > 1:
            self._drop("queue full", self._pop_oldest().samples)
        self._has_ticks.set()
        self._idle.clear()
        if self._worker is None:
            self._worker = asyncio.create_task(self._send_loop(), name="remote_write sink")

    async def close(self) -> None:
        """Send buffered ticks for at most CLOSE_S seconds, drop the rest, and close."""
        if self._worker is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._idle.wait()
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
            self._worker = None
        while self._queue:
            self._drop("closed", self._pop_oldest().samples)
        await self._receiver.close()

    def _pop_oldest(self) -> _QueuedTick:
        oldest = self._queue.popleft()
        self._queued_samples -= oldest.samples
        return oldest

    def _drop(self, reason: str, samples: int, detail: str = "") -> None:
        self._metrics.count_samples_dropped(self.name, reason, samples)
        self._report(reason, detail)

    def _report(self, reason: str, detail: str) -> None:
        """Log a change of the problem ("" = none), not every failed batch."""
        if reason == self._reported_reason:
            return
        self._reported_reason = reason
        where = f"{self._receiver.endpoint.host}:{self._receiver.endpoint.port}"
        if reason:
            log.warning("remote_write_failing", receiver=where, reason=reason, detail=detail)
        else:
            log.info("remote_write_recovered", receiver=where)

    async def _send_loop(self) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                self._has_ticks.clear()
                await self._has_ticks.wait()
            await self._send_tick(self._pop_oldest())

    async def _send_tick(self, tick: _QueuedTick) -> None:
        left = tick.samples
        batches = self._batches(tick)
        try:
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                body, samples = batch
                await self._send_with_retries(body, samples)
                left -= samples
        except asyncio.CancelledError:
            self._drop("closed", left)
            raise
        except Exception as error:
            # Without local variables, which may contain secrets.
            plain = "".join(traceback.format_exception(error))
            log.error("remote_write_failed_internally", source=tick.source, traceback=plain)
            self._drop("fault", left)

    def _batches(self, tick: _QueuedTick) -> Iterator[tuple[bytes, int]]:
        """Yield (compressed request, number of samples) with at most BATCH_SAMPLES samples each."""
        tail = encode_timestamp(tick.time)
        labels = self._encoded_labels(tick)
        parts: list[bytes] = []
        for column, (_, values) in enumerate(tick.columns):
            for slot in np.flatnonzero(~np.isnan(values)).tolist():
                parts.append(encode_series(labels[tick.keys[slot]][column], float(values[slot]), tail))
                if len(parts) == BATCH_SAMPLES:
                    yield compress(b"".join(parts)), len(parts)
                    parts = []
        if parts:
            yield compress(b"".join(parts)), len(parts)

    def _encoded_labels(self, tick: _QueuedTick) -> dict[SeriesKey, tuple[bytes, ...]]:
        """Return the encoded labels of each series, cached while the series exists."""
        before = self._labels.get(tick.source, {})
        names = [name for name, _ in tick.columns]
        now = {
            key: before.get(key) or tuple(encode_labels(output_labels(key, name)) for name in names)
            for key in tick.keys
        }
        self._labels[tick.source] = now
        return now

    async def _send_with_retries(self, body: bytes, samples: int) -> None:
        """Send a batch until it is accepted or refused, or GIVE_UP_S seconds have passed."""
        deadline = self._clock.now() + int(GIVE_UP_S * 1e9)
        attempt = 0
        while True:
            result = await self._send_once(body)
            if not result.reason:
                self._metrics.count_samples_sent(self.name, samples)
                self._report("", "")
                return
            max_delay_s = min(MAX_RETRY_S, FIRST_RETRY_S * 2**attempt)
            retry_at = self._clock.now() + int(
                1e9 * max(self._jitter.uniform(0, max_delay_s), result.after_s)
            )
            if not result.retry or retry_at > deadline:
                self._drop(result.reason, samples, result.detail)
                return
            self._report(result.reason, result.detail)
            attempt = min(attempt + 1, 10)
            await self._clock.sleep_until(retry_at)

    async def _send_once(self, body: bytes) -> _SendResult:
        try:
            response = await self._receiver.post(body, HEADERS)
        except SettingsError as error:
            return _SendResult("not allowed", str(error))
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            return _SendResult("unreachable", f"{type(error).__name__}: {error}", retry=True)
        if response.status in range(200, 300):
            return _SendResult()
        detail = f"HTTP {response.status}: {response.excerpt}"
        if response.status == 429 or response.status >= 500:
            return _SendResult(
                "busy",
                detail,
                retry=True,
                after_s=parse_retry_after_s(response.retry_after, self._clock.now()),
            )
        return _SendResult("refused", detail)
