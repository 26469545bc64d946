"""What a source's loop works with, in memory, and how a test lets it run."""

import asyncio
from concurrent.futures import Future

from tests.fakes import FakeClock, FakeScoreLog, FakeSnapshots, FakeStore, settle
from trimtab.engine.live import Live
from trimtab.engine.loop import SourceLoop
from trimtab.engine.running.surroundings import Surroundings


class Now:
    """An executor that works at once, in the test's own thread."""

    def submit(self, function, *args, **kwargs):
        done: Future[object] = Future()
        try:
            done.set_result(function(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        return done


class NoMetrics:
    """Takes every figure and keeps the states."""

    def __init__(self):
        self.states = []

    def tick(self, source, seconds, lag_s, n):
        pass

    def series(self, source, total, learning, unusual):
        pass

    def source_state(self, _name, state):
        self.states.append(state)

    def forget(self, source):
        pass


def surroundings(**more):
    """Fakes of everything."""
    return Surroundings(
        FakeClock(), FakeStore(), FakeScoreLog(), FakeSnapshots(), Live(), NoMetrics(), Now(), **more
    )


async def play(source, around, seconds, loop=None):
    """Run a loop for so long on the fake clock, then stop it as the engine does."""
    loop = loop or SourceLoop(source, around)
    task = asyncio.create_task(loop.run())
    await settle()
    await around.clock.advance(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await loop.stop()
    return loop


async def killed(source, around, seconds):
    """Run it for so long, then let it go without a word, as by kill -9."""
    task = asyncio.create_task(SourceLoop(source, around).run())
    await settle()
    await around.clock.advance(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
