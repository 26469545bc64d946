import asyncio
import shutil
import time
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import httpx_sse
import pytest
import uvicorn
from playwright.async_api import async_playwright

import trimtab.engine
from tests.builders.api_client import ApiHarness
from tests.builders.series import START
from tests.servers.prometheus import free_port
from trimtab.engine.api.application import stop_streams
from trimtab.engine.api.security import api_keys

DIST = Path(trimtab.engine.__file__).parent / "web" / "dist"
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@asynccontextmanager
async def serve(api):
    """Serve the application on a free loopback port and yield its URL."""
    port = free_port()
    config = uvicorn.Config(api.app, port=port, access_log=False, log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    url = f"http://127.0.0.1:{port}"
    transport = httpx.AsyncHTTPTransport(retries=20)
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        await client.get(f"{url}/api/health/live")
    try:
        yield url
    finally:
        stop_streams(api.app)
        server.should_exit = True
        await serving


async def test_a_stream_over_http_ends_when_the_engine_stops():
    """Events reach a real client; stopping the engine ends the stream promptly and without an error."""
    api = ApiHarness()
    headers = {"Authorization": f"Bearer {api.create_key('read')}"}
    events = []
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=10) as client:
        async with serve(api) as url:

            async def listen():
                async with httpx_sse.aconnect_sse(client, "GET", f"{url}/api/stream") as stream:
                    async for event in stream.aiter_sse():
                        if event.event == "tick":
                            events.append(event.json())
                            arrived.set()

            arrived = asyncio.Event()
            listening = asyncio.create_task(listen())
            for number in range(3):
                while not api.live.readers:
                    await client.get(f"{url}/api/status")
                arrived.clear()
                api.live.publish("tick", {"source": "host", "time": START, "series": number, "unusual": 0})
                await asyncio.wait_for(arrived.wait(), 5)
            begin = time.monotonic()
        await asyncio.wait_for(listening, 5)
        assert time.monotonic() - begin < 2
    assert [event["series"] for event in events] == [0, 1, 2]


async def test_a_connection_to_a_stopped_stream_closes_at_once():
    """A browser that stays connected does not keep the engine from stopping."""
    api = ApiHarness()
    async with serve(api) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        headers = f"Host: 127.0.0.1\r\nAuthorization: Bearer {api.create_key('read')}\r\n\r\n"
        request = f"GET /api/stream HTTP/1.1\r\n{headers}"
        writer.write(request.encode())
        assert b" 200 " in await reader.readline()
    assert (await asyncio.wait_for(reader.read(), 5)).endswith(b"0\r\n\r\n")
    writer.close()


async def test_the_docs_page_works_in_a_browser_under_its_policy():
    """A login link opens the dashboard; Swagger UI then shows and calls the API, and no policy is broken."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    if not (DIST / "docs" / "swagger-ui-bundle.js").is_file():
        pytest.skip("the pages are not built: make web")
    api = ApiHarness(web_dir=DIST)
    complaints = []
    async with serve(api) as url, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        page = await browser.new_page()
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(api_keys.create_login_url(api.store, api.clock, url))
        assert page.url == f"{url}/"
        await page.goto(f"{url}/api-docs")
        status = page.locator("#operations-status-status_api_status_get")
        await status.locator("button.opblock-summary-control").click()
        await status.get_by_role("button", name="Try it out").click()
        await status.get_by_role("button", name="Execute").click()
        answer = status.locator(".live-responses-table")
        await answer.get_by_text('"version": "0.1.0"').wait_for()
        await browser.close()
    assert complaints == []
