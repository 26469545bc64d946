"""Superuser session for tests of the PostgreSQL tool, and helpers that wait for a reload."""

import asyncio
import os
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

MB = 2**20
PASSWORD = "CHANGE-THIS-PASSWORD"
"""The password in the output of `grant`."""


class AdminSession:
    """Superuser session next to the tool's session."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg.connect(url, autocommit=True)

    def run(self, statement, *values):
        """Return the rows of a statement."""
        cursor = self.connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, statement, *values):
        """Return the first value of the first row."""
        return self.run(statement, *values)[0][0]

    @contextmanager
    def with_config_line(self, file: str, *, first: str = "", last: str = ""):
        """Add a line to a configuration file and reload; restore the file afterwards."""
        path = Path(self.value(f"SHOW {file}"))
        text = path.read_text()
        path.write_text(f"{first}\n{text}\n{last}\n")
        self.run("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            path.write_text(text)
            self.run("SELECT pg_reload_conf()")

    def is_reset(self) -> bool:
        """Return whether a new session sees no setting of ALTER SYSTEM."""
        with psycopg.connect(self.url) as fresh:
            found = fresh.execute(
                "SELECT count(*) FROM pg_settings WHERE sourcefile ~ 'auto.conf$'"
            ).fetchone()
        return found == (0,)

    def enable_tls(self, certificate: Path, key: Path) -> None:
        """Enable TLS and reload."""
        folder = Path(self.value("SHOW data_directory"))
        for file, name in ((certificate, "server.crt"), (key, "server.key")):
            copy = folder / name
            copy.write_bytes(file.read_bytes())
            copy.chmod(0o600)
            owner = folder.stat()
            os.chown(copy, owner.st_uid, owner.st_gid)
        self.run("ALTER SYSTEM SET ssl = on")
        self.run("SELECT pg_reload_conf()")

    def server_pid(self) -> int:
        """Return the process id of the server."""
        return int((Path(self.value("SHOW data_directory")) / "postmaster.pid").read_text().split()[0])

    def open_client(self, application: str, **more) -> psycopg.Connection:
        """Open a session of another client, in a transaction."""
        return psycopg.connect(self.url, application_name=application, **more)


async def wait_until(check):
    """Wait until `await check()` is true; each session applies a reload at its own time."""
    async with asyncio.timeout(10):
        while not await check():  # noqa: ASYNC110 - a server sends no notice of a reload
            await asyncio.sleep(0.02)


async def wait_for_value(tool, knob, value):
    """Wait until the tool reads a value."""

    async def same():
        return (await tool.read("db", knob)).value == value

    await wait_until(same)


def as_role(url: str, role: str) -> str:
    """Return the URL with another user."""
    parts = urlsplit(url)
    return f"postgresql://{role}@{parts.hostname}:{parts.port}{parts.path}"
