"""kill -9 at random moments: no notice that was accepted is lost, none that was written down comes again."""

import asyncio
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.fake_notices import Counts, Known
from tests.notice_child import deliver
from tests.servers import wait_for
from trimtab.engine.clock import SystemClock
from trimtab.engine.services.notifications import Notifications
from trimtab.engine.settings.notify import NotifyWebhook
from trimtab.engine.sinks.webhook import WebhookNotifier
from trimtab.engine.store import open_store
from trimtab.engine.store.memory import StoredMemory

KILLS = int(os.environ.get("TRIMTAB_KILLS", "20"))
LONGEST_LIFE_S = 0.6


@contextmanager
def receiving():
    """A receiver; its URL, and (incident, webhook-id) of what came."""
    came = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            came.append((body["alerts"][0]["labels"]["incident"], self.headers["webhook-id"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_):
            """A sender that was killed goes away."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", came
        finally:
            server.shutdown()
            thread.join(5)


@pytest.fixture(scope="module")
def forks():
    """Children that need not import anything: they are forked from a server that has."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.notice_child", "trimtab.engine.store.events"])
    return context


def killed(forks, folder, url, first, chance):
    """Run a child, kill it at a random moment after it began; what it acknowledged."""
    here, there = forks.Pipe(duplex=False)
    child = forks.Process(target=deliver, args=(folder, url, first, there))
    child.start()
    there.close()
    assert here.poll(60), "the child never began"
    end = time.monotonic() + chance.uniform(0, LONGEST_LIFE_S)
    told = []
    while (left := end - time.monotonic()) > 0 and here.poll(left):
        told.append(here.recv())
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    try:
        while here.poll(0):
            told.append(here.recv())
    except EOFError:
        here.close()
    return told


async def finish(folder, url, done):
    """One more start, without new notices, that is left to deliver what waits."""
    store = open_store(folder, time.time_ns)
    notifier = WebhookNotifier(NotifyWebhook(url=url), time.time_ns)
    made = Notifications([notifier], StoredMemory(store.fenced), Known(), SystemClock(), Counts())
    await made.resume()
    running = asyncio.create_task(made.run())
    await asyncio.to_thread(wait_for, done, 30.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await made.close()
    store.close()


async def test_no_notice_is_lost_and_none_that_was_written_comes_again(forks, tmp_path):
    """At most one repetition a kill, by the id that a receiver knows it by."""
    chance, accepted, written, first = random.Random(5), set(), set(), 0
    with receiving() as (url, came):
        for _ in range(KILLS):
            before = len(came)
            told = await asyncio.to_thread(killed, forks, tmp_path, url, first, chance)
            again = {incident for incident, _ in came[before:]} & written
            assert again == set()
            accepted |= {incident for word, incident in told if word == "accepted"}
            written |= {incident for word, incident in told if word == "written"}
            first = len(accepted)
        await finish(tmp_path, url, lambda: accepted <= {incident for incident, _ in came})
        repeated = sum(n - 1 for n in Counter(incident for incident, _ in came).values())
    assert repeated <= KILLS
    assert len(set(came)) == len({incident for incident, _ in came})
    assert len(accepted) > KILLS
    assert len(written) > KILLS
    print(f"{KILLS} kills, {len(accepted)} accepted, {len(written)} written down, {repeated} repeated")
