"""The world of these tests has a loop in it."""

from collections.abc import Iterator

import pytest

from tests.browser.control_loop_world import LoopWorld
from tests.browser.world import DIST, World, serving


@pytest.fixture(scope="module")
def served() -> Iterator[World]:
    if not (DIST / "index.html").is_file():
        pytest.skip("the dashboard is not built: make web")
    with serving(LoopWorld()) as world:
        yield world
