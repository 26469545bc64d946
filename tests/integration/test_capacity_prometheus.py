"""Capacity of a service on a real Prometheus with history: a forecast at once, and a number or an error."""

import math
import time

import httpx
import pytest

from tests.acceptance.engine import trimtab_up, wait_until
from tests.servers.prometheus import backfill, start_exporter, start_prometheus

DAYS, STEP_S = 4, 300
LABELS = 'instance="shop:80",job="shop"'


def load_at(seconds):
    """Return requests per second by time of day: 24 at midnight, 96 at noon."""
    return 60.0 - 36.0 * math.cos(2 * math.pi * (seconds % 86_400) / 86_400)


def exporter_text():
    """Return the current metrics of the service."""
    load = load_at(time.time())
    return f"# TYPE shop_load gauge\nshop_load {load}\n# TYPE shop_replicas gauge\nshop_replicas 12\n"


def history_text(now_s):
    """Return four days of both metrics."""
    times = range(now_s - DAYS * 86_400, now_s - 60, STEP_S)
    load = "".join(f"shop_load{{{LABELS}}} {load_at(t):.3f} {t}\n" for t in times)
    count = "".join(f"shop_replicas{{{LABELS}}} 12 {t}\n" for t in times)
    return f"# TYPE shop_load gauge\n{load}# TYPE shop_replicas gauge\n{count}# EOF\n"


@pytest.fixture
def engine(tmp_path):
    """`trimtab up` on that Prometheus, and the exporter that it scrapes."""
    backfill(tmp_path / "prometheus", history_text(int(time.time())))
    job = "- job_name: shop\n  static_configs: [{{targets: ['{0}'], labels: {{instance: 'shop:80'}}}}]"
    capacity = {
        "load": 'shop_load{job="shop"}', "replicas": "shop_replicas", "capacity_per_replica": 10,
        "startup": "2m", "max_replicas": 40, "interval": "5s", "cost_per_replica_hour": 0.1,
    }  # fmt: skip
    with (
        start_exporter(exporter_text) as exporter,
        start_prometheus(tmp_path / "prometheus", config=job.format(exporter.address)) as server,
        trimtab_up(
            tmp_path / "engine",
            {
                "sources": {"host": {"enabled": False}, "prometheus": {"url": server.url, "interval": "1s"}},
                "capacity": {"shop": capacity},
            },
        ) as engine,
    ):
        yield engine, exporter


@pytest.mark.slow
def test_a_number_for_autoscalers_or_none(engine):
    """A forecast exists from the first minute; without samples KEDA gets an error and no metric."""
    trimtab, exporter = engine

    def policy_with_forecast():
        policies = trimtab.get("capacity")["items"]
        return next((policy for policy in policies if policy["ahead"] is not None), None)

    capacity = wait_until(policy_with_forecast, 180.0)
    assert capacity["load"] == pytest.approx(load_at(time.time()), abs=3.0)
    assert capacity["wanted"] >= math.ceil(capacity["load"] / 10 / 0.77)
    assert capacity["path"]["likely"][-1] == pytest.approx(load_at(time.time() + 120.0), abs=3.0)
    assert capacity["cost_per_day"] == pytest.approx(28.8)
    wanted = trimtab.get("capacity/shop/keda")["wanted"]
    assert wanted in range(capacity["wanted"] - 1, capacity["wanted"] + 2)
    assert f'trimtab_capacity_wanted_replicas{{name="shop"}} {wanted}' in metrics_text(trimtab)
    exporter.text = "# nothing\n"
    wait_until(lambda: keda_status(trimtab) == 503, 60.0)
    assert "trimtab_capacity_wanted_replicas{" not in metrics_text(trimtab)


def keda_status(engine):
    """Return the status code that KEDA gets."""
    headers = {"Authorization": f"Bearer {engine.key}"}
    return httpx.get(f"{engine.url}/api/capacity/shop/keda", headers=headers, trust_env=False).status_code


def metrics_text(engine):
    """Return the engine's own metrics."""
    return httpx.get(f"{engine.url}/api/metrics", trust_env=False).text
