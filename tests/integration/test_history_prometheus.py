"""History of a Prometheus server, scored."""

from datetime import UTC, datetime, timedelta

import pytest

import trimtab
from tests.servers.prometheus import backfill, start_prometheus

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("step_s", [60])
def test_backfilled_series_are_returned(tmp_path, step_s):
    """Backfilled samples are returned as a table that score accepts."""
    end = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=3)
    times = [int((end - timedelta(seconds=step_s * k)).timestamp()) for k in range(300, -1, -1)]
    rows = [f'queue_depth{{queue="{q}"}} {k % 7} {t}' for q in ("a", "b") for k, t in enumerate(times)]
    backfill(tmp_path, "\n".join(["# TYPE queue_depth gauge", *rows, "# EOF", ""]))
    with start_prometheus(tmp_path, {}) as server:
        frame = trimtab.history(server.url, "queue_depth", since="5h", step=step_s, until=end)
    assert frame["unique_id"].unique().tolist() == ['queue_depth{queue="a"}', 'queue_depth{queue="b"}']
    assert frame["y"].tolist() == [k % 7 for k in range(301)] * 2
    assert trimtab.score(frame)["anomaly_score"].notna().any()
