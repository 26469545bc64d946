"""`trimtab key`: keys and links created next to a running engine are in its audit."""

import pytest
import typer
from typer.testing import CliRunner

from tests.builders.ledgers import open_ledger
from trimtab.engine.cli.commands.keys import key_app


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(tmp_path) as ledger:
        yield ledger


def test_keys_and_links_are_in_the_audit(ledger, tmp_path):
    """The audit has user, action and key, but never a secret."""
    app = typer.Typer()
    app.add_typer(key_app, name="key")
    results = [
        CliRunner().invoke(app, ["key", *words, "--data", str(tmp_path)])
        for words in (("create", "ci", "--scope", "ingest"), ("revoke", "ci"), ("login",))
    ]
    assert [result.exit_code for result in results] == [0, 0, 0]
    rows = ledger.audit_rows()
    assert [row.what for row in rows] == ["key created", "key revoked", "login link made"]
    assert rows[0].details == {"name": "ci", "scopes": "ingest"}
    assert all(row.actor for row in rows)
    assert results[0].stdout.strip() not in repr(rows)
    assert results[2].stdout.strip()[-20:] not in repr(rows)
