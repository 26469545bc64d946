"""Real servers for tests, started on free loopback ports in a directory of the test.

>>> with start_prometheus(tmp_path, {"node": [exporter.address]}) as server:      # doctest: +SKIP
...     httpx.get(server.url + "/api/v1/query", params={"query": "up"})
"""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

PASSWORD = "test-password"
PASSWORD_BCRYPT = "$2b$04$abcdefghijklmnopqrstuuobFaEJANklW4I6zZpcLRbXjrME4Qa2m"


def find_binary(name: str) -> str:
    """Return the path of a program; skip when it is not installed."""
    path = shutil.which(name)
    if path is None:
        package = "prometheus" if name == "promtool" else name
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ServerProcess:
    """A child process that listens on loopback.

    argv     : command line; `start` after `stop` uses the same port again
    is_ready : called until it returns true
    """

    argv: list[str]
    port: int
    log: Path
    is_ready: Callable[[], bool]
    scheme: str = "http"
    prefix: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port, as a scrape target."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Base URL without trailing slash."""
        return f"{self.scheme}://{self.address}{self.prefix}"

    @property
    def pid(self) -> int:
        """Process id of the running child."""
        assert self.process is not None, "it is not started"
        return self.process.pid

    def start(self, timeout_s: float = 30.0) -> None:
        """Start the process and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for(self.is_ready, timeout_s, self)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop the process, by force if necessary, and wait until it has ended."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def wait_for(condition: Callable[[], bool], timeout_s: float, server: ServerProcess | None = None) -> None:
    """Wait until the condition holds; fail at the timeout, or as soon as the server has ended."""
    end = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        if server is not None and server.process is not None and server.process.poll() is not None:
            raise AssertionError(f"{server.argv[0]} ended with {server.process.returncode}:\n{server.tail()}")
        if time.monotonic() > end:
            output = f":\n{server.tail()}" if server is not None else ""
            raise AssertionError(f"the condition does not hold after {timeout_s} s{output}")
        pause.wait(0.05)


def responds_with_200(url: str, **client: Any) -> Callable[[], bool]:
    """Return a check whether a GET of a URL answers 200."""

    def ask() -> bool:
        try:
            return httpx.get(url, timeout=2.0, trust_env=False, **client).status_code == 200
        except httpx.HTTPError:
            return False

    return ask


@dataclass
class PrometheusServer(ServerProcess):
    """A Prometheus whose targets can be changed at run time."""

    targets_file: Path = field(default_factory=Path)

    def set_targets(self, jobs: Mapping[str, Sequence[str]]) -> None:
        """Scrape these addresses, by job; Prometheus applies the change within about 5 s."""
        groups = [{"targets": list(to), "labels": {"job": job}} for job, to in jobs.items()]
        fresh = self.targets_file.with_suffix(".new")
        fresh.write_text(json.dumps(groups))
        fresh.replace(self.targets_file)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the result of an instant query on a server without authentication."""
        answer = httpx.post(f"{self.url}/api/v1/query", data={"query": expr}, timeout=10, trust_env=False)
        answer.raise_for_status()
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result


@contextmanager
def start_prometheus(
    directory: Path,
    targets: Mapping[str, Sequence[str]] | None = None,
    scrape_interval: str = "1s",
    flags: Sequence[str] = (),
    *,
    remote_write: bool = False,
    prefix: str = "",
    web_config: Path | None = None,
    client: Mapping[str, Any] | None = None,
    config: str = "",
) -> Iterator[PrometheusServer]:
    """Start a Prometheus that keeps its data in directory/data (see `backfill`).

    targets    : job -> addresses; `set_targets` changes them
    prefix     : path prefix such as /monitoring/prom
    web_config : TLS and users of the server; `client` then has the arguments of httpx (verify, auth, cert)
    config     : additional YAML of the configuration file, such as rule_files
    """
    port = free_port()
    directory.mkdir(parents=True, exist_ok=True)
    targets_file = directory / "targets.json"
    configuration = directory / "prometheus.yml"
    configuration.write_text(
        f"global: {{scrape_interval: {scrape_interval}, evaluation_interval: {scrape_interval}}}\n"
        f"scrape_configs:\n- job_name: files\n  file_sd_configs: [{{files: ['{targets_file}']}}]\n{config}\n"
    )
    argv = [
        find_binary("prometheus"), f"--config.file={configuration}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=90d", "--log.level=warn",
    ]  # fmt: skip
    if remote_write:
        argv.append("--web.enable-remote-write-receiver")
    if prefix:
        argv += [f"--web.external-url=http://127.0.0.1:{port}{prefix}", f"--web.route-prefix={prefix}"]
    if web_config is not None:
        argv.append(f"--web.config.file={web_config}")
    scheme = "https" if web_config is not None and "tls_server_config" in web_config.read_text() else "http"
    ready = responds_with_200(f"{scheme}://127.0.0.1:{port}{prefix}/-/ready", **(client or {}))
    server = PrometheusServer(
        argv=[*argv, *flags], port=port, log=directory / "prometheus.log", is_ready=ready,
        scheme=scheme, prefix=prefix, targets_file=targets_file,
    )  # fmt: skip
    server.set_targets(targets or {})
    with running_server(server):
        yield server


