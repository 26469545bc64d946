"""The whole loop on a real Redis: seen, named, recommended, done within limits, watched, written down."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.engine import TRIMTAB, Engine, trimtab_up, until
from tests.servers import Server, binary, free_port, running

redis = pytest.importorskip("redis")
pytestmark = pytest.mark.acceptance

MIB = 2**20
LIMIT = 16 * MIB
VALUE = "x" * 2000
CALM_S, SEEN_S, ACTED_S, KEPT_S = 150.0, 240.0, 120.0, 240.0
"""Until figures are scored; until a pattern is; until an action is; until it is kept. Upper bounds."""


class Load:
    """Reads of a cache whose misses are filled, by a zipf law; `keys` may be changed while it runs."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.keys = 2_000
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _run(self) -> None:
        client, rng = redis.Redis(port=self.port), np.random.default_rng(1)
        while not self._over.wait(0.02):
            wanted = (np.minimum(rng.zipf(1.1, 40), 10**9) - 1) % self.keys
            pipe = client.pipeline(transaction=False)
            for key in wanted:
                pipe.get(f"k{key}")
            missed = [key for key, value in zip(wanted, pipe.execute(), strict=True) if value is None]
            for key in missed:
                pipe.set(f"k{key}", VALUE, ex=3600)
            pipe.execute()
        client.close()


@contextmanager
def small_redis(directory: Path) -> Iterator[Server]:
    """A cache that has room for the keys of a calm day only."""
    port = free_port()
    directory.mkdir()
    argv = [
        binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--maxmemory",
        str(LIMIT), "--maxmemory-policy", "allkeys-lru", "--dir", str(directory),
    ]  # fmt: skip
    with running(Server(argv, port, directory / "redis.log", lambda: _answers(port))) as server:
        yield server


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def _settings(port: int, mode: str) -> dict:
    tool = {"url": f"redis://127.0.0.1:{port}/0", "mode": mode, "targets": ["cache-1"], "trial": True}
    return {
        "sources": {"host": {"enabled": False}},
        "tools": {"redis": tool},
        "guardrails": {"time_scale": 0.1},
    }


def _figure(engine: Engine, metric: str) -> dict:
    return next((s for s in engine.every("series", search=metric) if s["metric"] == metric), {})


def _pattern(engine: Engine) -> str:
    """The incident that shows a thrashing cache; "" = there is none."""
    shown = [i for i in engine.every("incidents") if any(p["name"] == "cache_thrash" for p in i["patterns"])]
    return str(shown[0]["id"]) if shown else ""


def _newest(engine: Engine, path: str) -> dict:
    found = engine.every(path)
    return found[0] if found else {}


def _maxmemory(port: int) -> int:
    with redis.Redis(port=port, decode_responses=True) as client:
        return int(client.config_get("maxmemory")["maxmemory"])


def test_a_thrashing_cache_is_given_room_without_a_person(tmp_path):
    """Mode auto: the pattern is named, maxmemory raised within a step, hits rise, all is audited."""
    with (
        small_redis(tmp_path / "redis") as server,
        Load(server.port) as load,
        trimtab_up(tmp_path / "trimtab", _settings(server.port, "auto")) as engine,
    ):
        until(lambda: _figure(engine, "redis_hit_ratio").get("anomaly_score") is not None, CALM_S)
        load.keys = 60_000
        incident = until(lambda: _pattern(engine), SEEN_S)
        before = _figure(engine, "redis_hit_ratio")["value"]
        action = until(lambda: _newest(engine, "actions"), ACTED_S)
        assert (action["tool"], action["target"], action["subject"]) == ("redis", "cache-1", "maxmemory")
        assert (action["by"], action["time_scale"]) == ("trimtab", 0.1)
        done = until(
            lambda: engine.get(f"actions/{action['id']}") if _ended(engine, action) else None, KEPT_S
        )
        print(f"{done['before']} -> {done['after']}: {done['outcome']}, hit ratio was {before:.2f}")
        assert done["state"] == "kept", done
        assert LIMIT < done["after"] <= 2 * LIMIT
        assert _maxmemory(server.port) >= done["after"]
        recommendation = engine.get(f"recommendations/{done['recommendation_id']}")
        assert recommendation["incident_id"] == incident
        effect = done["outcome"]["effect"]
        assert effect["expected"] > recommendation["effect"]["before"]
        assert recommendation["effect"]["low"] <= effect["high"]
        said = [row["what"] for row in engine.get("audit", limit=500)["items"]]
        assert {"proposed", "applied"} <= set(said)
        key = ["--config", tmp_path / "trimtab" / "trimtab.yaml"]
        checked = subprocess.run(
            [TRIMTAB, "audit", "verify", *key], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def _ended(engine: Engine, action: dict) -> bool:
    return engine.get(f"actions/{action['id']}")["state"] not in {"proposed", "executing", "verifying"}


@pytest.mark.trials
def test_a_recommendation_is_all_that_mode_recommend_gives(tmp_path):
    """Mode recommend: the same pattern is named and the same change recommended, and nothing is changed."""
    with (
        small_redis(tmp_path / "redis") as server,
        Load(server.port) as load,
        trimtab_up(tmp_path / "trimtab", _settings(server.port, "recommend")) as engine,
    ):
        until(lambda: _figure(engine, "redis_hit_ratio").get("anomaly_score") is not None, CALM_S)
        load.keys = 60_000
        until(lambda: _pattern(engine), SEEN_S)
        found = until(lambda: _newest(engine, "recommendations"), ACTED_S)
        assert (found["subject"], found["mode"], found["state"]) == ("maxmemory", "recommend", "pending")
        threading.Event().wait(40)  # twice what auto waits for at this scale
        assert engine.every("actions") == []
        assert _maxmemory(server.port) == LIMIT
