"""Redis server and tool fixtures."""

import pytest

from tests.servers.redis import start_redis
from trimtab.engine.settings.data_store_tools import RedisTool
from trimtab.engine.tools.redis.redis_tool import Redis


@pytest.fixture
def server(tmp_path):
    """A Redis with 10 MB for keys."""
    with start_redis(
        tmp_path / "redis", "--maxmemory", "10mb", "--maxmemory-policy", "allkeys-lru"
    ) as server:
        yield server


@pytest.fixture
async def make_tool():
    """A function that makes a tool, which is closed at the end."""
    tools = []

    def make(server, **options) -> Redis:
        settings = RedisTool(**{"kind": "redis", "url": server.url, "timeout": 2, **options})
        tools.append(Redis("cache", settings))
        return tools[-1]

    yield make
    for tool in tools:
        await tool.close()
