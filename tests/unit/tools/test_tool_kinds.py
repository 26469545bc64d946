"""The kinds http_service, webhook, process and pm2: from trimtab.yaml to a working tool."""

import inspect

import pytest

from trimtab.engine.errors import NotFoundError, RefusedError, SettingsError, ToolError
from trimtab.engine.ports import Tool
from trimtab.engine.settings.settings_file import load_settings
from trimtab.engine.tools import tool_catalogue
from trimtab.engine.types import ToolState

WRITTEN = """
tools:
  shop: {kind: http_service, url: 'http://127.0.0.1:1/trimtab', bearer_token_file: token, trial: true}
  ops: {kind: webhook, url: 'http://127.0.0.1:1', secret_file: secret, actions: {scale_up: {help: One more.}}}
  local: {kind: process, processes: {worker: {pid_file: run/worker.pid, signals: [HUP]}}}
  pm2: {home: pm2-home, targets: [web], mode: {reload: auto}}
"""
TARGETS = {"shop": "shop", "ops": "ops", "local": "worker", "pm2": "web"}


@pytest.fixture
def settings(tmp_path):
    """Settings by name from a file; no server runs at their addresses."""
    path = tmp_path / "trimtab.yaml"
    path.write_text(WRITTEN)
    (tmp_path / "token").write_text("a-token-of-sixteen-or-more")
    (tmp_path / "secret").write_text("a-secret-of-24-characters-or-more")
    return load_settings(path, {}).tools


def test_paths_are_relative_to_the_file(settings, tmp_path):
    """Relative paths are resolved against the settings file's directory, nested ones too."""
    assert settings["shop"].bearer_token_file == tmp_path / "token"
    assert settings["ops"].secret_file == tmp_path / "secret"
    assert settings["local"].processes["worker"].pid_file == tmp_path / "run" / "worker.pid"
    assert settings["pm2"].home == tmp_path / "pm2-home"


@pytest.mark.parametrize("name", TARGETS)
async def test_each_kind_keeps_the_contract(settings, name):
    """The tool has the port's methods, raises only allowed errors, and touches no other target."""
    made, target = tool_catalogue.build(name, settings[name]), TARGETS[name]
    for method in (each for each in vars(Tool) if callable(getattr(Tool, each)) and not each.startswith("_")):
        expected, actual = getattr(Tool, method), getattr(made, method)
        assert list(inspect.signature(actual).parameters) == list(inspect.signature(expected).parameters)[1:]
        assert inspect.iscoroutinefunction(actual) == inspect.iscoroutinefunction(expected)
    assert (made.name, tuple(made.targets), made.trial) == (name, (target,), name == "shop")
    state = (await made.status()).state
    assert state is (ToolState.UP if name == "local" else ToolState.UNREACHABLE)
    for call in (
        made.read(target, "nothing"),
        made.apply(target, "nothing", 1, 2),
        made.run(target, "nothing", "k"),
    ):
        with pytest.raises((ToolError, NotFoundError, RefusedError)):
            await call
    for call in (made.run("other", "reload", "k"), made.run("", "reload", "k"), made.run("*", "reload", "k")):
        with pytest.raises(RefusedError, match="nothing was done"):
            await call
    assert made.grant().strip()
    await made.close()
    await made.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: http_service, url: 'http://joe:hunter2@h'}", "url contains a user or password"),
        ("{kind: http_service}", "url is missing"),
        ("{kind: process, processes: {}}", "at least 1"),
        ("{kind: process, processes: {a: {nam: x}}}", "did you mean tools.x.processes.a.name"),
        ("{kind: pm2, targets: [all]}", "which PM2 does not read as a name"),
    ],
)
def test_mistakes_are_reported(tmp_path, text, message):
    """A mistake is reported with its place, without any password."""
    path = tmp_path / "trimtab.yaml"
    path.write_text(f"tools: {{x: {text}}}")
    with pytest.raises(SettingsError) as caught:
        load_settings(path, {})
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)
