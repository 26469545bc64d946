"""Builds the FastAPI application."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Mount

from trimtab.engine.api.api_context import ApiContext
from trimtab.engine.api.event_streams import EventStreams
from trimtab.engine.api.loop_ports import LoopPorts
from trimtab.engine.api.openapi import openapi_document
from trimtab.engine.api.problems import on_http_error, on_trimtab_error, on_validation_error
from trimtab.engine.api.request_logging import RequestLogging, RequestObserver
from trimtab.engine.api.routers.monitoring import (
    alert_routes,
    anomaly_routes,
    change_routes,
    incident_routes,
    series_routes,
    silence_routes,
    stream_routes,
)
from trimtab.engine.api.routers.planning import (
    capacity_routes,
    forecast_routes,
    model_routes,
    pipeline_routes,
)
from trimtab.engine.api.routers.system import (
    docs_routes,
    health_routes,
    key_routes,
    metrics_routes,
    session_routes,
    status_routes,
)
from trimtab.engine.api.routers.tuning import (
    action_routes,
    audit_routes,
    pause_routes,
    recommendation_routes,
    tool_routes,
)
from trimtab.engine.api.security.access_table import ACCESS, AccessTable, check_declared
from trimtab.engine.api.security.authentication import Authenticator, FailureLimiter, KeyCache
from trimtab.engine.api.security.request_guard import RequestGuard
from trimtab.engine.api.web_files import WebFiles
from trimtab.engine.errors import SettingsError, TrimtabError
from trimtab.engine.ports import Clock, LiveView, ScoreLog, Store
from trimtab.engine.settings import Api

ROUTERS = tuple(
    module.router
    for module in (
        health_routes, status_routes, series_routes, anomaly_routes, incident_routes, change_routes,
        alert_routes, recommendation_routes, capacity_routes, action_routes, tool_routes, pause_routes,
        silence_routes, audit_routes, forecast_routes, model_routes, pipeline_routes, stream_routes,
        session_routes, key_routes, metrics_routes, docs_routes,
    )
)  # fmt: skip


class TrimtabApi(FastAPI):
    """FastAPI application with the extended OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return openapi_document(self)


def create_app(
    *,
    live: LiveView,
    store: Store,
    score_log: ScoreLog,
    settings: Api,
    clock: Clock,
    web_dir: Path | None,
    metrics_text: Callable[[], str],
    version: str,
    observer: RequestObserver | None = None,
    loop: LoopPorts | None = None,
) -> FastAPI:
    """Build the application.

    web_dir  : folder of the built dashboard; None = serve a page that says how to build it
    loop     : ports of incidents, recommendations, actions and tools; None = their routes answer 503
    observer : called with (method, route template, status, seconds) after each request
    Call `stop_streams(app)` before stopping the server. Raises SettingsError if a route is missing in the
    access table.
    """
    keyring = KeyCache(store, clock)
    authenticator = Authenticator(keyring, FailureLimiter(clock))
    app = TrimtabApi(title="Trimtab", version=version, openapi_url=None, docs_url=None, redoc_url=None,
                      lifespan=_lifespan)  # fmt: skip
    app.state.context = ApiContext(
        live,
        store,
        score_log,
        settings,
        clock,
        web_dir,
        metrics_text,
        version,
        keyring,
        authenticator,
        EventStreams(),
        loop,
    )
    for router in ROUTERS:
        app.router.routes.extend(router.routes)
    check_declared(declared_routes(app))
    app.mount("/", WebFiles(web_dir), name="web")
    app.add_exception_handler(TrimtabError, on_trimtab_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_middleware(
        RequestGuard, table=AccessTable(ACCESS), authenticator=authenticator, settings=settings
    )
    app.add_middleware(RequestLogging, observer=observer)
    return app


def stop_streams(app: FastAPI) -> None:
    """Close all event streams. Call it on the event loop before stopping the server."""
    context: ApiContext = app.state.context
    context.streams.close()


def declared_routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield (method, path template) of each API route. Raises SettingsError for other mounts."""
    for route in app.routes:
        if isinstance(route, Mount) and route.name == "web":
            continue
        path, methods = getattr(route, "path", None), getattr(route, "methods", None)
        if path is None or not methods:
            raise SettingsError(f"{route} is not a plain route; define it in a router of engine/api/routers")
        yield from ((method, path) for method in methods)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    stop_streams(app)
