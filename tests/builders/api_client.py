"""Harness of the API over fake ports, with its HTTP clients."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from tests.fakes.fake_control_loop import FakeControlLoop
from tests.fakes.ports import FakeClock, FakeLiveView, FakeScoreLog, FakeStore
from trimtab.engine.api.application import create_app
from trimtab.engine.api.security import api_keys
from trimtab.engine.api.security.authentication import COOKIE
from trimtab.engine.settings import Api

BASE = "http://localhost:8600"
METRICS = "# TYPE trimtab_ticks counter\n"


class ApiHarness:
    """The application over fake ports, and its HTTP clients.

    settings : API settings; the defaults if None
    web_dir  : directory of the built dashboard; None = no dashboard
    ports    : `store` and `live` replace the fakes; `loop=True` adds the control loop's ports
    """

    def __init__(self, settings: Api | None = None, web_dir: Path | None = None, **ports: Any) -> None:
        self.clock = FakeClock()
        self.store: FakeStore = ports.get("store") or FakeStore()
        self.live: FakeLiveView = ports.get("live") or FakeLiveView()
        self.score_log = FakeScoreLog()
        self.settings = settings or Api()
        self.web_dir = web_dir
        self.loop: FakeControlLoop | None = ports.get("loop") and FakeControlLoop(self.clock, self.live)
        self.requests: list[tuple[str, str, int]] = []
        self.app = self.start()

    def start(self) -> FastAPI:
        """Create the application again over the same ports, as after a restart."""
        self.app = create_app(
            live=self.live, store=self.store, score_log=self.score_log, settings=self.settings,
            clock=self.clock, web_dir=self.web_dir, metrics_text=lambda: METRICS, version="0.1.0",
            observer=lambda method, route, status, _: self.requests.append((method, route, status)),
            loop=self.loop and self.loop.ports(),
        )  # fmt: skip
        return self.app

    def anonymous_client(
        self, address: str = "127.0.0.1", base: str = BASE, **more: Any
    ) -> httpx.AsyncClient:
        """Return a client without credentials."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=True, client=(address, 40000))
        return httpx.AsyncClient(transport=transport, base_url=base, **more)

    def create_key(self, *scopes: str, name: str | None = None, lifetime_s: float | None = 86_400.0) -> str:
        """Create an API key and return its secret."""
        name = name or f"key {len(self.store.api_keys)}"
        return api_keys.create_key(self.store, self.clock, name, scopes, lifetime_s)[1]

    def key_client(self, *scopes: str, **more: Any) -> httpx.AsyncClient:
        """Return a client with a new API key that has these scopes."""
        return self.anonymous_client(headers={"Authorization": f"Bearer {self.create_key(*scopes)}"}, **more)

    async def browser_client(
        self, scopes: Iterable[str] = ("admin",), **more: Any
    ) -> tuple[httpx.AsyncClient, str]:
        """Return a client with a browser session, and its CSRF token."""
        browser = self.anonymous_client(**more)
        response = await browser.post("/api/session", json={"key": self.create_key(*scopes)})
        assert response.status_code == 200, response.text
        assert COOKIE in browser.cookies
        return browser, response.json()["csrf"]


def assert_problem(response: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    """Assert a problem+json of this status whose detail contains the words; return its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["type"].startswith("urn:trimtab:problem:")
    assert body["title"]
    assert body["trace_id"] == response.headers["x-trace-id"]
    assert all(word in body["detail"] for word in words), body["detail"]
    return body
