"""The ledger on SQLite: the contract, tampering with its file, and what fails halfway."""

import random
import sqlite3
from contextlib import closing

import pytest

from tests.builders.actions import action_of
from tests.contracts.action_ledger_contract import ActionLedgerContract
from tests.contracts.event_store_contract import ulid
from tests.fakes.ports import FakeClock
from trimtab.engine.audit.audit_export import verify
from trimtab.engine.audit.hash_chain import chained
from trimtab.engine.errors import StoreError
from trimtab.engine.store import ledger_rows, open_store
from trimtab.engine.store.action_ledger import ActionLedger
from trimtab.engine.store.audit_anchor import ANCHOR_FILE, AuditAnchor
from trimtab.engine.types import AuditRow, Pause

ROWS, TAMPERINGS = 12, 200
COLUMNS = ("seq", "time_ns", "actor", "what", "subject", "details", "previous", "hash", "epoch")


class TestSqliteLedger(ActionLedgerContract):
    """All of the contract, on a file."""

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
    made = ActionLedger(store.fenced, tmp_path / ANCHOR_FILE)
    for number in range(ROWS):
        made.append_audit("looked", "cache-1", "ann", {"number": number})
    return made


@pytest.fixture
def raw(tmp_path, ledger):  # noqa: ARG001 - the rows have to be there first
    with closing(sqlite3.connect(tmp_path / "trimtab.db", isolation_level=None)) as connection:
        yield connection


def read(raw):
    """The audit as rows of plain values, by seq."""
    return [list(row) for row in raw.execute(f"SELECT {', '.join(COLUMNS)} FROM audit ORDER BY seq")]


def write(raw, rows):
    """Put these rows there instead."""
    raw.execute("DELETE FROM audit")
    values = ", ".join("?" * len(COLUMNS))
    raw.executemany(f"INSERT OR REPLACE INTO audit ({', '.join(COLUMNS)}) VALUES ({values})", rows)


def rechained(rows):
    """The rows with hashes that fit each other, as somebody does who knows how they are made."""
    head, done = (0, ""), []
    for row in rows:
        noun = ledger_rows.audit_from_row(dict(zip(COLUMNS, row, strict=True)))
        placed = chained(noun, head)
        head = (placed.seq, placed.hash)
        columns = ledger_rows.audit_to_row(placed)
        done.append([columns[name] for name in COLUMNS])
    return done


def delete(rows, chance):
    """One to three rows from the middle or the start."""
    first = chance.randrange(len(rows) - 1)
    return rows[:first] + rows[first + chance.randint(1, min(3, len(rows) - 1 - first)) :]


def truncate(rows, chance):
    """The newest rows, at least one."""
    return rows[: chance.randrange(len(rows))]


def edit(rows, chance):
    """One column of one row: another number, text, or JSON that says the same in other letters."""
    row, column = chance.choice(rows), chance.randrange(len(COLUMNS))
    old = row[column]
    row[column] = old + chance.choice([-1, 1, 1000]) if isinstance(old, int) else chance.choice(
        [old + " ", old[:-1] + "\x00", "", '{"number":99}', "null", '{"number": 1}']
    )  # fmt: skip
    if row[column] == old:
        row[column] = "edited"
    return rows


def swap(rows, chance):
    """All but the numbers of two rows; or with the links of the chain left where they were."""
    one, two = chance.sample(rows, 2)
    width = chance.choice([6, 9])
    one[1:width], two[1:width] = two[1:width], one[1:width]
    if width == 6 and one[5] == two[5]:
        one[5] = "{}"
    return rows


def insert(rows, chance):
    """A row that fits the one before, anywhere, the rest moved up or not."""
    at = chance.randint(1, len(rows))
    seq, _, digest = rows[at - 1][0], None, rows[at - 1][7]
    made = ledger_rows.audit_to_row(chained(AuditRow(0, 5, "eve", "kept", "x"), (seq, digest)))
    for row in rows[at:]:
        row[0] += 1
    return [*rows[:at], [made[name] for name in COLUMNS], *rows[at:]]


def tamper_randomly(raw, rows, chance, tamper):
    """Do it; what they know who did it: below 0.6 of the head beside the rows, below 0.3 of hashes."""
    rows, knowing = tamper(rows, chance), chance.random()
    write(raw, rechained(rows) if knowing < 0.3 and tamper is not edit else rows)
    if knowing < 0.6:
        rows = read(raw)
        newest = f'[{rows[-1][0]},"{rows[-1][7]}"]' if rows else '[0,""]'
        raw.execute("UPDATE memory SET body = ? WHERE name = 'audit_head'", (newest,))
    return knowing


