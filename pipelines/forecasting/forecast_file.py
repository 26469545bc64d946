"""Implementation of `trimtab forecast`: forecast a recording and write the result to a file or to stdout."""

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
"""Up to this many series have their confidence listed one by one; more are only counted."""


def parse_quantiles(text: str) -> tuple[float, ...]:
    """Parse comma-separated quantiles.

    Raises InputError if one is not a number, ModelError if they do not ascend within 0.05 .. 0.99.

    >>> parse_quantiles("0.05, 0.5")
    (0.05, 0.5)
    """
    try:
        given = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--quantiles: {text!r} is not a list of numbers; use a form like 0.05,0.5,0.95"
        ) from None
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
    """Read a recording, forecast it, and write unique_id, ds, q0.05 ... to a file.

    events  : holidays and other known days, see `parse_days`
    output  : CSV or Parquet by its suffix, also .gz; None = `sibling_path(source, "forecast")`; "-" = CSV to
              stdout
    console : receives warnings and the confidence of each series (stderr); None = silent

    Raises InputError if a file cannot be read or written, ModelError for invalid quantiles.
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
    result = forecast_recording(recording, horizon_s, quantiles, days=days)
    table = pa.Table.from_pandas(result.frame, preserve_index=False)
    if to_stdout:
        write_csv(sys.stdout.buffer, table)
    else:
        write_table(target, table)
    if console is not None:
        for line in _summary_lines(result, recording.warning, "stdout" if to_stdout else str(target)):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return result


def _summary_lines(result: Forecasts, warning: str, where: str) -> list[str]:
    lines = [f"warning: {warning}"] if warning else []
    confidences = result.confidence
    if len(confidences) <= MAX_LISTED_SERIES:
        lines += [f"{name}: {one.word} confidence, {one.why}" for name, one in confidences.items()]
    else:
        counts = Counter(one.word for one in confidences.values())
        lines.append(", ".join(f"{n} series: {word} confidence" for word, n in counts.most_common()))
    return [*lines, f"{len(result.frame)} rows of {len(confidences)} series forecast, written to {where}"]
