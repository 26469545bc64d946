"""The whole loop on a real service and its Redis: seen, named, advised, done, watched, written down."""

from typing import Any

import pytest

from tests.acceptance.engine import Engine, always, trimtab_up
from tests.acceptance.loop import WAITS_S, advised, audited, begun, ended, scored, seen
from tests.acceptance.shop import BUSY, CONNECTIONS, LIMIT, Customers, Shop, open_shop

pytestmark = pytest.mark.acceptance

HALVED = {"before": CONNECTIONS, "after": CONNECTIONS // 2}
"""Connections to the origin: with one of them answers take eight times as long."""


def test_without_a_person(tmp_path):
    """Mode auto: a thrashing cache is given room, and it is kept; a change that does harm is taken back."""
    with (
        open_shop(tmp_path) as shop,
        Customers(shop.service.port) as customers,
        trimtab_up(tmp_path / "trimtab", shop.settings("auto")) as engine,
    ):
        recommendation = thrashing(engine, customers)
        action = begun(engine, recommendation)
        assert (action["by"], action["mode"], action["time_scale"]) == ("trimtab", "auto", 0.1)
        is_given_room(engine, shop, recommendation, action)
        harm_is_taken_back(engine, shop)
        assert customers.lost == []


@pytest.mark.trials
def test_with_an_approval(tmp_path):
    """Mode approve: nothing happens until another than its proposer approves, then the same as by auto."""
    with (
        open_shop(tmp_path) as shop,
        Customers(shop.service.port) as customers,
        trimtab_up(tmp_path / "trimtab", shop.settings("approve")) as engine,
    ):
        recommendation = thrashing(engine, customers)
        assert (recommendation["mode"], recommendation["state"]) == ("approve", "pending")
        always(lambda: not engine.every("actions") and shop.maxmemory() == LIMIT, WAITS_S)
        path = f"recommendations/{recommendation['id']}/approve"
        approved = engine.ask("POST", path, key=engine.new_key("ann", "read", "approve"))
        assert (approved["state"], approved["approver"]) == ("approved", "ann")
        action = begun(engine, recommendation)
        assert (action["by"], action["mode"]) == ("ann", "approve")
        is_given_room(engine, shop, recommendation, action)
        harm_is_taken_back(engine, shop)
        assert customers.lost == []


@pytest.mark.trials
def test_a_recommendation_is_all_that_mode_recommend_gives(tmp_path):
    """The same is advised and nothing is done; what a person changes by hand is watched all the same."""
    with (
        open_shop(tmp_path) as shop,
        Customers(shop.service.port) as customers,
        trimtab_up(tmp_path / "trimtab", shop.settings("recommend")) as engine,
    ):
        recommendation = thrashing(engine, customers)
        assert (recommendation["mode"], recommendation["state"]) == ("recommend", "pending")
        always(lambda: not engine.every("actions") and shop.maxmemory() == LIMIT, WAITS_S)
        harm_is_taken_back(engine, shop)
        assert shop.maxmemory() == LIMIT
        assert customers.lost == []


def thrashing(engine: Engine, customers: Customers) -> dict[str, Any]:
    """More is asked for than the cache has room for: the pattern is named, and what helps."""
    scored(engine, "redis_hit_ratio")
    customers.keys = BUSY
    found = advised(engine, seen(engine, "cache_thrash"))
    assert (found["tool"], found["target"], found["subject"]) == ("redis", "cache-1", "maxmemory")
    assert (found["pattern"], found["proposer"], found["before"]) == ("cache_thrash", "trimtab", LIMIT)
    return found


def is_given_room(engine: Engine, shop: Shop, recommendation: dict[str, Any], action: dict[str, Any]) -> None:
    """Within its step, to the expected effect, kept, and written down from proposal to end."""
    done = ended(engine, action)
    assert done["state"] == "kept", done
    assert LIMIT < done["after"] <= 2 * LIMIT
    assert shop.maxmemory() == done["after"]
    effect, hoped = done["outcome"]["effect"], recommendation["effect"]
    assert effect["expected"] > effect["before"]
    assert hoped["low"] <= effect["high"], "less than was predicted"
    assert effect["low"] <= hoped["high"], "more than was predicted"
    assert audited(engine, done["id"], "kept") == ["proposed", "executing", "verifying", "kept"]
    assert audited(engine, recommendation["id"], "closed")[0] == "proposed"


def harm_is_taken_back(engine: Engine, shop: Shop) -> None:
    """A person changes a setting of the service for the worse: after three bad checks it is as it was."""
    place = "tools/shop/targets/shop/knobs/origin_connections"
    action = engine.ask("PUT", place, json=HALVED)
    assert shop.knob("origin_connections") == HALVED["after"]
    done = ended(engine, action)
    assert done["state"] == "rolled_back", done
    assert done["outcome"]["words"].startswith("rolled back: 3 bad checks of")
    assert "http_request_duration_mean_seconds" in done["outcome"]["words"]
    assert shop.knob("origin_connections") == HALVED["before"]
    assert audited(engine, done["id"], "rolled_back")[:3] == ["proposed", "executing", "verifying"]
    undo = next(one for one in engine.every("actions") if one["undoes"] == done["id"])
    assert (undo["by"], undo["before"], undo["after"]) == (
        "trimtab", HALVED["after"], HALVED["before"]
    )  # fmt: skip
    assert audited(engine, undo["id"], "kept") == ["proposed", "executing", "verifying", "kept"]
