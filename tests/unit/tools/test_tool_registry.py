"""Tool registry: tools by name, enabled, replaced, and isolated from the engine."""

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
    """Builds fake tools and records them."""

    def __init__(self) -> None:
        self.made: list[FakeTool] = []
        self.error: Exception | None = None

    def __call__(self, name, settings):
        if self.error is not None:
            raise self.error
        tool = FakeTool(name, settings.targets_of(name), trial=settings.trial)
        self.made.append(tool)
        return tool


def fake_settings(**given) -> ToolSettings:
    """Settings of a fake tool."""
    return ToolSettings(kind="fake", **given)


@pytest.fixture
def build():
    """A builder that records the tools it built."""
    return ToolBuilder()


@pytest.fixture
async def make_registry(build):
    """A function that opens a registry, which is closed at the end."""
    registries = []

    async def open_registry(memory=None, deadlines=SHORT, **settings):
        registry = ToolRegistry(
            settings or {"a": fake_settings()}, memory or FakeKeyValueStore(), FakeClock(), build, deadlines
        )
        registries.append(registry)
        return await registry.open()

    yield open_registry
    for registry in registries:
        await registry.close()


async def test_tools_are_found_by_name(make_registry):
    """Every configured tool is found by name; the error for an unknown name lists the names."""
    registry = await make_registry(a=fake_settings(), b=fake_settings(targets=["x", "y"]))
    toolbox: Toolbox = registry
    tool: Tool = toolbox.tool("b")
    assert registry.names() == ["a", "b"]
    assert tool.targets == ("x", "y")
    with pytest.raises(NotFoundError, match="there is no tool 'c'; configured: a, b"):
        registry.tool("c")


async def test_a_disabled_tool_stays_disabled(make_registry):
    """A disabled tool stays disabled after a restart until an operator or the settings enable it."""
    memory = FakeKeyValueStore()
    registry = await make_registry(memory, a=fake_settings())
    tool = registry.tool("a")
    view = await registry.enable("a", enabled=False)
    assert (view.enabled, view.status.state) == (False, ToolState.DISABLED)
    with pytest.raises(RefusedError, match="a is disabled"):
        registry.tool("a")
    with pytest.raises(RefusedError, match="a is disabled"):
        await tool.metrics("a")
    again = await make_registry(memory, a=fake_settings())
    assert not (await again.view("a")).enabled
    assert (await again.enable("a", enabled=True)).status.state is ToolState.UP
    await again.enable("a", enabled=False)
    await again.reload({"a": fake_settings(enabled=False)})
    await again.reload({"a": fake_settings(enabled=True)})
    assert not (await again.view("a")).enabled
    await again.enable("a", enabled=True)
    await again.reload({"a": fake_settings(enabled=False)})
    assert not (await again.view("a")).enabled


async def test_a_choice_that_cannot_be_stored_changes_nothing(make_registry):
    """A tool keeps its state when the choice cannot be stored."""
    memory = FakeKeyValueStore()
    registry = await make_registry(memory, a=fake_settings())
    memory.write_error = StoreError("disk full")
    with pytest.raises(StoreError):
        await registry.enable("a", enabled=False)
    assert (await registry.view("a")).enabled


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
async def test_a_fault_puts_a_tool_into_quarantine(make_registry, build, call, fault):
    """An unexpected exception quarantines the tool until it is enabled again, and no other tool."""
    registry = await make_registry(a=fake_settings(), b=fake_settings())
    tool = registry.tool("a")
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
    view = await registry.view("a")
    assert view.status.state is ToolState.QUARANTINED
    assert "then enable it again" in view.status.detail
    with pytest.raises(RefusedError, match="a is in quarantine"):
        registry.tool("a")
    assert (await registry.view("b")).status.state is ToolState.UP
    assert (await registry.enable("a", enabled=True)).status.state is ToolState.UP
    assert build.made[0].close_count == 1


async def test_a_fault_in_a_synchronous_method_quarantines(make_registry, build):
    """An unexpected exception in a synchronous method quarantines the tool as well."""
    registry = await make_registry()
    build.made[0].command = None
    with pytest.raises(ToolError, match="in command and is in quarantine: TypeError"):
        registry.tool("a").command("a", "size", 1)
    assert (await registry.view("a")).status.state is ToolState.QUARANTINED
    assert (await registry.view("a")).targets == ("a",)


