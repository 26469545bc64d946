"""Contract of the port Tool, for every tool of the catalogue and the fake."""

import inspect

import pytest

from tests.fakes.fake_tools import FakeTool, FakeToolbox
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.ports import Tool, Toolbox
from trimtab.engine.settings.tools import tool_settings_class
from trimtab.engine.tools import tool_catalogue
from trimtab.engine.types import Mode, ToolState

NOBODY = {
    "postgresql": {"url": "postgresql://127.0.0.1:1/x"},
    "redis": {"url": "redis://127.0.0.1:1"},
}
"""Kind -> settings under which nobody answers; a kind that is not here works without a server."""


def make_tool(kind: str, **given) -> Tool:
    """A tool of the catalogue with a unique name."""
    settings = tool_settings_class(kind)(kind=kind, **NOBODY[kind], **given)
    return tool_catalogue.build("mine", settings)


def method_names(port) -> set[str]:
    """Names of the methods of a port."""
    return {name for name in vars(port) if not name.startswith("_") and callable(getattr(port, name))}


@pytest.mark.parametrize("made", [*NOBODY, "fake", "fake toolbox"])
def test_implements_the_port(made):
    """Each method of the port exists with the same parameters and is async when the port's is."""
    port = Toolbox if made == "fake toolbox" else Tool
    instance = {"fake": FakeTool, "fake toolbox": FakeToolbox}.get(made, lambda: make_tool(made))()
    for name in method_names(port):
        expected, actual = getattr(port, name), getattr(instance, name)
        assert list(inspect.signature(actual).parameters) == list(inspect.signature(expected).parameters)[1:]
        assert inspect.iscoroutinefunction(actual) == inspect.iscoroutinefunction(expected)


@pytest.mark.parametrize("kind", NOBODY)
async def test_unreachable(kind):
    """Status raises nothing and says what to check; other methods raise ToolError."""
    tool = make_tool(kind)
    try:
        assert (tool.name, tuple(tool.targets), tool.trial) == ("mine", ("mine",), False)
        status = await tool.status()
        assert status.state is ToolState.UNREACHABLE
        assert "tools.mine.url" in status.detail
        knob = {"redis": "maxmemory", "postgresql": "work_mem"}[kind]
        for call in (
            tool.metrics("mine"), tool.knobs("mine"), tool.read("mine", knob), tool.apply("mine", knob, 1, 2),
        ):  # fmt: skip
            with pytest.raises(ToolError) as error:
                await call
            assert not isinstance(error.value, ToolUncertainError)
        with pytest.raises(NotFoundError, match="has no action"):
            await tool.run("mine", "nothing", "key")
        assert await tool.actions("mine")
        assert "CHANGE-THIS-PASSWORD" in tool.grant()
    finally:
        await tool.close()
        await tool.close()


@pytest.mark.parametrize("kind", NOBODY)
async def test_targets_and_trial_come_from_the_settings(kind):
    """Targets and trial are those of the settings."""
    tool = make_tool(kind, targets=["cache-1"], trial=True)
    assert (tuple(tool.targets), tool.trial) == (("cache-1",), True)


async def test_the_fake_keeps_the_contract():
    """The fake compares, sets and resets, and can fail before and after its effect."""
    tool = FakeTool(defaults={"size": 50})
    assert (await tool.apply("fake", "size", 100, 120)).after == 120
    with pytest.raises(ConflictError):
        await tool.apply("fake", "size", 100, 130)
    assert (await tool.apply("fake", "size", 120, None)).after == 50
    tool.respond_with("apply", RefusedError("no"), None)
    tool.fail_after_effect("apply", ToolUncertainError("lost"))
    with pytest.raises(RefusedError):
        await tool.apply("fake", "size", 50, 60)
    with pytest.raises(ToolUncertainError):
        await tool.apply("fake", "size", 50, 60)
    assert (await tool.read("fake", "size")).value == 60
    assert await tool.run("fake", "flush", "key") == "flush done"
    assert tool.effects[-2:] == [("fake", "size", 60), ("fake", "flush", "key")]


async def test_the_fake_toolbox_disables_tools():
    """The fake toolbox returns tools by name and refuses disabled ones."""
    box = FakeToolbox(FakeTool("a"), modes={"a": {"size": Mode.AUTO}})
    assert (await box.view("a")).modes == {"*": Mode.RECOMMEND, "size": Mode.AUTO}
    assert (await box.target("a", "a")).knobs[0][1].value == 100
    await box.enable("a", enabled=False)
    with pytest.raises(RefusedError):
        box.tool("a")
    with pytest.raises(NotFoundError):
        box.tool("b")


def test_a_tool_of_another_package(tmp_path, monkeypatch):
    """Entry points add a kind and its settings; a built-in kind wins."""
    (tmp_path / "their_tool.py").write_text(
        "from trimtab.engine.settings.tools import ToolSettings\n"
        "class Theirs(ToolSettings):\n    size: int = 3\n"
        "class Tool:\n    def __init__(self, name, settings):\n"
        "        self.name, self.size = name, settings.size\n"
    )
    info = tmp_path / "their_tool-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-tool\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[trimtab.tools]\ntheirs = their_tool:Tool\nredis = their_tool:Tool\n"
        "[trimtab.tool_settings]\ntheirs = their_tool:Theirs\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert "theirs" in tool_catalogue.tool_kinds()
    tool = tool_catalogue.build("x", tool_settings_class("theirs")(kind="theirs", size=5))
    assert (tool.name, tool.size) == ("x", 5)
    assert tool_catalogue.tool_class("redis").__module__ == "trimtab.engine.tools.redis.redis_tool"
