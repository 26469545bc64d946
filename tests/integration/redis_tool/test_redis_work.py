"""Actions and commands of the Redis tool, on a real server."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trimtab.engine.errors import NotFoundError, RefusedError
from trimtab.engine.settings.data_store_tools import CacheWarmingSettings

MB = 2**20


@pytest.fixture
def origin():
    """A service that fills the cache, with its requested paths and its answer."""
    paths, answers = [], {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_response(answers.get(self.path, 200))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}", paths, answers
        http.shutdown()
        thread.join(5)


async def test_warming(server, make_tool, origin):
    """Missing keys are fetched through the service, rate-limited; errors stop it."""
    url, paths, answers = origin
    server.cli("SET", "item:b", "x")
    warm = CacheWarmingSettings(
        url=url + "/items/{key}?x=1", key="item:{key}", keys=("a", "b", "c d"), origin_rate=1000
    )
    tool = make_tool(server, warm=warm)
    assert [action.name for action in await tool.actions("cache")] == ["memory_purge", "warm_keys"]
    began = asyncio.get_running_loop().time()
    assert await tool.run("cache", "warm_keys", "k") == "2 fetched, 1 already cached"
    assert asyncio.get_running_loop().time() - began > 0.09
    assert paths == ["/items/a?x=1", "/items/c%20d?x=1"]
    answers["/items/a?x=1"] = 500
    result = await tool.run("cache", "warm_keys", "k")
    assert result == "0 fetched, 0 already cached, stopped after 1 failed: HTTP 500, 2 left for the next run"


async def test_warming_an_idle_origin_is_refused(server, make_tool, origin):
    """With an idle origin warming is refused with the setting's name."""
    tool = make_tool(server, warm=CacheWarmingSettings(url=origin[0] + "/{key}", keys=("a",)))
    with pytest.raises(RefusedError, match=r"set tools\.cache\.warm\.origin_rate"):
        await tool.run("cache", "warm_keys", "k")
    assert origin[1] == []


async def test_shell_commands(server, make_tool):
    """The redis-cli command does the same as the tool."""
    tool = make_tool(server)
    line = tool.command("cache", "maxmemory", 20 * MB)
    assert line == f"redis-cli -u redis://127.0.0.1:{server.port} CONFIG SET maxmemory 20971520"
    assert tool.command("cache", "activedefrag", True).endswith("CONFIG SET activedefrag yes")
    assert tool.command("cache", "memory_purge", None).endswith("MEMORY PURGE")
    with pytest.raises(NotFoundError):
        await tool.run("cache", "flushall", "k")
