"""`trimtab backtest`: runs the live scorer over a recording."""

import math
from pathlib import Path
from typing import Annotated

import typer

from trimtab.engine.cli.command_errors import EXIT_FOUND, EXIT_OK
from trimtab.engine.cli.options import Detectors, FalseAlarms, Recording, RowInterval


def backtest(
    source: Recording,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="F", help="Table of events: start, end, unique_id. Default: the label column of INPUT."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Folder of the report. Default: next to INPUT."),
    ] = None,
    detector: Detectors = None,
    false_alarms_per_week: FalseAlarms = 1.0,
    least_found: Annotated[
        float, typer.Option(metavar="R", min=0, max=1, help="Least share of events to find.")
    ] = 0.5,
    interval: RowInterval = "1m",
) -> None:
    """Run the live scorer and alarms over a recording; report alarms, delays and coverage.

    Exit code 1 = with labels, fewer events were found than --least-found, or there were more false alarms per
    series and week than --false-alarms-per-week.
    """
    from rich.console import Console

    from trimtab.engine.platform.kernel_warmup import prepare_default_environment

    prepare_default_environment()  # before numba is imported

    from trimtab.pipelines.reports.backtest_report import backtest_file

    report = backtest_file(
        source, output, labels=labels, detectors=tuple(detector or ("default",)),
        false_alarms_per_week=false_alarms_per_week, interval=interval, console=Console(stderr=True),
    )  # fmt: skip
    found_ratio, false_alarms = report.found_ratio, report.false_alarms_per_week
    has_missed_events = math.isfinite(found_ratio) and found_ratio < least_found
    has_false_alarms = math.isfinite(false_alarms) and false_alarms > false_alarms_per_week
    raise typer.Exit(EXIT_FOUND if report.labelled and (has_missed_events or has_false_alarms) else EXIT_OK)
