"""`trimtab recommend`: two reads, their findings and exit codes."""

import asyncio
import io
import json
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from tests.fakes.fake_tools import FakeTool
from trimtab.engine.cli import progress
from trimtab.engine.cli.commands import recommend
from trimtab.engine.errors import NotFoundError, SettingsError, ToolError
from trimtab.engine.tools import tool_catalogue
from trimtab.engine.types import Knob, KnobType

MIB = 2**20
MAXMEMORY = Knob("maxmemory", KnobType.INT, "B", low=MIB, high=256 * MIB, step=64 * MIB)
POLICY = Knob("maxmemory-policy", KnobType.CHOICE, choices=("allkeys-lru", "noeviction"))
HEALTHY = {
    "redis_evicted_keys_total": 0.0, "redis_keyspace_hits_total": 900.0, "redis_keyspace_misses_total": 10.0,
}  # fmt: skip
THRASHING = {
    "redis_evicted_keys_total": 500.0, "redis_keyspace_hits_total": 1000.0,
    "redis_keyspace_misses_total": 910.0,
}  # fmt: skip


def make_cache_tool(name="redis", metrics=THRASHING):
    """Return a fake Redis with these metrics at the second read."""
    values = {"maxmemory": 64 * MIB, "maxmemory-policy": "allkeys-lru"}
    tool = FakeTool(name, knobs=(MAXMEMORY, POLICY), values=values, actions=(), metrics=metrics)
    tool.respond_with("metrics", HEALTHY)
    return tool


@pytest.fixture
def tools(monkeypatch):
    """Tools that the catalogue builds, by name; waiting takes no time, and no tool may be changed."""
    by_name = {}
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr(tool_catalogue, "build", lambda name, section: by_name[name])  # noqa: ARG005 - signature of the catalogue
    quick = SimpleNamespace(run=asyncio.run, gather=asyncio.gather, sleep=sleep, timeout=asyncio.timeout)
    monkeypatch.setattr(recommend, "asyncio", quick)
    yield by_name
    for tool in by_name.values():
        assert tool.effects == []


@pytest.fixture
def call():
    """Runs the command."""
    app = typer.Typer()
    app.command()(recommend.recommend)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_a_finding_has_evidence_and_a_command(tools, call):
    """A finding gives exit code 1 and a JSON row with evidence, advice, change and command."""
    tools["redis"] = make_cache_tool()
    result = call("--redis", "redis://localhost:1", "-f", "json")
    assert result.exit_code == 1
    (row,) = json.loads(result.stdout)
    assert (row["tool"], row["target"], row["finding"]) == ("redis", "redis", "the cache is too small")
    assert row["change"] == "Raise maxmemory of redis from 64 MiB to 128 MiB"
    assert row["command"] == f"fakectl redis maxmemory {128 * MIB}"
    assert "the hit ratio is 10%" in row["evidence"]
    assert tools["redis"].close_count == 1


def test_the_table_has_a_line_for_each_finding(tools, call):
    """The table has one line per finding."""
    tools["redis"] = make_cache_tool()
    result = call("--redis", "redis://localhost:1")
    assert result.exit_code == 1
    head, line = result.stdout.splitlines()
    assert head.split()[:3] == ["tool", "target", "finding"]
    assert "Raise maxmemory of redis from 64 MiB to 128 MiB" in line


def test_a_healthy_store_ends_with_0(tools, call):
    """Without findings the exit code is 0 and JSON is an empty list."""
    tools["redis"] = make_cache_tool(metrics=HEALTHY)
    result = call("--redis", "redis://localhost:1", "--seconds", "5")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "redis/redis: found nothing worth changing in 5 s" in result.stderr
    assert call("--redis", "redis://localhost:1", "-f", "json").stdout == "[]\n"


def test_an_unreachable_store_ends_with_3(tools, call):
    """The other store is still checked, and both are closed."""
    tools["redis"], tools["postgresql"] = make_cache_tool(), FakeTool("postgresql")
    tools["postgresql"].respond_with("metrics", ToolError("postgresql: no connection to localhost:2"))
    result = call("--redis", "redis://localhost:1", "--postgresql", "postgresql://localhost:2/x")
    assert result.exit_code == 3
    assert "the cache is too small" in result.stdout
    assert "postgresql: postgresql: no connection to localhost:2" in result.stderr
    assert (tools["redis"].close_count, tools["postgresql"].close_count) == (1, 1)


def test_a_missing_knob_hides_no_finding(tools, call):
    """A knob that the server lacks does not prevent other findings."""
    tools["redis"] = make_cache_tool()
    tools["redis"].respond_with("read", None, NotFoundError("an old server has no such setting"))
    result = call("--redis", "redis://localhost:1", "-f", "json")
    assert (result.exit_code, len(json.loads(result.stdout))) == (1, 1)


