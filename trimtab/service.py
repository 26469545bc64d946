"""Lets Trimtab watch and tune a Python service, in three lines of it:

    kit = Knobs("shop", app)                                # app: FastAPI or Starlette
    kit.cache("sessions", sessions)                         # size, ttl, clear; see Knobs.cache
    app.mount("/trimtab", kit.app(token=os.environ["TRIMTAB_TOKEN"]))

This file needs Starlette and nothing else: `from trimtab.service import Knobs`, or copy it into a service.
Under the mount, each request with `Authorization: Bearer TOKEN`, else 401:

    GET  /                 {"service", "version", "knobs": [KNOB], "actions": [ACTION]}
    GET  /knobs/NAME       KNOB, and its value's strong ETag
    PUT  /knobs/NAME       {"value": V} with If-Match: the new KNOB; {"value": null} = the default again.
                           428 without If-Match, 412 where it is another value now, 422 out of bounds
    POST /actions/NAME     with Idempotency-Key: {"result": TEXT}. The same key again does nothing new and
                           is answered the same, with Idempotency-Replayed: true; 409 while the first runs
    GET  /metrics          Prometheus text 0.0.4, base units

KNOB   {"name", "type": "int|float|bool|choice", "unit", "value", "default", "set", "low", "high", "step",
       "choices", "warm_up_s", "group", "help", "lasts": "until restart", "permanent", "etag"}
ACTION {"name", "help", "risk": "low|medium|high", "reduces", "idempotent"}

Errors are RFC 9457 problem+json. Knobs and keys belong to one process: of several workers each needs an
address of its own. Knobs are set in the event loop; an action that is a plain function runs in a thread.
"""
# ruff: noqa: ANN401 - values are JSON, what `about` takes are fields of Knob and Action

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

Sample = tuple[str, str, dict[str, str], float]  # name, kind ("" = part of the one before), labels, value
MAX_BODY_BYTES = 65_536
MAX_KEYS = 1_000
BEAT_S = 0.5
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_KINDS: dict[str, Any] = {"int": int, "float": int | float, "bool": bool, "choice": str}
log = logging.getLogger("trimtab.service")


@dataclasses.dataclass(frozen=True, slots=True)
class Knob:
    """A setting. low, high, step are in `unit`; `permanent` tells people how to make a change last."""

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
        """A strong one, of the value."""
        text = json.dumps([self.name, self.get()])
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:16]}"'

    def check(self, value: Any) -> Any:
        """The value, where it may be set. Raises HTTPException 422."""
        number = self.type in {"int", "float"}
        if not isinstance(value, _KINDS[self.type]) or (number and isinstance(value, bool)):
            raise HTTPException(422, f"{self.name} is of type {self.type}, not {value!r:.80}")
        if number and not self.low <= value <= self.high:
            raise HTTPException(422, f"{self.name} wants {self.low} to {self.high}, not {value!r:.80}")
        if self.type == "choice" and value not in self.choices:
            raise HTTPException(422, f"{self.name} wants one of {self.choices}, not {value!r:.80}")
        return value


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """Something that the service can be told to do; `call` gives a line for people, or nothing."""

    name: str
    call: Callable[[], object]
    help: str
    risk: str = "low"
    reduces: bool = False
    idempotent: bool = True


def as_json(one: Knob | Action) -> dict[str, Any]:
    """As JSON shows it."""
    named = ((field.name, getattr(one, field.name)) for field in dataclasses.fields(one))
    plain = {name: value for name, value in named if not callable(value)}
    if isinstance(one, Action):
        return plain
    now = {"value": one.get(), "set": one.get() != one.default, "etag": one.etag()}
    return plain | now | {"lasts": "until restart"}


