"""Runs of a pipeline in the data folder: one at a time, each stage's result kept until the run is done.

A run is a folder: `run.json` says how it does, the other files are what its stages left. A run whose process
was killed still says "running", though nobody holds the lock: the next one with the same request goes on
with its stages.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trimtab.pipelines.errors import BusyError

KEPT_RUNS, RESUME_WITHIN_S = 50, 6 * 3600.0
"""Runs that are listed; how old stages may be to go on with them."""
RUNNING, DONE, FAILED, INTERRUPTED = "running", "done", "failed", "interrupted"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run.

    id       : ULID, of its start
    request  : what was asked for, plain JSON
    state    : "running", "done", "failed", or "interrupted": its process was killed
    by       : who asked: "schedule", "drift", "settings" (the champion is made for others), or a person
    stage    : what is being done, of `train_load.STAGES`
    progress : 0..1
    said     : what came of it, in words
    version  : of the model that it made; "" = none
    """

    id: str
    pipeline: str
    request: Mapping[str, Any]
    by: str
    started: int
    state: str = RUNNING
    ended: int | None = None
    stage: str = ""
    progress: float = 0.0
    said: str = ""
    version: str = ""
    promoted: bool = False
    figures: Mapping[str, float | None] = field(default_factory=dict)


class ActiveRun:
    """The run under way; made by `Runs.begin`."""

    def __init__(self, folder: Path, run: RunRecord, told: Callable[[RunRecord], None]) -> None:
        self.folder = folder
        self.run = run
        self._told = told

    def enter_stage(self, stage: str, progress: float) -> None:
        """Say what is being done now."""
        self.update(stage=stage, progress=progress)

    def update(self, **fields: Any) -> None:  # noqa: ANN401 - fields of Run
        """Write the run down, and tell of it."""
        self.run = replace(self.run, **fields)
        write_json(self.folder / "run.json", asdict(self.run))
        self._told(self.run)


class PipelineRuns:
    """All runs of one pipeline.

    folder : is made with the first run
    new_id : gives the id of a run
    """

    def __init__(
        self, folder: Path, pipeline: str, now: Callable[[], int], new_id: Callable[[], str] = lambda: ""
    ) -> None:
        self.folder = folder
        self.pipeline = pipeline
        self.now = now
        self.new_id = new_id

    def list_runs(self) -> list[RunRecord]:
        """Newest first."""
        alive = self._alive()
        found = [run for path in self.folder.glob("*/run.json") if (run := _read(path)) is not None]
        found.sort(key=lambda run: run.id, reverse=True)
        return [
            replace(run, state=INTERRUPTED) if run.state == RUNNING and not (alive and k == 0) else run
            for k, run in enumerate(found)
        ]

    @contextmanager
    def start(
        self, request: Mapping[str, Any], by: str, on_change: Callable[[RunRecord], None] = lambda _: None
    ) -> Iterator[ActiveRun]:
        """A run, new or gone on with; what is raised inside ends it as failed, and is raised.

        Raises BusyError where one runs already.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BusyError(
                    f"the pipeline {self.pipeline!r} runs already{self._who()}; wait for it: one runs at a "
                    "time"
                ) from None
            work = self._resumed(request, by, on_change) or self._fresh(request, by, on_change)
            try:
                yield work
            except BaseException as error:
                words = str(error) or type(error).__name__
                work.update(state=FAILED, ended=self.now(), said=words[:2000])
                raise
            work.update(state=DONE, ended=self.now(), progress=1.0)
            for left in work.folder.iterdir():
                if left.name != "run.json":
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            self._prune()

    def _resumed(
        self, request: Mapping[str, Any], by: str, told: Callable[[RunRecord], None]
    ) -> ActiveRun | None:
        newest = next(iter(self.list_runs()), None)
        if newest is None or newest.state == DONE or dict(newest.request) != dict(request):
            return None
        if self.now() - newest.started > RESUME_WITHIN_S * 1e9:
            return None
        work = ActiveRun(
            self.folder / newest.id, replace(newest, state=RUNNING, by=by, ended=None, said=""), told
        )
        work.update(progress=0.0)
        return work

    def _fresh(self, request: Mapping[str, Any], by: str, told: Callable[[RunRecord], None]) -> ActiveRun:
        run = RunRecord(self.new_id(), self.pipeline, dict(request), by, self.now())
        folder = self.folder / run.id
        folder.mkdir(mode=0o700)
        work = ActiveRun(folder, run, told)
        work.update(progress=0.0)
        return work

    def _who(self) -> str:
        """Whose run it is that goes on, since when, and how far; "" = it is not known."""
        newest = next(iter(self.list_runs()), None)
        if newest is None or newest.state != RUNNING:
            return ""
        minutes = max(self.now() - newest.started, 0) / 60e9
        by = f", asked for by {newest.by}" if newest.by else ""
        return f"{by}, for {minutes:.0f} min: {newest.progress:.0%} done, at {newest.stage or 'its begin'}"

    def _alive(self) -> bool:
        """Whether a process holds the lock."""
        try:
            with (self.folder / ".lock").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def _prune(self) -> None:
        for run in self.list_runs()[KEPT_RUNS:]:
            shutil.rmtree(self.folder / run.id, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """A small file, whole or as it was before."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(value, indent=1))
    part.replace(path)


def _read(path: Path) -> RunRecord | None:
    try:
        return RunRecord(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
