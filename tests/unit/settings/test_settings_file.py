"""Settings from file, environment and command line, and their reload."""

import asyncio
import textwrap
from pathlib import Path

import pytest

from trimtab.engine.cli.options import settings_overrides
from trimtab.engine.errors import SettingsError
from trimtab.engine.settings import Settings
from trimtab.engine.settings.file_watcher import LIVE_SETTINGS, compare_settings, watch_settings
from trimtab.engine.settings.settings_file import OPTION_BY_SETTING, load_settings


def write(folder: Path, text: str) -> Path:
    """Write a trimtab.yaml with this text."""
    path = folder / "trimtab.yaml"
    path.write_text(text)
    return path


def test_defaults_need_no_file():
    """Without file and environment every setting has its default."""
    settings = load_settings(None, {"HOME": "/nowhere"})
    assert settings.api.port == 8600
    assert settings.sources.host.interval == 5.0
    assert "~" not in str(settings.settings.data_dir)


def test_file_environment_and_command_line(tmp_path):
    """The environment overrides the file, the command line overrides both."""
    path = write(
        tmp_path, "settings: {log_level: debug}\napi: {port: 1}\nsources:\n  prometheus:\n    interval: 30s\n"
    )
    environ = {"TRIMTAB_API__PORT": "2", "TRIMTAB_API__HOST": "::1", "PATH": "/bin"}
    settings = load_settings(
        path, environ, {"api.port": 3, "sources.prometheus.url": "http://p:1", "api.host": None}
    )
    assert (settings.settings.log_level, settings.api.port, settings.api.host) == ("debug", 3, "::1")
    assert settings.sources.prometheus is not None
    assert settings.sources.prometheus.interval == 30.0
    assert settings.sources.prometheus.url == "http://p:1"


def test_an_empty_section_has_defaults(tmp_path):
    """An empty `prometheus:` enables Prometheus with its defaults."""
    settings = load_settings(write(tmp_path, "settings:\nsources:\n  prometheus:\n"), {})
    assert settings.sources.prometheus is not None
    assert settings.sources.prometheus.url == "http://localhost:9090"


def test_relative_paths_are_relative_to_the_file(tmp_path):
    """A relative path is relative to the folder of the settings file."""
    text = "settings: {data_dir: state}\nsources: {files: {paths: [a.csv, /b.csv]}}\n"
    settings = load_settings(write(tmp_path, text), {})
    assert settings.settings.data_dir == tmp_path / "state"
    assert settings.sources.files is not None
    assert settings.sources.files.paths == (tmp_path / "a.csv", Path("/b.csv"))


def test_headers_from_files(tmp_path):
    """Header files are relative to the settings file, and the environment can name one."""
    text = "writer:\n  remote_write_url: http://x/\n  headers_file: {X-Tenant: secret/tenant}\n"
    environ = {"TRIMTAB_SOURCES__PROMETHEUS__HEADERS_FILE": "{X-Scope-OrgID: /run/org}"}
    settings = load_settings(write(tmp_path, text), environ)
    assert settings.writer is not None
    assert settings.writer.headers_file == {"X-Tenant": tmp_path / "secret/tenant"}
    assert settings.sources.prometheus is not None
    assert settings.sources.prometheus.headers_file == {"X-Scope-OrgID": Path("/run/org")}


