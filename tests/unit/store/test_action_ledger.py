"""The action ledger on SQLite: contract, tampering, partial failures."""

import random
import sqlite3
from contextlib import closing

import pytest

from tests.builders.actions import make_action
from tests.contracts.action_ledger_contract import ActionLedgerContract
from tests.contracts.event_store_contract import ulid
from tests.fakes.ports import FakeClock
from trimtab.engine.audit.audit_export import verify_audit
from trimtab.engine.audit.hash_chain import append_to_chain
from trimtab.engine.errors import StoreError
from trimtab.engine.store import ledger_rows, open_store
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE, AuditAnchor
from trimtab.engine.types import AuditRow, Pause

ROWS, TAMPERINGS = 12, 200
COLUMNS = ("seq", "time_ns", "actor", "what", "subject", "details", "previous", "hash", "epoch")


class TestSqliteLedger(ActionLedgerContract):
    """The contract on an SQLite file."""

    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/trimtab.db"


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path, FakeClock().now)
    yield opened
    opened.close()


@pytest.fixture
def ledger(store, tmp_path):
    filled = ActionLedger(store.fenced, tmp_path / ANCHOR_FILE)
    for number in range(ROWS):
        filled.append_audit("looked", "cache-1", "ann", {"number": number})
    return filled


@pytest.fixture
def raw(tmp_path, ledger):  # noqa: ARG001 - the rows have to be there first
    with closing(sqlite3.connect(tmp_path / "trimtab.db", isolation_level=None)) as connection:
        yield connection


def read_audit(raw):
    """The audit rows as lists of column values, by seq."""
    return [list(row) for row in raw.execute(f"SELECT {', '.join(COLUMNS)} FROM audit ORDER BY seq")]


def replace_audit(raw, rows):
    """Replace the audit rows in the database."""
    raw.execute("DELETE FROM audit")
    values = ", ".join("?" * len(COLUMNS))
    raw.executemany(f"INSERT OR REPLACE INTO audit ({', '.join(COLUMNS)}) VALUES ({values})", rows)


def rehash(rows):
    """The rows with recomputed hashes, as an attacker who knows the algorithm would."""
    head, done = (0, ""), []
    for row in rows:
        noun = ledger_rows.audit_from_row(dict(zip(COLUMNS, row, strict=True)))
        placed = append_to_chain(noun, head)
        head = (placed.seq, placed.hash)
        columns = ledger_rows.audit_to_row(placed)
        done.append([columns[name] for name in COLUMNS])
    return done


def delete(rows, chance):
    """Delete one to three rows from the middle or the start."""
    first = chance.randrange(len(rows) - 1)
    return rows[:first] + rows[first + chance.randint(1, min(3, len(rows) - 1 - first)) :]


def truncate(rows, chance):
    """Delete the newest rows, at least one."""
    return rows[: chance.randrange(len(rows))]


def edit(rows, chance):
    """Change one column of one row: number, text, or equivalent JSON."""
    row, column = chance.choice(rows), chance.randrange(len(COLUMNS))
    old = row[column]
    row[column] = old + chance.choice([-1, 1, 1000]) if isinstance(old, int) else chance.choice(
        [old + " ", old[:-1] + "\x00", "", '{"number":99}', "null", '{"number": 1}']
    )  # fmt: skip
    if row[column] == old:
        row[column] = "edited"
    return rows


def swap(rows, chance):
    """Swap two rows except their numbers, with or without their hash links."""
    first, second = chance.sample(rows, 2)
    width = chance.choice([6, 9])
    first[1:width], second[1:width] = second[1:width], first[1:width]
    if width == 6 and first[5] == second[5]:
        first[5] = "{}"
    return rows


def insert(rows, chance):
    """Insert a consistent row anywhere, with or without renumbering the following rows."""
    at = chance.randint(1, len(rows))
    seq, _, digest = rows[at - 1][0], None, rows[at - 1][7]
    inserted = ledger_rows.audit_to_row(append_to_chain(AuditRow(0, 5, "eve", "kept", "x"), (seq, digest)))
    for row in rows[at:]:
        row[0] += 1
    return [*rows[:at], [inserted[name] for name in COLUMNS], *rows[at:]]


def tamper_randomly(raw, rows, chance, tamper):
    """Apply a tampering; below 0.6 the stored head is repaired too, below 0.3 also the hashes."""
    rows, knowing = tamper(rows, chance), chance.random()
    replace_audit(raw, rehash(rows) if knowing < 0.3 and tamper is not edit else rows)
    if knowing < 0.6:
        rows = read_audit(raw)
        newest = f'[{rows[-1][0]},"{rows[-1][7]}"]' if rows else '[0,""]'
        raw.execute("UPDATE memory SET body = ? WHERE name = 'audit_head'", (newest,))
    return knowing


