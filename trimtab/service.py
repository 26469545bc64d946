"""Expose metrics, settings and actions of a Python service to Trimtab, in three lines:

    kit = Knobs("shop", app)                                # app: FastAPI or Starlette
    kit.cache("sessions", sessions)                         # size, ttl, clear; see Knobs.cache
    app.mount("/trimtab", kit.app(token=os.environ["TRIMTAB_TOKEN"]))

This file needs only Starlette: `from trimtab.service import Knobs`, or copy it into a service.
Requests below the mount need `Authorization: Bearer TOKEN`, else 401:

    GET  /                 {"service", "version", "knobs": [KNOB], "actions": [ACTION]}
    GET  /knobs/NAME       KNOB, with the strong ETag of its value
    PUT  /knobs/NAME       {"value": V} with If-Match: the new KNOB; {"value": null} restores the default.
                           428 without If-Match, 412 if the value has changed, 422 out of bounds
    POST /actions/NAME     with Idempotency-Key: {"result": TEXT}. The same key again repeats the answer with
                           Idempotency-Replayed: true and runs nothing; 409 while the first still runs
    GET  /metrics          Prometheus text 0.0.4, base units

KNOB   {"name", "type": "int|float|bool|choice", "unit", "value", "default", "set", "low", "high", "step",
       "choices", "warm_up_s", "group", "help", "lasts": "until restart", "permanent", "etag"}
ACTION {"name", "help", "risk": "low|medium|high", "reduces", "idempotent"}

Errors are RFC 9457 problem+json. Knobs and keys belong to one process, so each of several workers needs its
own address. Knobs are set in the event loop; an action that is a plain function runs in a thread.
"""
# ruff: noqa: ANN401 - values are JSON; `about` takes fields of Knob and Action

import asyncio
import dataclasses
import gc
import hashlib
import hmac
import inspect
import json
import logging
import math
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Sample = tuple[str, str, dict[str, str], float]  # name, kind ("" = as the previous one), labels, value
MAX_BODY_BYTES = 65_536
MAX_KEYS = 1_000
LAG_INTERVAL_S = 0.5
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_KINDS: dict[str, Any] = {"int": int, "float": int | float, "bool": bool, "choice": str}
log = logging.getLogger("trimtab.service")


@dataclasses.dataclass(frozen=True, slots=True)
class Knob:
    """A setting. low, high, step are in `unit`; `permanent` tells how to make a change survive a restart."""

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]
    default: Any
    type: str = "int"
    unit: str = ""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    warm_up_s: float = 60.0
    group: str = ""
    help: str = ""
    permanent: str = ""

    def etag(self) -> str:
        """Return the strong ETag of the current value."""
        text = json.dumps([self.name, self.get()])
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:16]}"'

    def check(self, value: Any) -> Any:
        """Return the value if it is allowed. Raises HTTPException 422."""
        number = self.type in {"int", "float"}
        if not isinstance(value, _KINDS[self.type]) or (number and isinstance(value, bool)):
            raise HTTPException(422, f"{self.name} is of type {self.type}, not {value!r:.80}")
        if number and not self.low <= value <= self.high:
            raise HTTPException(422, f"{self.name} allows {self.low} to {self.high}, not {value!r:.80}")
        if self.type == "choice" and value not in self.choices:
            raise HTTPException(422, f"{self.name} allows one of {self.choices}, not {value!r:.80}")
        return value


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """An operation of the service. `call` returns one line for the operator, or None."""

    name: str
    call: Callable[[], object]
    help: str
    risk: str = "low"
    reduces: bool = False
    idempotent: bool = True


def as_json(entry: Knob | Action) -> dict[str, Any]:
    """Return the JSON form of a knob or an action."""
    fields = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
    plain = {name: value for name, value in fields.items() if not callable(value)}
    if isinstance(entry, Action):
        return plain
    value = {"value": entry.get(), "set": entry.get() != entry.default, "etag": entry.etag()}
    return plain | value | {"lasts": "until restart"}


