"""Redis connection: opened on first use, every call within the configured timeout, errors as ToolError."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import Redis as Client
from redis.asyncio.connection import (
    BlockingConnectionPool,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionLostError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from trimtab.engine.errors import RefusedError, ToolError, ToolUncertainError
from trimtab.engine.redaction import redact_text
from trimtab.engine.settings.data_store_tools import RedisTool
from trimtab.engine.tools.server_access import DeniedError, ExportOnlyError, read_secret, resolve_host

MAX_CONNECTIONS = 3
_DEFAULT_PORT = 6379


class RedisConnection:
    """Connection to one Redis server. Raises ToolError and its subclasses, never an error of the library."""

    def __init__(self, name: str, settings: RedisTool) -> None:
        self.name = name
        self.settings = settings
        parts = urlsplit(settings.url)
        self.host, self.port = parts.hostname, parts.port or _DEFAULT_PORT
        self._client: Any = None
        self._connect_lock = asyncio.Lock()

    @property
    def address(self) -> str:
        """Host and port, or the path of a Unix socket."""
        return f"{self.host}:{self.port}" if self.host else urlsplit(self.settings.url).path

    async def query(self, *words: object) -> Any:  # noqa: ANN401 - the reply depends on the command
        """Send a read-only command and return its reply."""
        async with self._query_client() as client:
            return await client.execute_command(*words)

    async def query_all(self, commands: Sequence[Sequence[object]]) -> list[Any]:
        """Send several read-only commands in one pipeline; a refused one is an exception in the list."""
        async with self._query_client() as client:
            pipeline = client.pipeline(transaction=False)
            for words in commands:
                pipeline.execute_command(*words)
            return list(await pipeline.execute(raise_on_error=False))

    async def execute(self, *words: object) -> Any:  # noqa: ANN401 - as above
        """Send a command that changes something and return its reply.

        Raises ToolUncertainError when it may have taken effect, RefusedError when the server refused it.
        """
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await (await self._get_client()).execute_command(*words)
        except NoPermissionError as error:
            raise self._to_tool_error(error) from None
        except ResponseError as error:
            if _is_unknown_command(error):
                raise self._to_tool_error(error) from None
            raise RefusedError(f"{self.name} refused {' '.join(map(str, words))}: {error}") from None
        except (RedisError, OSError, TimeoutError) as error:
            await self._disconnect()
            why = redact_text(str(error)) or f"none within {self.settings.timeout:g} s"
            raise ToolUncertainError(
                f"{self.name}: the answer to {' '.join(map(str, words))} was lost ({why}); it may have taken "
                "effect: read the value"
            ) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._disconnect()

    @asynccontextmanager
    async def _query_client(self) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(self.settings.timeout):
                yield await self._get_client()
        except (RedisError, OSError, TimeoutError) as error:
            if isinstance(error, RedisConnectionLostError | OSError) and not isinstance(error, TimeoutError):
                await self._disconnect()
            raise self._to_tool_error(error) from None

    async def _get_client(self) -> Any:  # noqa: ANN401 - the library's types are incomplete
        async with self._connect_lock:
            if self._client is None:
                address = await resolve_host(self.name, self.host, self.port) if self.host else None
                password = await asyncio.to_thread(self._read_password)
                self._client = Client(connection_pool=self._make_pool(address, password))
            return self._client

    def _make_pool(self, address: str | None, password: str | None) -> BlockingConnectionPool:
        parts, timeout = urlsplit(self.settings.url), self.settings.timeout
        options: dict[str, Any] = {"connection_class": UnixDomainSocketConnection, "path": parts.path}
        database = parse_qs(parts.query).get("db", ["0"])[0]
        if address is not None:
            database = parts.path.strip("/") or "0"
            options = {"connection_class": Connection, "host": address, "port": self.port}
        if parts.scheme == "rediss":
            options |= {"connection_class": SSLConnection, "host": self.host, **self._tls_options()}
        return BlockingConnectionPool(
            max_connections=MAX_CONNECTIONS, timeout=timeout, socket_timeout=timeout,
            socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0), protocol=2, db=int(database),
            decode_responses=True, username=self.settings.username, password=password, **options,
        )  # fmt: skip

    def _tls_options(self) -> dict[str, Any]:
        tls = self.settings.tls
        if tls is None:
            return {}
        files = {"ssl_ca_certs": tls.ca_file, "ssl_certfile": tls.cert_file, "ssl_keyfile": tls.key_file}
        options: dict[str, Any] = {name: str(file.expanduser()) for name, file in files.items() if file}
        if tls.insecure_skip_verify:
            options |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
        return options

    def _read_password(self) -> str | None:
        file = self.settings.password_file
        if file is not None:
            return read_secret(self.name, file)
        return self.settings.password.get_secret_value() if self.settings.password else None

    async def _disconnect(self) -> None:
        """Close the client; the next call resolves the host and reads the password again."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
            await client.connection_pool.disconnect(inuse_connections=True)

    def _to_tool_error(self, error: Exception) -> ToolError:
        name, text = self.name, redact_text(str(error))
        if isinstance(error, NoPermissionError):
            return DeniedError(
                f"{name}: the user lacks a permission: {text}; grant it as `trimtab grant {name}` shows"
            )
        if isinstance(error, AuthenticationError) or "Authentication required" in text:
            return DeniedError(
                f"{name}: {self.address} denies the login: {text}; check username and password of "
                f"tools.{name}"
            )
        if "protected mode" in text:
            return DeniedError(f"{name}: {self.address} is in protected mode; set a password on it")
        if isinstance(error, BusyLoadingError):
            return ToolError(f"{name}: {self.address} is loading its data; wait until it is done")
        if isinstance(error, TimeoutError | RedisTimeoutError):
            return ToolError(
                f"{name}: {self.address} gave no answer within {self.settings.timeout:g} s: it is "
                "overloaded, stopped or unreachable"
            )
        if isinstance(error, ResponseError):
            kind = ExportOnlyError if _is_unknown_command(error) else ToolError
            return kind(f"{name}: {self.address} refused: {text}")
        return ToolError(
            f"{name}: {self.address} cannot be reached: {text}; check that it runs and tools.{name}.url"
        )


def _is_unknown_command(error: ResponseError) -> bool:
    """Return whether the server lacks the command: it was renamed, or removed by a provider."""
    return str(error).startswith(("unknown command", "unknown subcommand", "ERR unknown command"))
