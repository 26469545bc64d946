"""`trimtab grant`: the account that a tool needs."""

import pytest
import typer

from trimtab.engine.cli.commands.grant import grant
from trimtab.engine.errors import NotFoundError, SettingsError
from trimtab.engine.settings.tools import tool_kinds, tool_settings_class


def write_config(folder, text):
    """A trimtab.yaml with that text."""
    path = folder / "trimtab.yaml"
    path.write_text(text)
    return path


def test_prints_the_account_of_a_configured_tool(tmp_path, capsys):
    """The user, database and keys of the settings stand in what it prints, and no password of theirs."""
    path = write_config(tmp_path, """
tools:
  cache-1: {kind: redis, username: bob, password: hunter2,
            warm: {url: "http://h/{key}", key: "item:{key}", keys: [a]}}
  db: {kind: postgresql, url: "postgresql://h/shop", username: alice, long_query: {users: [report]}}
""")  # fmt: skip
    grant("cache-1", path)
    said = capsys.readouterr().out
    assert "ACL SETUSER bob on '>CHANGE-THIS-PASSWORD'" in said
    assert "+exists '~item:*'" in said
    assert "hunter2" not in said
    grant("db", path)
    said = capsys.readouterr().out
    assert "CREATE ROLE alice LOGIN PASSWORD 'CHANGE-THIS-PASSWORD';" in said
    assert 'GRANT CONNECT ON DATABASE "shop" TO alice;' in said
    assert "GRANT pg_signal_backend TO alice;" in said


def test_a_kind_needs_no_settings(tmp_path, capsys):
    """A kind that is not configured is printed with its defaults."""
    grant("postgresql", write_config(tmp_path, ""))
    said = capsys.readouterr().out
    assert "CREATE ROLE trimtab LOGIN" in said
    assert "pg_signal_backend" not in said


@pytest.mark.parametrize("kind", tool_kinds())
def test_every_kind_is_answered(tmp_path, capsys, kind):
    """Each kind prints its account, or says that it has to be configured first."""
    path = write_config(tmp_path, "")
    wants = any(
        field.is_required() and name != "kind"
        for name, field in tool_settings_class(kind).model_fields.items()
    )
    if wants:
        with pytest.raises(NotFoundError, match=rf"write tools\.{kind} first"):
            grant(kind, path)
    else:
        grant(kind, path)
        assert capsys.readouterr().out


def test_what_is_not_there(tmp_path):
    """A name that is no tool says which there are; settings that are wrong say so."""
    with pytest.raises(NotFoundError, match=r"no tool is called 'x'; there are: cache-1, .*redis"):
        grant("x", write_config(tmp_path, "tools: {cache-1: {kind: redis}}"))
    with pytest.raises(SettingsError):
        grant("x", write_config(tmp_path, "tools: {cache-1: {kind: nothing}}"))


def test_it_is_a_command(tmp_path):
    """The function makes a command line as the others do."""
    from typer.testing import CliRunner

    app = typer.Typer()
    app.command()(grant)
    done = CliRunner().invoke(app, ["redis", "--config", str(write_config(tmp_path, ""))])
    assert done.exit_code == 0
    assert "ACL SETUSER trimtab" in done.output
