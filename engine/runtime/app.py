"""The engine process behind `trimtab up`: builds all components, starts them and stops them in order."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from trimtab.engine.api.security.listen_address import check_listen_address
from trimtab.engine.clock import SystemClock
from trimtab.engine.errors import EngineError, LockedError, SettingsError, StoreError
from trimtab.engine.forecasting.retraining import build_retraining
from trimtab.engine.incidents.incident_service import IncidentService
from trimtab.engine.live.live_state import LiveState
from trimtab.engine.observability import logs
from trimtab.engine.observability.metrics import Metrics
from trimtab.engine.platform.kernel_warmup import compile_in_subprocess, prepare_environment, warm_kernels
from trimtab.engine.platform.process_memory import release_memory, release_memory_periodically
from trimtab.engine.redaction import redact_text
from trimtab.engine.runtime import action_setup, components, notification_setup
from trimtab.engine.runtime.http_server import (
    HttpServer,
    bind_socket,
    browser_url,
    make_server,
    wait_until_started,
)
from trimtab.engine.runtime.loop_context import LoopContext
from trimtab.engine.runtime.retention import RetentionTask
from trimtab.engine.runtime.self_metrics import SelfMetrics
from trimtab.engine.runtime.supervisor import Supervisor, error_on_one_line, keep_running
from trimtab.engine.settings import Settings
from trimtab.engine.settings.file_watcher import SettingsChange, watch_settings
from trimtab.engine.sources.managed_tools import ToolsSource
from trimtab.engine.sources.self_source import SelfSource

if TYPE_CHECKING:
    from trimtab.engine.api.security.api_keys import FirstAccess
    from trimtab.engine.forecasting.retraining import Retraining
    from trimtab.engine.store.event_store import EventStore

log = structlog.get_logger(__name__)

ReadyCallback = Callable[[str, "FirstAccess"], None]
"""Called once the API accepts requests, with its URL and how the first operator gets access."""


def serve(
    settings: Settings,
    *,
    config: Path | None = None,
    environ: MutableMapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
    on_ready: ReadyCallback | None = None,
) -> None:
    """Run the engine until SIGTERM or SIGINT. On return all state is on disk.

    config    : settings file, watched for changes; None = no file
    environ   : environment of this process; the cache folders of libraries are added to it
    overrides : dotted name -> value from the command line; they also override a reloaded file

    Raises SettingsError, StoreError or LockedError if the engine cannot start.
    """
    general = settings.settings
    logs.configure_logs(general.log_level, general.log_format)
    logs.hide_values(logs.collect_secrets(settings))
    check_listen_address(settings.api)
    environ = os.environ if environ is None else environ
    try:
        prepare_environment(general.data_dir, environ)
    except OSError as error:
        raise SettingsError(
            f"settings.data_dir {general.data_dir} is not writable: {error.strerror}; choose a folder that "
            "this user can write to (--data DIR)"
        ) from None
    engine = Engine(settings, config, environ, overrides or {})
    asyncio.run(engine.run(on_ready or print_access))


def print_access(url: str, first_access: "FirstAccess") -> None:
    """Print the URL and how to log in: a login link, the key file, or the command that creates a link."""
    print(f"Trimtab is on {url}", flush=True)
    if first_access.login_url is not None:
        print(f"Log in (works once, within 10 minutes): {first_access.login_url}", flush=True)
    if first_access.key_file is not None:
        print(f"The admin key is in {first_access.key_file}", flush=True)
    if first_access.login_url is None and first_access.key_file is None:
        print("To log in, open the link that `trimtab key login` prints", flush=True)


class Engine:
    """One running engine.

    settings  : settings at the start
    config    : settings file to watch; None = no file
    environ   : environment of this process
    overrides : dotted name -> value from the command line
    """

    def __init__(
        self,
        settings: Settings,
        config: Path | None,
        environ: Mapping[str, str],
        overrides: Mapping[str, object],
    ) -> None:
        self.settings = settings
        self.config = config
        self.environ = environ
        self.overrides = overrides
        self.clock = SystemClock()
        self.live = LiveState()
        self.stopping = asyncio.Event()
        self.failure: Exception | None = None

    async def run(self, on_ready: ReadyCallback) -> None:
        """Start the engine, run until `stopping` is set, then stop. Raises the failure that stopped it."""
        async with AsyncExitStack() as stack:
            self._install_signal_handlers()
            listening_socket = stack.enter_context(contextlib.closing(bind_socket(self.settings.api)))
            store = stack.enter_context(contextlib.closing(self._open_store()))
            self.live.find_stored_series = store.series
            metrics = Metrics(_version())
            incident_service = action_setup.build_incident_service(self.settings, store)
            supervisor = await self._build_supervisor(stack, store, incident_service, metrics)
            actions = await action_setup.build_action_components(
                self.settings, supervisor.context, incident_service, store.fenced
            )
            stack.push_async_callback(actions.close)
            notifications = notification_setup.build_notification_delivery(
                self.settings, supervisor.context, store.fenced, metrics
            )
            await notifications.restore()
            stack.push_async_callback(notifications.close)
            supervisor.context.notifications = notifications
            stack.push_async_callback(supervisor.stop)
            tools_source = action_setup.build_tools_source(actions, self.settings)
            if self.settings.tools:
                supervisor.extra_sources.append(tools_source)
            supervisor.reload_listeners += [
                partial(_apply_tool_settings, supervisor, actions, tools_source),
                partial(action_setup.audit_reload, actions.ports.ledger),
            ]
            models = self._build_retraining(supervisor, actions, metrics)
            if models is not None:
                _watch_forecast_error(models, supervisor, self.clock)
            await self._serve_http(
                stack, store, supervisor, actions, models, metrics, listening_socket, on_ready
            )
            self_metrics = SelfMetrics(self.live, metrics, supervisor.loops.values, store)
            retention = RetentionTask(supervisor.context, self.settings.retention.events_days)
            for task in (
                keep_running("self_metrics", self_metrics.run, self.clock),
                keep_running("retention", retention.run, self.clock),
                keep_running("notifications", notifications.run, self.clock),
                keep_running("memory", partial(release_memory_periodically, self.clock), self.clock),
                *([] if models is None else [keep_running("models", models.run, self.clock)]),
                self._run_actions(actions),
                self._start_sources(supervisor),
            ):
                stack.push_async_callback(_cancel, asyncio.create_task(task))
            await self.stopping.wait()
            log.info("stopping")
        log.info("stopped")
        if self.failure is not None:
            raise self.failure

    def _install_signal_handlers(self) -> None:
        """Stop in order on the first signal; a second signal ends the process at once."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            for name in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(name)
            self.stopping.set()

        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop)

    def _open_store(self) -> "EventStore":
        from trimtab.engine.store import open_store

        return open_store(self.settings.settings.data_dir, self.clock.now)

    async def _build_supervisor(
        self, stack: AsyncExitStack, store: "EventStore", incident_service: IncidentService, metrics: Metrics
    ) -> Supervisor:
        """Open snapshots, score log and worker thread; the stack closes them in reverse order."""
        from trimtab.engine.store.time_series.snapshots import FolderSnapshots

        snapshots = FolderSnapshots(self.settings.settings.data_dir / "state").open()
        stack.callback(_close_store, snapshots.close)
        score_log = components.open_score_log(self.settings, self.clock)
        stack.callback(_close_store, score_log.close)
        worker = stack.enter_context(ThreadPoolExecutor(1, "trimtab-work"))
        context = LoopContext(
            self.clock, store, score_log, snapshots, self.live, metrics, worker, self.settings.settings,
            incident_service=incident_service,
        )  # fmt: skip
        return Supervisor(context, self.clock, metrics)

    def _build_retraining(
        self, supervisor: Supervisor, actions: "action_setup.ActionComponents", metrics: Metrics
    ) -> "Retraining | None":
        """Build forecasting and training; None if the load scheduler is disabled."""
        return build_retraining(
            self.settings, self.config, self.overrides, self.environ,
            lambda: None if supervisor.found_prometheus is None else supervisor.found_prometheus.url,
            actions.ports.ledger, self.clock, metrics,
        )  # fmt: skip

    async def _serve_http(
        self,
        stack: AsyncExitStack,
        store: "EventStore",
        supervisor: Supervisor,
        actions: "action_setup.ActionComponents",
        models: "Retraining | None",
        metrics: Metrics,
        listening_socket: socket.socket,
        on_ready: ReadyCallback,
    ) -> None:
        from trimtab.engine.api.application import create_app, stop_streams
        from trimtab.engine.api.security.api_keys import ensure_first_access

        settings = self.settings
        app = create_app(
            live=self.live, store=store, score_log=supervisor.context.score_log, settings=settings.api,
            clock=self.clock, web_dir=components.find_web_dir(), metrics_text=metrics.render,
            version=_version(), observer=metrics.observe_request, loop=replace(actions.ports, models=models),
        )  # fmt: skip
        server = make_server(app, settings.api)
        server_task = asyncio.create_task(server.serve(sockets=[listening_socket]), name="http")
        stack.push_async_callback(self._stop_http_server, server, server_task)
        stack.callback(stop_streams, app)
        await wait_until_started(server, server_task)
        server_task.add_done_callback(self._on_http_server_exit)
        url = browser_url(settings.api, listening_socket)
        first_access = ensure_first_access(
            store, self.clock, settings.api, settings.settings.data_dir, url, terminal=sys.stdout.isatty()
        )
        from trimtab.engine.store.durable_files import write_bytes_atomically
        from trimtab.engine.store.lease import ADDRESS_FILE

        write_bytes_atomically(settings.settings.data_dir / ADDRESS_FILE, f"{url}\n".encode())
        log.info("listening", url=url)
        on_ready(url, first_access)

    def _on_http_server_exit(self, server_task: "asyncio.Task[None]") -> None:
        """Stop the engine when its HTTP server ends: without it nobody can see or pause the engine."""
        if self.stopping.is_set():
            return
        cause = None if server_task.cancelled() else server_task.exception()
        log.error("http_server_ended", exc_info=cause)
        reason = f" ({type(cause).__name__}: {redact_text(str(cause))})" if cause is not None else ""
        self.failure = EngineError(
            f"the HTTP server ended while the engine was running{reason}; see the log for details and start "
            "Trimtab again"
        )
        self.stopping.set()

    async def _stop_http_server(self, server: HttpServer, server_task: "asyncio.Task[None]") -> None:
        self.live.end_subscriptions()
        server.should_exit = True
        await asyncio.wait({server_task})

    async def _run_actions(self, actions: "action_setup.ActionComponents") -> None:
        """Run the action components until cancelled. Stops the engine if another engine takes over."""
        try:
            await keep_running("actions", actions.run, self.clock)
        except LockedError as error:
            log.error("another_engine_took_over", reason=str(error))
            self.failure = error
            self.stopping.set()

    async def _start_sources(self, supervisor: Supervisor) -> None:
        """Load the kernels, start the sources, then watch the settings file."""
        try:
            self.live.set_waiting_for(
                "compiled kernels: a first start compiles them, which takes up to a minute"
            )
            await compile_in_subprocess(
                Path(self.environ["NUMBA_CACHE_DIR"]), self.settings.settings.detectors
            )
            await supervisor.context.run_in_worker(warm_kernels, self.settings.settings.detectors)
            self.live.set_waiting_for("the first tick")
            settings = await components.with_local_prometheus(self.settings)
            if settings is not self.settings and settings.sources.prometheus is not None:
                supervisor.found_prometheus = settings.sources.prometheus
                log.info("local_prometheus_found", url=supervisor.found_prometheus.url)
            supervisor.start(settings)
            await supervisor.close_removed_sources()
            release_memory()
            gc.freeze()
        except Exception as error:
            log.exception("start_failed")
            self.failure = error
            self.stopping.set()
        else:
            gc.enable()
            if self.config is not None:
                await self._watch_settings(supervisor, settings)

    async def _watch_settings(self, supervisor: Supervisor, current: Settings) -> None:
        """Apply changes of the settings file. A failure of the watch does not stop the engine."""
        try:
            await self._follow_settings(supervisor, current)
        except Exception:
            log.exception("settings_watch_failed")
            self.live.set_engine_values(
                settings="no longer watched, changes apply at the next start; see the log"
            )

    async def _follow_settings(self, supervisor: Supervisor, current: Settings) -> None:
        """Apply each change of the settings file; a rejected change alters nothing and is reported."""
        assert self.config is not None  # noqa: S101 - checked by the caller
        async for outcome in watch_settings(self.config, self.environ, self.overrides):
            if isinstance(outcome, SettingsError):
                self._reject_reload(error_on_one_line(outcome))
                continue
            try:
                reload = await supervisor.apply_settings(current, outcome)
            except SettingsError as error:
                self._reject_reload(error_on_one_line(error))
                continue
            current = reload.settings
            self.live.set_engine_values(settings="ok")
            log.info("settings_reloaded", changed=list(reload.applied_now))
            if reload.needs_restart:
                log.warning("settings_apply_at_next_start", settings=list(reload.needs_restart))

    def _reject_reload(self, reason: str) -> None:
        self.live.set_engine_values(settings=f"not reloaded: {reason}")
        log.error("settings_rejected", reason=reason)


def _version() -> str:
    import trimtab

    return str(trimtab.__version__)


def _watch_forecast_error(models: "Retraining", supervisor: Supervisor, clock: SystemClock) -> None:
    """Watch the forecast error as a series from its first value on, one sample per refresh."""
    figures = SelfSource(models.metrics, clock, models.scheduler.refresh)
    models.forecast_service.on_error_known = partial(supervisor.set_extra_source, figures, True)


async def _apply_tool_settings(
    supervisor: Supervisor,
    actions: "action_setup.ActionComponents",
    tools_source: ToolsSource,
    reload: SettingsChange,
) -> None:
    """Replace the tools and guard rules; watch the tools' metrics while any tool is configured."""
    if not {"tools", "guardrails", "capacity"} & set(reload.applied_now):
        return
    try:
        await actions.reload(reload.settings)
    except StoreError as error:
        log.error("tools_not_replaced", error=str(error))
    await supervisor.set_extra_source(tools_source, bool(reload.settings.tools))


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _close_store(close: Callable[[], None]) -> None:
    """Close a store and log a failure."""
    try:
        close()
    except StoreError as error:
        log.error("store_not_closed", error=str(error))
