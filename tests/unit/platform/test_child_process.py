"""The process that works with models, as the engine starts it."""

import asyncio
import os
import sys

import pytest

from trimtab.engine.platform.child_process import ModelProcess, ModelProcessError


async def test_a_process_that_cannot_be_started_is_an_error_of_the_work(monkeypatch):
    """Such as where no more processes may be: it is told and tried again, as all that fails there."""
    child = ModelProcess(dict, {})

    async def none_left(*_, **__):
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", none_left)
    with pytest.raises(ModelProcessError, match="no more processes"):
        await child("forecast")


async def test_what_is_done_with_models_now_is_known(monkeypatch):
    """While a process does it, and no longer."""
    child, seen = ModelProcess(dict, os.environ), []
    script = "import sys; sys.stdin.readline(); print('{\"run\": {}}'); print('{\"result\": {}}')"

    async def started(_verb):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
        return await asyncio.create_subprocess_exec(sys.executable, "-c", script, **pipes)

    monkeypatch.setattr(child, "_start", started)
    await child("forecast", said=lambda _: seen.append(child.current_verb))
    assert (seen, child.current_verb) == (["forecast"], "")
