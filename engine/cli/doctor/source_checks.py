"""Checks of sources for `trimtab doctor`: whether they answer, with which series, and how fast."""

import time
from collections.abc import AsyncIterator

from trimtab.engine.cli.doctor.doctor import Check, CheckState
from trimtab.engine.clock import SystemClock
from trimtab.engine.errors import SourceError, TrimtabError
from trimtab.engine.ports import Source
from trimtab.engine.runtime import components
from trimtab.engine.settings import Prometheus, Settings

_NS = 1_000_000_000
_MAX_CLOCK_SKEW_S = 5.0
"""Seconds between the clocks that are accepted; Prometheus reports its time in whole seconds."""
_MAX_READ_SHARE = 0.1
"""Largest share of the interval (0..1) that a read may take."""
_MAX_ITEMS = 1000


async def source_checks(settings: Settings) -> list[Check]:
    """Open, read and close every enabled source."""
    checks = [check async for check in _source_checks(settings)]
    return checks or [
        Check(
            "sources", CheckState.FOUND, "no source is enabled", "enable one under sources: in trimtab.yaml"
        )
    ]


async def _source_checks(settings: Settings) -> AsyncIterator[Check]:
    clock = SystemClock()
    settings = await components.with_local_prometheus(settings)
    for name in components.enabled_sources(settings.sources):
        try:
            source = components.SOURCE_FACTORIES[name](settings, clock)
        except TrimtabError as error:
            yield Check(name, CheckState.FOUND, str(error), "fix the settings")
        else:
            yield await _check_source(source)
    prometheus = settings.sources.prometheus
    if prometheus is not None and prometheus.enabled:
        yield await _check_clock_skew(prometheus)


async def _check_source(source: Source) -> Check:
    """Check whether a source answers, how many series it has and how long a read takes."""
    try:
        await source.open()
        started = time.perf_counter()
        reading = await source.read()
        took_s = time.perf_counter() - started
    except SourceError as error:
        return Check(
            source.name, CheckState.UNREACHABLE, str(error), "its series are unknown until it answers"
        )
    except TrimtabError as error:
        return Check(source.name, CheckState.FOUND, str(error), "fix the settings")
    finally:
        await source.close()
    summary = source.detail() if reading is not None else f"{source.detail()}; nothing to read"
    detail = f"{summary}; read every {source.interval_s:g} s; a read takes {took_s:.2f} s"
    left_out = tuple(source.skipped_series())
    if left_out:
        return Check(
            source.name, CheckState.FOUND, f"{detail}; series left out: {len(left_out)}",
            "raise settings.max_series, or use a narrower selector", left_out[:_MAX_ITEMS],
        )  # fmt: skip
    if took_s > _MAX_READ_SHARE * source.interval_s:
        return Check(source.name, CheckState.FOUND, detail, "use a longer interval or a narrower selector")
    return Check(source.name, CheckState.OK, detail)


async def _check_clock_skew(settings: Prometheus) -> Check:
    """Compare the clock of the Prometheus server with ours."""
    from trimtab.engine.sources.prometheus.live_client import LiveClient, PrometheusCredentials

    client = LiveClient(settings, PrometheusCredentials(settings))
    try:
        answer = await client.query("1")
    except TrimtabError:
        return Check("clock", CheckState.OK, "not compared: Prometheus does not answer")
    finally:
        await client.close()
    if not answer.server_time:
        return Check("clock", CheckState.OK, "not compared: Prometheus sends no time")
    skew_s = (answer.server_time - SystemClock().now()) / _NS
    detail = f"Prometheus is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}"
    if abs(skew_s) <= _MAX_CLOCK_SKEW_S:
        return Check("clock", CheckState.OK, detail)
    return Check(
        "clock", CheckState.FOUND, detail, "synchronise both clocks by NTP; otherwise fresh samples look old"
    )
