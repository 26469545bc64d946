"""Serve the dashboard with the control loop enabled."""

from collections.abc import Iterator

import pytest

from tests.browser.control_loop_dashboard import ControlLoopDashboard
from tests.browser.dashboard_server import DIST, DashboardServer, serve_dashboard


@pytest.fixture(scope="module")
def shared_dashboard() -> Iterator[DashboardServer]:
    if not (DIST / "index.html").is_file():
        pytest.skip("the dashboard is not built: make web")
    with serve_dashboard(ControlLoopDashboard()) as dashboard:
        yield dashboard
