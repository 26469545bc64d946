"""`trimtab silence`, with a running engine."""

import json
import time

import pytest
import typer
from typer.testing import CliRunner

from tests.builders.ledgers import open_ledger
from trimtab.engine.cli.commands.silences import silence_app
from trimtab.engine.errors import InputError, NotFoundError


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(tmp_path) as ledger:
        yield ledger


@pytest.fixture
def call(tmp_path):
    app = typer.Typer()
    app.add_typer(silence_app, name="silence")
    return lambda *words: CliRunner().invoke(app, ["silence", *words, "--data", str(tmp_path)])


def test_a_silence_is_added_listed_and_ended(ledger, call):
    """A silence is stored at once with its user; the first letters of its id end it."""
    result = call("add", "redis/*", "web", "--for", "2h", "--note", "moving it")
    (silence,) = ledger.silences()
    assert (result.exit_code, result.stdout.strip()) == (0, silence.id)
    assert (silence.entities, silence.note) == (("redis/*", "web"), "moving it")
    assert (silence.until - silence.begin) / 1e9 == 7200
    assert silence.by
    assert "redis/*, web" in call("list").stdout
    assert call("end", silence.id[:12]).exit_code == 0
    assert ledger.silences()[0].until <= time.time_ns()
    assert json.loads(call("list", "-f", "json").stdout) == []
    assert json.loads(call("list", "--over", "-f", "json").stdout)[0]["state"] == "over"
    assert [row.what for row in ledger.audit_rows()] == ["silenced", "silence ended"]


def test_from_and_until_are_times(ledger, call):
    """Times need a zone; a silence that ends before it starts, or is unknown, is refused."""
    assert call("add", "web", "--from", "2126-01-01T00:00:00Z", "--for", "4h").exit_code == 0
    assert json.loads(call("list", "-f", "json").stdout)[0]["until"] == "2126-01-01T04:00:00.000Z"
    result_of_past_end = call("add", "web", "--until", "2020-01-01T00:00:00Z")
    assert isinstance(result_of_past_end.exception, InputError)
    assert isinstance(call("end", "nothing").exception, NotFoundError)
    assert call("add", "api").exit_code == 0
    assert "2 silences start" in str(call("end", "0").exception)
    assert len(ledger.silences()) == 2
