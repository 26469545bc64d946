"""A shop service with its Redis cache, load on it, and settings of an engine that watches both."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson

from tests.servers.prometheus import ServerProcess, free_port, responds_with_200, running_server
from tests.servers.redis import RedisServer, start_redis
from tests.services.shop_service import TOKEN, price

MIB = 2**20
CACHE_BYTES = 16 * MIB
"""maxmemory of the cache: enough for the items of normal load only."""
ORIGIN_CONNECTIONS = 2
"""Connections to the origin, set by the operator: not the default of the service."""
NORMAL_ITEMS, BUSY_ITEMS = 2_000, 60_000
"""Number of requested items under normal and heavy load."""


@dataclass(frozen=True)
class Shop:
    """The service and its cache, both real."""

    service: ServerProcess
    cache: RedisServer

    def maxmemory(self) -> int:
        """Return maxmemory of the cache in bytes."""
        return int(self.cache.cli("CONFIG", "GET", "maxmemory").split()[-1])

    def knob(self, name: str) -> Any:
        """Return the value of a knob of the service."""
        return self._ask("GET", name)

    def set_knob(self, name: str, value: Any) -> None:
        """Set a knob of the service directly, without an engine."""
        self._ask("PUT", name, json={"value": value})

    def _ask(self, method: str, name: str, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}", "If-Match": "*"}
        answer = httpx.request(
            method, f"{self.service.url}/trimtab/knobs/{name}", headers=headers, trust_env=False, timeout=10,
            **more,
        )  # fmt: skip
        assert answer.is_success, answer.text
        return answer.json()["value"]

    def settings(self, mode: str) -> dict[str, Any]:
        """Return settings of an engine that watches both, ten times as fast."""
        cache = {"url": f"redis://{self.cache.address}/0", "targets": ["cache-1"]}
        shop = {"kind": "http_service", "url": f"{self.service.url}/trimtab", "bearer_token": TOKEN}
        common = {"mode": mode, "trial": True}
        return {
            "sources": {"host": {"enabled": False}},
            "tools": {"redis": cache | common, "shop": shop | common},
            "guardrails": {"time_scale": 0.1, "targets_share": 1.0},
        }


@contextmanager
def start_shop(directory: Path) -> Iterator[Shop]:
    """Start cache and service as child processes."""
    flags = ("--maxmemory", str(CACHE_BYTES), "--maxmemory-policy", "allkeys-lru")
    with start_redis(directory / "redis", *flags) as cache:
        port = free_port()
        argv = [
            sys.executable, "-m", "tests.services.shop_service", "--port", str(port),
            "--redis", f"redis://{cache.address}",
        ]  # fmt: skip
        ready = responds_with_200(f"http://127.0.0.1:{port}/openapi.json")
        with running_server(ServerProcess(argv, port, directory / "shop.log", ready)) as service:
            shop = Shop(service, cache)
            shop.set_knob("origin_connections", ORIGIN_CONNECTIONS)
            yield shop


class ShopLoad:
    """Requests baskets of Zipf-distributed items from threads that pause about `pause_s` seconds.

    item_count : number of items; may change at any time
    failures   : requests without an answer or with a wrong one
    """

    def __init__(self, port: int, threads: int = 64, pause_s: float = 2.0, items: int = 40) -> None:
        self.port = port
        self.item_count = NORMAL_ITEMS
        self.answered = 0
        self.failures: list[str] = []
        self._pause_s = pause_s
        self._items = items
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(seed,), daemon=True) for seed in range(threads)
        ]

    def __enter__(self) -> "ShopLoad":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(15)

    def _ask(self, seed: int) -> None:
        rng, connection = np.random.default_rng(seed), HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not self._over.wait(self._pause_s * rng.uniform(0.5, 1.5)):
            items = ((np.minimum(rng.zipf(1.1, self._items), 10**9) - 1) % self.item_count).tolist()
            problem = self._problem(connection, items)
            with self._lock:
                self.answered += not problem
                self.failures += [problem] if problem else []
        connection.close()

    def _problem(self, connection: HTTPConnection, items: list[int]) -> str:
        try:
            connection.request("GET", f"/basket?ids={','.join(map(str, items))}")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException) as error:
            connection.close()
            return f"{type(error).__name__}: {error}"
        is_correct = answer.status == 200 and orjson.loads(body)["cents"] == sum(map(price, items))
        return "" if is_correct else f"HTTP {answer.status}: {body[:80]!r}"
