"""Implementation of `trimtab score`: read a recording, score it, write it to a file or to stdout."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trimtab.pipelines.io.durations import positive_duration_s
from trimtab.pipelines.io.recording import RESULT_COLUMNS, read_frame
from trimtab.pipelines.io.tables import (
    append_columns,
    check_output,
    read_table,
    sibling_path,
    write_csv,
    write_table,
)
from trimtab.pipelines.scoring.score import ProgressCallback, parse_detectors, score_recording

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class ScoreSummary:
    """Counts of a scored recording.

    rows      : rows of the table
    series    : scored series
    anomalous : rows with an anomaly_score above 1
    output    : written file; None = stdout
    """

    rows: int
    series: int
    anomalous: int
    output: Path | None


def score_file(
    source: Path,
    output: Path | None = None,
    *,
    detectors: tuple[str, ...] = ("default",),
    false_alarms_per_week: float = 1.0,
    interval: str | float = "1m",
    console: "Console | None" = None,
) -> ScoreSummary:
    """Read a recording, score it, and write its rows with the columns of `trimtab.score` added.

    output  : CSV or Parquet by its suffix, also .gz; None = `sibling_path(source, "scored")`; "-" = CSV to
              stdout
    console : receives progress, warnings and a summary (stderr); None = silent

    Raises InputError if a file cannot be read or written, UnknownModelError for an unknown detector.
    """
    interval_s = positive_duration_s(interval, "--interval")
    parse_detectors(detectors)
    to_stdout = output is not None and str(output) == "-"
    target = output or sibling_path(source, "scored")
    sheet = read_table(source)
    if not to_stdout:
        check_output(target, source)
    recording = read_frame(sheet.table.to_pandas(), interval_s, sheet.name, sheet.locate_row)
    if recording.warning and console is not None:
        console.print(
            f"warning: {recording.warning}", style="yellow", markup=False, highlight=False, soft_wrap=True
        )
    with _progress(console) as progress:
        columns = score_recording(recording, detectors, false_alarms_per_week, progress)
    table = append_columns(sheet.table, columns)
    if to_stdout:
        write_csv(sys.stdout.buffer, table)
    else:
        write_table(target, table)
    series = sum(len(block.names) for block in recording.blocks)
    anomalous = int(np.count_nonzero(columns[RESULT_COLUMNS[0]] > 1))
    summary = ScoreSummary(recording.n_rows, series, anomalous, None if to_stdout else target)
    if console is not None:
        console.print(_format_summary(summary), markup=False, highlight=False, soft_wrap=True)
    return summary


def _format_summary(summary: ScoreSummary) -> str:
    where = "stdout" if summary.output is None else summary.output
    return (
        f"{summary.rows} rows of {summary.series} series scored, {summary.anomalous} anomalous, "
        f"written to {where}"
    )


@contextmanager
def _progress(console: "Console | None") -> Iterator[ProgressCallback | None]:
    """Yield a callback that draws a progress bar, or prints ten lines if there is no terminal."""
    if console is None:
        yield None
    elif console.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("scoring series"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("score", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        tenths_done = 0

        def line(done: int, total: int) -> None:
            nonlocal tenths_done
            if done * 10 // total > tenths_done:
                tenths_done = done * 10 // total
                console.print(f"{done} of {total} series scored", highlight=False, soft_wrap=True)

        yield line
