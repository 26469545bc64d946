"""The body of `trimtab backtest`: a recording from disk, and a report with pictures of what was told."""

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
"""Alarms and events that a report lists."""


def default_report_folder(source: Path) -> Path:
    """Beside the input.

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
    """Read a recording, backtest it, write `report.md` and `series.png` into a folder.

    folder : None = `default_folder(source)`
    Raises InputError for what cannot be read or written, UnknownModelError for a detector.
    """
    interval_s = positive_duration_s(interval, "--interval")
    parse_detectors(detectors)
    sheet = read_table(source)
    frame = sheet.table.to_pandas()
    recording = read_frame(frame, interval_s, sheet.name, sheet.locate_row)
    known = None if labels is None else read_table(labels)
    if recording.warning and console is not None:
        console.print(f"warning: {recording.warning}", style="yellow", markup=False, soft_wrap=True)
    told = backtest_recording(
        frame, recording, None if known is None else known.table.to_pandas(), interval_s,
        detectors=detectors, false_alarms_per_week=false_alarms_per_week,
        locate_row=None if known is None else known.locate_row,
    )  # fmt: skip
    place = folder or default_report_folder(source)
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / REPORT_FILE).write_text(render_report(told, source.name), "utf-8")
        plot(told.scored).savefig(place / PLOT_FILE, dpi=100)
    except OSError as error:
        raise InputError(f"{place}: cannot be written: {error.strerror}; give another folder by -o") from None
    if console is not None:
        console.print(
            f"{summary_line(told)}; see {place / REPORT_FILE}", markup=False, highlight=False, soft_wrap=True
        )
    return told


def summary_line(told: Backtest) -> str:
    """One line."""
    words = [f"{told.series} series, {told.weeks:.2g} weeks of series: {len(told.alarms)} alarms"]
    if told.labelled:
        words.append(f"{len(told.found)} of {len(told.events)} events found")
        words.append(f"{told.false_alarms_per_week:.2g} false alarms a series and week")
    return ", ".join(words)


def render_report(told: Backtest, name: str) -> str:
    """The report, Markdown."""
    parts = [f"# Backtest of {_cell(name)}", _table(("figure", "value"), _figures(told))]
    parts.append(f"![The series with the highest scores]({PLOT_FILE})")
    if told.events:
        rows = [
            (event.series or "any", _time(event.start), _time(event.end), _delay(event.delay_s))
            for event in told.events[:MAX_ROWS]
        ]
        parts += ["## Events", _table(("series", "start", "end", "found after"), rows)]
    parts += ["## Alarms", _alarms(told)]
    return "\n\n".join(parts) + "\n"


def _figures(told: Backtest) -> list[tuple[str, str]]:
    rows = [
        ("series", str(told.series)),
        ("weeks that were scored, of all series together", f"{told.weeks:.3g}"),
        ("alarms", str(len(told.alarms))),
        ("samples within the expected band", _share(told.coverage)),
    ]
    if not told.labelled:
        rows.append(("alarms a series and week", _number(told.false_alarms_per_week)))
        return rows
    delay = told.median_delay_s
    return [
        *rows,
        ("events found", f"{len(told.found)} of {len(told.events)}"),
        ("median delay", _delay(delay) if math.isfinite(delay) else "unknown"),
        ("false alarms a series and week", _number(told.false_alarms_per_week)),
    ]


def _alarms(told: Backtest) -> str:
    if not told.alarms:
        return "None."
    head: tuple[str, ...] = ("series", "start", "end", "highest score")
    rows: list[tuple[str, ...]] = [
        (alarm.series, _time(alarm.start), _time(alarm.end), f"{alarm.score:.2f}") for alarm in told.alarms
    ]
    if told.labelled:
        head = (*head, "tells of")
        rows = [
            (*row, "nothing" if alarm.event is None else f"event {alarm.event + 1}")
            for row, alarm in zip(rows, told.alarms, strict=True)
        ]
    more = len(rows) - MAX_ROWS
    return _table(head, rows[:MAX_ROWS]) + (f"\n\n{more} more are not listed." if more > 0 else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(one) for one in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Names are anybody's: nothing in them is markup."""
    plain = "".join(f"\\{one}" if one in r"\`*_{}[]<>#|!" else one for one in text)
    return " ".join(plain.split())


def _time(ns: int) -> str:
    return pd.Timestamp(ns, tz="UTC").isoformat()


def _delay(delay_s: float | None) -> str:
    return "missed" if delay_s is None else f"{delay_s:g} s"


def _share(ratio: float) -> str:
    return f"{ratio:.1%}" if math.isfinite(ratio) else "unknown"


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "unknown"
