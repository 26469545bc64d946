"""Reads the history of load series from Prometheus and from the score log."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from trimtab.engine.clock import SystemClock
from trimtab.engine.patterns.role_table import Role
from trimtab.engine.patterns.roles import find_role
from trimtab.engine.settings import LoadScheduler, Prometheus, Settings
from trimtab.engine.store.event_store import EventStore
from trimtab.engine.types import Floats, Ints, SeriesInfo
from trimtab.pipelines.io.panel import merge_histories

_MAX_STORED_SERIES = 100
_NS = 1_000_000_000
_CACHE_LIFETIME_S = 6 * 3600.0
_COLUMNS = ["unique_id", "ds", "y"]
LOAD_ROLES = (
    Role.THROUGHPUT, Role.QUEUE_LENGTH, Role.CONNECTIONS_USED, Role.CPU, Role.CONNECTIONS_WAITING,
    Role.DEPENDENCY_CALLS, Role.POOL_RATIO, Role.LOOP, Role.IO,
)  # fmt: skip
"""Roles that are forecast, most useful for capacity decisions first."""


@dataclass(frozen=True, slots=True)
class LoadHistory:
    """History of load series.

    frame : columns unique_id (name of the series), ds (UTC), y; one row per step
    infos : name -> info of the series
    """

    frame: pd.DataFrame
    infos: dict[str, SeriesInfo]


async def read_load_history(settings: Settings, store: EventStore, cache: Path | None = None) -> LoadHistory:
    """Read the load series over the fit window, at the step of the load scheduler.

    cache : Parquet file of the history, so that the next call reads only newer samples; None = no cache

    Raises SourceError if a configured Prometheus does not answer.
    """
    clock, scheduler = SystemClock(), settings.schedulers.load
    cached = _read_cache(cache, scheduler, clock.now())
    window_s = scheduler.fit_window
    if cached is not None:
        window_s = (clock.now() - int(cached.frame["ds"].max().value)) / _NS + 3 * scheduler.step
    infos: dict[str, SeriesInfo] = {}
    parts: list[pd.DataFrame] = []
    prometheus = settings.sources.prometheus
    if prometheus is not None and prometheus.enabled:
        frame, prometheus_infos = await _read_prometheus(settings, prometheus, clock, window_s)
        parts.append(frame)
        infos.update(prometheus_infos)
    stored, stored_infos = _read_score_log(settings, store, infos, clock.now(), window_s)
    frame = merge_histories([*parts, stored])
    loads = LoadHistory(frame, {**stored_infos, **infos})
    if cached is not None:
        loads = _merge(cached, loads, clock.now() - int(scheduler.fit_window * _NS))
    if cache is not None and len(loads.frame):
        _write_cache(cache, loads, scheduler, clock.now() if cached is None else _cache_started(cache))
    return loads


async def _read_prometheus(
    settings: Settings, prometheus: Prometheus, clock: SystemClock, window_s: float
) -> tuple[pd.DataFrame, dict[str, SeriesInfo]]:
    from trimtab.engine.sources.prometheus.prometheus_source import PrometheusSource

    scheduler = settings.schedulers.load
    selector = await _load_selector(settings, prometheus, clock)
    if not selector and not prometheus.queries:
        return _empty_frame(), {}
    times = {"season_window": window_s, "season_step": scheduler.step, "noise_window": scheduler.step}
    query_settings = prometheus.model_copy(update={**times, "selector": selector or prometheus.selector})
    source = PrometheusSource(query_settings, clock, settings.settings.max_series)
    parts: list[pd.DataFrame] = []
    try:
        await source.open()
        infos: dict[str, SeriesInfo] = {}
        async for chunk in source.history(clock.now()):
            if not chunk.coarse:
                continue
            by_name = {str(key): (k, source.info(key)) for k, key in enumerate(chunk.keys)}
            selected_infos = select_loads(
                (info for _, info in by_name.values()), scheduler.max_series, scheduler.series
            )
            names = [str(info.key) for info in selected_infos]
            infos.update(zip(names, selected_infos, strict=True))
            parts += [_long_frame(name, chunk.times, chunk.values[:, by_name[name][0]]) for name in names]
    finally:
        await source.close()
    selected = {
        str(info.key) for info in select_loads(infos.values(), scheduler.max_series, scheduler.series)
    }
    frame = pd.concat(parts, ignore_index=True) if parts else _empty_frame()
    return frame[frame["unique_id"].isin(selected)], {name: infos[name] for name in selected}


async def _load_selector(settings: Settings, prometheus: Prometheus, clock: SystemClock) -> str:
    """Return a selector of the metrics that measure load, so that no other history is read; "" = none."""
    from trimtab.engine.sources.prometheus.prometheus_source import PrometheusSource
    from trimtab.engine.sources.prometheus.query_plan import parse_selector

    scheduler = settings.schedulers.load
    source = PrometheusSource(prometheus, clock, settings.settings.max_series)
    try:
        await source.open()
        reading = await source.read()
        selected_infos = select_loads(
            (source.info(key) for key in reading.keys), scheduler.max_series, scheduler.series
        )
    finally:
        await source.close()
    names = "|".join(sorted({info.key.metric for info in selected_infos}))
    return f'{{{parse_selector(prometheus.selector)},__name__=~"{names}"}}' if names else ""


def _read_score_log(
    settings: Settings, store: EventStore, known: dict[str, SeriesInfo], now: int, window_s: float
) -> tuple[pd.DataFrame, dict[str, SeriesInfo]]:
    """Read load series that are in no Prometheus from the score log."""
    from trimtab.engine.store.time_series.score_log import ParquetScoreLog

    scheduler, folder = settings.schedulers.load, settings.settings.data_dir / "scores"
    if not folder.is_dir():
        return _empty_frame(), {}
    log = ParquetScoreLog(folder, settings.retention.days, settings.retention.size_bytes, lambda: now)
    others = (info for info in store.all_series() if info.key.source != "prometheus")
    selected_infos = select_loads(others, min(scheduler.max_series, _MAX_STORED_SERIES), scheduler.series)
    selected_infos = [info for info in selected_infos if str(info.key) not in known]
    parts = []
    for info in selected_infos:
        rows = log.read(info.key.id, now - int(window_s * _NS), now, 10_000_000)
        parts.append(_long_frame(str(info.key), *_mean_per_step(rows.times, rows.value, scheduler.step)))
    frame = pd.concat(parts) if parts else _empty_frame()
    return frame, {str(info.key): info for info in selected_infos}


def _mean_per_step(times: Ints, values: Floats, step_s: float) -> tuple[Ints, Floats]:
    """Return step ends (int64 ns UTC) and the mean of the values in each step."""
    has_value = np.isfinite(values)
    step = round(step_s * _NS)
    cells, step_index = np.unique(-(-times[has_value] // step), return_inverse=True)
    means = np.bincount(step_index, values[has_value], len(cells)) / np.maximum(
        np.bincount(step_index, minlength=len(cells)), 1
    )
    return cells * step, np.asarray(means, np.float64)


def _long_frame(name: str, times: Ints, values: Floats) -> pd.DataFrame:
    stamps = pd.DatetimeIndex(times.astype("datetime64[ns]"), tz="UTC")
    names = np.full(len(times), name, object)
    return pd.DataFrame({"unique_id": names, "ds": stamps, "y": np.asarray(values, np.float64)})


def _empty_frame() -> pd.DataFrame:
    return _long_frame("", np.empty(0, np.int64), np.empty(0))


def _read_cache(cache: Path | None, scheduler: LoadScheduler, now: int) -> LoadHistory | None:
    """Return the cached history, unless it was read with other settings or is too old."""
    if cache is None:
        return None
    try:
        record = json.loads(cache.with_suffix(".json").read_bytes())
        if (
            record["wanted"] != scheduler.model_dump(mode="json")
            or now - record["begun"] > _CACHE_LIFETIME_S * _NS
        ):
            return None
        frame = pd.read_parquet(cache)
        infos = {name: _parse_info(fields) for name, fields in record["infos"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return LoadHistory(frame, infos) if len(frame) else None


def _write_cache(cache: Path, loads: LoadHistory, scheduler: LoadScheduler, started: int) -> None:
    from trimtab.pipelines.training.pipeline_runs import write_json

    cache.parent.mkdir(parents=True, exist_ok=True)
    part = cache.with_suffix(".part")
    loads.frame.to_parquet(part)
    part.replace(cache)
    infos = {
        name: [info.key.source, info.key.metric, list(info.key.labels), info.unit, info.kind]
        for name, info in loads.infos.items()
    }
    write_json(
        cache.with_suffix(".json"),
        {"wanted": scheduler.model_dump(mode="json"), "begun": started, "infos": infos},
    )


def _cache_started(cache: Path) -> int:
    return int(json.loads(cache.with_suffix(".json").read_bytes())["begun"])


def _parse_info(fields: list[object]) -> SeriesInfo:
    from trimtab.engine.types import SeriesKey

    source, metric, labels, unit, kind = fields
    pairs = {str(name): str(value) for name, value in labels}  # type: ignore[attr-defined]  # JSON of our own
    return SeriesInfo(SeriesKey.of(str(source), str(metric), pairs), unit=str(unit), kind=str(kind))


def _merge(cached: LoadHistory, new: LoadHistory, since: int) -> LoadHistory:
    both = pd.concat([cached.frame, new.frame], ignore_index=True)
    both = both.drop_duplicates(["unique_id", "ds"], keep="last")
    recent = both[both["ds"] >= pd.Timestamp(since, tz="UTC")]
    return LoadHistory(recent[_COLUMNS].reset_index(drop=True), {**cached.infos, **new.infos})


def select_loads(infos: Iterable[SeriesInfo], max_series: int, pattern: str = "") -> list[SeriesInfo]:
    """Return up to `max_series` series that measure load, most useful first.

    pattern : regular expression; if given, the series whose name contains a match, whatever their role

    Raises re.error for an invalid pattern.

    >>> from trimtab.engine.types import SeriesKey
    >>> names = ("redis_connected_clients", "redis_memory_used_bytes")
    >>> [info.key.metric for info in select_loads((SeriesInfo(SeriesKey("p", name)) for name in names), 10)]
    ['redis_connected_clients']
    """
    expression = re.compile(pattern) if pattern else None
    ranked: list[tuple[int, str, SeriesInfo]] = []
    for info in infos:
        name = str(info.key)
        if expression is not None:
            if expression.search(name):
                ranked.append((0, name, info))
        elif not info.is_transient and (rank := _role_rank(info)) is not None:
            ranked.append((rank, name, info))
    ranked.sort(key=lambda row: row[:2])
    return [info for _, _, info in ranked[:max_series]]


def _role_rank(info: SeriesInfo) -> int | None:
    """Return the position of the series' role; None = it measures no load."""
    found = find_role(info.key, info.unit, info.kind)
    if found is None or found.role not in LOAD_ROLES:
        return None
    return LOAD_ROLES.index(found.role)
