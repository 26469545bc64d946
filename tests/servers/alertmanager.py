"""A real Alertmanager on a free loopback port."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.prometheus import ServerProcess, find_binary, free_port, responds_with_200, running_server

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
def start_alertmanager(directory: Path, webhook_url: str) -> Iterator[ServerProcess]:
    """Start an Alertmanager that forwards to this webhook immediately, and hourly while an alert fires."""
    directory.mkdir(parents=True, exist_ok=True)
    configuration = directory / "alertmanager.yml"
    configuration.write_text(CONFIGURATION.format(url=webhook_url))
    port = free_port()
    argv = [
        find_binary("prometheus-alertmanager"), f"--config.file={configuration}",
        f"--storage.path={directory / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=", "--log.level=warn",
    ]  # fmt: skip
    ready = responds_with_200(f"http://127.0.0.1:{port}/-/ready")
    with running_server(ServerProcess(argv, port, directory / "alertmanager.log", ready)) as server:
        yield server
