"""Migrations: creation, upgrade and refusal of tables."""

import sqlite3
import sys
from contextlib import closing

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from structlog.testing import capture_logs

from tests.builders.series import anomaly_of
from tests.contracts.event_store_contract import CPU, ulid
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import NewerStateError, StoreError
from trimtab.engine.store import database, open_store, tables
from trimtab.engine.store.database import REVISIONS

NOW = FakeClock().now
NEXT = f"{int(REVISIONS[-1]) + 1:04}"
NEXT_REVISION = """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "{next}", "{newest}"
def upgrade():
    op.add_column("anomalies", sa.Column("extra", sa.Text))
    if {fails}:
        raise sa.exc.OperationalError("no", None, Exception("disk I/O error"))
"""


def _scripts(folder):
    config = Config()
    config.set_main_option("script_location", str(folder))
    return ScriptDirectory.from_config(config)


@pytest.fixture
def newer_program(tmp_path, monkeypatch):
    """A program with one more revision; call it with whether that revision fails."""
    own = database.Path(database.__file__).parent / "migrations"

    def make(*, fails):
        folder = tmp_path / "program" / "migrations"
        (folder / "versions").mkdir(parents=True, exist_ok=True)
        (folder / "env.py").write_text((own / "env.py").read_text())
        for revision_file in (own / "versions").glob("r*.py"):
            (folder / "versions" / revision_file.name).write_text(revision_file.read_text())
        further = NEXT_REVISION.format(fails=fails, next=NEXT, newest=REVISIONS[-1])
        (folder / "versions" / "further.py").write_text(further)
        monkeypatch.setattr(database, "MIGRATIONS", folder)
        monkeypatch.setattr(database, "REVISIONS", (*REVISIONS, NEXT))

    return make


@pytest.fixture
def data(tmp_path):
    store = open_store(tmp_path / "data", NOW)
    store.save_anomaly(anomaly_of(CPU, ulid(1)))
    store.close()
    return tmp_path / "data"


def test_known_revisions_are_the_shipped_ones():
    """So that a start does not import alembic to compare them."""
    scripts = _scripts(database.MIGRATIONS)
    assert tuple(r.revision for r in reversed(list(scripts.walk_revisions()))) == REVISIONS


def test_migrations_match_the_table_definitions(data):
    """Columns, types, keys and indexes are equal."""
    engine = sa.create_engine(f"sqlite:///{data}/trimtab.db")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_a_start_at_the_newest_revision_needs_no_alembic(data, monkeypatch):
    """Importing alembic costs half a second and 11 MB."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "alembic"]:
        monkeypatch.delitem(sys.modules, name)
    open_store(data, NOW).close()
    assert "alembic" not in sys.modules


def test_a_migration_backs_up_first(data, newer_program):
    """The backup is complete and has the old tables; the rows are in both files."""
    newer_program(fails=False)
    with capture_logs() as lines:
        store = open_store(data, NOW)
    assert store.anomaly(ulid(1)).series == str(CPU)
    store.close()
    (backup,) = data.glob("*.backup")
    assert backup.name == f"trimtab.db.{REVISIONS[-1]}.2026-01-01T000000000Z.backup"
    assert [line.get("backup") for line in lines] == [None, str(backup)]
    with closing(sqlite3.connect(backup)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute("SELECT version_num FROM alembic_version").fetchone() == (REVISIONS[-1],)
        assert raw.execute("SELECT id FROM anomalies").fetchall() == [(ulid(1),)]
    with closing(sqlite3.connect(data / "trimtab.db")) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchone() == (NEXT,)
        assert raw.execute("SELECT extra FROM anomalies").fetchall() == [(None,)]
    assert sorted(path.name for path in data.iterdir() if "tmp" in path.name or "-wal" in path.name) == []


def test_a_failed_migration_changes_nothing(data, newer_program, monkeypatch):
    """The tables are unchanged, and the old program still works."""
    newer_program(fails=True)
    with pytest.raises(StoreError, match="disk I/O error"):
        open_store(data, NOW)
    monkeypatch.undo()
    store = open_store(data, NOW)
    assert store.anomaly(ulid(1)).id == ulid(1)
    store.close()


def test_an_older_program_refuses_newer_tables(data):
    """Neither file nor folder is changed."""
    with closing(sqlite3.connect(data / "trimtab.db")) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '0099'")
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    with pytest.raises(
        NewerStateError, match=rf"newer Trimtab .tables 0099, this version supports up to {REVISIONS[-1]}"
    ):
        open_store(data, NOW)
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