def test_every_tampering_is_found(ledger, raw, tmp_path):
    """200 deletions, edits, swaps, truncations, insertions; with the chain and its head mended, or not."""
    clean, anchor = read(raw), (tmp_path / ANCHOR_FILE).read_bytes()
    for seed in range(TAMPERINGS):
        tamper = [delete, truncate, edit, swap, insert][seed % 5]
        write(raw, clean)
        raw.execute(f"UPDATE memory SET body = '[{ROWS},\"{clean[-1][7]}\"]' WHERE name = 'audit_head'")
        (tmp_path / ANCHOR_FILE).write_bytes(anchor)
        assert verify(ledger) == []
        knowing = tamper_randomly(raw, read(raw), random.Random(seed), tamper)
        assert verify(ledger) != [], (seed, tamper)
        if tamper is insert and knowing < 0.6:
            continue  # a whole row without the file looks as after a crash: it is told until the next
        ledger.append_audit("looked", "cache-1", "ann")
        assert verify(ledger) != [], (seed, tamper, "the next row hid it")


def test_a_chain_made_anew_is_found(ledger, raw):
    """Rows edited and hashed again, with the head beside them: the folder remembers."""
    rows = read(raw)
    rows[3][3] = "never looked"
    rows = rechained(rows)
    write(raw, rows)
    raw.execute("UPDATE memory SET body = ? WHERE name = 'audit_head'", (f'[{rows[-1][0]},"{rows[-1][7]}"]',))
    assert [finding.what for finding in verify(ledger)] == [
        "the data folder remembers another hash of this row: it was replaced"
    ]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM memory WHERE name = 'audit_head'", "the store does not remember"),
        ("UPDATE memory SET body = 'nonsense' WHERE name = 'audit_head'", "the store does not remember"),
    ],
)
def test_a_missing_head_is_found(ledger, raw, statement, said):
    """Beside the rows, gone or damaged."""
    raw.execute(statement)
    assert said in verify(ledger)[0].what


def test_a_missing_file_of_the_head_is_found(ledger, tmp_path):
    """In the data folder."""
    (tmp_path / ANCHOR_FILE).unlink()
    assert "the data folder does not remember" in verify(ledger)[0].what


def test_a_torn_head_leaves_the_one_before(tmp_path):
    """The two lines are written in turn; a damaged one is left out."""
    anchor = AuditAnchor(tmp_path / "folder" / ANCHOR_FILE)
    with anchor.read_locked() as head:
        assert head is None
    for seq in (1, 2, 3):
        with anchor.write_locked() as held:
            held.write((seq, f"{seq:064x}"))
    with anchor.read_locked() as head:
        assert head == (3, f"{3:064x}")
    content = bytearray(anchor.path.read_bytes())
    content[128 + 30] ^= 1
    anchor.path.write_bytes(content)
    with anchor.read_locked() as head:
        assert head == (2, f"{2:064x}")


def test_a_crash_between_row_and_file_is_mended_by_the_next_write(ledger, store, tmp_path):
    """The file lags by that row until then."""

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
    assert verify(ledger) == []


@pytest.mark.parametrize("table", ["audit", "memory"])
def test_without_its_audit_row_nothing_changes(ledger, raw, table):
    """The audit cannot be written: no action, no pause; once it can, both go on."""
    kind = "INSERT" if table == "audit" else "UPDATE"
    raw.execute(f"CREATE TRIGGER no BEFORE {kind} ON {table} BEGIN SELECT RAISE(FAIL, 'disk I/O error'); END")
    with pytest.raises(StoreError, match="kernel log"):
        ledger.propose(action_of(ulid(1)), "proposed", "trimtab")
    with pytest.raises(StoreError, match="kernel log"):
        ledger.set_pause(Pause(on=True, by="ann"))
    assert ledger.actions() == []
    assert not ledger.pause().on
    raw.execute("DROP TRIGGER no")
    ledger.propose(action_of(ulid(1)), "proposed", "trimtab")
    assert len(ledger.actions()) == 1
    assert verify(ledger) == []


def test_a_head_that_cannot_be_written_undoes_nothing(ledger, monkeypatch):
    """The row is durable already; the next write brings the file up to date."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("trimtab.engine.store.audit_anchor.os.fsync", full)
        ledger.append_audit("looked", "x", "ann")
    assert len(ledger.audit_rows()) == ROWS + 1
    ledger.append_audit("looked", "x", "ann")
    assert verify(ledger) == []


def test_a_row_written_meanwhile_is_left_for_the_next_time(ledger, monkeypatch):
    """Verifying beside an engine that writes finds nothing."""
    audit = ledger.audit_rows

    def slow(**wanted):
        page = audit(**wanted)
        ledger.append_audit("looked", "x", "ann")
        return page

    monkeypatch.setattr(ledger, "audit_rows", slow)
    assert verify(ledger) == []
