"""A first start with default settings that watches this machine."""

import re
import time

import pytest
from playwright.sync_api import Browser, expect

from tests.acceptance.engine import trimtab_up, wait_until
from tests.browser.conftest import DESK, browser  # noqa: F401 - fixtures are requested by name

pytestmark = pytest.mark.acceptance
SHOWN_S, SCORED_S = 30.0, 300.0


@pytest.mark.parametrize("interval", ["1s", pytest.param("5s", marks=pytest.mark.trials)])
def test_a_first_start_shows_this_machine(tmp_path, browser: Browser, interval):  # noqa: F811 - the fixture
    """Within 30 s the page shows each series with score or learning time; scores follow within 5 min."""
    settings = {"sources": {"host": {"interval": interval}}}
    with trimtab_up(tmp_path, settings) as engine:
        ready = time.monotonic()
        page = browser.new_context(viewport=DESK).new_page()
        page.goto(engine.login_link())
        page.goto(f"{engine.url}/#/series")
        rows = page.locator(".series-row")
        expect(rows.first).to_be_visible(timeout=SHOWN_S * 1000)
        total = engine.get("series", limit=1)["total"]
        assert total >= 20
        texts = rows.all_inner_texts()
        assert time.monotonic() - ready < SHOWN_S
        assert len(texts) >= min(total, 20)
        assert [row for row in texts if not re.search(r"learning, about|\d", row)] == []
        wait_until(
            lambda: _scored_count(engine) >= 0.8 * total, SCORED_S - (time.monotonic() - engine.started_at)
        )
        expect(page.locator(".series-row", has_text="learning").first).to_be_hidden(timeout=10_000)


def _scored_count(engine) -> int:
    return sum(row["anomaly_score"] is not None for row in engine.list_all("series"))
