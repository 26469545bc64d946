"""The rack: tools by name, switched, replaced, kept from hurting the engine."""

import asyncio
import gc
import weakref
from itertools import count

import pytest
from structlog.testing import capture_logs

from tests.fakes.fake_tools import FakeKeyValueStore, FakeTool
from tests.fakes.ports import FakeClock, settle
from trimtab.engine.errors import (
    ConflictError,
    NotFoundError,
    RefusedError,
    StoreError,
    ToolError,
    ToolUncertainError,
)
from trimtab.engine.ports import Tool, Toolbox
from trimtab.engine.settings.tools import ToolSettings
from trimtab.engine.tools import sandbox, tool_catalogue
from trimtab.engine.tools.tool_registry import ToolRegistry
from trimtab.engine.tools.tool_slot import Deadlines
from trimtab.engine.types import Mode, ToolState

SHORT = Deadlines(read_s=0.05, act_s=0.1)


class ToolBuilder:
    """Makes fake tools and remembers each."""

    def __init__(self) -> None:
        self.made: list[FakeTool] = []
        self.error: Exception | None = None

    def __call__(self, name, settings):
        if self.error is not None:
            raise self.error
        tool = FakeTool(name, settings.targets_of(name), trial=settings.trial)
        self.made.append(tool)
        return tool


def fake(**given) -> ToolSettings:
    """Settings of a fake tool."""
    return ToolSettings(kind="fake", **given)


@pytest.fixture
def build():
    """A builder that is looked into."""
    return ToolBuilder()


@pytest.fixture
async def make(build):
    """A function that opens a rack; closed at the end."""
    racks = []

    async def made(memory=None, deadlines=SHORT, **settings):
        rack = ToolRegistry(
            settings or {"a": fake()}, memory or FakeKeyValueStore(), FakeClock(), build, deadlines
        )
        racks.append(rack)
        return await rack.open()

    yield made
    for rack in racks:
        await rack.close()


async def test_fetches_by_name(make):
    """Every configured tool is found by name, and an unknown name says which there are."""
    rack = await make(a=fake(), b=fake(targets=["x", "y"]))
    toolbox: Toolbox = rack
    tool: Tool = toolbox.tool("b")
    assert rack.names() == ["a", "b"]
    assert tool.targets == ("x", "y")
    with pytest.raises(NotFoundError, match="there is no tool 'c'; configured: a, b"):
        rack.tool("c")


async def test_switching_is_durable(make):
    """What a person switched off stays off after a restart, until a person or the settings say else."""
    memory = FakeKeyValueStore()
    rack = await make(memory, a=fake())
    kept = rack.tool("a")
    view = await rack.enable("a", enabled=False)
    assert (view.enabled, view.status.state) == (False, ToolState.DISABLED)
    with pytest.raises(RefusedError, match="a is disabled"):
        rack.tool("a")
    with pytest.raises(RefusedError, match="a is disabled"):
        await kept.metrics("a")
    again = await make(memory, a=fake())
    assert not (await again.view("a")).enabled
    assert (await again.enable("a", enabled=True)).status.state is ToolState.UP
    await again.enable("a", enabled=False)
    await again.reload({"a": fake(enabled=False)})
    await again.reload({"a": fake(enabled=True)})
    assert not (await again.view("a")).enabled
    await again.enable("a", enabled=True)
    await again.reload({"a": fake(enabled=False)})
    assert not (await again.view("a")).enabled


async def test_an_unwritable_switch_changes_nothing(make):
    """Where it cannot be remembered the tool stays as it is."""
    memory = FakeKeyValueStore()
    rack = await make(memory, a=fake())
    memory.write_error = StoreError("disk full")
    with pytest.raises(StoreError):
        await rack.enable("a", enabled=False)
    assert (await rack.view("a")).enabled


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("status", ValueError("x")),
        ("metrics", KeyError("used_memory")),
        ("knobs", RecursionError()),
        ("read", SystemExit(3)),
        ("actions", asyncio.CancelledError()),
    ],
)
async def test_a_fault_puts_a_tool_into_quarantine(make, build, call, fault):
    """What a tool may not raise takes it out of use until it is enabled, and nothing else."""
    rack = await make(a=fake(), b=fake())
    tool = rack.tool("a")
    build.made[0].respond_with(call, fault)
    calls = {
        "metrics": lambda: tool.metrics("a"),
        "knobs": lambda: tool.knobs("a"),
        "read": lambda: tool.read("a", "size"),
        "actions": lambda: tool.actions("a"),
    }
    if call != "status":
        with pytest.raises(ToolError, match=r"a failed in .* and is in quarantine"):
            await calls[call]()
    view = await rack.view("a")
    assert view.status.state is ToolState.QUARANTINED
    assert "then enable it again" in view.status.detail
    with pytest.raises(RefusedError, match="a is in quarantine"):
        rack.tool("a")
    assert (await rack.view("b")).status.state is ToolState.UP
    assert (await rack.enable("a", enabled=True)).status.state is ToolState.UP
    assert build.made[0].close_count == 1


