"""History read from a folder of Parquet and CSV files."""

from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd

from trimtab.pipelines.errors import HistoryError
from trimtab.pipelines.io.recording import Block, read_frame
from trimtab.pipelines.io.tables import read_table

SUFFIXES = (".parquet", ".pq", ".csv", ".parquet.gz", ".csv.gz")


class FolderHistory:
    """Implements `History` over the recordings in a folder (CSV, Parquet, also gzipped).

    folder     : folder of the files; subfolders are ignored
    interval_s : seconds per row, used where times are row numbers
    """

    def __init__(self, folder: Path, interval_s: float = 60.0) -> None:
        self.folder = folder
        self.interval_s = interval_s

    def read(
        self,
        selector: str,
        start: datetime,
        end: datetime,
        step_s: float,  # noqa: ARG002 - rows keep their own interval
    ) -> pd.DataFrame:
        """Return the series whose names match a shell pattern such as `http_*`; "" matches all.

        Raises HistoryError if the folder has no recording, InputError for an unreadable file.
        """
        files = sorted(file for file in self.folder.glob("*") if file.name.endswith(SUFFIXES))
        if not files:
            raise HistoryError(
                f"{self.folder}: contains no Parquet or CSV file; name the folder of the recordings"
            )
        parts = [_block_to_frame(block, selector) for file in files for block in self._blocks(file)]
        frame = pd.concat([part for part in parts if not part.empty] or [_make_frame([], [], [])])
        inside = (frame["ds"] >= pd.Timestamp(start)) & (frame["ds"] <= pd.Timestamp(end))
        return frame[inside].reset_index(drop=True)

    def _blocks(self, file: Path) -> tuple[Block, ...]:
        sheet = read_table(file)
        return read_frame(sheet.table.to_pandas(), self.interval_s, sheet.name, sheet.locate_row).blocks


def _block_to_frame(block: Block, selector: str) -> pd.DataFrame:
    parts = []
    for name, column in zip(block.full_names, block.values.T, strict=True):
        if not selector or fnmatchcase(name, selector):
            parts.append(_make_frame([name] * len(column), block.times, column))
    return pd.concat(parts) if parts else _make_frame([], [], [])


def _make_frame(names: list[str], times: object, values: object) -> pd.DataFrame:
    stamps = pd.DatetimeIndex(np.asarray(times, np.int64).astype("datetime64[ns]"), tz="UTC")
    return pd.DataFrame(
        {"unique_id": np.array(names, object), "ds": stamps, "y": np.asarray(values, np.float64)}
    )
