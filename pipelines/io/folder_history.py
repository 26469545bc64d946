"""History from a folder of Parquet and CSV files."""

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
    """The port History over recordings in a folder, as `trimtab score` reads them; .gz too.

    folder     : its files, not those of folders within
    interval_s : how long a row is, where times are row numbers
    """

    def __init__(self, folder: Path, interval_s: float = 60.0) -> None:
        self.folder = folder
        self.interval_s = interval_s

    def read(
        self,
        selector: str,
        start: datetime,
        end: datetime,
        step_s: float,  # noqa: ARG002 - rows are as they are
    ) -> pd.DataFrame:
        """Series whose name fits the selector, a shell pattern such as `http_*`; "" = all.

        Raises HistoryError where the folder has none, InputError for a file that cannot be read.
        """
        files = sorted(file for file in self.folder.glob("*") if file.name.endswith(SUFFIXES))
        if not files:
            raise HistoryError(f"{self.folder}: holds no Parquet or CSV file; give the folder of recordings")
        parts = [_frame(block, selector) for file in files for block in self._blocks(file)]
        frame = pd.concat([part for part in parts if not part.empty] or [_frame_of([], [], [])])
        inside = (frame["ds"] >= pd.Timestamp(start)) & (frame["ds"] <= pd.Timestamp(end))
        return frame[inside].reset_index(drop=True)

    def _blocks(self, file: Path) -> tuple[Block, ...]:
        sheet = read_table(file)
        return read_frame(sheet.table.to_pandas(), self.interval_s, sheet.name, sheet.locate_row).blocks


def _frame(block: Block, selector: str) -> pd.DataFrame:
    parts = []
    for name, column in zip(block.names, block.values.T, strict=True):
        whole = f"{block.entity}/{name}" if block.entity else name
        if not selector or fnmatchcase(whole, selector):
            parts.append(_frame_of([whole] * len(column), block.times, column))
    return pd.concat(parts) if parts else _frame_of([], [], [])


def _frame_of(names: list[str], times: object, values: object) -> pd.DataFrame:
    stamps = pd.DatetimeIndex(np.asarray(times, np.int64).astype("datetime64[ns]"), tz="UTC")
    return pd.DataFrame(
        {"unique_id": np.array(names, object), "ds": stamps, "y": np.asarray(values, np.float64)}
    )
