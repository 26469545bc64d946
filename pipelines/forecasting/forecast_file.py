"""The body of `trimtab forecast`: a recording from disk, its forecast to disk or stdout, how sure it is."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from trimtab.models.forecasting.quantile_levels import check_quantiles
from trimtab.pipelines.errors import InputError
from trimtab.pipelines.forecasting.forecast import Forecasts, forecast_recording
from trimtab.pipelines.forecasting.known_days import parse_days
from trimtab.pipelines.io.durations import positive_duration_s
from trimtab.pipelines.io.recording import read_frame
from trimtab.pipelines.io.stored_forecasts import QUANTILES
from trimtab.pipelines.io.tables import check_output, read_table, sibling_path, write_csv, write_table

if TYPE_CHECKING:
    from rich.console import Console

MAX_LISTED_SERIES = 20
"""Series that are spoken of one by one; of more only the counts are told."""


def parse_quantiles(text: str) -> tuple[float, ...]:
    """Numbers between commas. Raises InputError, or ModelError where they do not rise within 0.05 .. 0.99.

    >>> parse_quantiles("0.05, 0.5")
    (0.05, 0.5)
    """
    try:
        given = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--quantiles: {text!r}; wanted numbers between commas, as 0.05,0.5,0.95") from None
    return check_quantiles(given)


def forecast_file(
    source: Path,
    output: Path | None = None,
    *,
    horizon: str | float = "24h",
    quantiles: Sequence[float] = QUANTILES,
    interval: str | float = "1m",
    events: Iterable[object] = (),
    console: "Console | None" = None,
) -> Forecasts:
    """Read a recording, write unique_id, ds, q0.05 ... of its rows to come.

    events  : holidays and other known days, see `known_days`
    output  : CSV or Parquet by its ending, .gz too; None = `beside(source, "forecast")`; "-" = CSV to stdout
    console : where warnings and how sure each series is go (on stderr); None = nowhere
    Raises InputError for a file that cannot be read or written, ModelError for quantiles.
    """
    horizon_s, interval_s = (
        positive_duration_s(horizon, "--horizon"),
        positive_duration_s(interval, "--interval"),
    )
    check_quantiles(quantiles)
    days = parse_days(events)
    to_stdout = output is not None and str(output) == "-"
    target = output or sibling_path(source, "forecast")
    sheet = read_table(source)
    if not to_stdout:
        check_output(target, source)
    recording = read_frame(sheet.table.to_pandas(), interval_s, sheet.name, sheet.locate_row)
    made = forecast_recording(recording, horizon_s, quantiles, days=days)
    table = pa.Table.from_pandas(made.frame, preserve_index=False)
    if to_stdout:
        write_csv(sys.stdout.buffer, table)
    else:
        write_table(target, table)
    if console is not None:
        for line in _lines(made, recording.warning, "stdout" if to_stdout else str(target)):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return made


def _lines(made: Forecasts, warning: str, where: str) -> list[str]:
    lines = [f"warning: {warning}"] if warning else []
    sure = made.confidence
    if len(sure) <= MAX_LISTED_SERIES:
        lines += [f"{name}: {one.word} confidence, {one.why}" for name, one in sure.items()]
    else:
        counts = Counter(one.word for one in sure.values())
        lines.append(", ".join(f"{n} series: {word} confidence" for word, n in counts.most_common()))
    return [*lines, f"{len(made.frame)} rows of {len(sure)} series forecast, to {where}"]
