"""A real MLflow tracking server for tests: SQLite and artifacts in a folder, on a free loopback port."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import Server, answers, free_port

START_S = 300.0
MLFLOW = Path(sys.executable).with_name("mlflow")


@contextmanager
def start_mlflow(folder: Path) -> Iterator[Server]:
    """`mlflow server`, ready; `stop` and `start` keep what it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    argv = [
        "env", "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", str(MLFLOW), "server",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--serve-artifacts",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", f"{folder}/artifacts",
    ]  # fmt: skip
    server = Server(argv, port, folder / "mlflow.log", answers(f"http://127.0.0.1:{port}/health"))
    server.start(START_S)
    try:
        yield server
    finally:
        server.stop()
