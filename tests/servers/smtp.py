"""A small SMTP server with TLS and login whose replies can be replaced."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class SmtpServer:
    """Received mails and the replies to commands.

    context           : TLS context for STARTTLS, or for implicit TLS
    uses_implicit_tls : the connection is encrypted from the first byte
    login             : accepted user and password; None = no login is offered
    replies           : first word of a command ("" = the greeting) -> reply instead of the default;
                        None = never reply
    drips_greeting    : send the greeting byte by byte, without end
    """

    context: ssl.SSLContext | None = None
    uses_implicit_tls: bool = False
    login: tuple[str, str] | None = None
    replies: dict[str, str | None] = field(default_factory=dict)
    drips_greeting: bool = False
    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """Every received command line."""
    encrypted: bool = False

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run one session."""
        self.encrypted = self.uses_implicit_tls
        if self.drips_greeting:
            while True:
                writer.write(b"2")
                await asyncio.sleep(0.01)
        await self._reply(writer, "", "220 test")
        sender, to = "", []
        while line := (await reader.readline()).decode().rstrip("\r\n"):
            self.lines.append(line)
            command = line.split(" ")[0].split(":")[0].upper()
            match command:
                case "EHLO":
                    await self._reply(writer, command, self._extensions())
                case "STARTTLS":
                    await self._reply(writer, command, "220 go")
                    if self.context is None:
                        return
                    await writer.start_tls(self.context)
                    self.encrypted = True
                case "AUTH":
                    await self._reply(writer, command, self._login_reply(line))
                case "MAIL":
                    sender, to = line.split("<")[1].split(">")[0], []
                    await self._reply(writer, command, "250 ok")
                case "RCPT":
                    to.append(line.split("<")[1].split(">")[0])
                    await self._reply(writer, command, "250 ok")
                case "DATA":
                    await self._reply(writer, command, "354 go")
                    body = await reader.readuntil(b"\r\n.\r\n")
                    if await self._reply(writer, ".", "250 taken") == "250 taken":
                        self.envelopes.append((sender, to))
                        self.mails.append(message_from_bytes(body[:-3], policy=policy.default))
                case _:
                    await self._reply(writer, command, "250 ok")

    async def _reply(self, writer: asyncio.StreamWriter, command: str, default: str) -> str:
        answer = self.replies.get(command, default)
        if answer is None:
            await asyncio.Event().wait()
            return ""
        writer.write(answer.encode() + b"\r\n")
        await writer.drain()
        return answer

    def _extensions(self) -> str:
        offers = ["test"]
        if self.context is not None and not self.encrypted:
            offers.append("STARTTLS")
        if self.login is not None:
            offers.append("AUTH PLAIN")
        return "\r\n".join([*(f"250-{extension}" for extension in offers[:-1]), f"250 {offers[-1]}"])

    def _login_reply(self, line: str) -> str:
        _, user, password = base64.b64decode(line.split(" ")[2]).decode().split("\0")
        return "235 in" if (user, password) == self.login else f"535 no: {line.split(' ')[2]} {password}"


@contextlib.asynccontextmanager
async def start_smtp_server(**settings) -> AsyncIterator[SmtpServer]:
    """Yield an SMTP server on loopback."""
    smtp_server, tasks = SmtpServer(**settings), set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await smtp_server.handle(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            return
        finally:
            writer.close()

    first = smtp_server.context if smtp_server.uses_implicit_tls else None
    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=first)
    smtp_server.port = server.sockets[0].getsockname()[1]
    try:
        yield smtp_server
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
