"""An MLflow tracking server for tests: SQLite and artifacts in a folder, on a free loopback port."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.servers.prometheus import ServerProcess, free_port, responds_with_200

START_TIMEOUT_S = 300.0
MLFLOW = Path(sys.executable).with_name("mlflow")


class TrackingServer(ServerProcess):
    """The process of `mlflow server`, which starts a child process that answers."""

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server and its children, by force if necessary."""
        started: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process(self.pid).children(recursive=True) if self.process else []
        super().stop(number)
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait(10)


@contextmanager
def start_mlflow(folder: Path) -> Iterator[TrackingServer]:
    """Start `mlflow server` and yield it when it is ready; `stop` and `start` keep its data."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    argv = [
        "env", "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", str(MLFLOW), "server",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--serve-artifacts",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", f"{folder}/artifacts",
    ]  # fmt: skip
    server = TrackingServer(
        argv, port, folder / "mlflow.log", responds_with_200(f"http://127.0.0.1:{port}/health")
    )
    try:
        server.start(START_TIMEOUT_S)
        yield server
    finally:
        server.stop()