@pytest.mark.slow
def test_every_tampering_is_detected(ledger, raw, tmp_path):
    """200 deletions, edits, swaps, truncations, insertions, with chain and stored head repaired or not."""
    clean, anchor = read_audit(raw), (tmp_path / ANCHOR_FILE).read_bytes()
    for seed in range(TAMPERINGS):
        tamper = [delete, truncate, edit, swap, insert][seed % 5]
        replace_audit(raw, clean)
        raw.execute(f"UPDATE memory SET body = '[{ROWS},\"{clean[-1][7]}\"]' WHERE name = 'audit_head'")
        (tmp_path / ANCHOR_FILE).write_bytes(anchor)
        assert verify_audit(ledger) == []
        knowing = tamper_randomly(raw, read_audit(raw), random.Random(seed), tamper)
        assert verify_audit(ledger) != [], (seed, tamper)
        if tamper is insert and knowing < 0.6:
            continue  # a row missing in the anchor file looks like a crash: only reported until the next row
        ledger.append_audit("looked", "cache-1", "ann")
        assert verify_audit(ledger) != [], (seed, tamper, "the next row hid it")


def test_a_recomputed_chain_is_detected(ledger, raw):
    """Edited rows with recomputed hashes and stored head differ from the anchor file."""
    rows = read_audit(raw)
    rows[3][3] = "never looked"
    rows = rehash(rows)
    replace_audit(raw, rows)
    raw.execute("UPDATE memory SET body = ? WHERE name = 'audit_head'", (f'[{rows[-1][0]},"{rows[-1][7]}"]',))
    assert [finding.what for finding in verify_audit(ledger)] == [
        "the head in the data folder has another hash for this row: it was replaced"
    ]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM memory WHERE name = 'audit_head'", "the head in the store was removed"),
        (
            "UPDATE memory SET body = 'nonsense' WHERE name = 'audit_head'",
            "the head in the store was removed",
        ),
    ],
)
def test_a_missing_head_is_detected(ledger, raw, statement, message):
    """A missing or damaged head in the database is reported."""
    raw.execute(statement)
    assert message in verify_audit(ledger)[0].what


def test_a_missing_anchor_file_is_detected(ledger, tmp_path):
    """A missing anchor file is reported."""
    (tmp_path / ANCHOR_FILE).unlink()
    assert "the head in the data folder was removed" in verify_audit(ledger)[0].what


def test_a_torn_anchor_write_leaves_the_previous_head(tmp_path):
    """The two slots are written alternately; a damaged one is ignored."""
    anchor = AuditAnchor(tmp_path / "folder" / ANCHOR_FILE)
    with anchor.read_locked() as head:
        assert head is None
    for seq in (1, 2, 3):
        with anchor.write_locked() as locked:
            locked.write((seq, f"{seq:064x}"))
    with anchor.read_locked() as head:
        assert head == (3, f"{3:064x}")
    content = bytearray(anchor.path.read_bytes())
    content[128 + 30] ^= 1
    anchor.path.write_bytes(content)
    with anchor.read_locked() as head:
        assert head == (2, f"{2:064x}")


def test_a_crash_before_the_anchor_write_is_repaired(ledger, store, tmp_path):
    """The next write brings the anchor file up to date."""

    class Crash(BaseException):
        pass

    def crash(name):
        if name == "ledger.committed":
            raise Crash

    with pytest.raises(Crash):
        ActionLedger(store.fenced, tmp_path / ANCHOR_FILE, crash).append_audit("looked", "x", "ann")
    assert ledger.audit_heads().folder[0] == ROWS
    ledger.append_audit("started", "engine", "trimtab")
    assert ledger.audit_heads().folder[0] == ROWS + 2
    assert verify_audit(ledger) == []


@pytest.mark.parametrize("table", ["audit", "memory"])
def test_without_its_audit_row_nothing_changes(ledger, raw, table):
    """If the audit row cannot be written, neither is the action or pause; later writes work."""
    kind = "INSERT" if table == "audit" else "UPDATE"
    raw.execute(f"CREATE TRIGGER no BEFORE {kind} ON {table} BEGIN SELECT RAISE(FAIL, 'disk I/O error'); END")
    with pytest.raises(StoreError, match="kernel log"):
        ledger.propose(make_action(ulid(1)), "proposed", "trimtab")
    with pytest.raises(StoreError, match="kernel log"):
        ledger.set_pause(Pause(on=True, by="ann"))
    assert ledger.actions() == []
    assert not ledger.pause().on
    raw.execute("DROP TRIGGER no")
    ledger.propose(make_action(ulid(1)), "proposed", "trimtab")
    assert len(ledger.actions()) == 1
    assert verify_audit(ledger) == []


def test_a_failed_anchor_write_keeps_the_row(ledger, monkeypatch):
    """The row is durable; the next write updates the anchor file."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("trimtab.engine.store.audit_anchor.os.fsync", full)
        ledger.append_audit("looked", "x", "ann")
    assert len(ledger.audit_rows()) == ROWS + 1
    ledger.append_audit("looked", "x", "ann")
    assert verify_audit(ledger) == []


def test_verification_ignores_concurrent_rows(ledger, monkeypatch):
    """Verifying while an engine writes reports nothing."""
    audit = ledger.audit_rows

    def slow(**filters):
        page = audit(**filters)
        ledger.append_audit("looked", "x", "ann")
        return page

    monkeypatch.setattr(ledger, "audit_rows", slow)
    assert verify_audit(ledger) == []
