"""HTTP to one configured receiver: its address pinned, no redirects, nothing from the environment."""

import asyncio
from dataclasses import dataclass

import httpx

from trimtab.engine.addresses import Pinned, Target
from trimtab.engine.credentials import Credentials
from trimtab.engine.settings import Writer
from trimtab.engine.tls import tls_context

EXCERPT_BYTES = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said; `excerpt` is the beginning of the body."""

    status: int
    retry_after: str
    excerpt: str


class Receiver:
    """Posts to one target, by an address that was checked."""

    def __init__(self, target: Target, settings: Writer) -> None:
        self.target = target
        self.settings = settings
        self._pinned = Pinned(target.host, target.port)
        self._credentials = Credentials(settings, "writer")
        self._client: httpx.AsyncClient | None = None

    async def post(self, body: bytes, headers: dict[str, str]) -> Answer:
        """The answer. Raises httpx.HTTPError, OSError or TimeoutError when there is none in time.

        Raises RefusedAddressError where the name leads to an address that nothing is sent to.
        """
        async with asyncio.timeout(self.settings.timeout):
            if self._client is None:
                self._client = await asyncio.to_thread(self._new_client)
            address = await self._pinned.found()
            secret = await asyncio.to_thread(self._credentials.headers)
            ours = {**headers, **secret, "Host": self.target.host_header}
            try:
                return await self._exchange(self._client, address, body, ours)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._pinned.failed(address)
                raise

    async def _exchange(
        self, client: httpx.AsyncClient, address: str, body: bytes, headers: dict[str, str]
    ) -> Answer:
        url, tls_name = self.target.url(address), {"sni_hostname": self.target.host}
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
        https = self.target.scheme == "https"
        verify = tls_context(self.settings.tls, "writer.tls") if https else False
        return httpx.AsyncClient(
            verify=verify, follow_redirects=False, trust_env=False, timeout=self.settings.timeout
        )
