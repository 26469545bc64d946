"""The command: help, exit codes and error messages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from trimtab.engine.cli import main
from trimtab.engine.cli.command_errors import EXIT_FOUND, EXIT_UNREACHABLE, EXIT_WRONG_USE, run_guarded
from trimtab.engine.cli.output import OutputFormat, format_rows
from trimtab.engine.errors import SettingsError, SourceError

HEAVY = (
    "fastapi", "httpx", "mlflow", "numba", "numpy", "pandas", "pyarrow", "pydantic", "rich", "river", "scipy",
    "sklearn", "sqlalchemy", "structlog",
)  # fmt: skip


def run_command(capsys, monkeypatch, *arguments):
    """Return exit code, stdout and stderr of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["trimtab", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["up"],
        ["score"],
        ["doctor"],
        ["key"],
        *(["key", name] for name in ("create", "list", "revoke", "login")),
    ],
)
def test_every_command_has_help_with_an_example(capsys, monkeypatch, command):
    """--help of each command has an example."""
    code, out, _ = run_command(capsys, monkeypatch, *command, "--help")
    assert code == 0
    assert "Examples:\n" in out
    assert f"  {' '.join(['trimtab', *command])}" in out


def test_commands_are_grouped(capsys, monkeypatch):
    """The first help page groups the commands."""
    _, out, _ = run_command(capsys, monkeypatch, "--help")
    assert out.index("Watch:") < out.index("  up") < out.index("Recordings:") < out.index("  score")


def test_help_loads_nothing_heavy():
    """`trimtab --help` imports no heavy library."""
    code = (
        "import sys; sys.argv = ['trimtab', '--help']\n"
        "from trimtab.engine.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "x", "up"], "No such option"),
        (["scor"], "Did you mean 'score'"),
        (["score"], "Missing argument 'INPUT'"),
        (["up", "--port", "99999", "--dry-run"], "api.port is 99999"),
        (["up", "--config", "/nowhere/trimtab.yaml", "--dry-run"], "/nowhere/trimtab.yaml"),
    ],
)
def test_invalid_use_is_one_message(capsys, monkeypatch, tmp_path, arguments, message):
    """Wrong use ends with code 2 and a message without a traceback."""
    monkeypatch.chdir(tmp_path)
    code, _, err = run_command(capsys, monkeypatch, *arguments)
    assert code == EXIT_WRONG_USE
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (SettingsError("api.port is 0"), EXIT_WRONG_USE, "trimtab: api.port is 0"),
        (SourceError("p:9090 does not answer"), EXIT_UNREACHABLE, "trimtab: p:9090 does not answer"),
    ],
)
def test_errors_become_a_message_and_an_exit_code(capsys, error, code, message):
    """A TrimtabError prints its message and sets the exit code."""

    def failing():
        raise error

    with pytest.raises(SystemExit) as ended:
        run_guarded(failing)
    assert ended.value.code == code
    assert capsys.readouterr().err.strip() == message


def test_a_crash_names_the_file_with_details(capsys, monkeypatch, tmp_path):
    """An unexpected error is one line; its traceback, without secrets, is in a private file."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def failing():
        raise ZeroDivisionError("http://bob:hunter2@db/")

    with pytest.raises(SystemExit) as ended:
        run_guarded(failing)
    assert ended.value.code == EXIT_FOUND
    line = capsys.readouterr().err.strip()
    log = Path(line.rpartition(" in ")[2])
    assert "\n" not in line
    assert log.stat().st_mode & 0o777 == 0o600
    assert "failing" in log.read_text()
    assert "hunter2" not in line + log.read_text()


def test_version(capsys, monkeypatch):
    """--version prints name and version."""
    code, out, _ = run_command(capsys, monkeypatch, "--version")
    assert (code, out.split()[0]) == (0, "trimtab")


def test_all_formats_have_the_same_rows():
    """Table, JSON and YAML show the same rows; a table shows its columns only."""
    rows = [{"name": "a", "scopes": ["read", "admin"], "more": 1}, {"name": "long name", "scopes": None}]
    assert json.loads(format_rows(rows, ["name"], OutputFormat.JSON)) == rows
    assert yaml.safe_load(format_rows(rows, ["name"], OutputFormat.YAML)) == rows
    assert format_rows(rows, ["name", "scopes"], OutputFormat.TABLE).splitlines() == [
        "name       scopes",
        "a          read, admin",
        "long name  -",
    ]


def test_a_dry_run_hides_secrets_and_starts_nothing(capsys, monkeypatch, tmp_path):
    """`up --dry-run` prints the settings in force without secrets, and the sources."""
    monkeypatch.chdir(tmp_path)
    secret = "a-very-secret-admin-key-of-mine"
    Path("trimtab.yaml").write_text(f"api: {{admin_key: {secret}}}\nsources: {{host: {{interval: 2s}}}}\n")
    code, out, err = run_command(capsys, monkeypatch, "up", "--dry-run", "--data", tmp_path / "data")
    assert code == 0, err
    assert secret not in out + err
    assert yaml.safe_load(out)["sources"]["host"]["interval"] == 2.0
    assert "# host: " in out
    assert not (tmp_path / "data").exists()


def test_score_writes_next_to_the_input(capsys, monkeypatch, tmp_path):
    """`score` writes its result next to the input and prints the path."""
    source = tmp_path / "cpu.csv"
    source.write_text("t,y\n" + "".join(f"{k},{k % 5}\n" for k in range(60)))
    code, _, err = run_command(capsys, monkeypatch, "score", source)
    assert code == 0, err
    assert "cpu.scored.csv" in err.replace("\n", "")
    assert len((tmp_path / "cpu.scored.csv").read_text().splitlines()) == 61


def test_tests_see_no_settings_of_this_user():
    """Tests see no TRIMTAB_ variable of the user who runs them."""
    assert not [name for name in os.environ if name.startswith("TRIMTAB_") and name != "TRIMTAB_REQUIRE"]


def test_a_login_link_uses_the_given_host_and_port(capsys, monkeypatch, tmp_path):
    """`trimtab key login` uses the given host and port; the link works in a browser."""
    _, out, _ = run_command(
        capsys, monkeypatch, "key", "login", "--data", tmp_path, "--host", "0.0.0.0", "--port", "9000"
    )
    assert out.startswith("http://127.0.0.1:9000/login?token=tl_")
