"""The HTTP interface of the service kit, in memory and over uvicorn."""

import asyncio
import doctest
import gc
import shutil
import subprocess
import sys
import threading

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

import trimtab.service
from tests.servers.http import serve_app
from tests.services.leaky_service import LruCache
from trimtab.service import Knobs

TOKEN = "a-token-of-sixteen-or-more"
LOGIN = {"Authorization": f"Bearer {TOKEN}"}


class Service:
    """A FastAPI application with the kit, and a client for it."""

    def __init__(self):
        self.app = FastAPI()
        self.kit = Knobs("shop", self.app, version="1.2")
        self.cache = LruCache(100, 60.0)
        self.kit.cache("sessions", self.cache, high=1000, warm=self.warm)
        self.pool = 5
        self.kit.knob("pool", lambda: self.pool, self.set_pool, low=1, high=50, unit="connections")
        self.log = "info"
        choices = ("info", "debug")
        self.kit.knob(
            "log", lambda: self.log, lambda v: setattr(self, "log", v), type="choice", choices=choices
        )
        self.flag = False
        self.kit.knob("flag", lambda: self.flag, lambda v: setattr(self, "flag", v), type="bool")
        self.runs, self.begun, self.hold = [], asyncio.Event(), asyncio.Event()
        self.kit.action("slow", self.slow, "Waits.")
        self.kit.action("broken", self.broken, "Fails.")
        self.app.mount("/trimtab", self.kit.app(token=TOKEN))
        self.app.get("/items/{number}")(self.item)
        self.app.get("/fault")(self.broken)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://shop", headers=LOGIN)

    def warm(self):
        self.runs.append(threading.current_thread() is threading.main_thread())
        return "3 sessions are in the cache"

    def set_pool(self, value):
        if value == 13:
            raise ValueError("13 is never a size")
        self.pool = value

    async def slow(self):
        self.runs.append("slow")
        self.begun.set()
        await self.hold.wait()

    async def item(self, number: int):
        return number

    async def broken(self):
        raise RuntimeError("secret cause")

    async def knob(self, name):
        """Return (value, ETag) of a knob."""
        answer = await self.client.get(f"/trimtab/knobs/{name}")
        return answer.json()["value"], answer.headers["etag"]

    async def put(self, name, value, tag=None):
        """Set a knob and return the response; the default tag is the current one."""
        tag = (await self.knob(name))[1] if tag is None else tag
        return await self.client.put(
            f"/trimtab/knobs/{name}", json={"value": value}, headers={"If-Match": tag}
        )


@pytest.fixture
async def service():
    """The service in the current event loop."""
    made = Service()
    yield made
    made.hold.set()
    await made.client.aclose()