@dataclasses.dataclass(slots=True)
class RequestMetrics:
    """What the middleware counts."""

    requests: dict[tuple[str, str, str], int] = dataclasses.field(default_factory=dict)
    buckets: list[int] = dataclasses.field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    seconds: float = 0.0
    in_progress: int = 0
    lags_s: deque[float] = dataclasses.field(default_factory=lambda: deque(maxlen=30))
    loop: asyncio.AbstractEventLoop | None = None

    def record(self, scope: Scope, status: int, seconds: float) -> None:
        """A request was answered. Routes are told by their template, so that there are few."""
        path = getattr(scope.get("route"), "path", "other")
        key = ("other" if status == 405 else scope["method"], path, str(status))
        self.requests[key] = self.requests.get(key, 0) + 1
        self.seconds += seconds
        self.buckets[next((i for i, top in enumerate(BUCKETS_S) if seconds <= top), -1)] += 1

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """ASGI middleware: counts and times each HTTP request, but for those to the kit itself."""

        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            status, started = 500, time.perf_counter()

            async def sending(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            if scope["type"] != "http":
                return await app(scope, receive, send)
            self.measure_lag()
            self.in_progress += 1
            try:
                await app(scope, receive, sending)
            finally:
                self.in_progress -= 1
                if "trimtab.kit" not in scope:
                    self.record(scope, status, time.perf_counter() - started)

        return measured

    def measure_lag(self, due: float | None = None) -> None:
        """Measure how late the running event loop is, every BEAT_S seconds from now on."""
        loop = asyncio.get_running_loop()
        if due is not None:
            self.lags_s.append(max(0.0, loop.time() - due))
        elif loop is self.loop:
            return
        self.loop = loop
        loop.call_later(BEAT_S, self.measure_lag, loop.time() + BEAT_S)

    def samples(self) -> Iterator[Sample]:
        """All of them; the lag is the worst of 15 seconds."""
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
    """Of this process; memory and descriptors where there is a /proc."""
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
    r"""Prometheus text 0.0.4; samples of one name stand together.

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
    """Lets in who brings the token, compared in constant time. Raises ValueError."""
    if len(token) < 16:
        raise ValueError("the token has fewer than 16 characters; take one from secrets.token_urlsafe()")
    wanted = hashlib.sha256(token.encode()).digest()

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        scope["trimtab.kit"] = True
        scheme, _, given = Headers(raw=scope.get("headers", [])).get("authorization", "").partition(" ")
        same = hmac.compare_digest(hashlib.sha256(given.strip().encode("latin-1")).digest(), wanted)
        inside = scope["type"] != "http" or (scheme.lower() == "bearer" and same)
        refusal = problem_response(
            401, "bring the service's token as a bearer token", {"WWW-Authenticate": "Bearer"}
        )
        await (app if inside else refusal)(scope, receive, send)

    return door


class Knobs:
    """What can be seen, set and done in this service. Those of the garbage collector are there already.

    app : is measured by a middleware where it is given, before it serves
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
            help="The youngest generation is collected after so many allocations; 0 = never.",
        )  # fmt: skip
        self.action("gc_collect", lambda: f"{gc.collect()} objects were unreachable", "Collect garbage now.")

    def knob(self, name: str, get: Callable[[], Any], put: Callable[[Any], object], **about: Any) -> None:
        """Declare a setting. `put` is quick, and raises ValueError to refuse.

        about : type, unit, low, high, step, choices, warm_up_s, group, help, permanent (see Knob)
        """
        made = Knob(name, get, put, get(), **about)
        bounded = made.type in {"bool", "choice"} or None not in (made.low, made.high)
        if not _NAME.fullmatch(name) or name in self.knobs or made.type not in _KINDS or not bounded:
            raise ValueError(f"knob {name!r}: wanted a new name of a-z, 0-9, _, a known type, low and high")
        self.knobs[name] = made

    def action(self, name: str, call: Callable[[], object], help: str, **about: Any) -> None:  # noqa: A002 - as in the JSON
        """Declare something to do. about : risk, reduces, idempotent (see Action)."""
        if not _NAME.fullmatch(name) or name in self.actions:
            raise ValueError(f"action {name!r}: wanted a new name of a-z, 0-9, _")
        self.actions[name] = Action(name, call, help, **about)

    def metric(self, name: str, read: Callable[[], float], kind: str = "gauge", **labels: str) -> None:
        """Show a figure of yours; counters end in `_total`, units are base units."""
        self._metrics.append((name, kind, labels, read))

    def cache(
        self, name: str, cache: Any, low: int = 1, high: int = 10**6, warm: Callable[[], object] | None = None
    ) -> None:
        """Knobs `NAME_size`, `NAME_ttl_seconds`, actions `clear_NAME`, `warm_NAME`, and figures of a cache.

        cache : has `maxsize`, to be set too, `len()` and `clear()`; and may have `ttl`, `hits`, `misses`
        """
        get, put = partial(partial, getattr, cache), partial(partial, setattr, cache)
        size = {"unit": "entries", "low": low, "high": high, "help": f"Most entries of {name}."}
        self.knob(f"{name}_size", get("maxsize"), put("maxsize"), group=name, **size)
        if hasattr(cache, "ttl"):
            ttl = {"type": "float", "unit": "s", "low": 0.0, "high": 604_800.0, "help": f"Life of {name}."}
            self.knob(f"{name}_ttl_seconds", get("ttl"), put("ttl"), group=name, **ttl)
        self.action(f"clear_{name}", cache.clear, f"Forget all of {name}.", risk="medium", reduces=True)
        if warm is not None:
            self.action(f"warm_{name}", warm, f"Fill {name} with what is asked for most.")
        self.metric("cache_entries", lambda: len(cache), cache=name)
        self.metric("cache_max_entries", get("maxsize"), cache=name)
        for figure in ("hits", "misses"):
            if hasattr(cache, figure):
                self.metric(f"cache_{figure}_total", get(figure), "counter", cache=name)

    def app(self, *, token: str) -> ASGIApp:
        """To be mounted. token : at least 16 characters. Raises ValueError."""
        routes = [
            Route("/", self._describe), Route("/metrics", self._show), Route("/knobs/{name}", self._get),
            Route("/knobs/{name}", self._put, methods=["PUT"]),
            Route("/actions/{name}", self._post, methods=["POST"]),
        ]  # fmt: skip
        handlers: Any = {HTTPException: handle_error, Exception: handle_error}
        return require_token(Starlette(routes=routes, exception_handlers=handlers), token)

    async def _describe(self, request: Request) -> Response:  # noqa: ARG002 - the route gives it
        knobs, actions = ([as_json(one) for one in those.values()] for those in (self.knobs, self.actions))
        named = {"service": self.service, "version": self.version, "knobs": knobs, "actions": actions}
        return JSONResponse(named)

    async def _show(self, request: Request) -> Response:  # noqa: ARG002 - the route gives it
        self.request_metrics.measure_lag()
        yours = ((name, kind, labels, read()) for name, kind, labels, read in self._metrics)
        samples = [*self.request_metrics.samples(), *process_samples(), *yours]
        return Response(prometheus_text(samples), media_type="text/plain; version=0.0.4")

    async def _get(self, request: Request) -> Response:
        shown = as_json(_named(self.knobs, request))
        return JSONResponse(shown, headers={"ETag": shown["etag"]})

    async def _put(self, request: Request) -> Response:
        knob, body = _named(self.knobs, request), await read_json(request)
        if not isinstance(body, dict) or body.keys() != {"value"}:
            raise HTTPException(422, 'send {"value": ...} and nothing else')
        value = knob.default if body["value"] is None else knob.check(body["value"])
        tags = {tag.strip() for tag in request.headers.get("if-match", "").split(",")}
        if tags == {""}:
            raise HTTPException(428, "give the ETag of the value that you saw as If-Match")
        if not tags & {"*", knob.etag()}:
            raise HTTPException(412, f"{knob.name} is {knob.get()} now", {"ETag": knob.etag()})
        try:
            knob.put(value)
        except ValueError as error:
            raise HTTPException(422, f"{knob.name} cannot be {value!r:.80}: {error}") from error
        shown = as_json(knob)
        log.info("knob %s set to %r", knob.name, shown["value"])
        return JSONResponse(shown, headers={"ETag": shown["etag"]})

    async def _post(self, request: Request) -> Response:
        action, key = _named(self.actions, request), request.headers.get("idempotency-key", "")
        if not 0 < len(key) <= 200:
            raise HTTPException(400, "give an Idempotency-Key of 1 to 200 characters")
        if key in self._answers:
            name, before = self._answers[key]
            if name != action.name:
                raise HTTPException(422, f"this Idempotency-Key was used for {name}; take a new one")
            if before is None:
                raise HTTPException(409, f"{name} still runs under this key", {"Retry-After": "1"})
            before.headers["Idempotency-Replayed"] = "true"
            return before
        self._answers[key], call = (action.name, None), action.call
        try:
            said = await (call() if inspect.iscoroutinefunction(call) else asyncio.to_thread(call))
            answer: Response = JSONResponse({"result": "done" if said is None else str(said)})
        except Exception:
            log.exception("action %s failed", action.name)
            answer = problem_response(500, f"{action.name} failed; the log of {self.service} says why")
        self._answers[key] = (action.name, answer)
        while len(self._answers) > MAX_KEYS:
            del self._answers[next(iter(self._answers))]
        return answer


def _named(those: dict[str, Any], request: Request) -> Any:
    name = request.path_params["name"]
    if name not in those:
        raise HTTPException(404, f"there is no {name!r:.80}; there are {', '.join(those)}")
    return those[name]


async def read_json(request: Request) -> object:
    """The body. Raises HTTPException."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise HTTPException(413, f"send a body of at most {MAX_BODY_BYTES} bytes, with its Content-Length")
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is no JSON") from None


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as RFC 9457 has it."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, "application/problem+json")


async def handle_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - as handlers are
    """Any error as a problem; a fault goes on to the server's log behind its answer."""
    detail = getattr(error, "detail", "the service's log says why")
    return problem_response(getattr(error, "status_code", 500), detail, getattr(error, "headers", None))
