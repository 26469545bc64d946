"""Options shared by several commands, and their conversion to settings."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.engine.cli.output import OutputFormat

DEFAULT_CONFIG = Path("trimtab.yaml")

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings file. Default: trimtab.yaml in this folder, if any."
    ),
]
DataDir = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Data folder.")]
PrometheusUrl = Annotated[
    str | None, typer.Option("--prometheus", metavar="URL", help="URL of a Prometheus to watch.")
]
Host = Annotated[
    str | None, typer.Option("--host", metavar="H", help="Address that API and dashboard listen on.")
]
Port = Annotated[
    int | None, typer.Option("--port", metavar="P", help="Port of API and dashboard. Default: 8600.")
]
Format = Annotated[OutputFormat, typer.Option("-f", "--format", help="Output format.")]

Recording = Annotated[
    Path, typer.Argument(metavar="INPUT", help="CSV or Parquet file, long or wide; .gz too.")
]
OutputFile = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="OUT", help="Output file. Default: next to INPUT. - = stdout."),
]
Detectors = Annotated[
    list[str] | None,
    typer.Option("--detector", metavar="NAME", help="Detector from the catalogue; repeatable."),
]
FalseAlarms = Annotated[
    float, typer.Option(metavar="F", min=0.001, max=1000, help="False alarms per series and week.")
]
RowInterval = Annotated[str, typer.Option(metavar="D", help="Duration of a row, if times are row numbers.")]


def find_config_file(given: Path | None) -> Path | None:
    """Return the named settings file, else trimtab.yaml of the current folder if it exists, else None."""
    return given if given is not None or not DEFAULT_CONFIG.is_file() else DEFAULT_CONFIG


def settings_overrides(
    data: Path | None, prometheus: str | None = None, host: str | None = None, port: int | None = None
) -> dict[str, object]:
    """Return the settings given on the command line, by dotted name; None = not given."""
    return {
        "settings.data_dir": None if data is None else str(data.absolute()),
        "sources.prometheus.url": prometheus,
        "api.host": host,
        "api.port": port,
    }
