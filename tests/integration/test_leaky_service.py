"""The leaky test service: it leaks exactly, and its cache can be tuned from outside."""

import os
import sys
from contextlib import contextmanager

import httpx
import pytest
from pydantic import SecretStr

from tests.servers.prometheus import ServerProcess, find_binary, free_port, responds_with_200, running_server
from tests.services.leaky_service import TOKEN
from trimtab.engine.settings.service_tools import HttpServiceTool
from trimtab.engine.tools.http_service.http_service_tool import HttpService

NAME = "leaky"


@contextmanager
def start_leaky_service(folder, *words):
    """The service as a child process."""
    port = free_port()
    argv = [
        sys.executable,
        "-m",
        "tests.services.leaky_service",
        "--port",
        str(port),
        "--database-ms",
        "1",
        *words,
    ]
    with running_server(
        ServerProcess(
            argv, port, folder / "leaky.log", responds_with_200(f"http://127.0.0.1:{port}/openapi.json")
        )
    ) as server:
        yield server


def make_tool(server):
    """A tool for the service."""
    token = SecretStr(TOKEN)
    return HttpService(
        NAME, HttpServiceTool(kind="http_service", url=f"{server.url}/trimtab", bearer_token=token)
    )


def request_items(server, numbers):
    """Request items one after the other."""
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for number in numbers:
            client.get(f"/items/{number}").raise_for_status()


def leaked_bytes(server):
    """Bytes that the service has leaked."""
    return httpx.get(f"{server.url}/leak", trust_env=False).json()["lost"]


@pytest.mark.slow
async def test_leaked_bytes_are_exact(tmp_path):
    """Each request leaks the configured bytes, visible in its memory; a knob stops it."""
    with start_leaky_service(tmp_path, "--leak-bytes", "500000") as server:
        tool = make_tool(server)
        before = (await tool.metrics(NAME))["process_resident_memory_bytes"]
        request_items(server, range(100))
        grown = (await tool.metrics(NAME))["process_resident_memory_bytes"] - before
        assert 45e6 < grown < 75e6
        assert leaked_bytes(server) == 101 * 500_000  # including the request for this number
        await tool.apply(NAME, "leak_bytes", 500_000, 0)
        request_items(server, range(20))
        assert leaked_bytes(server) == 101 * 500_000
        await tool.close()


@pytest.mark.slow
async def test_the_cache_size_is_a_knob(tmp_path):
    """Fifty items in turn never hit a cache of ten entries, and always one of sixty-four."""
    with start_leaky_service(tmp_path, "--cache", "10") as server:
        tool = make_tool(server)
        request_items(server, [*range(50)] * 2)
        metrics = await tool.metrics(NAME)
        assert (metrics['cache_hits_total{cache="items"}'], metrics["database_reads_total"]) == (0, 100)
        await tool.apply(NAME, "items_size", 10, 64)
        request_items(server, [*range(50)] * 2)
        metrics = await tool.metrics(NAME)
        assert metrics['cache_hits_total{cache="items"}'] == 10 + 50  # ten were still cached
        assert metrics["database_reads_total"] == 140
        assert metrics['http_requests_total{method="GET",path="/items/{number}",status="200"}'] == 200
        await tool.close()


@pytest.mark.slow
async def test_it_shuts_down_gracefully(tmp_path):
    """After the signal it drains and exits without an error."""
    with start_leaky_service(tmp_path) as server:
        process = server.process
        process.terminate()
        assert process.wait(10) == 0
        assert server.tail() == ""


@pytest.mark.slow
async def test_it_reads_redis(tmp_path, monkeypatch):
    """With REDIS_URL another process finds in Redis what the first one read from the database."""
    port = free_port()
    argv = [find_binary("redis-server"), "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    ping = ServerProcess(
        argv,
        port,
        tmp_path / "redis.log",
        lambda: b"Ready to accept" in (tmp_path / "redis.log").read_bytes(),
    )
    monkeypatch.setitem(os.environ, "REDIS_URL", f"redis://127.0.0.1:{port}")
    with running_server(ping):
        for reads in (30, 0):
            with start_leaky_service(tmp_path) as server:
                tool = make_tool(server)
                request_items(server, range(30))
                assert (await tool.metrics(NAME))["database_reads_total"] == reads
                await tool.close()
