"""Runs child processes that are killed at a random moment."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Any


def make_fork_context(*modules: str) -> ForkServerContext:
    """A forkserver context that has imported these modules, so that children start fast."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*modules])
    return context


def run_and_kill(
    context: ForkServerContext,
    work: Callable[..., None],
    arguments: tuple[object, ...],
    chance: random.Random,
    longest_life_s: float,
) -> list[Any]:
    """Run `work(*arguments, connection)`, kill it at a random moment, and return what it sent.

    longest_life_s : maximum time between its first message and the kill
    """
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=work, args=(*arguments, sender))
    child.start()
    sender.close()
    assert receiver.poll(60), "the child never began"
    end = time.monotonic() + chance.uniform(0, longest_life_s)
    reports = []
    while (left := end - time.monotonic()) > 0 and receiver.poll(left):
        reports.append(receiver.recv())
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    try:
        while receiver.poll(0):
            reports.append(receiver.recv())
    except EOFError:
        receiver.close()
    return reports
