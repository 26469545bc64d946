"""Recordings: series by tick, the patterns in them, and their file format."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trimtab.engine.types import SeriesInfo, SeriesKey

DATA = Path(__file__).parent / "data"
TICK_S = 15
"""Seconds between ticks as labelled, whatever the pace of the recording."""


@dataclass(frozen=True)
class Recording:
    """Recorded series of a few entities, healthy before the onset.

    values  : (ticks, n) float64, NaN = unknown
    shows   : patterns that must be recognized; may : patterns that are true as well
    onset   : tick from which they show; None = healthy
    changes : (tick, title, labels) of deploys
    """

    name: str
    infos: tuple[SeriesInfo, ...]
    values: np.ndarray
    shows: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    onset: int | None = None
    changes: tuple[tuple[int, str, dict], ...] = ()
    real: bool = True
    set: str = "development"
    about: dict = field(default_factory=dict)

    @property
    def keys(self):
        """Keys by column."""
        return tuple(info.key for info in self.infos)

    @property
    def times(self):
        """(ticks,) int64 ns, on a Monday morning."""
        return (1_800_000_000 + TICK_S * np.arange(len(self.values), dtype=np.int64)) * 10**9


def save(recording, folder=DATA):
    """Write a recording to a Parquet file of its name; float32, about 20 kB."""
    about = {
        "series": [[i.key.metric, dict(i.key.labels), i.unit, i.kind] for i in recording.infos],
        "shows": recording.shows, "may": recording.may, "onset": recording.onset,
        "changes": recording.changes, "set": recording.set, "about": recording.about,
    }  # fmt: skip
    columns = [pa.array(column.astype(np.float32)) for column in recording.values.T]
    table = pa.table(columns, names=[str(i) for i in range(len(columns))])
    table = table.replace_schema_metadata({"recording": json.dumps(about)})
    pq.write_table(table, folder / f"{recording.name}.parquet", compression="zstd", compression_level=9)


def load(path):
    """Return the recording in a file."""
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"recording"])
    infos = tuple(SeriesInfo(SeriesKey.of("prometheus", m, ls), u, k) for m, ls, u, k in about["series"])
    values = np.stack([column.to_numpy() for column in table.columns], axis=1).astype(np.float64)
    changes = tuple((tick, title, labels) for tick, title, labels in about["changes"])
    return Recording(
        path.stem, infos, values, tuple(about["shows"]), tuple(about["may"]), about["onset"], changes,
        set=about["set"], about=about["about"],
    )  # fmt: skip


def recorded(part):
    """Return all recordings of real processes of a part: "development" or "held out"."""
    return [r for r in map(load, sorted(DATA.glob("*.parquet"))) if r.set == part]


def varied(recording, seed, *, noise=0.0, gaps=0.0, without=(), stretch=1.0):
    """Return a variation: noise (ratio of each value), missing samples or series, another pace.

    without : parts of metric names to leave out
    stretch : above 1 = slower by this factor; a tick in between copies one of its neighbours
    """
    rng = np.random.default_rng([seed, len(recording.name)])
    values = recording.values
    onset, changes = recording.onset, recording.changes
    if stretch != 1.0:
        at = np.arange(int(len(values) * stretch)) / stretch
        near = np.minimum((at + rng.random(len(at))).astype(int), len(values) - 1)
        values = values[near]
        onset = None if onset is None else int(onset * stretch)
        changes = tuple((int(tick * stretch), title, labels) for tick, title, labels in changes)
    values = values * (1.0 + noise * rng.normal(size=values.shape))
    values[rng.random(values.shape) < gaps] = np.nan
    kept = [i for i, k in enumerate(recording.keys) if not any(part in k.metric for part in without)]
    return replace(
        recording, name=f"{recording.name}~{seed}", infos=tuple(recording.infos[i] for i in kept),
        values=values[:, kept], onset=onset, changes=changes,
    )  # fmt: skip
