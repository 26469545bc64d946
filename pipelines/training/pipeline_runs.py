"""Runs of a pipeline in the data folder: one at a time, each stage's result kept until the run is done.

A run is a folder: `run.json` holds its record, the other files are the results of its stages. If the process
                   of a
run is killed, its state remains "running" although no process holds the lock; the next run of the same
request resumes its stages.
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

KEPT_RUNS = 50
"""Number of runs kept on disk."""
RESUME_WITHIN_S = 6 * 3600.0
"""Age in seconds up to which an unfinished run is resumed."""
RUNNING, DONE, FAILED, INTERRUPTED = "running", "done", "failed", "interrupted"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, as stored in `run.json`.

    id       : ULID of its start
    pipeline : name of the pipeline
    request  : parameters of the run, plain JSON
    by       : "schedule", "drift", "settings" (the champion is made for other settings), or an operator
    started  : int64 ns UTC
    state    : "running", "done", "failed", or "interrupted" (its process was killed)
    ended    : int64 ns UTC; None = not ended
    stage    : current stage, one of `train_load.STAGES`
    progress : ratio 0..1
    said     : result in words
    version  : trained version; "" = none
    promoted : whether the version became champion
    figures  : metrics by name; None = unknown
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
    """The run in progress; created by `PipelineRuns.start`.

    folder    : folder of the run
    run       : current record
    on_change : called with the record after each change
    """

    def __init__(self, folder: Path, run: RunRecord, on_change: Callable[[RunRecord], None]) -> None:
        self.folder = folder
        self.run = run
        self._on_change = on_change

    def enter_stage(self, stage: str, progress: float) -> None:
        """Record the current stage and progress."""
        self.update(stage=stage, progress=progress)

    def update(self, **fields: Any) -> None:  # noqa: ANN401 - fields of RunRecord
        """Change fields of the record, store it, and notify the listener."""
        self.run = replace(self.run, **fields)
        write_json(self.folder / "run.json", asdict(self.run))
        self._on_change(self.run)


class PipelineRuns:
    """All runs of one pipeline.

    folder : created with the first run
    now    : clock, int64 ns UTC
    new_id : returns the id of a new run
    """

    def __init__(
        self, folder: Path, pipeline: str, now: Callable[[], int], new_id: Callable[[], str] = lambda: ""
    ) -> None:
        self.folder = folder
        self.pipeline = pipeline
        self.now = now
        self.new_id = new_id

    def list_runs(self) -> list[RunRecord]:
        """Return the records of all runs, newest first."""
        is_locked = self._is_locked()
        found = [run for path in self.folder.glob("*/run.json") if (run := _read(path)) is not None]
        found.sort(key=lambda run: run.id, reverse=True)
        return [
            replace(run, state=INTERRUPTED) if run.state == RUNNING and not (is_locked and k == 0) else run
            for k, run in enumerate(found)
        ]

    @contextmanager
    def start(
        self, request: Mapping[str, Any], by: str, on_change: Callable[[RunRecord], None] = lambda _: None
    ) -> Iterator[ActiveRun]:
        """Start a run, or resume an unfinished one of the same request.

        An exception inside the context marks the run as failed and propagates.

        on_change : called with the record after each change

        Raises BusyError if another run is in progress.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BusyError(
                    f"the pipeline {self.pipeline!r} is already running{self._describe_running()}; "
                    "wait until it ends"
                ) from None
            active = self._resume(request, by, on_change) or self._create(request, by, on_change)
            try:
                yield active
            except BaseException as error:
                message = str(error) or type(error).__name__
                active.update(state=FAILED, ended=self.now(), said=message[:2000])
                raise
            active.update(state=DONE, ended=self.now(), progress=1.0)
            for leftover in active.folder.iterdir():
                if leftover.name != "run.json":
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            self._prune()

    def _resume(
        self, request: Mapping[str, Any], by: str, on_change: Callable[[RunRecord], None]
    ) -> ActiveRun | None:
        newest = next(iter(self.list_runs()), None)
        if newest is None or newest.state == DONE or dict(newest.request) != dict(request):
            return None
        if self.now() - newest.started > RESUME_WITHIN_S * 1e9:
            return None
        active = ActiveRun(
            self.folder / newest.id, replace(newest, state=RUNNING, by=by, ended=None, said=""), on_change
        )
        active.update(progress=0.0)
        return active

    def _create(
        self, request: Mapping[str, Any], by: str, on_change: Callable[[RunRecord], None]
    ) -> ActiveRun:
        run = RunRecord(self.new_id(), self.pipeline, dict(request), by, self.now())
        folder = self.folder / run.id
        folder.mkdir(mode=0o700)
        active = ActiveRun(folder, run, on_change)
        active.update(progress=0.0)
        return active

    def _describe_running(self) -> str:
        """Describe the run in progress: requester, age and progress; "" = unknown."""
        newest = next(iter(self.list_runs()), None)
        if newest is None or newest.state != RUNNING:
            return ""
        minutes = max(self.now() - newest.started, 0) / 60e9
        by = f", requested by {newest.by}" if newest.by else ""
        return f"{by}, for {minutes:.0f} min: {newest.progress:.0%} done, at {newest.stage or 'its start'}"

    def _is_locked(self) -> bool:
        """Return whether a process holds the lock."""
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
    """Write a small JSON file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1))
    temporary.replace(path)


def _read(path: Path) -> RunRecord | None:
    try:
        return RunRecord(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
