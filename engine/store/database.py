"""The SQL database behind the event store: opening, integrity check, migration, transactions.

SQLite runs in WAL mode with synchronous=FULL: a committed transaction survives kill -9 and power loss.
Other databases (PostgreSQL) are reached by URL with the same statements.
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
"""Every revision in `migrations/versions`, oldest first. Listed here to avoid importing alembic."""
MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_S = 10
_WRITE_OPTION = "trimtab_write"

_ADVICE = {
    "readonly database": "the file or its folder is read-only: change permissions, or choose another folder",
    "disk is full": "free space on this disk; the write was rolled back",
    "unable to open": "check that the folder exists and that this user may write to it",
    "database is locked": f"another program has locked it for {BUSY_TIMEOUT_S} s: close that program",
    "disk i/o error": "the disk reports errors: check the kernel log, and restore from a backup",
    "not a database": "the file is damaged: move it away, or restore one of the .backup files in its folder",
    "malformed": "the file is damaged: move it away, or restore one of the .backup files in its folder",
    "connection": "check that the database server runs, and its address, user and password",
}


class Database:
    """A database addressed by URL. Its methods raise StoreError with advice.

    url : sqlite:////folder/trimtab.db or postgresql://user@host/name
    """

    def __init__(self, url: str | URL) -> None:
        self.url = url

    @cached_property
    def parsed_url(self) -> URL:
        """The URL, parsed."""
        return parse_url(self.url) if isinstance(self.url, str) else self.url

    @cached_property
    def sqlite_path(self) -> Path | None:
        """Path of the SQLite file; None for a database server. Raises StoreError for a database in memory."""
        if self.parsed_url.get_backend_name() != "sqlite":
            return None
        name = self.parsed_url.database
        if not name or name == ":memory:":
            raise StoreError("an in-memory SQLite database is not durable; use a file")
        return Path(name)

    def __str__(self) -> str:
        return str(self.sqlite_path or self.parsed_url.render_as_string(hide_password=True))

    @cached_property
    def engine(self) -> Engine:
        """The SQLAlchemy engine; its errors do not contain statement parameters."""
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
        """Convert errors of the database or its driver into StoreError."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            advice = next(
                (a for part, a in _ADVICE.items() if part in cause.lower()), "see the log for details"
            )
            raise StoreError(f"{self}: {cause}; {advice}") from error

    @contextmanager
    def read_transaction(self) -> Iterator[Connection]:
        """Open a read transaction: every query inside sees the same state of the database."""
        with self.translate_errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write_transaction(self) -> Iterator[Connection]:
        """Open a write transaction: durable when the block ends, rolled back if it raises."""
        with self.translate_errors(), self.engine.connect() as connection:
            writer = connection.execution_options(**{_WRITE_OPTION: True})
            with writer.begin():
                yield writer

    def revision(self) -> str | None:
        """Return the revision of the stored tables; None if there are none. Changes nothing.

        Raises NewerStateError for an unknown revision, StoreError for a file of another program.
        """
        revision = (
            self._sqlite_revision(self.sqlite_path)
            if self.sqlite_path is not None
            else self._server_revision()
        )
        if revision is not None and revision not in REVISIONS:
            raise NewerStateError(
                f"{self} was written by a newer Trimtab (tables {revision}, this version supports up to "
                f"{REVISIONS[-1]}); upgrade Trimtab, or use another folder. Nothing was changed"
            )
        return revision

    def migrate(self, now: int) -> None:
        """Upgrade the tables to the newest revision, after a backup of an SQLite file. `now` is int64 ns."""
        current, newest = self.revision(), REVISIONS[-1]
        if current == newest:
            return
        if current is not None:
            log.info("store_migration_started", database=str(self), from_revision=current, to_revision=newest)
            self._back_up(current, now)
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
        """Run SQLite's quick_check on the whole file. Raises StoreError if it is damaged."""
        if self.sqlite_path is None:
            return
        with self.read_transaction() as connection:
            messages = connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
        if list(messages) != ["ok"]:
            raise StoreError(
                f"{self} is damaged ({'; '.join(map(str, messages))}): move it away, "
                "or restore one of the .backup files in its folder"
            )

    def close(self) -> None:
        """Close all connections."""
        if "engine" in self.__dict__:
            self.engine.dispose()

    def _sqlite_revision(self, path: Path) -> str | None:
        with translate_os_errors("read", path):
            if not path.exists() or path.stat().st_size == 0:
                return None
        # If there is no write-ahead log, open as immutable, so that SQLite creates no files next to it.
        immutable = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
        read_only_uri = f"file:{quote(str(path))}?mode=ro{immutable}"
        with self.translate_errors(), closing(sqlite3.connect(read_only_uri, uri=True)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            names = {name for (name,) in tables}
            if not names:
                return None
            if "alembic_version" in names:
                row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
                return None if row is None else str(row[0])
        raise StoreError(f"{path} is the SQLite file of another program; choose another folder (--data DIR)")

    def _server_revision(self) -> str | None:
        with self.read_transaction() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            return None if version is None else str(version)

    def _back_up(self, revision: str, now: int) -> None:
        if self.sqlite_path is None:
            log.warning("store_backup_skipped", database=str(self), advice="back up the server with pg_dump")
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
        log.info("store_backed_up", backup=str(backup))


def parse_url(url: str) -> URL:
    """Parse a database URL and select psycopg as the PostgreSQL driver. Raises StoreError."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(
            "the database URL cannot be parsed; write sqlite:////folder/trimtab.db or postgresql://user@host/name"
        ) from None
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's own record
    # `_begin_sqlite` begins transactions; the driver must not begin its own.
    connection.isolation_level = None
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise StoreError(
            f"SQLite cannot use its write-ahead log here (mode {mode}): put the folder on a local disk"
        )
    for setting in ("synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_S * 1000}"):
        connection.execute(f"PRAGMA {setting}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer locks immediately, because upgrading a read transaction later can fail as busy.
    writes = connection.get_execution_options().get(_WRITE_OPTION, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
