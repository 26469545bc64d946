"""A real Redis for tests, on a free loopback port in a directory of the test."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.prometheus import ServerProcess, find_binary, free_port, running_server


@dataclass
class RedisServer(ServerProcess):
    """A Redis server that tests can query without the library under test."""

    password: str = ""

    def cli(self, *arguments: object) -> str:
        """Return the raw reply to one command of the default user."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as wire:
            if self.password:
                _send_command(wire, "AUTH", self.password)
                _read_line(wire)
            _send_command(wire, *arguments)
            return _read_answer(wire)


def _send_command(wire: socket.socket, *arguments: object) -> None:
    parts = [str(argument).encode() for argument in arguments]
    wire.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))


def _read_line(wire: socket.socket) -> str:
    received = b""
    while not received.endswith(b"\r\n"):
        got = wire.recv(1)
        if not got:
            raise ConnectionError("the server hung up")
        received += got
    return received[:-2].decode()


def _read_answer(wire: socket.socket) -> str:
    head = _read_line(wire)
    if head[0] == "*":
        return "\n".join(_read_answer(wire) for _ in range(int(head[1:])))
    if head[0] != "$" or head == "$-1":
        return head
    length, received = int(head[1:]), b""
    while len(received) < length + 2:
        received += wire.recv(length + 2 - len(received))
    return received[:-2].decode()


@contextmanager
def start_redis(
    directory: Path, *flags: str, password: str = "", acl: Sequence[str] = ()
) -> Iterator[RedisServer]:
    """Start a Redis, without snapshots by default.

    flags : command line options, such as "--maxmemory", "10mb"
    acl   : user lines of redis.conf, such as "user limited on >pw ..."
    """
    port = free_port()
    directory.mkdir(parents=True, exist_ok=True)
    configuration = directory / "redis.conf"
    lines = [f"port {port}", "bind 127.0.0.1", f"dir {directory}", 'save ""', "daemonize no"]
    lines += [f"requirepass {password}"] if password else []
    configuration.write_text("\n".join([*lines, *acl]) + "\n")
    argv = [find_binary("redis-server"), str(configuration), *flags]

    def ready() -> bool:
        try:
            return server.cli("PING") == "+PONG"
        except OSError:
            return False

    server = RedisServer(argv, port, directory / "redis.log", ready, scheme="redis", password=password)
    with running_server(server):
        yield server
