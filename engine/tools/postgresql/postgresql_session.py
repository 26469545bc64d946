"""PostgreSQL session: opened on first use, every call within a deadline, errors as ToolError."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, LiteralString, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from trimtab.engine.errors import RefusedError, ToolError, ToolUncertainError
from trimtab.engine.redaction import redact_text
from trimtab.engine.settings.data_store_tools import PostgresqlTool
from trimtab.engine.tools.server_access import DeniedError, read_secret, resolve_host

T = TypeVar("T")
Row = dict[str, Any]
Statement = LiteralString | sql.Composed
_DEFAULT_PORT = 5432
_UNAVAILABLE_TEXTS = (
    "starting up",
    "shutting down",
    "recovery mode",
    "too many clients",
    "remaining connection slots",
)


class PostgresqlSession:
    """One connection that runs one statement at a time. Raises ToolError and its subclasses."""

    def __init__(self, name: str, settings: PostgresqlTool) -> None:
        self.name = name
        self.settings = settings
        parts = urlsplit(settings.url)
        self.host, self.port = parts.hostname, parts.port or _DEFAULT_PORT
        self.database = parts.path.strip("/") or "postgres"
        self._connection: psycopg.AsyncConnection[Row] | None = None
        self._lock = asyncio.Lock()

    @property
    def address(self) -> str:
        """Host and port, or the directory of a Unix socket."""
        return f"{self.host}:{self.port}" if self.host else self.settings.hosts()[0]

    async def query(
        self, statement: Statement, values: Sequence[object] | Mapping[str, object] = ()
    ) -> list[Row]:
        """Return the rows of a read-only query."""
        timeout_s = self.settings.timeout
        try:
            return await self._run_with_deadline(timeout_s, self._fetch(statement, values))
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise self._to_tool_error(error, timeout_s) from None

    async def execute(self, statement: Statement, timeout_s: float | None = None) -> list[Row]:
        """Run a statement that changes something, outside of a transaction, and return its rows.

        Raises ToolUncertainError when it may have taken effect, RefusedError when the server refused it.
        """
        timeout_s = timeout_s or self.settings.timeout
        await self.query("SELECT 1")
        try:
            return await self._run_with_deadline(timeout_s, self._fetch(statement, ()))
        except psycopg.errors.InsufficientPrivilege as error:
            raise self._to_tool_error(error, timeout_s) from None
        except (psycopg.OperationalError, OSError, TimeoutError) as error:
            why = redact_text(str(error).strip()) or f"none within {timeout_s:g} s"
            raise ToolUncertainError(
                f"{self.name}: the answer to a change was lost ({why}); it may have taken effect: read the "
                "value"
            ) from None
        except psycopg.Error as error:
            raise RefusedError(f"{self.name} refused: {redact_text(str(error).strip())}") from None

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _fetch(self, query: Statement, values: Sequence[object] | Mapping[str, object]) -> list[Row]:
        connection = await self._connect()
        cursor = await connection.execute(query, values or None)
        return await cursor.fetchall() if cursor.description else []

    async def _connect(self) -> psycopg.AsyncConnection[Row]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        parameters = await self._connection_parameters()
        self._connection = await psycopg.AsyncConnection.connect(
            **parameters, autocommit=True, prepare_threshold=None, row_factory=dict_row
        )
        return self._connection

    async def _connection_parameters(self) -> dict[str, Any]:
        settings, parts = self.settings, urlsplit(self.settings.url)
        parameters: dict[str, Any] = {
            "dbname": unquote(self.database), "user": settings.username or parts.username, "port": self.port,
            "application_name": "trimtab", "connect_timeout": max(2, round(settings.timeout)),
        }  # fmt: skip
        if self.host:
            parameters |= {"host": self.host, "hostaddr": await resolve_host(self.name, self.host, self.port)}
        else:
            parameters["host"] = parse_qs(parts.query)["host"][0]
        if settings.password_file is not None:
            parameters["password"] = await asyncio.to_thread(read_secret, self.name, settings.password_file)
        elif settings.password is not None:
            parameters["password"] = settings.password.get_secret_value()
        return {**parameters, **self._tls_parameters()}

    def _tls_parameters(self) -> dict[str, str]:
        tls = self.settings.tls
        if tls is None:
            return {}
        files = {"sslrootcert": tls.ca_file, "sslcert": tls.cert_file, "sslkey": tls.key_file}
        found = {name: str(file.expanduser()) for name, file in files.items() if file}
        if tls.insecure_skip_verify:
            return {**found, "sslmode": "require"}
        return {"sslrootcert": "system", **found, "sslmode": "verify-full"}

    async def _run_with_deadline(self, timeout_s: float, call: Coroutine[Any, Any, T]) -> T:
        """Return the result in time; libpq waits for a frozen server until the socket is shut down."""
        task: asyncio.Task[T] | None = None
        try:
            async with asyncio.timeout(timeout_s), self._lock:
                task = asyncio.create_task(call)
                return await asyncio.shield(task)
        except (TimeoutError, asyncio.CancelledError):
            if task is None:
                call.close()
            elif not task.done():
                await self._abort_connection(task)
            raise

    async def _abort_connection(self, task: asyncio.Task[Any]) -> None:
        connection, self._connection = self._connection, None
        if connection is None or connection.closed:
            task.cancel()
        else:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as sock:
                sock.shutdown(socket.SHUT_RDWR)
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        if connection is not None:
            await connection.close()

    def _to_tool_error(self, error: Exception, timeout_s: float) -> ToolError:
        name, text = self.name, redact_text(" ".join(str(error).split()))
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            return DeniedError(
                f"{name}: the role lacks a permission: {text}; grant it as `trimtab grant {name}` shows"
            )
        if isinstance(error, TimeoutError | psycopg.errors.ConnectionTimeout):
            return ToolError(
                f"{name}: {self.address} gave no answer within {timeout_s:g} s: it is overloaded, stopped "
                "or unreachable"
            )
        if any(words in text for words in _UNAVAILABLE_TEXTS):
            return ToolError(f"{name}: {self.address} accepts no sessions now: {text}")
        if "FATAL:" in text or "no password supplied" in text:
            return DeniedError(
                f"{name}: {self.address} denies the login: {text}; check username, password and database of "
                f"tools.{name}"
            )
        if isinstance(error, psycopg.OperationalError | OSError):
            return ToolError(
                f"{name}: {self.address} cannot be reached: {text}; check that it runs and tools.{name}.url"
            )
        return ToolError(f"{name}: {self.address} refused: {text}")