@pytest.mark.parametrize("error", [ToolError("x"), ConflictError("x"), RefusedError("x"), NotFoundError("x")])
async def test_an_allowed_error_reaches_the_caller(make_registry, build, error):
    """An allowed exception reaches the caller unchanged, and the tool stays in use."""
    registry = await make_registry()
    build.made[0].respond_with("apply", error)
    with pytest.raises(type(error), match="x"):
        await registry.tool("a").apply("a", "size", 100, 120)
    assert (await registry.view("a")).status.state is ToolState.UP


async def test_a_fault_in_a_change_leaves_it_uncertain(make_registry, build):
    """A fault during a change makes the change uncertain."""
    registry = await make_registry()
    build.made[0].fail_after_effect("apply", ZeroDivisionError())
    with pytest.raises(ToolUncertainError, match="quarantine"):
        await registry.tool("a").apply("a", "size", 100, 120)
    assert build.made[0].effects == [("a", "size", 120)]


async def test_calls_have_deadlines(make_registry, build):
    """A hanging call ends at the deadline: a read as an error, a change as uncertain."""
    registry = await make_registry()
    tool, inner = registry.tool("a"), build.made[0]
    inner.gates = {name: asyncio.Event() for name in ("metrics", "apply", "run", "status")}
    with pytest.raises(ToolError, match=r"a gave no answer to metrics within 0\.05 s"):
        await tool.metrics("a")
    with pytest.raises(ToolUncertainError, match=r"no answer to apply size within 0\.1 s"):
        await tool.apply("a", "size", 100, 120)
    with pytest.raises(ToolUncertainError, match=r"no answer to run flush within 0\.1 s"):
        await tool.run("a", "flush", "key")
    assert (await registry.view("a")).status.state is ToolState.UNREACHABLE
    assert inner.effects == []


async def test_a_call_that_ignores_its_cancellation_returns(make_registry, build, monkeypatch):
    """The caller continues even if the call ignores its cancellation."""
    monkeypatch.setattr(sandbox, "CANCEL_GRACE_S", 0.01)
    registry = await make_registry()
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
        await registry.tool("a").metrics("a")
    assert len(sandbox._abandoned_tasks) == 1
    stubborn.set()
    await settle()
    assert sandbox._abandoned_tasks == set()


async def test_an_unknown_target_is_refused(make_registry):
    """A target missing from the settings can be neither read nor changed."""
    registry = await make_registry(a=fake_settings(targets=["x"]))
    tool = registry.tool("a")
    with pytest.raises(NotFoundError, match="a has no target 'y'; it has x"):
        await tool.read("y", "size")
    for change in (tool.apply("y", "size", 1, 2), tool.run("y", "flush", "k")):
        with pytest.raises(RefusedError, match=r"name it in tools\.a\.targets"):
            await change


async def test_status_is_cached(make_registry, build):
    """Several views within a few seconds cause one status call."""
    registry = await make_registry()
    await asyncio.gather(*(registry.views() for _ in range(20)))
    status_calls = [call for call in build.made[0].calls if call == ("status",)]
    assert len(status_calls) == 1
    registry._clock.tick(6)
    await registry.view("a")
    assert len([call for call in build.made[0].calls if call == ("status",)]) == 2


async def test_views_and_targets(make_registry, build):
    """A view has modes and targets; a target has its readings and the reason for missing ones."""
    registry = await make_registry(a=fake_settings(mode={"size": "auto"}, targets=["x"]))
    view = await registry.view("a")
    assert (view.modes, view.targets) == ({"*": Mode.RECOMMEND, "size": Mode.AUTO}, ("x",))
    target = await registry.target("a", "x")
    assert (target.metrics, target.problem) == ({"fake_up": 1.0}, "")
    assert [(knob.name, reading.value) for knob, reading in target.knobs] == [("size", 100)]
    build.made[0].respond_with("knobs", ToolError("a is away"))
    target = await registry.target("a", "x")
    assert (target.knobs, target.problem) == ((), "a is away")
    assert target.metrics
    with pytest.raises(NotFoundError):
        await registry.target("a", "y")
    await registry.enable("a", enabled=False)
    assert "disabled" in (await registry.target("a", "x")).problem