@pytest.fixture(autouse=True)
def thresholds():
    """Restores the thresholds of the garbage collector after each test."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong-token-of-sixteen"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": b"Bearer \xff\xfe"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/metrics", "/knobs/pool", "/nothing"])
async def test_token_is_required(service, headers, path):
    """Every path below the mount answers 401 with a challenge without the token."""
    transport = httpx.ASGITransport(service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop", headers=headers) as client:
        answer = await client.get(f"/trimtab{path}")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert TOKEN not in answer.text


async def test_it_describes_itself(service):
    """GET / lists knobs with value, bounds and ETag, and actions with their risk."""
    about = (await service.client.get("/trimtab/")).json()
    assert (about["service"], about["version"]) == ("shop", "1.2")
    knobs = {knob["name"]: knob for knob in about["knobs"]}
    assert list(knobs) == ["gc_threshold", "sessions_size", "sessions_ttl_seconds", "pool", "log", "flag"]
    assert {**knobs["sessions_size"], "etag": ""} == {
        "name": "sessions_size", "type": "int", "unit": "entries", "value": 100, "default": 100, "set": False,
        "low": 1, "high": 1000, "step": None, "choices": [], "warm_up_s": 60.0, "group": "sessions",
        "help": "Maximum number of entries in sessions.", "lasts": "until restart",
        "permanent": "", "etag": "",
    }  # fmt: skip
    actions = {action["name"]: action for action in about["actions"]}
    assert list(actions) == ["gc_collect", "clear_sessions", "warm_sessions", "slow", "broken"]
    assert actions["clear_sessions"]["reduces"]


async def test_a_knob_is_compared_and_set(service):
    """A PUT with the current ETag sets the value; a second PUT with the same ETag is refused."""
    value, tag = await service.knob("pool")
    answer = await service.put("pool", 8, tag)
    assert (value, answer.status_code, answer.json()["value"], service.pool) == (5, 200, 8, 8)
    assert answer.json()["set"]
    assert answer.headers["etag"] == (await service.knob("pool"))[1] != tag
    late = await service.put("pool", 9, tag)
    assert (late.status_code, service.pool) == (412, 8)
    assert late.headers["etag"] == answer.headers["etag"]


async def test_null_is_the_default(service):
    """Setting null restores the default value."""
    await service.put("pool", 8)
    answer = await service.put("pool", None)
    assert (answer.json()["value"], answer.json()["set"], service.pool) == (5, False, 5)


async def test_a_change_from_elsewhere_changes_the_tag(service):
    """A value that the service has changed since the ETag was read is not overwritten."""
    _, tag = await service.knob("pool")
    service.pool = 30
    assert (await service.put("pool", 8, tag)).status_code == 412


@pytest.mark.parametrize(
    ("knob", "value", "status"),
    [
        ("pool", 51, 422),  # above its bound
        ("pool", 0, 422),
        ("pool", 10**400, 422),
        ("pool", 5.5, 422),  # of another type
        ("pool", True, 422),
        ("pool", "8", 422),
        ("pool", [8], 422),
        ("pool", 13, 422),  # the service rejects it
        ("sessions_ttl_seconds", 5, 200),  # an int is a valid float
        ("sessions_ttl_seconds", -0.1, 422),
        ("sessions_ttl_seconds", 1e300, 422),
        ("log", "debug", 200),
        ("log", "trace", 422),
        ("flag", True, 200),
        ("flag", 1, 422),
        ("gc_threshold", 1000, 200),
        ("sessions_size", 10, 200),
    ],
)
async def test_only_allowed_values_are_set(service, knob, value, status):
    """A value of another type or out of bounds is refused and changes nothing."""
    before = await service.knob(knob)
    answer = await service.put(knob, value)
    assert answer.status_code == status
    after = await service.knob(knob)
    assert (after == before) == (status != 200)


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("GET", "/knobs/none", {}, 404),
        ("GET", "/elsewhere", {}, 404),
        ("DELETE", "/knobs/pool", {}, 405),
        ("PUT", "/knobs/none", {"json": {"value": 1}}, 404),
        ("PUT", "/knobs/pool", {"json": {"value": 8}}, 428),  # without If-Match
        ("PUT", "/knobs/pool", {"json": {"value": 8}, "headers": {"If-Match": '"other"'}}, 412),
        ("PUT", "/knobs/pool", {"json": {"value": 8}, "headers": {"If-Match": "*"}}, 200),
        ("PUT", "/knobs/pool", {"json": {"value": 8, "more": 1}}, 422),
        ("PUT", "/knobs/pool", {"json": [8]}, 422),
        ("PUT", "/knobs/pool", {"content": b"{"}, 400),
        ("PUT", "/knobs/pool", {"content": b"[" * 60_000}, 400),
        ("PUT", "/knobs/pool", {"content": b"\xff"}, 400),
        ("PUT", "/knobs/pool", {"content": b'{"value": NaN}', "headers": {"If-Match": "*"}}, 422),
        ("PUT", "/knobs/pool", {"content": b" " * 70_000}, 413),
        ("POST", "/actions/none", {"headers": {"Idempotency-Key": "k"}}, 404),
        ("POST", "/actions/gc_collect", {}, 400),  # without a key
        ("POST", "/actions/gc_collect", {"headers": {"Idempotency-Key": "k" * 201}}, 400),
    ],
)
async def test_errors_are_problems(service, method, path, sent, status):
    """An invalid request is answered with its status as problem+json."""
    answer = await service.client.request(method, f"/trimtab{path}", **sent)
    assert answer.status_code == status
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


async def post(service, action, key):
    """Run an action and return the response."""
    return await service.client.post(f"/trimtab/actions/{action}", headers={"Idempotency-Key": key})


async def test_an_action_is_done_once(service):
    """The same key returns the same answer and runs nothing; another action refuses the key."""
    first, second = await post(service, "warm_sessions", "a"), await post(service, "warm_sessions", "a")
    assert first.json() == second.json() == {"result": "3 sessions are in the cache"}
    assert (service.runs, second.headers["idempotency-replayed"]) == ([False], "true")
    assert (await post(service, "gc_collect", "a")).status_code == 422
    await post(service, "warm_sessions", "b")
    assert service.runs == [False, False]


async def test_an_action_that_runs_is_not_started_again(service):
    """A running action answers 409 to its key, and afterwards its result."""
    first = asyncio.create_task(post(service, "slow", "a"))
    await service.begun.wait()
    during = await post(service, "slow", "a")
    assert (during.status_code, during.headers["retry-after"]) == (409, "1")
    service.hold.set()
    assert (await first).json() == (await post(service, "slow", "a")).json() == {"result": "done"}
    assert service.runs == ["slow"]


async def test_an_action_that_fails(service, caplog):
    """A failed action answers 500 without the cause, logs it once, and keeps the key."""
    answers = [await post(service, "broken", "a"), await post(service, "broken", "a")]
    assert [answer.status_code for answer in answers] == [500, 500]
    assert "secret cause" not in answers[0].text
    assert caplog.text.count("RuntimeError: secret cause") == 1


async def test_only_the_newest_keys_are_kept(service, monkeypatch):
    """Only the newest keys are kept."""
    monkeypatch.setattr(trimtab.service, "MAX_KEYS", 2)
    for key in "abc":
        await post(service, "warm_sessions", key)
    assert "idempotency-replayed" in (await post(service, "warm_sessions", "c")).headers
    assert "idempotency-replayed" not in (await post(service, "warm_sessions", "a")).headers


async def exported_metrics(service):
    """Return the samples of /metrics by name and labels."""
    text = (await service.client.get("/trimtab/metrics")).text
    families = text_string_to_metric_families(text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


async def test_it_exports_metrics(service, monkeypatch):
    """/metrics has requests by route and status, durations, caches, memory, garbage collection and lag."""
    monkeypatch.setattr(trimtab.service, "LAG_INTERVAL_S", 0.001)
    service.cache.put(1, "x")
    service.cache.get(1), service.cache.get(2)
    for path in ("/items/1", "/items/2", "/items/x", "/fault", "/nothing"):
        await service.client.get(path)
    await asyncio.sleep(0.01)  # a few measurements
    metrics = await exported_metrics(service)
    requests = {key[1:]: value for key, value in metrics.items() if key[0] == "http_requests_total"}
    assert requests == {
        ("GET", "/items/{number}", "200"): 2.0,
        ("GET", "/items/{number}", "422"): 1.0,
        ("GET", "/fault", "500"): 1.0,
        ("GET", "other", "404"): 1.0,
    }
    assert metrics["http_request_duration_seconds_count",] == 5
    assert metrics["http_request_duration_seconds_bucket", "+Inf"] == 5
    assert 0 < metrics["http_request_duration_seconds_sum",] < 5
    assert metrics["http_requests_in_progress",] == 1  # the current request
    assert (metrics["cache_hits_total", "sessions"], metrics["cache_misses_total", "sessions"]) == (1, 1)
    assert (metrics["cache_entries", "sessions"], metrics["cache_max_entries", "sessions"]) == (1, 100)
    assert 10e6 < metrics["process_resident_memory_bytes",] < 10e9
    assert 0 <= metrics["event_loop_lag_seconds",] < 1
    assert metrics["python_gc_collections_total", "0"] > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda kit: kit.app(token="short"), "16 characters"),
        (lambda kit: kit.knob("Bad Name", int, print, low=0, high=1), "new name"),
        (lambda kit: kit.knob("gc_threshold", int, print, low=0, high=1), "new name"),
        (lambda kit: kit.knob("x", int, print), "low and high"),
        (lambda kit: kit.knob("x", int, print, type="text"), "known type"),
        (lambda kit: kit.action("gc_collect", print, "again"), "new name"),
    ],
)
def test_invalid_declarations_are_refused(make, message):
    """An invalid declaration raises an error at once."""
    with pytest.raises(ValueError, match=message):
        make(Knobs("shop"))


def test_file_can_be_copied(tmp_path):
    """The file works as a copy under another name, with Starlette only."""
    shutil.copy(trimtab.service.__file__, tmp_path / "copied.py")
    code = (
        "import sys; sys.modules['trimtab'] = None; import copied; copied.Knobs('a').app(token='x' * 16); "
        "loaded = {name.partition('.')[0] for name in sys.modules}; "
        "print(sorted(loaded & {'fastapi', 'httpx', 'psutil', 'pydantic'}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


def test_its_examples():
    """The examples in the docstrings print what they show."""
    failed, tried = doctest.testmod(trimtab.service)
    assert (failed, tried > 0) == (0, True)


async def test_it_needs_no_fastapi_and_a_real_server():
    """The kit works in a Starlette application behind uvicorn; a path without slash redirects."""
    app = Starlette()
    app.mount("/trimtab", Knobs("plain", app).app(token=TOKEN))
    async with serve_app(app) as url, httpx.AsyncClient(headers=LOGIN, trust_env=False) as client:
        assert (await client.get(f"{url}/trimtab/")).json()["service"] == "plain"
        assert (await client.get(f"{url}/trimtab")).status_code in {301, 307, 308}