async def test_a_fault_without_a_wire_counts_too(make, build):
    """A fault in what a tool says by itself puts it into quarantine as well."""
    rack = await make()
    build.made[0].command = None
    with pytest.raises(ToolError, match="in command and is in quarantine: TypeError"):
        rack.tool("a").command("a", "size", 1)
    assert (await rack.view("a")).status.state is ToolState.QUARANTINED
    assert (await rack.view("a")).targets == ("a",)


@pytest.mark.parametrize("error", [ToolError("x"), ConflictError("x"), RefusedError("x"), NotFoundError("x")])
async def test_an_error_that_is_allowed_goes_through(make, build, error):
    """What a tool may raise reaches the caller as it is, and the tool stays in use."""
    rack = await make()
    build.made[0].respond_with("apply", error)
    with pytest.raises(type(error), match="x"):
        await rack.tool("a").apply("a", "size", 100, 120)
    assert (await rack.view("a")).status.state is ToolState.UP


async def test_a_fault_in_a_change_leaves_it_uncertain(make, build):
    """A tool that breaks while it changes something may have changed it."""
    rack = await make()
    build.made[0].fail_after_effect("apply", ZeroDivisionError())
    with pytest.raises(ToolUncertainError, match="quarantine"):
        await rack.tool("a").apply("a", "size", 100, 120)
    assert build.made[0].effects == [("a", "size", 120)]


async def test_outer_deadlines(make, build):
    """A call that hangs ends: when it reads as an error, when it changes as uncertain."""
    rack = await make()
    tool, inner = rack.tool("a"), build.made[0]
    inner.gates = {name: asyncio.Event() for name in ("metrics", "apply", "run", "status")}
    with pytest.raises(ToolError, match=r"a gave no answer to metrics within 0\.05 s"):
        await tool.metrics("a")
    with pytest.raises(ToolUncertainError, match=r"no answer to apply size within 0\.1 s"):
        await tool.apply("a", "size", 100, 120)
    with pytest.raises(ToolUncertainError, match=r"no answer to run flush within 0\.1 s"):
        await tool.run("a", "flush", "key")
    assert (await rack.view("a")).status.state is ToolState.UNREACHABLE
    assert inner.effects == []


async def test_a_call_that_ignores_its_cancellation_ends_for_the_caller(make, build, monkeypatch):
    """The caller goes on even where the tool does not let go."""
    monkeypatch.setattr(sandbox, "CANCEL_GRACE_S", 0.01)
    rack = await make()
    stubborn = asyncio.Event()

    async def metrics(_target):
        while not stubborn.is_set():
            try:
                await stubborn.wait()
            except asyncio.CancelledError:
                continue
        return {}

    build.made[0].metrics = metrics
    with pytest.raises(ToolError, match="no answer"):
        await rack.tool("a").metrics("a")
    assert len(sandbox._abandoned_tasks) == 1
    stubborn.set()
    await settle()
    assert sandbox._abandoned_tasks == set()


async def test_what_is_no_target_is_refused(make):
    """A target that the settings do not name is not there to read and refused to change."""
    rack = await make(a=fake(targets=["x"]))
    tool = rack.tool("a")
    with pytest.raises(NotFoundError, match="a has no target 'y'; it has x"):
        await tool.read("y", "size")
    for change in (tool.apply("y", "size", 1, 2), tool.run("y", "flush", "k")):
        with pytest.raises(RefusedError, match=r"name it in tools\.a\.targets"):
            await change


async def test_status_is_asked_for_at_most_every_few_seconds(make, build):
    """Many viewers cost one question, and a fresh one only after a while."""
    rack = await make()
    await asyncio.gather(*(rack.views() for _ in range(20)))
    asked = [call for call in build.made[0].calls if call == ("status",)]
    assert len(asked) == 1
    rack._clock.tick(6)
    await rack.view("a")
    assert len([call for call in build.made[0].calls if call == ("status",)]) == 2


async def test_views_and_targets(make, build):
    """A view says modes and targets; a target shows what was read, and why the rest was not."""
    rack = await make(a=fake(mode={"size": "auto"}, targets=["x"]))
    view = await rack.view("a")
    assert (view.modes, view.targets) == ({"*": Mode.RECOMMEND, "size": Mode.AUTO}, ("x",))
    seen = await rack.target("a", "x")
    assert (seen.metrics, seen.problem) == ({"fake_up": 1.0}, "")
    assert [(knob.name, reading.value) for knob, reading in seen.knobs] == [("size", 100)]
    build.made[0].respond_with("knobs", ToolError("a is away"))
    seen = await rack.target("a", "x")
    assert (seen.knobs, seen.problem) == ((), "a is away")
    assert seen.metrics
    with pytest.raises(NotFoundError):
        await rack.target("a", "y")
    await rack.enable("a", enabled=False)
    assert "disabled" in (await rack.target("a", "x")).problem


