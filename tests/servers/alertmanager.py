"""A real Alertmanager for tests: on a free loopback port, in a folder of the test, a child of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.prometheus import Server, answers, binary, free_port, running

CONFIGURATION = """
global: {{resolve_timeout: 5m}}
route:
  {{receiver: test, group_by: [alertname, entity], group_wait: 100ms, group_interval: 500ms,
    repeat_interval: 1h}}
receivers:
- name: test
  webhook_configs: [{{url: '{url}', send_resolved: true}}]
"""


@contextmanager
def start_alertmanager(directory: Path, webhook_url: str) -> Iterator[Server]:
    """It forwards to that webhook at once, and once an hour again what goes on."""
    directory.mkdir(parents=True, exist_ok=True)
    configuration = directory / "alertmanager.yml"
    configuration.write_text(CONFIGURATION.format(url=webhook_url))
    port = free_port()
    argv = [
        binary("prometheus-alertmanager"), f"--config.file={configuration}",
        f"--storage.path={directory / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=", "--log.level=warn",
    ]  # fmt: skip
    ready = answers(f"http://127.0.0.1:{port}/-/ready")
    with running(Server(argv, port, directory / "alertmanager.log", ready)) as server:
        yield server
