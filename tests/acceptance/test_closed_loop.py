"""The closed loop on a real service and its Redis: detect, recommend, act, verify, audit."""

from typing import Any

import pytest

from tests.acceptance.engine import EngineProcess, assert_always, trimtab_up
from tests.acceptance.loop import (
    NO_ACTION_FOR_S,
    wait_for_action,
    wait_for_action_end,
    wait_for_audit,
    wait_for_incident,
    wait_for_recommendation,
    wait_until_scored,
)
from tests.acceptance.shop import BUSY_ITEMS, CACHE_BYTES, ORIGIN_CONNECTIONS, Shop, ShopLoad, start_shop

pytestmark = pytest.mark.acceptance

HALVED = {"before": ORIGIN_CONNECTIONS, "after": ORIGIN_CONNECTIONS // 2}
"""Change of the connections to the origin: with one of them answers take eight times as long."""


def test_auto_mode_fixes_a_thrashing_cache_and_rolls_back_a_harmful_change(tmp_path):
    """Mode auto: a thrashing cache gets more memory, which is kept; a harmful change is rolled back."""
    with (
        start_shop(tmp_path) as shop,
        ShopLoad(shop.service.port) as customers,
        trimtab_up(tmp_path / "trimtab", shop.settings("auto")) as engine,
    ):
        recommendation = provoke_cache_thrash(engine, customers)
        action = wait_for_action(engine, recommendation)
        assert (action["by"], action["mode"], action["time_scale"]) == ("trimtab", "auto", 0.1)
        assert_memory_raised(engine, shop, recommendation, action)
        assert_harm_rolled_back(engine, shop)
        assert customers.failures == []


@pytest.mark.trials
def test_approve_mode_waits_for_a_second_operator(tmp_path):
    """Mode approve: nothing happens until an operator other than the proposer approves."""
    with (
        start_shop(tmp_path) as shop,
        ShopLoad(shop.service.port) as customers,
        trimtab_up(tmp_path / "trimtab", shop.settings("approve")) as engine,
    ):
        recommendation = provoke_cache_thrash(engine, customers)
        assert (recommendation["mode"], recommendation["state"]) == ("approve", "pending")
        assert_always(
            lambda: not engine.list_all("actions") and shop.maxmemory() == CACHE_BYTES, NO_ACTION_FOR_S
        )
        path = f"recommendations/{recommendation['id']}/approve"
        approved = engine.request("POST", path, key=engine.create_key("ann", "read", "approve"))
        assert (approved["state"], approved["approver"]) == ("approved", "ann")
        action = wait_for_action(engine, recommendation)
        assert (action["by"], action["mode"]) == ("ann", "approve")
        assert_memory_raised(engine, shop, recommendation, action)
        assert_harm_rolled_back(engine, shop)
        assert customers.failures == []


@pytest.mark.trials
def test_recommend_mode_changes_nothing(tmp_path):
    """Mode recommend: nothing is changed; an operator's own change is still verified."""
    with (
        start_shop(tmp_path) as shop,
        ShopLoad(shop.service.port) as customers,
        trimtab_up(tmp_path / "trimtab", shop.settings("recommend")) as engine,
    ):
        recommendation = provoke_cache_thrash(engine, customers)
        assert (recommendation["mode"], recommendation["state"]) == ("recommend", "pending")
        assert_always(
            lambda: not engine.list_all("actions") and shop.maxmemory() == CACHE_BYTES, NO_ACTION_FOR_S
        )
        assert_harm_rolled_back(engine, shop)
        assert shop.maxmemory() == CACHE_BYTES
        assert customers.failures == []


def provoke_cache_thrash(engine: EngineProcess, customers: ShopLoad) -> dict[str, Any]:
    """Request more items than the cache holds; return the recommendation against the pattern."""
    wait_until_scored(engine, "redis_hit_ratio")
    customers.item_count = BUSY_ITEMS
    found = wait_for_recommendation(engine, wait_for_incident(engine, "cache_thrash"))
    assert (found["tool"], found["target"], found["subject"]) == ("redis", "cache-1", "maxmemory")
    assert (found["pattern"], found["proposer"], found["before"]) == ("cache_thrash", "trimtab", CACHE_BYTES)
    return found


def assert_memory_raised(
    engine: EngineProcess, shop: Shop, recommendation: dict[str, Any], action: dict[str, Any]
) -> None:
    """The action stays within its step, has the expected effect, is kept and is audited."""
    done = wait_for_action_end(engine, action)
    assert done["state"] == "kept", done
    assert CACHE_BYTES < done["after"] <= 2 * CACHE_BYTES
    assert shop.maxmemory() == done["after"]
    effect, hoped = done["outcome"]["effect"], recommendation["effect"]
    assert effect["expected"] > effect["before"]
    assert hoped["low"] <= effect["high"], "less than was predicted"
    assert effect["low"] <= hoped["high"], "more than was predicted"
    assert wait_for_audit(engine, done["id"], "kept") == ["proposed", "executing", "verifying", "kept"]
    assert wait_for_audit(engine, recommendation["id"], "closed")[0] == "proposed"


def assert_harm_rolled_back(engine: EngineProcess, shop: Shop) -> None:
    """A harmful change by an operator is rolled back after three bad checks."""
    path = "tools/shop/targets/shop/knobs/origin_connections"
    action = engine.request("PUT", path, json=HALVED)
    assert shop.knob("origin_connections") == HALVED["after"]
    done = wait_for_action_end(engine, action)
    assert done["state"] == "rolled_back", done
    assert done["outcome"]["words"].startswith("rolled back: 3 bad checks of")
    assert "http_request_duration_mean_seconds" in done["outcome"]["words"]
    assert shop.knob("origin_connections") == HALVED["before"]
    assert wait_for_audit(engine, done["id"], "rolled_back")[:3] == ["proposed", "executing", "verifying"]
    undo = next(candidate for candidate in engine.list_all("actions") if candidate["undoes"] == done["id"])
    assert (undo["by"], undo["before"], undo["after"]) == (
        "trimtab", HALVED["after"], HALVED["before"]
    )  # fmt: skip
    assert wait_for_audit(engine, undo["id"], "kept") == ["proposed", "executing", "verifying", "kept"]
