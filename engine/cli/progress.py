"""Progress of a timed wait: a bar on a terminal, plain lines elsewhere."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LINE_INTERVAL_S = 10.0
_BAR_INTERVAL_S = 0.25


@contextmanager
def show_progress(title: str, seconds: float) -> Iterator[None]:
    """Show on stderr how much of `seconds` has passed while the block runs. Needs a running event loop."""
    tell = _draw_bar if sys.stderr.isatty() else _print_lines
    task = asyncio.get_running_loop().create_task(tell(title, seconds))
    try:
        yield
    finally:
        task.cancel()


async def _print_lines(title: str, seconds: float) -> None:
    print(f"{title}: {seconds:g} s", file=sys.stderr, flush=True)
    passed = 0.0
    while passed + _LINE_INTERVAL_S < seconds:
        await asyncio.sleep(_LINE_INTERVAL_S)
        passed += _LINE_INTERVAL_S
        print(f"{title}: {passed:g} of {seconds:g} s", file=sys.stderr, flush=True)


async def _draw_bar(title: str, seconds: float) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), TimeRemainingColumn())
    loop = asyncio.get_running_loop()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        begin, task = loop.time(), bar.add_task(title, total=seconds)
        while True:
            bar.update(task, completed=min(loop.time() - begin, seconds))
            await asyncio.sleep(_BAR_INTERVAL_S)
