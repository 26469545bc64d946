"""`trimtab up` sends signed webhooks for an outage without leaking secrets."""

import httpx
import numpy as np
import pytest

from tests.integration.test_up_process import EngineProcess
from tests.servers.prometheus import wait_for
from tests.servers.webhook_receiver import start_webhook_receiver

SECRET = "a-secret-of-24-characters-or-more"
ROWS, OUTAGE, LASTS = 600, 540, 20
METRICS = ("latency", "errors", "queue_length", "threads")
COLUMNS = tuple(
    f"{part}_{metric}" for part in "abcd" for metric in ("latency", "errors", "queue_length", "threads")
)


@pytest.fixture
def up(tmp_path):
    """An engine that has not been started."""
    return EngineProcess(tmp_path)


def write_outage(path):
    """Write a recording of a service in which every series leaves its band at once for 20 minutes."""
    rng = np.random.default_rng(3)
    values = 10.0 + rng.normal(size=(ROWS, len(COLUMNS)))
    values[OUTAGE : OUTAGE + LASTS] += 80.0
    lines = [",".join(("time", "entity", *COLUMNS))]
    for k, row in enumerate(values.tolist()):
        lines.append(",".join([str(1_767_225_600 + 60 * k), "shop", *(f"{value:.4f}" for value in row)]))
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.slow
def test_an_outage_is_notified(up):
    """Start and end are sent, signed and with a link; status and metrics agree; a restart repeats nothing."""
    write_outage(up.folder / "shop.csv")
    (up.folder / "secret").write_text(SECRET)
    with start_webhook_receiver() as (url, received):
        off = {name: {"enabled": False} for name in ("host", "prometheus")}
        up.write_settings(
            sources={**off, "files": {"paths": ["shop.csv"]}},
            notify={"webhook": {"url": url, "secret_file": "secret"}},
        )
        with up.running():
            wait_for(lambda: [body["status"] for _, body in received][-1:] == ["resolved"], 60)
            assert up.get("status")["engine"]["notifications"] == "ok"
            metrics = httpx.get(f"{up.url}/api/metrics", trust_env=False).text
        with up.running():
            wait_for(lambda: up.get("series?source=files")["total"] == len(COLUMNS), 60)
    statuses = [body["status"] for _, body in received]
    assert statuses[0] == "firing"
    assert statuses.count("resolved") == 1
    headers, body = received[0]
    (alert,) = body["alerts"]
    assert alert["labels"]["entity"] == "files"
    assert alert["generatorURL"] == f"{up.url}/#/incidents/{alert['labels']['incident']}"
    assert headers["webhook-signature"].startswith("v1,")
    assert 'trimtab_notices_sent_total{kind="resolved",notifier="webhook"} 1.0' in metrics
    assert SECRET not in up.log_text()
