"""The world of these tests forecasts."""

from collections.abc import Iterator

import pytest

from tests.browser.planning.plan_world import PlanWorld
from tests.browser.world import DIST, World, serving


@pytest.fixture(scope="module")
def served() -> Iterator[World]:
    if not (DIST / "index.html").is_file():
        pytest.skip("the dashboard is not built: make web")
    with serving(PlanWorld()) as world:
        yield world