async def test_reload(make, build):
    """New tools come, changed ones are replaced, unchanged ones stay, gone ones are closed."""
    rack = await make(a=fake(), b=fake(), c=fake())
    a, b, c = build.made
    kept, gone = rack.tool("b"), rack.tool("c")
    await rack.reload({"a": fake(), "b": fake(trial=True, targets=["b", "x"]), "d": fake()})
    assert rack.names() == ["a", "b", "d"]
    assert rack.tool("b").targets == ("b", "x")
    assert await kept.metrics("b")
    await settle()
    assert (a.close_count, b.close_count, c.close_count) == (0, 1, 1)
    with pytest.raises(RefusedError, match="no longer configured"):
        await gone.metrics("c")


async def test_a_tool_that_cannot_be_made_is_told(make, build):
    """A library that is missing shuts in one tool, says what to install, and a later try may help."""
    build.error = ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
    rack = await make(a=ToolSettings(kind="postgresql"))
    status = (await rack.view("a")).status
    assert status.state is ToolState.QUARANTINED
    assert "psycopg is not installed; pip install 'trimtab[postgresql]'" in status.detail
    build.error = None
    assert (await rack.enable("a", enabled=True)).status.state is ToolState.UP


async def test_a_call_ends_where_it_began(make, build):
    """A tool that is replaced answers the call that is in it, then it is closed."""
    rack = await make(deadlines=Deadlines(5, 5), a=fake())
    old = build.made[0]
    old.gates["metrics"] = asyncio.Event()
    asking = asyncio.create_task(rack.tool("a").metrics("a"))
    await settle()
    await rack.reload({"a": fake(trial=True)})
    assert rack.tool("a").trial
    assert old.close_count == 0
    old.gates["metrics"].set()
    assert await asking == {"fake_up": 1.0}
    await settle()
    assert old.close_count == 1


async def test_a_hundred_swaps_under_load(make, build):
    """A hundred replacements, switches and faults of one tool fail no call to others and leak nothing."""
    rack = await make(deadlines=Deadlines(5, 5), swapped=fake(), other=fake())
    done, wrong, numbers = asyncio.Event(), [], count()

    async def load(name, allowed):
        while not done.is_set():
            try:
                await rack.tool(name).metrics(name)
                next(numbers)
            except allowed:
                pass
            except Exception as error:
                wrong.append(error)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(load("other", ())) for _ in range(4)]
    tasks += [asyncio.create_task(load("swapped", (RefusedError, ToolError))) for _ in range(4)]
    for number in range(100):
        await rack.reload({"swapped": fake(trial=number % 2 == 0), "other": fake()})
        if number % 3 == 0:
            await rack.enable("swapped", enabled=False)
            await rack.enable("swapped", enabled=True)
        if number % 5 == 0:
            build.made[-1].respond_with("metrics", RuntimeError("fault"))
            await settle()
            await rack.enable("swapped", enabled=True)
    done.set()
    await asyncio.gather(*tasks)
    await rack.close()
    assert wrong == []
    assert next(numbers) > 1000
    assert len(build.made) > 100
    assert {tool.close_count for tool in build.made} == {1}
    assert asyncio.all_tasks() == {asyncio.current_task()}
    left = [weakref.ref(tool) for tool in build.made]
    build.made.clear()
    gc.collect()
    assert [ref for ref in left if ref() is not None] == []


def test_every_kind_of_the_catalogue_is_known():
    """Each catalogue line resolves, and an unknown kind says which there are."""
    for kind in tool_catalogue.TOOLS:
        assert tool_catalogue.tool_class(kind).__doc__
    with pytest.raises(NotFoundError, match=r"there is no kind of tool 'x'; known: .*redis"):
        tool_catalogue.tool_class("x")


async def test_a_mode_without_effect_is_told_once(make):
    """What only the running tool knows is warned of when all its targets have been seen, and not again."""
    modes = {"size": "auto", "sise": "auto", "y/flush": "auto", "z/*": "auto"}
    rack = await make(a=fake(targets=["x", "y"], mode=modes))
    with capture_logs() as lines:
        await rack.target("a", "x")
        assert lines == []
        await rack.target("a", "y")
        await rack.target("a", "x")
    assert [line["why"].split(",")[0] for line in lines] == ["mode names 'sise'", "mode names 'z/*'"]
    assert "did you mean size?" in lines[0]["why"]
