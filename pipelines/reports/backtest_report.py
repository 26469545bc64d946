"""Implementation of `trimtab backtest`: backtest a file and write a Markdown report with a plot."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from trimtab.pipelines.backtest import Backtest, backtest_recording
from trimtab.pipelines.errors import InputError
from trimtab.pipelines.io.durations import positive_duration_s
from trimtab.pipelines.io.recording import read_frame
from trimtab.pipelines.io.tables import read_table
from trimtab.pipelines.reports.score_plot import plot
from trimtab.pipelines.scoring.score import parse_detectors

if TYPE_CHECKING:
    from rich.console import Console

REPORT_FILE, PLOT_FILE = "report.md", "series.png"
MAX_ROWS = 500
"""Alarms and events listed in a report."""


def default_report_folder(source: Path) -> Path:
    """Return the report folder next to the input.

    >>> str(default_report_folder(Path("a/cpu.csv.gz")))
    'a/cpu.backtest'
    """
    return source.with_name(f"{Path(source.name.removesuffix('.gz')).stem}.backtest")


def backtest_file(
    source: Path,
    folder: Path | None = None,
    *,
    labels: Path | None = None,
    detectors: tuple[str, ...] = ("default",),
    false_alarms_per_week: float = 1.0,
    interval: str | float = "1m",
    console: "Console | None" = None,
) -> Backtest:
    """Read a recording, backtest it, and write `report.md` and `series.png` into a folder.

    folder  : None = `default_report_folder(source)`
    labels  : file of events with columns start, end and optionally unique_id; None = the recording's own
              label column
    console : receives warnings and a summary; None = silent

    Raises InputError if a file cannot be read or written, UnknownModelError for an unknown detector.
    """
    interval_s = positive_duration_s(interval, "--interval")
    parse_detectors(detectors)
    sheet = read_table(source)
    frame = sheet.table.to_pandas()
    recording = read_frame(frame, interval_s, sheet.name, sheet.locate_row)
    label_file = None if labels is None else read_table(labels)
    if recording.warning and console is not None:
        console.print(f"warning: {recording.warning}", style="yellow", markup=False, soft_wrap=True)
    result = backtest_recording(
        frame, recording, None if label_file is None else label_file.table.to_pandas(), interval_s,
        detectors=detectors, false_alarms_per_week=false_alarms_per_week,
        locate_row=None if label_file is None else label_file.locate_row,
    )  # fmt: skip
    report_folder = folder or default_report_folder(source)
    try:
        report_folder.mkdir(parents=True, exist_ok=True)
        (report_folder / REPORT_FILE).write_text(render_report(result, source.name), "utf-8")
        plot(result.scored).savefig(report_folder / PLOT_FILE, dpi=100)
    except OSError as error:
        raise InputError(
            f"{report_folder}: cannot be written: {error.strerror}; choose another folder with -o"
        ) from None
    if console is not None:
        console.print(
            f"{summary_line(result)}; see {report_folder / REPORT_FILE}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    return result


def summary_line(result: Backtest) -> str:
    """Return a one-line summary of a backtest."""
    pieces = [f"{result.series} series, {result.weeks:.2g} weeks of series: {len(result.alarms)} alarms"]
    if result.labelled:
        pieces.append(f"{len(result.found)} of {len(result.events)} events found")
        pieces.append(f"{result.false_alarms_per_week:.2g} false alarms per series and week")
    return ", ".join(pieces)


def render_report(result: Backtest, name: str) -> str:
    """Return the report as Markdown."""
    parts = [f"# Backtest of {_escape_cell(name)}", _table(("metric", "value"), _metric_rows(result))]
    parts.append(f"![The series with the highest scores]({PLOT_FILE})")
    if result.events:
        rows = [
            (
                event.series or "any",
                _format_time(event.start),
                _format_time(event.end),
                _format_delay(event.delay_s),
            )
            for event in result.events[:MAX_ROWS]
        ]
        parts += ["## Events", _table(("series", "start", "end", "found after"), rows)]
    parts += ["## Alarms", _alarm_table(result)]
    return "\n\n".join(parts) + "\n"


def _metric_rows(result: Backtest) -> list[tuple[str, str]]:
    rows = [
        ("series", str(result.series)),
        ("scored weeks, summed over all series", f"{result.weeks:.3g}"),
        ("alarms", str(len(result.alarms))),
        ("samples within the expected band", _format_share(result.coverage)),
    ]
    if not result.labelled:
        rows.append(("alarms per series and week", _format_number(result.false_alarms_per_week)))
        return rows
    delay = result.median_delay_s
    return [
        *rows,
        ("events found", f"{len(result.found)} of {len(result.events)}"),
        ("median delay", _format_delay(delay) if math.isfinite(delay) else "unknown"),
        ("false alarms per series and week", _format_number(result.false_alarms_per_week)),
    ]


def _alarm_table(result: Backtest) -> str:
    if not result.alarms:
        return "None."
    head: tuple[str, ...] = ("series", "start", "end", "highest score")
    rows: list[tuple[str, ...]] = [
        (alarm.series, _format_time(alarm.start), _format_time(alarm.end), f"{alarm.score:.2f}")
        for alarm in result.alarms
    ]
    if result.labelled:
        head = (*head, "event")
        rows = [
            (*row, "none" if alarm.event is None else f"event {alarm.event + 1}")
            for row, alarm in zip(rows, result.alarms, strict=True)
        ]
    more = len(rows) - MAX_ROWS
    return _table(head, rows[:MAX_ROWS]) + (f"\n\n{more} more are not listed." if more > 0 else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_escape_cell(one) for one in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape_cell(text: str) -> str:
    """Escape Markdown: series names are untrusted."""
    plain = "".join(f"\\{one}" if one in r"\`*_{}[]<>#|!" else one for one in text)
    return " ".join(plain.split())


def _format_time(ns: int) -> str:
    return pd.Timestamp(ns, tz="UTC").isoformat()


def _format_delay(delay_s: float | None) -> str:
    return "missed" if delay_s is None else f"{delay_s:g} s"


def _format_share(ratio: float) -> str:
    return f"{ratio:.1%}" if math.isfinite(ratio) else "unknown"


def _format_number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "unknown"
