"""`trimtab pause`, `resume`, `actions` and `audit`, with a running engine."""

import json
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from tests.builders.actions import make_action
from tests.builders.ledgers import open_ledger
from tests.contracts.event_store_contract import ulid
from trimtab.engine.cli import open_store
from trimtab.engine.cli.commands.actions import actions
from trimtab.engine.cli.commands.audit import audit_app
from trimtab.engine.cli.commands.pause import pause, resume
from trimtab.engine.store.lease import FolderLease
from trimtab.engine.types import ActionState, Outcome


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(tmp_path) as ledger:
        yield ledger


@pytest.fixture
def call(tmp_path):
    app = typer.Typer()
    for command in (pause, resume, actions):
        app.command()(command)
    app.add_typer(audit_app, name="audit")
    return lambda *words: CliRunner().invoke(app, [*words, "--data", str(tmp_path)])


def test_a_pause_reaches_the_running_engine(ledger, call):
    """A pause is stored at once with user and reason; resuming, too; the audit stays valid."""
    assert call("pause", "--reason", "a release").exit_code == 0
    pause = ledger.pause()
    assert (pause.on, pause.reason) == (True, "a release")
    assert pause.by
    assert "paused all actions" in call("actions").stderr
    assert call("resume").exit_code == 0
    assert not ledger.pause().on
    result = call("audit", "verify")
    assert (result.exit_code, result.stdout.partition(";")[0]) == (0, "2 rows are unchanged")


def test_a_pause_names_the_engine(ledger, call, tmp_path):  # noqa: ARG001 - the ledger locks the folder
    """A pause names the engine on the data folder, or warns that none runs there."""
    assert f"the engine on {tmp_path} (process {os.getpid()})" in call("pause").stderr
    with FolderLease(tmp_path / "other", time.time_ns):
        pass
    app = typer.Typer()
    app.command()(pause)
    app.command()(resume)
    result = CliRunner().invoke(app, ["pause", "--data", str(tmp_path / "other")])
    assert "no engine runs on" in result.stderr
    assert "--config or --data" in result.stderr


def test_actions_are_listed(ledger, call):
    """Actions are listed as a table, and with all fields as JSON."""
    action = ledger.propose(make_action(ulid(1)), "proposed", "trimtab")
    failed = replace(action, state=ActionState.FAILED, outcome=Outcome(ActionState.FAILED, "not sent: why"))
    ledger.transition(failed, ActionState.PROPOSED, "failed", "trimtab")
    assert "maxmemory  100   125  failed  trimtab  not sent: why" in call("actions").stdout
    (row,) = json.loads(call("actions", "-f", "json").stdout)
    assert row["id"] == ulid(1)


def test_the_audit_is_verified_and_exported(ledger, call, tmp_path):
    """An edited audit row gives exit code 1 and its number."""
    for number in range(3):
        ledger.append_audit("looked", "cache-1", "ann", {"number": number})
    lines = [json.loads(line) for line in call("audit", "export").stdout.splitlines()]
    assert [line["details"]["number"] for line in lines] == [0, 1, 2]
    with closing(sqlite3.connect(tmp_path / "trimtab.db", isolation_level=None)) as raw:
        raw.execute("UPDATE audit SET actor = 'eve' WHERE seq = 2")
    result = call("audit", "verify")
    assert (result.exit_code, result.stdout) == (
        1,
        "row 2: its content does not match its hash: it was edited\n",
    )


def test_a_user_without_a_name_can_pause(ledger, call, monkeypatch):
    """A container's user without a name can pause; the pause shows the uid."""

    def raise_key_error():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(open_store.getpass, "getuser", raise_key_error)
    assert call("pause").exit_code == 0
    assert ledger.pause().by.startswith("uid ")