MISTAKES = [
    # a value that is not allowed
    ("settings:\n  log_level: loud\n", "trimtab.yaml:2: settings.log_level is 'loud'; it must be 'debug'"),
    # a duration without a known unit
    (
        "sources:\n  host:\n    interval: 5x",
        "trimtab.yaml:3: sources.host.interval is '5x'; '5x' is not a duration",
    ),
    # out of range
    ("api:\n\n  port: 70000", "trimtab.yaml:3: api.port is 70000; it must be less than or equal to 65535"),
    # a typo in a name
    (
        "sources:\n  promethus: {}",
        "trimtab.yaml:2: sources.promethus is not a setting; did you mean sources.prometheus?",
    ),
    # a name in the wrong section
    ("data_dir: /x", "trimtab.yaml:1: data_dir is not a setting; did you mean settings.data_dir?"),
    # a section of a later version
    ("schedulers: {loads: {}}", "did you mean schedulers.load?"),
    # the same header twice
    (
        "writer: {remote_write_url: 'http://x', headers: {X-A: a}, headers_file: {x-a: /f}}",
        "trimtab.yaml:1: writer: x-a is in headers and in headers_file; keep one",
    ),
    # a required setting
    ("writer: {}", "trimtab.yaml:1: writer.remote_write_url is missing"),
    # a section that is a number
    ("api: 3", "trimtab.yaml:1: api is 3; "),
    # not a mapping at all
    ("- a\n- b\n", "trimtab.yaml:1: expected sections such as"),
    # not YAML
    ("api: {port: 1\nsettings: [", "not YAML"),
    # the same key twice
    ("api: {port: 1}\napi: {port: 2}\n", "trimtab.yaml:2: api is set here and in line 1; keep one"),
    # a secret given twice
    (
        "api: {admin_key: a, admin_key_file: b}",
        "api.admin_key and api.admin_key_file (trimtab.yaml:1) are both set",
    ),
    # inside a mapping with free keys
    ("sources: {prometheus: {queries: {q: {exprr: up}}}}", "did you mean sources.prometheus.queries.q.expr?"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_an_error_is_explained(tmp_path, text, message):
    """The message has key, value, line and what is allowed."""
    with pytest.raises(SettingsError) as error:
        load_settings(write(tmp_path, text), {})
    assert message in str(error.value)


def test_every_error_is_reported_at_once(tmp_path):
    """Two errors give two lines."""
    with pytest.raises(SettingsError) as error:
        load_settings(write(tmp_path, "api: {port: x}\nretention: {days: 0}"), {})
    assert len(str(error.value).splitlines()) == 2


def test_a_secret_stays_out_of_the_message(tmp_path):
    """An invalid secret, or a URL with a user, is not shown."""
    text = "api: {admin_key: [hunter2]}\nsources: {prometheus: {timeout: 'http://u:hunter2@h'}}"
    with pytest.raises(SettingsError) as error:
        load_settings(write(tmp_path, text), {})
    assert "api.admin_key is (hidden)" in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "TRIMTAB_API__PROT",
            "1",
            "environment TRIMTAB_API__PROT: api.prot is not a setting; did you mean api.port?",
        ),
        ("TRIMTAB_API_PORT", "1", "did you mean TRIMTAB_API__PORT (two underscores)?"),
        ("TRIMTAB_WRITER__HEADERS", "x", "writer.headers expects YAML such as"),
    ],
)
def test_a_misspelt_variable_is_refused(name, value, message):
    """The message contains the correct spelling."""
    with pytest.raises(SettingsError) as error:
        load_settings(None, {name: value})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("dotted", "value", "message"),
    [
        ("api.port", 99_999, "--port: api.port is 99999; it must be less than"),
        (
            "schedulers.load.fit_window",
            "soon",
            "--since: schedulers.load.fit_window is 'soon'; 'soon'",
        ),
        # the section is wrong as a whole, and only for what was given
        (
            "schedulers.load.fit_window",
            "10m",
            "--since '10m': schedulers.load: fit_window is 600 s, less than the horizon of 86400 s",
        ),
    ],
)
def test_an_error_in_an_option_names_the_option(dotted, value, message):
    """The message has the given and the allowed values and does not mention the file."""
    with pytest.raises(SettingsError) as error:
        load_settings(None, {}, {dotted: value})
    assert str(error.value).startswith(message)


def test_every_override_has_an_option_name():
    """Every setting that commands override has an option name."""
    overridden = settings_overrides(Path("data"), "http://p:1", "::1", 1)
    assert overridden.keys() <= OPTION_BY_SETTING.keys()
    assert OPTION_BY_SETTING.keys() - overridden.keys() == {
        "schedulers.load.fit_window"
    }  # only of `trimtab retrain`


def test_variables_accept_lists_secrets_and_mappings():
    """A list is YAML or comma-separated, a mapping is YAML, a secret is taken literally."""
    settings = load_settings(
        None,
        {
            "TRIMTAB_API__ALLOWED_HOSTS": "a.example, b.example",
            "TRIMTAB_API__ADMIN_KEY": "[123]: not yaml",
            "TRIMTAB_SOURCES__PROMETHEUS__HEADERS": "{X-Scope-OrgID: team}",
            "TRIMTAB_SOURCES__PROMETHEUS__BASIC_AUTH__USERNAME": "007",
            "TRIMTAB_SOURCES__PROMETHEUS__BASIC_AUTH__PASSWORD_FILE": "/run/secrets/p",
            "TRIMTAB_REQUIRE": "all",
        },
    )
    assert settings.api.allowed_hosts == ("a.example", "b.example")
    assert settings.api.admin_key is not None
    assert settings.api.admin_key.get_secret_value() == "[123]: not yaml"
    prometheus = settings.sources.prometheus
    assert prometheus is not None
    assert prometheus.headers["X-Scope-OrgID"].get_secret_value() == "team"
    assert prometheus.basic_auth is not None
    assert prometheus.basic_auth.username == "007"


