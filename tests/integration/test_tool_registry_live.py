"""Tool registry with real tools that are replaced under load."""

import asyncio
import gc
import os
from pathlib import Path

import pytest

from tests.fakes.fake_tools import FakeKeyValueStore
from tests.fakes.ports import FakeClock
from tests.servers.redis import start_redis
from trimtab.engine.settings.data_store_tools import RedisTool
from trimtab.engine.tools.redis.redis_tool import Redis
from trimtab.engine.tools.tool_registry import ToolRegistry
from trimtab.engine.types import ToolState

SWAPS = 100


def count_open_files() -> int:
    """Number of open files of this process."""
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc on this system")
async def test_a_hundred_swaps_of_real_tools(tmp_path):
    """A Redis tool is replaced a hundred times under load: no call fails, and nothing leaks."""
    with start_redis(tmp_path / "redis", "--maxmemory", "10mb") as server:

        def settings(number: int) -> dict[str, RedisTool]:
            options = RedisTool(kind="redis", url=server.url, memory_limit=2**30 + number)
            return {"swapped": options, "other": RedisTool(kind="redis", url=server.url)}

        rack = await ToolRegistry(settings(0), FakeKeyValueStore(), FakeClock()).open()
        await rack.tool("other").metrics("other")
        await rack.tool("swapped").metrics("swapped")
        before, calls, done = count_open_files(), 0, asyncio.Event()

        async def load(name: str) -> None:
            nonlocal calls
            while not done.is_set():
                figures = await rack.tool(name).metrics(name)
                calls += figures["redis_up"] == 1.0

        tasks = [asyncio.create_task(load(name)) for name in ("other", "swapped", "swapped")]
        for number in range(1, SWAPS + 1):
            await rack.reload(settings(number))
            await asyncio.sleep(0.01)
        done.set()
        await asyncio.gather(*tasks)
        assert calls > SWAPS
        assert (await rack.view("swapped")).status.state is ToolState.UP
        while rack._closing_tasks:
            await asyncio.wait(rack._closing_tasks)
        assert count_open_files() <= before + 4
        gc.collect()
        alive = [found for found in gc.get_objects() if isinstance(found, Redis)]
        assert len(alive) == 2
        await rack.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        clients = [line for line in server.cli("CLIENT", "LIST").splitlines() if line]
        assert len(clients) == 1
