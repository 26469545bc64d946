"""Options that several commands of `trimtab` take, and how they become settings."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.engine.cli.output import OutputFormat

DEFAULT_CONFIG = Path("trimtab.yaml")

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings. Default: trimtab.yaml of this folder, if any."),
]
DataDir = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder where all is kept.")]
PrometheusUrl = Annotated[
    str | None, typer.Option("--prometheus", metavar="URL", help="A Prometheus to watch.")
]
Host = Annotated[str | None, typer.Option("--host", metavar="H", help="Address of API and dashboard.")]
Port = Annotated[int | None, typer.Option("--port", metavar="P", help="Their port. Default: 8600.")]
Format = Annotated[OutputFormat, typer.Option("-f", "--format", help="How to show it.")]

Recording = Annotated[Path, typer.Argument(metavar="INPUT", help="CSV or Parquet, long or wide; .gz too.")]
OutputFile = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="OUT", help="Default: beside INPUT. - = stdout.")
]
Detectors = Annotated[
    list[str] | None, typer.Option("--detector", metavar="NAME", help="From the catalogue; may be repeated.")
]
FalseAlarms = Annotated[
    float, typer.Option(metavar="F", min=0.001, max=1000, help="Anomalies that a healthy series may show.")
]
RowInterval = Annotated[
    str, typer.Option(metavar="D", help="How long a row is, where times are row numbers.")
]


def find_config_file(given: Path | None) -> Path | None:
    """The settings file: the one that was named, else trimtab.yaml of this folder, else none."""
    return given if given is not None or not DEFAULT_CONFIG.is_file() else DEFAULT_CONFIG


def settings_overrides(
    data: Path | None, prometheus: str | None = None, host: str | None = None, port: int | None = None
) -> dict[str, object]:
    """What the command line sets, by dotted name; None = it does not."""
    return {
        "settings.data_dir": None if data is None else str(data.absolute()),
        "sources.prometheus.url": prometheus,
        "api.host": host,
        "api.port": port,
    }
