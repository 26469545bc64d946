"""The connection to one Redis: opened when first needed, every call within a deadline, errors in words."""

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
    ConnectionError as LostError,
)
from redis.exceptions import (
    TimeoutError as SilentError,
)

from trimtab.engine.errors import RefusedError, ToolError, ToolUncertainError
from trimtab.engine.redaction import redact_text
from trimtab.engine.settings.data_store_tools import RedisTool
from trimtab.engine.tools.host_address import resolve_host
from trimtab.engine.tools.refusals import DeniedError, ExportOnlyError
from trimtab.engine.tools.secret_files import read_secret

MAX_CONNECTIONS = 3
_DEFAULT_PORT = 6379


class RedisConnection:
    """Asks one Redis. Raises ToolError and what derives from it, never an error of the library."""

    def __init__(self, name: str, settings: RedisTool) -> None:
        self.name = name
        self.settings = settings
        parts = urlsplit(settings.url)
        self.host, self.port = parts.hostname, parts.port or _DEFAULT_PORT
        self._client: Any = None
        self._connect_lock = asyncio.Lock()

    @property
    def address(self) -> str:
        """Host and port, or the path of a socket."""
        return f"{self.host}:{self.port}" if self.host else urlsplit(self.settings.url).path

    async def query(self, *words: object) -> Any:  # noqa: ANN401 - what a command answers
        """The answer to a command that changes nothing."""
        async with self._query_client() as client:
            return await client.execute_command(*words)

    async def query_all(self, commands: Sequence[Sequence[object]]) -> list[Any]:
        """The answers to several, in one go; one that was refused is an exception in the list."""
        async with self._query_client() as client:
            pipeline = client.pipeline(transaction=False)
            for words in commands:
                pipeline.execute_command(*words)
            return list(await pipeline.execute(raise_on_error=False))

    async def execute(self, *words: object) -> Any:  # noqa: ANN401 - as above
        """The answer to a command that changes something.

        Raises ToolUncertainError where it may have taken effect, RefusedError where the server refused it.
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
                f"{self.name}: the answer to {' '.join(map(str, words))} was lost ({why}); whether it took "
                "effect is not known, read the value"
            ) from None

    async def close(self) -> None:
        """Let go of connections."""
        await self._disconnect()

    @asynccontextmanager
    async def _query_client(self) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(self.settings.timeout):
                yield await self._get_client()
        except (RedisError, OSError, TimeoutError) as error:
            if isinstance(error, LostError | OSError) and not isinstance(error, TimeoutError):
                await self._disconnect()
            raise self._to_tool_error(error) from None

    async def _get_client(self) -> Any:  # noqa: ANN401 - the library types its commands in part
        async with self._connect_lock:
            if self._client is None:
                address = await resolve_host(self.name, self.host, self.port) if self.host else None
                password = await asyncio.to_thread(self._read_password)
                self._client = Client(connection_pool=self._make_pool(address, password))
            return self._client

    def _make_pool(self, address: str | None, password: str | None) -> BlockingConnectionPool:
        parts, timeout = urlsplit(self.settings.url), self.settings.timeout
        where: dict[str, Any] = {"connection_class": UnixDomainSocketConnection, "path": parts.path}
        database = parse_qs(parts.query).get("db", ["0"])[0]
        if address is not None:
            database = parts.path.strip("/") or "0"
            where = {"connection_class": Connection, "host": address, "port": self.port}
        if parts.scheme == "rediss":
            where |= {"connection_class": SSLConnection, "host": self.host, **self._tls_options()}
        return BlockingConnectionPool(
            max_connections=MAX_CONNECTIONS, timeout=timeout, socket_timeout=timeout,
            socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0), protocol=2, db=int(database),
            decode_responses=True, username=self.settings.username, password=password, **where,
        )  # fmt: skip

    def _tls_options(self) -> dict[str, Any]:
        tls = self.settings.tls
        if tls is None:
            return {}
        files = {"ssl_ca_certs": tls.ca_file, "ssl_certfile": tls.cert_file, "ssl_keyfile": tls.key_file}
        given: dict[str, Any] = {name: str(file.expanduser()) for name, file in files.items() if file}
        if tls.insecure_skip_verify:
            given |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
        return given

    def _read_password(self) -> str | None:
        file = self.settings.password_file
        if file is not None:
            return read_secret(self.name, file)
        return self.settings.password.get_secret_value() if self.settings.password else None

    async def _disconnect(self) -> None:
        """The next call resolves the host and reads the password anew."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
            await client.connection_pool.disconnect(inuse_connections=True)

    def _to_tool_error(self, error: Exception) -> ToolError:
        name, text = self.name, redact_text(str(error))
        if isinstance(error, NoPermissionError):
            return DeniedError(
                f"{name}: the user may not do this: {text}; give it the rights of `trimtab grant {name}`"
            )
        if isinstance(error, AuthenticationError) or "Authentication required" in text:
            return DeniedError(
                f"{name}: {self.address} does not know us: {text}; check username and password of tools.{name}"
            )
        if "protected mode" in text:
            return DeniedError(f"{name}: {self.address} is in protected mode: give it a password")
        if isinstance(error, BusyLoadingError):
            return ToolError(f"{name}: {self.address} is loading its data; it answers when that is done")
        if isinstance(error, TimeoutError | SilentError):
            return ToolError(
                f"{name}: {self.address} gave no answer within {self.settings.timeout:g} s: it is overloaded, "
                "stopped, or cut off"
            )
        if isinstance(error, ResponseError):
            kind = ExportOnlyError if _is_unknown_command(error) else ToolError
            return kind(f"{name}: {self.address} refused: {text}")
        return ToolError(
            f"{name}: {self.address} cannot be reached: {text}; is it running, and is tools.{name}.url right?"
        )


def _is_unknown_command(error: ResponseError) -> bool:
    """Whether the server has no such command: it was renamed, or a provider took it away."""
    return str(error).startswith(("unknown command", "unknown subcommand", "ERR unknown command"))
