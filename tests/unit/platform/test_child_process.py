"""The child process for model work, as the engine starts it."""

import asyncio
import os
import sys

import pytest

from trimtab.engine.platform.child_process import ModelProcess, ModelProcessError


async def test_a_process_that_cannot_be_started_raises(monkeypatch):
    """A process that cannot be started raises ModelProcessError, which is retried like all failures."""
    child = ModelProcess(dict, {})

    async def none_left(*_, **__):
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", none_left)
    with pytest.raises(ModelProcessError, match="no more processes"):
        await child("forecast")


async def test_the_current_verb_is_known_while_it_runs(monkeypatch):
    """The current verb is set while the process runs and cleared afterwards."""
    child, seen = ModelProcess(dict, os.environ), []
    script = "import sys; sys.stdin.readline(); print('{\"run\": {}}'); print('{\"result\": {}}')"

    async def started(_verb):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
        return await asyncio.create_subprocess_exec(sys.executable, "-c", script, **pipes)

    monkeypatch.setattr(child, "_start", started)
    await child("forecast", on_progress=lambda _: seen.append(child.current_verb))
    assert (seen, child.current_verb) == (["forecast"], "")