@dataclasses.dataclass(slots=True)
class RequestMetrics:
    """Request counts, durations and event loop lag of an application."""

    requests: dict[tuple[str, str, str], int] = dataclasses.field(default_factory=dict)
    buckets: list[int] = dataclasses.field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    seconds: float = 0.0
    in_progress: int = 0
    lags_s: deque[float] = dataclasses.field(default_factory=lambda: deque(maxlen=30))
    loop: asyncio.AbstractEventLoop | None = None

    def record(self, scope: Scope, status: int, seconds: float) -> None:
        """Count an answered request; its path is the route's template, so there are few."""
        path = getattr(scope.get("route"), "path", "other")
        key = ("other" if status == 405 else scope["method"], path, str(status))
        self.requests[key] = self.requests.get(key, 0) + 1
        self.seconds += seconds
        self.buckets[next((i for i, top in enumerate(BUCKETS_S) if seconds <= top), -1)] += 1

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Return ASGI middleware that counts and times each HTTP request, except those to the kit itself."""

        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            status, started = 500, time.perf_counter()

            async def record_status(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            if scope["type"] != "http":
                return await app(scope, receive, send)
            self.measure_lag()
            self.in_progress += 1
            try:
                await app(scope, receive, record_status)
            finally:
                self.in_progress -= 1
                if "trimtab.kit" not in scope:
                    self.record(scope, status, time.perf_counter() - started)

        return measured

    def measure_lag(self, due: float | None = None) -> None:
        """Measure the lag of the running event loop, now and every LAG_INTERVAL_S seconds."""
        loop = asyncio.get_running_loop()
        if due is not None:
            self.lags_s.append(max(0.0, loop.time() - due))
        elif loop is self.loop:
            return
        self.loop = loop
        loop.call_later(LAG_INTERVAL_S, self.measure_lag, loop.time() + LAG_INTERVAL_S)

    def samples(self) -> Iterator[Sample]:
        """Yield all samples; the lag is the maximum of the last 15 seconds."""
        for (method, path, status), count in self.requests.items():
            yield "http_requests_total", "counter", {"method": method, "path": path, "status": status}, count
        below = 0
        for top, count in zip((*BUCKETS_S, math.inf), self.buckets, strict=True):
            below += count
            le = "+Inf" if top == math.inf else f"{top:g}"
            yield "http_request_duration_seconds_bucket", "histogram", {"le": le}, below
        yield "http_request_duration_seconds_sum", "", {}, self.seconds
        yield "http_request_duration_seconds_count", "", {}, below
        yield "http_requests_in_progress", "gauge", {}, self.in_progress
        yield "event_loop_lag_seconds", "gauge", {}, max(self.lags_s, default=math.nan)


def process_samples() -> Iterator[Sample]:
    """Yield samples of this process; memory and descriptors only where /proc exists."""
    yield "process_cpu_seconds_total", "counter", {}, time.process_time()
    yield "python_threads", "gauge", {}, threading.active_count()
    statm = Path("/proc/self/statm")
    if statm.exists():
        resident = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        yield "process_resident_memory_bytes", "gauge", {}, resident
        yield "process_open_fds", "gauge", {}, len(list(Path("/proc/self/fd").iterdir()))
    for generation, stats in enumerate(gc.get_stats()):
        label = {"generation": str(generation)}
        yield "python_gc_collections_total", "counter", label, stats["collections"]
        yield "python_gc_objects_collected_total", "counter", label, stats["collected"]


def prometheus_text(samples: Iterable[Sample]) -> str:
    r"""Return samples in Prometheus text format 0.0.4, grouped by name.

    >>> prometheus_text([("hits_total", "counter", {"cache": 'a"b'}, 3.0)])
    '# TYPE hits_total counter\nhits_total{cache="a\\"b"} 3.0\n'
    """
    families: dict[str, list[str]] = {}
    for name, kind, labels, value in samples:
        lines = families.setdefault(name, [])
        if kind and not lines:
            lines.append(f"# TYPE {name.removesuffix('_bucket')} {kind}")
        escaped = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
        inside = ",".join(f'{k}="{v.translate(escaped)}"' for k, v in labels.items())
        lines.append(f"{name}{{{inside}}} {float(value)}" if labels else f"{name} {float(value)}")
    return "".join(f"{line}\n" for lines in families.values() for line in lines)


def require_token(app: ASGIApp, token: str) -> ASGIApp:
    """Require a bearer token, compared in constant time. Raises ValueError for a short token."""
    if len(token) < 16:
        raise ValueError("the token has fewer than 16 characters; generate one with secrets.token_urlsafe()")
    wanted = hashlib.sha256(token.encode()).digest()

    async def authenticate(scope: Scope, receive: Receive, send: Send) -> None:
        scope["trimtab.kit"] = True
        scheme, _, given = Headers(raw=scope.get("headers", [])).get("authorization", "").partition(" ")
        same = hmac.compare_digest(hashlib.sha256(given.strip().encode("latin-1")).digest(), wanted)
        inside = scope["type"] != "http" or (scheme.lower() == "bearer" and same)
        refusal = problem_response(401, "send the token as a bearer token", {"WWW-Authenticate": "Bearer"})
        await (app if inside else refusal)(scope, receive, send)

    return authenticate


class Knobs:
    """Metrics, knobs and actions of this service, including those of the garbage collector.

    app : application whose requests are measured, before it serves; None = no request metrics
    """

    def __init__(self, service: str, app: Starlette | None = None, version: str = "") -> None:
        self.service = service
        self.version = version
        self.request_metrics = RequestMetrics()
        self.knobs: dict[str, Knob] = {}
        self.actions: dict[str, Action] = {}
        self._metrics: list[tuple[str, str, dict[str, str], Callable[[], float]]] = []
        self._answers: dict[str, tuple[str, Response | None]] = {}
        if app is not None:
            app.add_middleware(self.request_metrics.middleware)
        self.knob(
            "gc_threshold", lambda: gc.get_threshold()[0], gc.set_threshold, low=0, high=10**6, group="gc",
            help="Allocations after which the youngest generation is collected; 0 = never.",
        )  # fmt: skip
        self.action("gc_collect", lambda: f"{gc.collect()} objects were unreachable", "Collect garbage now.")

    def knob(self, name: str, get: Callable[[], Any], put: Callable[[Any], object], **about: Any) -> None:
        """Declare a setting. `put` must be fast; it raises ValueError to reject a value.

        about : type, unit, low, high, step, choices, warm_up_s, group, help, permanent (see Knob)
        """
        made = Knob(name, get, put, get(), **about)
        bounded = made.type in {"bool", "choice"} or None not in (made.low, made.high)
        if not _NAME.fullmatch(name) or name in self.knobs or made.type not in _KINDS or not bounded:
            raise ValueError(f"knob {name!r}: needs a new name of a-z, 0-9, _, a known type, low and high")
        self.knobs[name] = made

    def action(self, name: str, call: Callable[[], object], help: str, **about: Any) -> None:  # noqa: A002 - as in the JSON
        """Declare an operation. about : risk, reduces, idempotent (see Action)."""
        if not _NAME.fullmatch(name) or name in self.actions:
            raise ValueError(f"action {name!r}: needs a new name of a-z, 0-9, _")
        self.actions[name] = Action(name, call, help, **about)

    def metric(self, name: str, read: Callable[[], float], kind: str = "gauge", **labels: str) -> None:
        """Declare a metric; use base units, and names that end in `_total` for counters."""
        self._metrics.append((name, kind, labels, read))

    def cache(
        self, name: str, cache: Any, low: int = 1, high: int = 10**6, warm: Callable[[], object] | None = None
    ) -> None:
        """Declare knobs NAME_size, NAME_ttl_seconds, actions clear_NAME, warm_NAME, and metrics of a cache.

        cache : has a writable `maxsize`, `len()` and `clear()`; optionally `ttl`, `hits`, `misses`
        """
        get, put = partial(partial, getattr, cache), partial(partial, setattr, cache)
        size = {"unit": "entries", "low": low, "high": high, "help": f"Maximum number of entries in {name}."}
        self.knob(f"{name}_size", get("maxsize"), put("maxsize"), group=name, **size)
        if hasattr(cache, "ttl"):
            ttl = {"type": "float", "unit": "s", "low": 0.0, "high": 604_800.0, "help": f"TTL in {name}."}
            self.knob(f"{name}_ttl_seconds", get("ttl"), put("ttl"), group=name, **ttl)
        self.action(f"clear_{name}", cache.clear, f"Clear {name}.", risk="medium", reduces=True)
        if warm is not None:
            self.action(f"warm_{name}", warm, f"Fill {name} with the most requested entries.")
        self.metric("cache_entries", lambda: len(cache), cache=name)
        self.metric("cache_max_entries", get("maxsize"), cache=name)
        for counter in ("hits", "misses"):
            if hasattr(cache, counter):
                self.metric(f"cache_{counter}_total", get(counter), "counter", cache=name)

    def app(self, *, token: str) -> ASGIApp:
        """Return the ASGI app to mount. token : at least 16 characters. Raises ValueError."""
        routes = [
            Route("/", self._describe), Route("/metrics", self._metrics_page),
            Route("/knobs/{name}", self._get_knob), Route("/knobs/{name}", self._put_knob, methods=["PUT"]),
            Route("/actions/{name}", self._run_action, methods=["POST"]),
        ]  # fmt: skip
        handlers: Any = {HTTPException: handle_error, Exception: handle_error}
        return require_token(Starlette(routes=routes, exception_handlers=handlers), token)

    async def _describe(self, request: Request) -> Response:  # noqa: ARG002 - the route passes it
        knobs, actions = ([as_json(e) for e in part.values()] for part in (self.knobs, self.actions))
        service = {"service": self.service, "version": self.version}
        return JSONResponse(service | {"knobs": knobs, "actions": actions})

    async def _metrics_page(self, request: Request) -> Response:  # noqa: ARG002 - the route passes it
        self.request_metrics.measure_lag()
        yours = ((name, kind, labels, read()) for name, kind, labels, read in self._metrics)
        samples = [*self.request_metrics.samples(), *process_samples(), *yours]
        return Response(prometheus_text(samples), media_type="text/plain; version=0.0.4")

    async def _get_knob(self, request: Request) -> Response:
        shown = as_json(_find(self.knobs, request))
        return JSONResponse(shown, headers={"ETag": shown["etag"]})

    async def _put_knob(self, request: Request) -> Response:
        knob, body = _find(self.knobs, request), await read_json(request)
        if not isinstance(body, dict) or body.keys() != {"value"}:
            raise HTTPException(422, 'send {"value": ...} and nothing else')
        value = knob.default if body["value"] is None else knob.check(body["value"])
        tags = {tag.strip() for tag in request.headers.get("if-match", "").split(",")}
        if tags == {""}:
            raise HTTPException(428, "send the ETag of the value that you read as If-Match")
        if not tags & {"*", knob.etag()}:
            raise HTTPException(412, f"{knob.name} is {knob.get()} now", {"ETag": knob.etag()})
        try:
            knob.put(value)
        except ValueError as error:
            raise HTTPException(422, f"{knob.name} rejects {value!r:.80}: {error}") from error
        shown = as_json(knob)
        log.info("knob_set name=%s value=%r", knob.name, shown["value"])
        return JSONResponse(shown, headers={"ETag": shown["etag"]})

    async def _run_action(self, request: Request) -> Response:
        action, key = _find(self.actions, request), request.headers.get("idempotency-key", "")
        if not 0 < len(key) <= 200:
            raise HTTPException(400, "send an Idempotency-Key of 1 to 200 characters")
        if key in self._answers:
            name, earlier = self._answers[key]
            if name != action.name:
                raise HTTPException(422, f"this Idempotency-Key was used for {name}; use a new one")
            if earlier is None:
                raise HTTPException(409, f"{name} is still running with this key", {"Retry-After": "1"})
            earlier.headers["Idempotency-Replayed"] = "true"
            return earlier
        self._answers[key], call = (action.name, None), action.call
        try:
            result = await (call() if inspect.iscoroutinefunction(call) else asyncio.to_thread(call))
            answer: Response = JSONResponse({"result": "done" if result is None else str(result)})
        except Exception:
            log.exception("action_failed name=%s", action.name)
            answer = problem_response(500, f"{action.name} failed; see the log of {self.service}")
        self._answers[key] = (action.name, answer)
        while len(self._answers) > MAX_KEYS:
            del self._answers[next(iter(self._answers))]
        return answer


def _find(entries: dict[str, Any], request: Request) -> Any:
    name = request.path_params["name"]
    if name not in entries:
        raise HTTPException(404, f"{name!r:.80} does not exist; known are {', '.join(entries)}")
    return entries[name]


async def read_json(request: Request) -> object:
    """Return the parsed body. Raises HTTPException."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise HTTPException(413, f"send a body of at most {MAX_BODY_BYTES} bytes, with its Content-Length")
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as RFC 9457 problem+json."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, "application/problem+json")


async def handle_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - handlers have it
    """Return any exception as a problem; the server still logs an unexpected one."""
    detail = getattr(error, "detail", "see the log of the service")
    return problem_response(getattr(error, "status_code", 500), detail, getattr(error, "headers", None))
