"""What a service needs, by a real Prometheus with a past: a forecast at once, and a number or none."""

import math
import time

import httpx
import pytest

from tests.acceptance.engine import trimtab_up, wait_until
from tests.servers.prometheus import backfill, start_exporter, start_prometheus

DAYS, STEP_S = 4, 300
LABELS = 'instance="shop:80",job="shop"'


def load_at(seconds):
    """Requests per second by the time of the day: from 24 at midnight to 96 at noon."""
    return 60.0 - 36.0 * math.cos(2 * math.pi * (seconds % 86_400) / 86_400)


def exporter_text():
    """What the service shows now."""
    load = load_at(time.time())
    return f"# TYPE shop_load gauge\nshop_load {load}\n# TYPE shop_replicas gauge\nshop_replicas 12\n"


def history_text(now_s):
    """Four days of both figures."""
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


def test_a_number_for_autoscalers_or_none(engine):
    """A forecast from the first minute on; once the service shows nothing, an error status and no metric."""
    trimtab, exporter = engine

    def shown():
        return next((one for one in trimtab.get("capacity")["items"] if one["ahead"] is not None), None)

    found = wait_until(shown, 180.0)
    assert found["load"] == pytest.approx(load_at(time.time()), abs=3.0)
    assert found["wanted"] >= math.ceil(found["load"] / 10 / 0.77)
    assert found["path"]["likely"][-1] == pytest.approx(load_at(time.time() + 120.0), abs=3.0)
    assert found["cost_per_day"] == pytest.approx(28.8)
    wanted = trimtab.get("capacity/shop/keda")["wanted"]
    assert wanted in range(found["wanted"] - 1, found["wanted"] + 2)
    assert f'trimtab_capacity_wanted_replicas{{name="shop"}} {wanted}' in metrics_text(trimtab)
    exporter.text = "# nothing\n"
    wait_until(lambda: keda_status(trimtab) == 503, 60.0)
    assert "trimtab_capacity_wanted_replicas{" not in metrics_text(trimtab)


def keda_status(engine):
    """The status that KEDA is answered with."""
    headers = {"Authorization": f"Bearer {engine.key}"}
    return httpx.get(f"{engine.url}/api/capacity/shop/keda", headers=headers, trust_env=False).status_code


def metrics_text(engine):
    """Its own metrics."""
    return httpx.get(f"{engine.url}/api/metrics", trust_env=False).text
