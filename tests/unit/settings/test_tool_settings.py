"""Settings `tools:` and its kinds."""

from pathlib import Path

import pytest

from trimtab.engine.errors import SettingsError
from trimtab.engine.settings import Settings
from trimtab.engine.settings.data_store_tools import PostgresqlTool, RedisTool
from trimtab.engine.settings.settings_file import load_settings
from trimtab.engine.settings.tools import SETTINGS_BY_KIND, tool_settings_class
from trimtab.engine.tools import tool_catalogue
from trimtab.engine.tools.postgresql import postgresql_knobs
from trimtab.engine.tools.process import process_tool
from trimtab.engine.tools.redis import redis_knobs
from trimtab.engine.types import Mode


def load(folder: Path, text: str, environ=()) -> Settings:
    """The settings of a trimtab.yaml with this text."""
    path = folder / "trimtab.yaml"
    path.write_text(text)
    return load_settings(path, dict(environ))


def test_the_kind_defaults_to_the_name(tmp_path):
    """Without `kind` the name is the kind, and an empty section has defaults."""
    tools = load(tmp_path, "tools:\n  redis:\n  c-1: {kind: redis}\n  pg: {kind: postgresql}\n").tools
    assert [type(tool) for tool in tools.values()] == [RedisTool, RedisTool, PostgresqlTool]
    assert tools["redis"].targets_of("redis") == ("redis",)


def test_the_documented_example(tmp_path):
    """The example of the documentation is loaded as described."""
    text = "tools:\n  redis: {url: redis://localhost:6379/0, mode: approve, targets: [cache-1]}\n"
    redis = load(tmp_path, text).tools["redis"]
    assert redis.targets_of("redis") == ("cache-1",)
    assert redis.mode_by_subject() == {"*": Mode.APPROVE}


@pytest.mark.parametrize(
    ("written", "modes"),
    [
        ("auto", {"*": Mode.AUTO}),
        # a bare off is False in YAML
        ("off", {"*": Mode.OFF}),
        # unnamed subjects are only recommended
        ("{maxmemory: auto}", {"*": Mode.RECOMMEND, "maxmemory": Mode.AUTO}),
        ("{maxmemory: off, '*': approve}", {"*": Mode.APPROVE, "maxmemory": Mode.OFF}),
    ],
)
def test_modes(tmp_path, written, modes):
    """A mode applies to everything, or is given by subject."""
    assert load(tmp_path, f"tools: {{redis: {{mode: {written}}}}}").tools["redis"].mode_by_subject() == modes


def test_environment_paths_and_sizes(tmp_path):
    """Variables reach a tool; a password file is relative to the settings file; sizes have units."""
    text = "tools: {redis: {}, c: {kind: redis, password_file: pw, memory_limit: 4GB}}"
    tools = load(tmp_path, text, {"TRIMTAB_TOOLS__REDIS__URL": "rediss://h"}.items()).tools
    assert tools["redis"].url == "rediss://h"
    assert tools["c"].password_file == tmp_path / "pw"
    assert tools["c"].memory_limit == 4 * 2**30


def test_a_tool_is_shown_without_secrets(tmp_path):
    """The settings shown by `trimtab doctor` include the fields of each kind."""
    shown = load(tmp_path, "tools: {redis: {url: redis://h, password: hunter2}}").model_dump(mode="json")
    assert shown["tools"]["redis"]["url"] == "redis://h"
    assert "hunter2" not in str(shown)


