"""The SQL database behind the event store: how it is opened, checked, migrated and written.

SQLite in WAL mode with synchronous=FULL: a transaction that returned survives kill -9 and power
loss. Any other database takes part with the same statements through its URL.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from trimtab.engine.errors import NewerStateError, StoreError
from trimtab.engine.store.durable_files import atomic_write, translate_os_errors
from trimtab.engine.types import iso

log = structlog.get_logger(__name__)

REVISIONS = ("0001", "0002")
"""Every revision in `migrations/versions`, oldest first: known without importing alembic."""
MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_S = 10
_WRITE_OPTION = "trimtab_write"

_ADVICE = {
    "readonly database": "the file or its folder is read-only: change its rights, or choose another folder",
    "disk is full": "free space on this disk; nothing of this write was kept",
    "unable to open": "look whether the folder exists and this user may write there",
    "database is locked": f"another program held it for {BUSY_TIMEOUT_S} s: close that program",
    "disk i/o error": "the disk reports errors: look at the kernel log, and restore from a backup",
    "not a database": "the file is damaged: move it away, or restore one of the .backup files beside it",
    "malformed": "the file is damaged: move it away, or restore one of the .backup files beside it",
    "connection": "look whether the database server runs, and at address, user and password",
}


class Database:
    """One database by its URL; made of plain calls that raise StoreError with what to do.

    url : sqlite:////folder/trimtab.db, or postgresql://user@host/name
    """

    def __init__(self, url: str | URL) -> None:
        self.url = url

    @cached_property
    def parsed_url(self) -> URL:
        """The URL, parsed."""
        return parse_url(self.url) if isinstance(self.url, str) else self.url

    @cached_property
    def sqlite_path(self) -> Path | None:
        """Where SQLite's file is; None = a database server."""
        if self.parsed_url.get_backend_name() != "sqlite":
            return None
        name = self.parsed_url.database
        if not name or name == ":memory:":
            raise StoreError("an SQLite database in memory forgets everything; give it a file")
        return Path(name)

    def __str__(self) -> str:
        return str(self.sqlite_path or self.parsed_url.render_as_string(hide_password=True))

    @cached_property
    def engine(self) -> Engine:
        """SQLAlchemy's engine; statement parameters stay out of its errors."""
        if self.sqlite_path is None:
            try:
                return sa.create_engine(self.parsed_url, hide_parameters=True, pool_pre_ping=True)
            except ModuleNotFoundError as error:
                raise StoreError(
                    f"{self} needs the package {error.name}: pip install 'trimtab[postgresql]'"
                ) from error
        engine = sa.create_engine(
            self.parsed_url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S}
        )
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise StoreError for what the database or its driver raises inside."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            advice = next((a for part, a in _ADVICE.items() if part in cause.lower()), "see the log for more")
            raise StoreError(f"{self}: {cause}; {advice}") from error

    @contextmanager
    def read_transaction(self) -> Iterator[Connection]:
        """A connection that sees one state of the database."""
        with self.translate_errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write_transaction(self) -> Iterator[Connection]:
        """A transaction that is durable when the block ends, and undone when it raises."""
        with self.translate_errors(), self.engine.connect() as connection:
            writer = connection.execution_options(**{_WRITE_OPTION: True})
            with writer.begin():
                yield writer

    def revision(self) -> str | None:
        """The revision of the stored tables, None = there are none yet; changes nothing.

        Raises NewerStateError for a revision that this program does not know.
        """
        found = (
            self._sqlite_revision(self.sqlite_path)
            if self.sqlite_path is not None
            else self._server_revision()
        )
        if found is not None and found not in REVISIONS:
            raise NewerStateError(
                f"{self} was written by a newer Trimtab (tables {found}, this program knows up to "
                f"{REVISIONS[-1]}); upgrade this program, or give it another folder. Nothing was changed"
            )
        return found

    def migrate(self, now: int) -> None:
        """Bring the tables to the newest revision; the SQLite file is copied first, as the log says."""
        found, newest = self.revision(), REVISIONS[-1]
        if found == newest:
            return
        if found is not None:
            log.info("migrating the store", database=str(self), from_revision=found, to_revision=newest)
            self._back_up(found, now)
        elif self.sqlite_path is not None:
            with translate_os_errors("make", self.sqlite_path):
                self.sqlite_path.touch(mode=0o600)
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.write_transaction() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, newest)

    def check_integrity(self) -> None:
        """Read SQLite's whole file for damage. Raises StoreError."""
        if self.sqlite_path is None:
            return
        with self.read_transaction() as connection:
            said = connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
        if list(said) != ["ok"]:
            raise StoreError(
                f"{self} is damaged ({'; '.join(map(str, said))}): move it away, "
                "or restore one of the .backup files beside it"
            )

    def close(self) -> None:
        """Let go of all connections."""
        if "engine" in self.__dict__:
            self.engine.dispose()

    def _sqlite_revision(self, path: Path) -> str | None:
        with translate_os_errors("read", path):
            if not path.exists() or path.stat().st_size == 0:
                return None
        # Without a log to read, promise SQLite that nobody writes: it then makes no files beside it.
        alone = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
        only_read = f"file:{quote(str(path))}?mode=ro{alone}"
        with self.translate_errors(), closing(sqlite3.connect(only_read, uri=True)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            names = {name for (name,) in tables}
            if not names:
                return None
            if "alembic_version" in names:
                row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
                return None if row is None else str(row[0])
        raise StoreError(f"{path} is an SQLite file of another program; choose another folder (--data DIR)")

    def _server_revision(self) -> str | None:
        with self.read_transaction() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            return None if found is None else str(found)

    def _back_up(self, revision: str, now: int) -> None:
        if self.sqlite_path is None:
            log.warning("a database server is not backed up by us: keep a pg_dump", database=str(self))
            return
        stamp = iso(now).replace(":", "").replace(".", "")
        backup = self.sqlite_path.with_name(f"{self.sqlite_path.name}.{revision}.{stamp}.backup")
        with self.translate_errors(), atomic_write(backup) as temporary:
            with (
                closing(sqlite3.connect(self.sqlite_path)) as source,
                closing(sqlite3.connect(temporary)) as target,
            ):
                source.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")
            temporary.chmod(0o600)
        log.info("backed up the store", backup=str(backup))


def parse_url(url: str) -> URL:
    """A database URL, with psycopg as the driver of PostgreSQL. Raises StoreError."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(
            "the database URL cannot be parsed; write sqlite:////folder/trimtab.db or postgresql://user@host/name"
        ) from None
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's own record
    # Transactions begin where `_begin_sqlite` says so, not where the driver guesses.
    connection.isolation_level = None
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise StoreError(
            f"SQLite cannot use its write-ahead log here (mode {mode}): put the folder on a local disk"
        )
    for setting in ("synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_S * 1000}"):
        connection.execute(f"PRAGMA {setting}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock at once: a read that later becomes a write can fail as busy.
    writes = connection.get_execution_options().get(_WRITE_OPTION, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