@contextmanager
def start_node_exporter(directory: Path, flags: Sequence[str] = ()) -> Iterator[ServerProcess]:
    """Start a node exporter; it also exposes directory/textfile/*.prom."""
    port = free_port()
    textfile = directory / "textfile"
    textfile.mkdir(parents=True, exist_ok=True)
    argv = [
        find_binary("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{port}",
        f"--collector.textfile.directory={textfile}", "--log.level=warn", *flags,
    ]  # fmt: skip
    ready = responds_with_200(f"http://127.0.0.1:{port}/metrics")
    server = ServerProcess(argv, port, directory / "node-exporter.log", ready)
    with running_server(server):
        yield server


@contextmanager
def running_server(server: ServerProcess) -> Iterator[ServerProcess]:
    """Start a server, and stop it in any case."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


def backfill(directory: Path, openmetrics: str | Path) -> None:
    """Write recorded samples to directory/data, before a Prometheus starts there.

    openmetrics : text or file in OpenMetrics format, each sample with its time in seconds, ending in `# EOF`
    """
    directory.mkdir(parents=True, exist_ok=True)
    source = openmetrics if isinstance(openmetrics, Path) else directory / "backfill.om"
    if not isinstance(openmetrics, Path):
        source.write_text(openmetrics)
    long_blocks = "--max-block-duration=400h"  # promtool reads the whole file again for every block
    argv = [find_binary("promtool"), "tsdb", "create-blocks-from", "openmetrics", long_blocks, "-q"]
    done = subprocess.run(
        [*argv, source, directory / "data"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr or done.stdout


class Exporter:
    """Scrape target in this process that exposes `text`; None = it answers 500."""

    def __init__(self, text: str | None = "") -> None:
        self.text = text
        self.port = 0

    @property
    def address(self) -> str:
        """host:port, as a scrape target."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def start_exporter(text: str | Callable[[], str] = "") -> Iterator[Exporter]:
    """Serve metrics text; a function is called at each scrape until `exporter.text` is set."""
    exporter = Exporter(None if callable(text) else text)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body_text = text() if callable(text) and exporter.text is None else exporter.text
            body = (body_text or "").encode()
            self.send_response(500 if body_text is None else 200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # the client may give up on a busy machine
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        exporter.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield exporter
        finally:
            server.shutdown()
            thread.join(5)


@dataclass(frozen=True)
class Certificates:
    """PEM files of a CA, a server certificate for 127.0.0.1 and localhost, and a client certificate."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path

    def web_config(self, directory: Path, user: str = "", *, mutual: bool = False) -> Path:
        """Write a Prometheus web configuration: TLS, login of `user` with PASSWORD, client certificates."""
        lines = ["tls_server_config:", f"  cert_file: {self.server_cert}", f"  key_file: {self.server_key}"]
        if mutual:
            lines += ["  client_auth_type: RequireAndVerifyClientCert", f"  client_ca_file: {self.ca}"]
        if user:
            lines += ["basic_auth_users:", f"  {user}: {PASSWORD_BCRYPT}"]
        path = directory / "web.yml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def context(self, *, client: bool = False) -> ssl.SSLContext:
        """Return a client context that trusts the server; client=True adds the client certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if client:
            context.load_cert_chain(str(self.client_cert), str(self.client_key))
        return context


def make_certificates(directory: Path) -> Certificates:
    """Create the certificates with openssl, valid for a day."""
    directory.mkdir(parents=True, exist_ok=True)
    _openssl(directory, "req", "-x509", *_key("ca"), "-out", "ca.pem", "-subj", "/CN=test ca", "-days", "1")
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        extensions = directory / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={usage}\nbasicConstraints=CA:FALSE\n"
        )
        _openssl(directory, "req", "-new", *_key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        _openssl(
            directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", f"{name}.pem", "-days", "1", "-extfile", extensions.name,
        )  # fmt: skip
    files = (directory / n for n in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key"))
    return Certificates(*files)


def _key(name: str) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]


def _openssl(directory: Path, *arguments: str) -> None:
    done = subprocess.run(
        [find_binary("openssl"), *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