def test_without_a_url_the_settings_name_the_stores(tools, call, tmp_path):
    """Without a URL the enabled data stores of the settings are checked."""
    tools["cache-1"] = make_cache_tool("cache-1")
    path = tmp_path / "trimtab.yaml"
    path.write_text(
        "tools: {cache-1: {kind: redis}, cache-2: {kind: redis, enabled: false}, pm2: {kind: pm2}}"
    )
    result = call("--config", str(path), "-f", "json")
    assert [row["tool"] for row in json.loads(result.stdout)] == ["cache-1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "there is no data store to check: give --redis URL or --postgresql URL"),
        (("--redis", "http://bob:hunter2@cache"), "--redis 'http://cache': url must be such as"),
        (("--redis", "redis://:hun/hunter2@cache"), "escape '/'"),
        (("--postgresql", "postgresql://bob:hunter2@[cache"), "--postgresql is no valid URL"),
        (("--redis-password-file", "hunter2"), "--redis-password-file needs --redis URL"),
    ],
    ids=["nothing", "no such URL", "not escaped", "no URL", "no store"],
)
def test_invalid_use_is_explained_without_a_secret(call, tmp_path, arguments, message):
    """Wrong use raises a SettingsError that repeats no password."""
    path = tmp_path / "trimtab.yaml"
    path.write_text("")
    error = call(*arguments, "--config", str(path)).exception
    assert isinstance(error, SettingsError)
    assert message in str(error)
    assert "hunter2" not in str(error)


def test_a_missing_driver_is_named(call, monkeypatch):
    """A missing driver is named with the package to install."""

    def build(*_):
        raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

    monkeypatch.setattr(tool_catalogue, "build", build)
    error = call("--postgresql", "postgresql://localhost/x").exception
    assert isinstance(error, SettingsError)
    assert "psycopg is not installed; pip install 'trimtab[postgresql]'" in str(error)


def test_settings_errors_end_with_2(tmp_path, monkeypatch, capsys):
    """A SettingsError ends the process with code 2."""
    from trimtab.engine.cli import main

    path = tmp_path / "trimtab.yaml"
    path.write_text("")
    monkeypatch.setattr("sys.argv", ["trimtab", "recommend", "--config", str(path)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "there is no data store to check" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "environ", "login"),
    [
        (("--redis", "redis://:s3cret-one@c:1/2"), {}, (None, "s3cret-one")),
        (("--redis", "redis://bob:s%2Fcret@c:1/2"), {"REDISCLI_AUTH": "other"}, ("bob", "s/cret")),
        (("--redis", "redis://c:1/2"), {"REDISCLI_AUTH": "of-redis-cli"}, (None, "of-redis-cli")),
        (("--postgresql", "postgresql://bob@c/d"), {"PGPASSWORD": "of-libpq"}, ("bob", "of-libpq")),
        (("--postgresql", "postgresql://bob:of-url@c/d"), {"PGPASSWORD": "of-libpq"}, ("bob", "of-url")),
    ],
)
def test_passwords_are_found_and_never_shown(monkeypatch, call, arguments, environ, login):
    """Passwords come from the URL or the client's environment variable; no output contains one."""
    sections = []

    def build(name, section):
        sections.append(section)
        tool = FakeTool(name, knobs=(), actions=())
        tool.respond_with("metrics", ToolError(f"{name}: {section.url} does not let us in"))
        return tool

    monkeypatch.setattr(tool_catalogue, "build", build)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    result = call(*arguments)
    (section,) = sections
    assert (section.username, section.password.get_secret_value()) == login
    assert result.exit_code == 3
    assert login[1] not in result.output + section.url


def test_a_password_of_a_file(monkeypatch, call, tmp_path, tools):
    """A password file takes precedence over the URL."""
    tools["redis"] = make_cache_tool()
    sections = []
    monkeypatch.setattr(
        tool_catalogue, "build", lambda name, section: sections.append(section) or tools[name]
    )
    call("--redis", "redis://:other@c", "--redis-password-file", str(tmp_path / "pw"))
    assert (sections[0].password, sections[0].password_file) == (None, tmp_path / "pw")


def test_a_store_that_hangs_is_reported_in_time(tools, call, monkeypatch):
    """The report is printed within its timeout, with the findings of the other store."""
    monkeypatch.setattr(recommend, "TIMEOUT_S", 0.05)
    tools["redis"], tools["postgresql"] = make_cache_tool(), FakeTool("postgresql")
    tools["postgresql"].gates["metrics"] = asyncio.Event()
    result = call("--redis", "redis://localhost:1", "--postgresql", "postgresql://localhost:2/x")
    assert result.exit_code == 3
    assert "the cache is too small" in result.stdout
    assert "postgresql did not answer within 0.05 s" in result.stderr


async def test_progress_is_shown_in_plain_lines(capsys, monkeypatch):
    """Without a terminal, lines show how much time has passed."""
    monkeypatch.setattr(progress, "_LINE_INTERVAL_S", 0.01)
    with progress.show_progress("checking redis", 0.045):
        await asyncio.sleep(0.045)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["checking redis: 0.045 s", "checking redis: 0.01 of 0.045 s"]
    assert len(lines) <= 5


async def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    """On a terminal a bar moves and disappears at the end."""
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_BAR_INTERVAL_S", 0.01)
    with progress.show_progress("checking redis", 0.2):
        await asyncio.sleep(0.1)
    await asyncio.sleep(0)
    assert "checking redis" in screen.getvalue()
    assert "━" in screen.getvalue()
