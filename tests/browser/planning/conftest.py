"""Serve the dashboard with forecasts, capacity and models."""

from collections.abc import Iterator

import pytest

from tests.browser.dashboard_server import DIST, DashboardServer, serve_dashboard
from tests.browser.planning.planning_dashboard import PlanningDashboard


@pytest.fixture(scope="module")
def shared_dashboard() -> Iterator[DashboardServer]:
    if not (DIST / "index.html").is_file():
        pytest.skip("the dashboard is not built: make web")
    with serve_dashboard(PlanningDashboard()) as dashboard:
        yield dashboard
