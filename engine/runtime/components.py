"""Builds the configured sources, sinks, notifiers and the score log."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from trimtab.engine.clock import SystemClock
from trimtab.engine.ports import Clock, Notifier, Sink, Source
from trimtab.engine.settings import Prometheus, Settings, Sources

if TYPE_CHECKING:
    from trimtab.engine.observability.metrics import Metrics
    from trimtab.engine.store.time_series.score_log import ParquetScoreLog

WEB_DIST = Path(__file__).parent.parent / "web" / "dist"
SourceFactory = Callable[[Settings, SystemClock], Source]


def _build_host_source(settings: Settings, clock: SystemClock) -> Source:
    from trimtab.engine.sources.host.host_source import HostSource

    return HostSource(settings.sources.host, clock, settings.settings.max_series)


def _build_prometheus_source(settings: Settings, clock: SystemClock) -> Source:
    from trimtab.engine.sources.prometheus.prometheus_source import PrometheusSource

    assert settings.sources.prometheus is not None  # noqa: S101 - only called for enabled sources
    return PrometheusSource(settings.sources.prometheus, clock, settings.settings.max_series)


def _build_files_source(settings: Settings, clock: SystemClock) -> Source:
    from trimtab.engine.sources.file_replay import FilesSource

    assert settings.sources.files is not None  # noqa: S101 - as above
    return FilesSource(settings.sources.files, clock, max_series=settings.settings.max_series)


SOURCE_FACTORIES: dict[str, SourceFactory] = {
    "host": _build_host_source,
    "prometheus": _build_prometheus_source,
    "files": _build_files_source,
}
"""Source name, as in `sources:` of trimtab.yaml -> factory."""


def enabled_sources(sources: Sources) -> dict[str, object]:
    """Return the settings of each configured and enabled source, by name."""
    configured = {name: getattr(sources, name) for name in SOURCE_FACTORIES}
    return {name: part for name, part in configured.items() if part is not None and part.enabled}


async def with_local_prometheus(settings: Settings) -> Settings:
    """Return the settings with the Prometheus on this machine, if none is configured and one answers."""
    if settings.sources.prometheus is not None:
        return settings
    from trimtab.engine.sources.prometheus.local_prometheus import find_local_prometheus

    url = await find_local_prometheus()
    if url is None:
        return settings
    sources = settings.sources.model_copy(update={"prometheus": Prometheus(url=url)})
    return settings.model_copy(update={"sources": sources})


def build_sinks(settings: Settings, metrics: "Metrics", clock: SystemClock) -> list[Sink]:
    """Build the sinks that receive scored ticks."""
    if settings.writer is None:
        return []
    from trimtab.engine.sinks.remote_write_sink import RemoteWriteSink

    return [RemoteWriteSink(settings.writer, metrics, clock)]


def build_notifiers(settings: Settings, clock: Clock) -> list[Notifier]:
    """Build the configured notification channels."""
    from trimtab.engine.notifications.channels.alertmanager_channel import AlertmanagerChannel
    from trimtab.engine.notifications.channels.email_channel import EmailChannel
    from trimtab.engine.notifications.channels.webhook_channel import WebhookChannel

    notify, url = settings.notify, external_url(settings)
    found: list[Notifier] = []
    if notify.alertmanager is not None:
        found.append(AlertmanagerChannel(notify.alertmanager, clock.now, url))
    if notify.webhook is not None:
        found.append(WebhookChannel(notify.webhook, clock.now, url))
    if notify.email is not None:
        found.append(EmailChannel(notify.email, clock.now, url))
    return found


def external_url(settings: Settings) -> str:
    """Return the URL of the dashboard for links in notifications; "" = not known yet.

    It is `notify.external_url` if set, else derived from the address the API listens on.

    >>> external_url(Settings())
    'http://127.0.0.1:8600'
    """
    api = settings.api
    if settings.notify.external_url is not None or api.port == 0:
        return settings.notify.external_url or ""
    host = f"[{api.host}]" if ":" in api.host else api.host
    return f"{'https' if api.tls_cert_file else 'http'}://{host}:{api.port}"


def open_score_log(settings: Settings, clock: SystemClock) -> "ParquetScoreLog":
    """Open the score log in the data folder."""
    from trimtab.engine.store.time_series.score_log import ParquetScoreLog

    retention = settings.retention
    return ParquetScoreLog(
        settings.settings.data_dir / "scores", retention.days, retention.size_bytes, clock.now,
        retention.full_series,
    ).open()  # fmt: skip


def find_web_dir() -> Path | None:
    """Return the folder of the built dashboard; None = it was not built."""
    return WEB_DIST if (WEB_DIST / "index.html").is_file() else None
