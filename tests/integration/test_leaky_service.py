"""The service that misbehaves: it leaks as told, and its cache can be tuned from outside."""

import os
import sys
from contextlib import contextmanager

import httpx
from pydantic import SecretStr

from tests.servers.prometheus import ServerProcess, find_binary, free_port, responds_with_200, running_server
from tests.services.leaky_service import TOKEN
from trimtab.engine.settings.service_tools import HttpServiceTool
from trimtab.engine.tools.http_service.http_service_tool import HttpService

NAME = "leaky"


@contextmanager
def leaky(folder, *words):
    """The service as a process."""
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


def tool(server):
    """The tool over it."""
    token = SecretStr(TOKEN)
    return HttpService(
        NAME, HttpServiceTool(kind="http_service", url=f"{server.url}/trimtab", bearer_token=token)
    )


def ask(server, numbers):
    """Ask for these items, one after the other."""
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for number in numbers:
            client.get(f"/items/{number}").raise_for_status()


def lost(server):
    """Bytes that it has lost."""
    return httpx.get(f"{server.url}/leak", trust_env=False).json()["lost"]


async def test_it_leaks_exactly_as_told(tmp_path):
    """Each request loses as many bytes as were set, which its memory shows; a knob stops it."""
    with leaky(tmp_path, "--leak-bytes", "500000") as server:
        made = tool(server)
        before = (await made.metrics(NAME))["process_resident_memory_bytes"]
        ask(server, range(100))
        grown = (await made.metrics(NAME))["process_resident_memory_bytes"] - before
        assert 45e6 < grown < 75e6
        assert lost(server) == 101 * 500_000  # with that very request
        await made.apply(NAME, "leak_bytes", 500_000, 0)
        ask(server, range(20))
        assert lost(server) == 101 * 500_000
        await made.close()


async def test_its_cache_can_be_tuned(tmp_path):
    """Fifty items in turn never hit a cache of ten, and always one of sixty-four."""
    with leaky(tmp_path, "--cache", "10") as server:
        made = tool(server)
        ask(server, [*range(50)] * 2)
        seen = await made.metrics(NAME)
        assert (seen['cache_hits_total{cache="items"}'], seen["database_reads_total"]) == (0, 100)
        await made.apply(NAME, "items_size", 10, 64)
        ask(server, [*range(50)] * 2)
        seen = await made.metrics(NAME)
        assert seen['cache_hits_total{cache="items"}'] == 10 + 50  # ten already cached still
        assert seen["database_reads_total"] == 140
        assert seen['http_requests_total{method="GET",path="/items/{number}",status="200"}'] == 200
        await made.close()


async def test_it_ends_well(tmp_path):
    """Told to end it drains and exits without an error."""
    with leaky(tmp_path) as server:
        process = server.process
        process.terminate()
        assert process.wait(10) == 0
        assert server.tail() == ""


async def test_it_reads_redis(tmp_path, monkeypatch):
    """With REDIS_URL what one process has read from the database the next one finds in Redis."""
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
            with leaky(tmp_path) as server:
                made = tool(server)
                ask(server, range(30))
                assert (await made.metrics(NAME))["database_reads_total"] == reads
                await made.close()