def test_the_admin_key_file_has_a_short_name():
    """TRIMTAB_ADMIN_KEY_FILE sets the admin key file."""
    assert load_settings(None, {"TRIMTAB_ADMIN_KEY_FILE": "/k"}).api.admin_key_file == Path("/k")


def test_a_missing_home_folder_is_explained(monkeypatch):
    """The message names the variable to set."""

    def no_home(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(SettingsError, match="TRIMTAB_SETTINGS__DATA_DIR"):
        load_settings(None, {})


def test_a_missing_file_is_an_error(tmp_path):
    """A missing file is an error; defaults are not used instead."""
    with pytest.raises(SettingsError, match=r"none\.yaml cannot be read"):
        load_settings(tmp_path / "none.yaml", {})


def test_a_reload_separates_live_from_restart_settings(tmp_path):
    """Live settings change; the others are listed and keep their values."""
    old = load_settings(write(tmp_path, "api: {port: 1}"), {})
    text = "api: {port: 2}\nsettings: {log_level: debug}\nsources: {host: {interval: 9}}"
    outcome = compare_settings(old, load_settings(write(tmp_path, text), {}))
    assert set(outcome.applied_now) == {"settings.log_level", "sources.host"}
    assert outcome.needs_restart == ("api.port",)
    assert outcome.settings.api.port == 1
    assert outcome.settings.sources.host.interval == 9.0


def test_every_live_setting_is_applied(tmp_path):
    """Every setting reported as applied has its new value."""
    text = """
    settings: {false_alarms_per_week: 2, log_level: debug}
    sources: {host: {interval: 9}, prometheus: {url: 'http://p:1'}, files: {paths: [a.csv]}}
    writer: {remote_write_url: 'http://p:1/api/v1/write'}
    tools: {cache-1: {kind: redis, url: 'redis://localhost:1'}}
    guardrails: {dead_band: 0.2}
    capacity: {shop: {load: a, replicas: b, max_replicas: 4, capacity_per_replica: 1}}
    notify:
      notifications_per_week: 3
      silences: {eve: {entities: [web], begin: 2026-12-31T00:00:00Z, until: 2027-01-01T00:00:00Z}}
    """
    old, new = Settings(), load_settings(write(tmp_path, textwrap.dedent(text)), {})
    outcome = compare_settings(old, new)
    assert set(outcome.applied_now) == set(LIVE_SETTINGS)
    assert compare_settings(outcome.settings, new).applied_now == ()


async def test_an_invalid_file_yields_its_error(tmp_path):
    """An invalid file yields the error, the next valid one its settings."""
    path = write(tmp_path, "settings: {log_level: info}")
    stop = asyncio.Event()
    watching = watch_settings(path, {}, stop=stop, recheck_s=0.05)

    async def after(text: str) -> Settings | SettingsError:
        outcome = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        write(tmp_path, text)
        return await asyncio.wait_for(outcome, 20)

    refused = await after("settings: {log_level: loud}")
    taken = await after("settings: {log_level: debug}")
    stop.set()
    assert "settings.log_level is 'loud'" in str(refused)
    assert isinstance(taken, Settings)
    assert taken.settings.log_level == "debug"
    await watching.aclose()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # one of two ways to log in would be ignored
        ("sources: {prometheus: {basic_auth: {username: a}, bearer_token: hunter22}}", "keep one"),
        (
            "writer: {remote_write_url: 'http://x', basic_auth: {username: a}, bearer_token_file: t}",
            "keep one",
        ),
        ("sources: {prometheus: {tls: {key_file: key.pem}}}", "without cert_file"),
        # an empty range would make every value unknown
        ("sources: {prometheus: {queries: {a: {expr: x, data_range: [10, 0]}}}}", "low < high"),
        (
            "sources: {prometheus: {queries: {a: {expr: x, min_dev_from_expected: -1}}}}",
            "greater than or equal",
        ),
        ("retention: {days: .inf}", "finite"),
    ],
)
def test_ambiguous_settings_are_refused(tmp_path, text, message):
    """Settings that would be ignored silently are errors, without secrets."""
    with pytest.raises(SettingsError, match=message) as refused:
        load_settings(write(tmp_path, text), {})
    assert str(refused.value).startswith("trimtab.yaml:1: ")
    assert "hunter22" not in str(refused.value)


def test_a_data_range_may_be_unbounded(tmp_path):
    """An infinite bound means no bound."""
    text = "sources: {prometheus: {queries: {a: {expr: x, data_range: [0, .inf]}}}}"
    prometheus = load_settings(write(tmp_path, text), {}).sources.prometheus
    assert prometheus is not None
    assert prometheus.queries["a"].data_range == (0.0, float("inf"))
