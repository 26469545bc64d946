"""A real PostgreSQL for tests, on a free loopback port in a temporary directory."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.prometheus import ServerProcess, free_port, running_server

_INSTALL_ROOT = "/usr/lib/postgresql"
_AS_POSTGRES = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def postgresql_binary(name: str) -> str:
    """Return the path of a server program of the newest version; skip when it is not installed."""
    versions = sorted(Path(_INSTALL_ROOT).glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    path = str(versions[-1]) if versions else shutil.which(name)
    if path is None:
        pytest.skip(f"{name} of PostgreSQL is not installed: apt-get install postgresql")
    return path


@contextmanager
def start_postgresql() -> Iterator[str]:
    """Start PostgreSQL and return the URL of its database `postgres`.

    PostgreSQL refuses to run as root; as root this starts it as the user postgres of its package.
    """
    initdb, postgres, ready = (postgresql_binary(name) for name in ("initdb", "postgres", "pg_isready"))
    as_user = _AS_POSTGRES if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="trimtab-postgresql-"))
    try:
        if as_user:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        completed = subprocess.run(
            [*as_user, initdb, "-D", folder / "data", "-U", "tester", "-A", "trust", "-E", "UTF8", "-N",
             "--locale=C.UTF-8"],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert completed.returncode == 0, completed.stderr
        port = free_port()
        argv = [
            *as_user, postgres, "-D", str(folder / "data"), "-p", str(port),
            "-c", "listen_addresses=127.0.0.1", "-k", str(folder), "-F",
            "-c", "shared_buffers=16MB", "-c", "max_connections=40",
        ]  # fmt: skip
        ready_command = [ready, "-h", "127.0.0.1", "-p", str(port), "-q"]
        server = ServerProcess(
            argv, port, folder / "log", lambda: subprocess.run(ready_command, check=False).returncode == 0
        )
        with running_server(server):
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
            # A fast shutdown: sessions left open by a failed test do not delay it.
            server.stop(signal.SIGINT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