MISTAKES = [
    ("redis: {targets: []}", "tools.redis: targets is empty"),
    ("redis: {targets: ['*']}", "tools.redis: targets contains '*'; write full names"),
    ("redis: {targets: [a, a]}", "targets contains a name twice"),
    ("redis: {targets: [a, b]}", "url is one server"),
    ("cache: {}", "tools.cache: 'cache' is not a kind of tool; set kind: to one of"),
    ("c: {kind: rediss}", "did you mean redis?"),
    ("redis: {mode: autop}", "mode is 'autop'; use one of off, recommend, approve, auto"),
    ("redis: {pasword: x}", "did you mean tools.redis.password?"),
    ("c: {kind: redis, pasword: x}", "did you mean tools.c.password?"),
    ("redis: {trial: true, url: redis://far}", "trial is allowed on this machine only, not on far"),
    ("redis: {url: redis://u:hunter2@h}", "url contains a user or password"),
    ("redis: {url: http://h}", "url must be such as redis://host:6379/0"),
    ("redis: {url: redis://h/x}", "a Redis database is a number"),
    ("redis: {tls: {}}", "url must start with rediss://"),
    ("redis: {password: hunter2, password_file: x}", "are both set; keep one"),
    ("c: {kind: redis, password: hunter2, password_file: x}", "are both set; keep one"),
    ("redis: {memory_limit: much}", "'much' is not a size"),
    ("redis: {timeout: 5m}", "less than or equal to 9"),
    ("redis: {warm: {url: http://h, keys: [a]}}", "url must be such as"),
    ("redis: {warm: {url: 'http://{key}/', keys: [a]}}", "{key} in its host"),
    ("redis: {warm: {url: 'http://h/{key}'}}", "set either keys or keys_file"),
    ("postgresql: {url: postgresql://u:hunter2@h/d}", "url contains a user or password"),
    ("postgresql: {url: 'postgresql://h/d?sslmode=x'}", "url must be such as postgresql://host"),
    ("postgresql: {long_query: {older_than: 60}}", "sessions of all users are never ended"),
    ("'a b': {kind: redis}", "'a b' is not a tool name"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_an_error_is_explained(tmp_path, text, message):
    """The message names the tool, the error and the advice, and contains no secret."""
    with pytest.raises(SettingsError) as error:
        load(tmp_path, f"tools:\n  {text}\n")
    assert message in str(error.value)
    assert str(error.value).startswith(("trimtab.yaml:2: tools.", "trimtab.yaml:1: tools: "))
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("kind", SETTINGS_BY_KIND)
def test_every_kind_has_a_settings_class(kind):
    """Each kind resolves to a class that needs only `kind` and its own fields."""
    settings_class = tool_settings_class(kind)
    assert settings_class is not None
    assert settings_class.model_fields.keys() >= {
        "kind",
        "enabled",
        "mode",
        "targets",
        "trial",
        "memory_limit",
    }


UNKNOWN_MODES = [
    # a typo, with the closest name
    ("redis: {mode: {maxmemry: auto}}", r"redis\.mode names 'maxmemry'.*did you mean maxmemory\?"),
    # of a target that the tool does not have
    ("redis: {targets: [c-1], mode: {c-2/hz: auto}}", "names 'c-2/hz'.*nor one of its targets"),
    ("redis: {targets: [c-1], mode: {c-2/*: auto}}", r"names 'c-2/\*'"),
    ("db: {kind: postgresql, mode: {workmem: auto}}", r"did you mean work_mem\?"),
    ("pm2: {targets: ['@shop/api'], mode: {'@shop/api/reboot': auto}}", "names '@shop/api/reboot'"),
    ("p: {kind: process, processes: {w: {name: w}}, mode: {kill: auto}}", "hup, restart, term, usr1, usr2"),
    (
        "h: {kind: webhook, url: 'http://h', secret_file: s, actions: {flush: {help: x}}, mode: {go: auto}}",
        "one of flush",
    ),
]


@pytest.mark.parametrize(("text", "message"), UNKNOWN_MODES)
def test_an_unknown_mode_key_is_refused(tmp_path, text, message):
    """A key of `mode:` that matches no knob, action or target is an error."""
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, f"tools:\n  {text}\n")


def test_known_mode_keys_are_accepted(tmp_path):
    """By subject, by target, with a slash in its name; for a kind without declared subjects, any key."""
    text = """
tools:
  redis: {targets: [c-1], mode: {c-1/hz: off, c-1/*: approve, warm_keys: auto, '*': auto}}
  pm2: {targets: ['@shop/api'], mode: {'@shop/api/reload': auto, '@shop/api/*': off}}
  shop: {kind: http_service, url: 'http://h', mode: {cache_size: auto}}
"""
    assert load(tmp_path, text).tools["pm2"].mode_by_subject()["@shop/api/reload"] is Mode.AUTO


async def test_subjects_match_the_tools():
    """The names allowed in `mode:` are exactly the tools' knobs and actions."""
    redis = tool_settings_class("redis")(kind="redis", warm={"url": "http://h/{key}", "keys": ["a"]})
    actions = await tool_catalogue.build("redis", redis).actions("redis")
    assert redis.subjects() == redis_knobs.KNOB_SPECS.keys() | {action.name for action in actions}
    everybody = {"users": ["a"]}
    postgresql = tool_settings_class("postgresql")(
        kind="postgresql", idle_in_transaction=everybody, long_query=everybody
    )
    actions = await tool_catalogue.build("pg", postgresql).actions("pg")
    assert postgresql.subjects() == postgresql_knobs.KNOBS.keys() | {action.name for action in actions}
    signals = tool_settings_class("process")(kind="process", processes={"a": {"name": "a"}}).subjects()
    assert signals == {*process_tool.SIGNALS, "restart"}
