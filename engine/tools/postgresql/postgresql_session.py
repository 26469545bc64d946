"""One session of a PostgreSQL: opened when first needed, every call within a deadline, errors in words."""

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
from trimtab.engine.tools.host_address import resolve_host
from trimtab.engine.tools.refusals import DeniedError
from trimtab.engine.tools.secret_files import read_secret

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
    """One connection, one statement at a time. Raises ToolError and what derives from it."""

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
        """Host and port, or the folder of a socket."""
        return f"{self.host}:{self.port}" if self.host else self.settings.hosts()[0]

    async def query(
        self, statement: Statement, values: Sequence[object] | Mapping[str, object] = ()
    ) -> list[Row]:
        """What a query finds."""
        limit_s = self.settings.timeout
        try:
            return await self._run_with_deadline(limit_s, self._fetch(statement, values))
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise self._to_tool_error(error, limit_s) from None

    async def execute(self, statement: Statement, timeout_s: float | None = None) -> list[Row]:
        """Do something, outside of a transaction.

        Raises ToolUncertainError where it may have taken effect, RefusedError where the server refused it.
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
                f"{self.name}: the answer to a change was lost ({why}); whether it took effect is not known, "
                "read the value"
            ) from None
        except psycopg.Error as error:
            raise RefusedError(f"{self.name} refused: {redact_text(str(error).strip())}") from None

    async def close(self) -> None:
        """Let go of the connection."""
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
        given: dict[str, Any] = {
            "dbname": unquote(self.database), "user": settings.username or parts.username, "port": self.port,
            "application_name": "trimtab", "connect_timeout": max(2, round(settings.timeout)),
        }  # fmt: skip
        if self.host:
            given |= {"host": self.host, "hostaddr": await resolve_host(self.name, self.host, self.port)}
        else:
            given["host"] = parse_qs(parts.query)["host"][0]
        if settings.password_file is not None:
            given["password"] = await asyncio.to_thread(read_secret, self.name, settings.password_file)
        elif settings.password is not None:
            given["password"] = settings.password.get_secret_value()
        return {**given, **self._tls_parameters()}

    def _tls_parameters(self) -> dict[str, str]:
        tls = self.settings.tls
        if tls is None:
            return {}
        files = {"sslrootcert": tls.ca_file, "sslcert": tls.cert_file, "sslkey": tls.key_file}
        found = {name: str(file.expanduser()) for name, file in files.items() if file}
        if tls.insecure_skip_verify:
            return {**found, "sslmode": "require"}
        return {"sslrootcert": "system", **found, "sslmode": "verify-full"}

    async def _run_with_deadline(self, limit_s: float, work: Coroutine[Any, Any, T]) -> T:
        """Its result, in time: libpq waits for a server that stands still, unless the line is cut."""
        task: asyncio.Task[T] | None = None
        try:
            async with asyncio.timeout(limit_s), self._lock:
                task = asyncio.create_task(work)
                return await asyncio.shield(task)
        except (TimeoutError, asyncio.CancelledError):
            if task is None:
                work.close()
            elif not task.done():
                await self._abort_connection(task)
            raise

    async def _abort_connection(self, task: asyncio.Task[Any]) -> None:
        connection, self._connection = self._connection, None
        if connection is None or connection.closed:
            task.cancel()
        else:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        if connection is not None:
            await connection.close()

    def _to_tool_error(self, error: Exception, limit_s: float) -> ToolError:
        name, text = self.name, redact_text(" ".join(str(error).split()))
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            return DeniedError(
                f"{name}: the role may not do this: {text}; give it the rights of `trimtab grant {name}`"
            )
        if isinstance(error, TimeoutError | psycopg.errors.ConnectionTimeout):
            return ToolError(
                f"{name}: {self.address} gave no answer within {limit_s:g} s: it is overloaded, stopped "
                "or cut off"
            )
        if any(words in text for words in _UNAVAILABLE_TEXTS):
            return ToolError(f"{name}: {self.address} takes no sessions now: {text}")
        if "FATAL:" in text or "no password supplied" in text:
            return DeniedError(
                f"{name}: {self.address} does not let us in: {text}; check username, password and database of "
                f"tools.{name}"
            )
        if isinstance(error, psycopg.OperationalError | OSError):
            return ToolError(
                f"{name}: {self.address} cannot be reached: {text}; is it running, is tools.{name}.url right?"
            )
        return ToolError(f"{name}: {self.address} refused: {text}")
