"""`trimtab grant`: the least-privilege account of a tool."""

import pytest
import typer

from trimtab.engine.cli.commands.grant import grant
from trimtab.engine.errors import NotFoundError, SettingsError
from trimtab.engine.settings.tools import tool_kinds, tool_settings_class


def write_config(folder, text):
    """Write a trimtab.yaml."""
    path = folder / "trimtab.yaml"
    path.write_text(text)
    return path


def test_prints_the_account_of_a_configured_tool(tmp_path, capsys):
    """The output uses user, database and keys of the settings, and contains no password of theirs."""
    path = write_config(tmp_path, """
tools:
  cache-1: {kind: redis, username: bob, password: hunter2,
            warm: {url: "http://h/{key}", key: "item:{key}", keys: [a]}}
  db: {kind: postgresql, url: "postgresql://h/shop", username: alice, long_query: {users: [report]}}
""")  # fmt: skip
    grant("cache-1", path)
    output = capsys.readouterr().out
    assert "ACL SETUSER bob on '>CHANGE-THIS-PASSWORD'" in output
    assert "+exists '~item:*'" in output
    assert "hunter2" not in output
    grant("db", path)
    output = capsys.readouterr().out
    assert "CREATE ROLE alice LOGIN PASSWORD 'CHANGE-THIS-PASSWORD';" in output
    assert 'GRANT CONNECT ON DATABASE "shop" TO alice;' in output
    assert "GRANT pg_signal_backend TO alice;" in output


def test_a_kind_needs_no_settings(tmp_path, capsys):
    """A kind that is not configured is printed with its defaults."""
    grant("postgresql", write_config(tmp_path, ""))
    output = capsys.readouterr().out
    assert "CREATE ROLE trimtab LOGIN" in output
    assert "pg_signal_backend" not in output


@pytest.mark.parametrize("kind", tool_kinds())
def test_every_kind_prints_an_account_or_what_is_missing(tmp_path, capsys, kind):
    """Each kind prints its account, or says that it must be configured first."""
    path = write_config(tmp_path, "")
    has_required_fields = any(
        field.is_required() and name != "kind"
        for name, field in tool_settings_class(kind).model_fields.items()
    )
    if has_required_fields:
        with pytest.raises(NotFoundError, match=rf"add tools\.{kind} first"):
            grant(kind, path)
    else:
        grant(kind, path)
        assert capsys.readouterr().out


def test_an_unknown_tool_is_refused(tmp_path):
    """An unknown name lists the known ones; invalid settings raise SettingsError."""
    with pytest.raises(NotFoundError, match=r"there is no tool 'x'; use one of: cache-1, .*redis"):
        grant("x", write_config(tmp_path, "tools: {cache-1: {kind: redis}}"))
    with pytest.raises(SettingsError):
        grant("x", write_config(tmp_path, "tools: {cache-1: {kind: nothing}}"))


def test_grant_works_as_a_command(tmp_path):
    """The function works as a command with options."""
    from typer.testing import CliRunner

    app = typer.Typer()
    app.command()(grant)
    result = CliRunner().invoke(app, ["redis", "--config", str(write_config(tmp_path, ""))])
    assert result.exit_code == 0
    assert "ACL SETUSER trimtab" in result.output
