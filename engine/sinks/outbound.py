"""HTTP to one configured receiver: its address pinned, no redirects, nothing from the environment."""

import asyncio
import base64
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from trimtab.engine.addresses import ip_of, is_refused
from trimtab.engine.errors import SettingsError
from trimtab.engine.settings import Tls, Writer

EXCERPT_BYTES = 500


class RefusedAddressError(SettingsError):
    """The receiver's name leads to an address that nothing is ever sent to."""


def refuse_unsafe(host: str, address: str) -> None:
    """Raises RefusedAddressError for link-local, multicast, unspecified and cloud metadata addresses."""
    if is_refused(address) or ip_of(address).is_unspecified:
        raise RefusedAddressError(
            f"{host} leads to {address}, a link-local or metadata address; give another host"
        )


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart. Raises SettingsError from `of` where it cannot be used."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, name: str, url: str) -> "Target":
        """The target of the setting `name`.

        >>> Target.of("writer.remote_write_url", "http://prom:9090/api/v1/write").port
        9090
        """
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise SettingsError(f"{name} is no URL; write http://host:9090/api/v1/write") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(f"{name} is no http or https URL; write http://host:9090/api/v1/write")
        if parts.username is not None or parts.password is not None:
            raise SettingsError(f"{name} holds a user or password; put them into basic_auth")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, parts.hostname, port, path)

    def url(self, address: str) -> str:
        """The URL with the host's address in its place."""
        inside = f"[{address}]" if ":" in address else address
        return f"{self.scheme}://{inside}:{self.port}{self.path}"

    @property
    def host_header(self) -> str:
        """What the receiver is to see as Host."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        default = self.port == (443 if self.scheme == "https" else 80)
        return name if default else f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said; `excerpt` is the beginning of the body."""

    status: int
    retry_after: str
    excerpt: str


class Receiver:
    """Posts to one target. Its name is resolved once and checked; again only after no address answers."""

    def __init__(self, target: Target, settings: Writer) -> None:
        self.target = target
        self.settings = settings
        self._addresses: list[str] = []
        self._client: httpx.AsyncClient | None = None

    async def post(self, body: bytes, headers: dict[str, str]) -> Answer:
        """The answer. Raises httpx.HTTPError, OSError or TimeoutError when there is none in time."""
        async with asyncio.timeout(self.settings.timeout):
            if self._client is None:
                self._client = await asyncio.to_thread(self._new_client)
            if not self._addresses:
                self._addresses = await _resolve(self.target)
            ours = {
                **headers,
                "Host": self.target.host_header,
                **await asyncio.to_thread(self._secret_headers),
            }
            try:
                return await self._exchange(self._client, body, ours)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._addresses = self._addresses[1:]
                raise

    async def _exchange(self, client: httpx.AsyncClient, body: bytes, headers: dict[str, str]) -> Answer:
        url, tls_name = self.target.url(self._addresses[0]), {"sni_hostname": self.target.host}
        async with client.stream("POST", url, content=body, headers=headers, extensions=tls_name) as response:
            excerpt = bytearray()
            async for part in response.aiter_bytes(EXCERPT_BYTES):
                excerpt += part
                if len(excerpt) >= EXCERPT_BYTES:
                    break
            text = bytes(excerpt[:EXCERPT_BYTES]).decode("utf-8", "replace").strip()
            return Answer(response.status_code, response.headers.get("retry-after", ""), text)

    async def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            await self._client.aclose()

    def _new_client(self) -> httpx.AsyncClient:
        verify = _ssl_context(self.settings.tls) if self.target.scheme == "https" else False
        return httpx.AsyncClient(
            verify=verify, follow_redirects=False, trust_env=False, timeout=self.settings.timeout
        )

    def _secret_headers(self) -> dict[str, str]:
        """Read anew for each request: files of tokens are rotated."""
        settings = self.settings
        found = {name: value.get_secret_value() for name, value in settings.headers.items()}
        if settings.basic_auth is not None:
            basic = settings.basic_auth
            password = basic.password.get_secret_value() if basic.password else ""
            if basic.password_file is not None:
                password = basic.password_file.expanduser().read_text("utf-8").strip()
            pair = base64.b64encode(f"{basic.username}:{password}".encode()).decode()
            found["Authorization"] = f"Basic {pair}"
        token = settings.bearer_token.get_secret_value() if settings.bearer_token else None
        if settings.bearer_token_file is not None:
            token = settings.bearer_token_file.expanduser().read_text("utf-8").strip()
        if token is not None:
            found["Authorization"] = f"Bearer {token}"
        return found


async def _resolve(target: Target) -> list[str]:
    try:
        addresses = [str(ipaddress.ip_address(target.host))]
    except ValueError:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        refuse_unsafe(target.host, address)
    return addresses


def _ssl_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.ca_file.expanduser()) if tls.ca_file else None)
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file is not None:
        key = str(tls.key_file.expanduser()) if tls.key_file else None
        context.load_cert_chain(str(tls.cert_file.expanduser()), key)
    return context