async def test_reload(make_registry, build):
    """A reload adds new tools, replaces changed ones, keeps unchanged ones and closes removed ones."""
    registry = await make_registry(a=fake_settings(), b=fake_settings(), c=fake_settings())
    a, b, c = build.made
    unchanged, removed = registry.tool("b"), registry.tool("c")
    await registry.reload(
        {"a": fake_settings(), "b": fake_settings(trial=True, targets=["b", "x"]), "d": fake_settings()}
    )
    assert registry.names() == ["a", "b", "d"]
    assert registry.tool("b").targets == ("b", "x")
    assert await unchanged.metrics("b")
    await settle()
    assert (a.close_count, b.close_count, c.close_count) == (0, 1, 1)
    with pytest.raises(RefusedError, match="no longer configured"):
        await removed.metrics("c")


async def test_a_tool_that_cannot_be_built_is_quarantined(make_registry, build):
    """A missing library quarantines one tool with an install hint; a later build may succeed."""
    build.error = ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
    registry = await make_registry(a=ToolSettings(kind="postgresql"))
    status = (await registry.view("a")).status
    assert status.state is ToolState.QUARANTINED
    assert "psycopg is not installed; pip install 'trimtab[postgresql]'" in status.detail
    build.error = None
    assert (await registry.enable("a", enabled=True)).status.state is ToolState.UP


async def test_a_replaced_tool_finishes_its_calls(make_registry, build):
    """A replaced tool answers the call that runs on it, then it is closed."""
    registry = await make_registry(deadlines=Deadlines(5, 5), a=fake_settings())
    old = build.made[0]
    old.gates["metrics"] = asyncio.Event()
    call_task = asyncio.create_task(registry.tool("a").metrics("a"))
    await settle()
    await registry.reload({"a": fake_settings(trial=True)})
    assert registry.tool("a").trial
    assert old.close_count == 0
    old.gates["metrics"].set()
    assert await call_task == {"fake_up": 1.0}
    await settle()
    assert old.close_count == 1


async def test_a_hundred_swaps_under_load(make_registry, build):
    """A hundred replacements, switches and faults of one tool fail no call to others and leak nothing."""
    registry = await make_registry(deadlines=Deadlines(5, 5), swapped=fake_settings(), other=fake_settings())
    done, wrong, numbers = asyncio.Event(), [], count()

    async def load(name, allowed):
        while not done.is_set():
            try:
                await registry.tool(name).metrics(name)
                next(numbers)
            except allowed:
                pass
            except Exception as error:
                wrong.append(error)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(load("other", ())) for _ in range(4)]
    tasks += [asyncio.create_task(load("swapped", (RefusedError, ToolError))) for _ in range(4)]
    for number in range(100):
        await registry.reload({"swapped": fake_settings(trial=number % 2 == 0), "other": fake_settings()})
        if number % 3 == 0:
            await registry.enable("swapped", enabled=False)
            await registry.enable("swapped", enabled=True)
        if number % 5 == 0:
            build.made[-1].respond_with("metrics", RuntimeError("fault"))
            await settle()
            await registry.enable("swapped", enabled=True)
    done.set()
    await asyncio.gather(*tasks)
    await registry.close()
    assert wrong == []
    assert next(numbers) > 1000
    assert len(build.made) > 100
    assert {tool.close_count for tool in build.made} == {1}
    assert asyncio.all_tasks() == {asyncio.current_task()}
    references = [weakref.ref(tool) for tool in build.made]
    build.made.clear()
    gc.collect()
    assert [ref for ref in references if ref() is not None] == []


def test_every_kind_of_the_catalogue_is_known():
    """Each catalogue line resolves; the error for an unknown kind lists the kinds."""
    for kind in tool_catalogue.TOOLS:
        assert tool_catalogue.tool_class(kind).__doc__
    with pytest.raises(NotFoundError, match=r"there is no kind of tool 'x'; known: .*redis"):
        tool_catalogue.tool_class("x")


async def test_a_mode_without_effect_is_logged_once(make_registry):
    """A mode key without effect is logged once, after all targets have been read."""
    modes = {"size": "auto", "sise": "auto", "y/flush": "auto", "z/*": "auto"}
    registry = await make_registry(a=fake_settings(targets=["x", "y"], mode=modes))
    with capture_logs() as lines:
        await registry.target("a", "x")
        assert lines == []
        await registry.target("a", "y")
        await registry.target("a", "x")
    assert [line["reason"].split(",")[0] for line in lines] == ["mode names 'sise'", "mode names 'z/*'"]
    assert "did you mean size?" in lines[0]["reason"]
