"""`trimtab retrain`: trains a model now, from a shell or cron; an engine may run on the same data folder."""

import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.engine.cli.command_errors import EXIT_FOUND, EXIT_OK, EXIT_UNREACHABLE
from trimtab.engine.cli.options import (
    ConfigFile,
    DataDir,
    PrometheusUrl,
    find_config_file,
    settings_overrides,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trimtab.engine.settings import Settings
    from trimtab.pipelines.train_load import RunListener, TrainingResult
    from trimtab.pipelines.training.excluded_windows import FilteredHistory
    from trimtab.pipelines.training.pipeline_runs import RunRecord

PIPELINES = ("load", "all")
Which = Annotated[str, typer.Argument(metavar="[load|all]", help="Pipeline to run.")]
Selector = Annotated[
    str | None,
    typer.Option("--history", metavar="SELECTOR", help="PromQL, or a folder of Parquet and CSV files."),
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="D", help="Length of the history. Default: 14d.")
]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Name shown for the run.")]


def retrain(
    which: Which = "load",
    history: Selector = None,
    since: Since = None,
    by: By = "cron",
    config: ConfigFile = None,
    data: DataDir = None,
    prometheus: PrometheusUrl = None,
) -> None:
    """Train the load model, compare it with the champion, and promote it if it is no worse.

    Exit code 0 = done, or nothing new; 1 = refused by the gate, or already running; 3 = a source or the
    registry is not reachable. A run that fails or is killed changes nothing, and the next one resumes it.
    """
    if which not in PIPELINES:
        raise typer.BadParameter(f"there is no pipeline {which!r}; use one of: {', '.join(PIPELINES)}")
    overrides = settings_overrides(data, prometheus)
    if since is not None:
        overrides["schedulers.load.fit_window"] = since
    raise typer.Exit(_train(find_config_file(config), overrides, history or "", by))


def _train(config: Path | None, overrides: dict[str, object], history: str, by: str) -> int:
    from trimtab.engine.errors import SourceError
    from trimtab.engine.settings.settings_file import load_settings
    from trimtab.pipelines.errors import BusyError, HistoryError, RegistryError

    settings = load_settings(config, os.environ, overrides)
    try:
        with show_run_progress(sys.stderr.isatty()) as on_change:
            result = train_and_audit(settings, history, by, on_change)
    except BusyError as error:
        typer.echo(f"trimtab: {error}", err=True)
        return EXIT_FOUND
    except (HistoryError, RegistryError, SourceError) as error:
        typer.echo(f"trimtab: {error}", err=True)
        return EXIT_UNREACHABLE
    typer.echo(result.run.said)
    return EXIT_OK if result.verdict.passed or not result.figures else EXIT_FOUND


def train_and_audit(
    settings: "Settings", history: str, by: str, on_change: "RunListener"
) -> "TrainingResult":
    """Train the load model; append an audit row if it is promoted."""
    from trimtab.engine.clock import SystemClock
    from trimtab.engine.forecasting.forecast_service import audit_champion_changes
    from trimtab.engine.forecasting.model_worker import ModelFolders, load_job, read_training_history
    from trimtab.engine.store import join_store
    from trimtab.engine.store.action_ledger import ActionLedger
    from trimtab.engine.store.audit_anchor import ANCHOR_FILE
    from trimtab.pipelines.train_load import MODEL_NAME, train_load

    folder = settings.settings.data_dir
    workspace = ModelFolders(folder).workspace(settings, os.environ)
    read_history: Callable[[], FilteredHistory] = lambda: read_training_history(settings)  # noqa: E731 - one of two
    if history:
        read_history = lambda: _read_given_history(settings, history)  # noqa: E731 - the other one
    result = train_load(
        load_job(settings, history), read_history, workspace, by=by, from_settings=True, on_change=on_change
    )
    if result.promoted:
        store = join_store(folder, SystemClock().now)
        try:
            ledger = ActionLedger(store.fenced, folder / ANCHOR_FILE)
            audit_champion_changes(workspace.store, ledger, MODEL_NAME, by, "trimtab retrain")
        finally:
            store.close()
    return result


def _read_given_history(settings: "Settings", history: str) -> "FilteredHistory":
    """Read the given history: a folder unchanged, or a Prometheus selector without incidents."""
    from trimtab.engine.forecasting.model_worker import exclude_unlearnable
    from trimtab.engine.net.credentials import Credentials
    from trimtab.engine.settings import Prometheus
    from trimtab.pipelines.errors import HistoryError
    from trimtab.pipelines.io.folder_history import FolderHistory
    from trimtab.pipelines.io.history import PrometheusHistory
    from trimtab.pipelines.training.excluded_windows import FilteredHistory

    scheduler = settings.schedulers.load
    end = datetime.now(UTC)
    start = end - timedelta(seconds=scheduler.fit_window)
    if Path(history).is_dir():
        filtered = FilteredHistory(FolderHistory(Path(history)).read("", start, end, scheduler.step))
    elif history.startswith(("/", "./", "../", "~")):  # no selector starts like that
        raise HistoryError(
            f"--history: there is no folder {history!r}; give a folder of recordings or a selector"
        )
    else:
        prometheus = settings.sources.prometheus or Prometheus()
        headers = dict(Credentials(prometheus, "sources.prometheus").headers())
        frame = PrometheusHistory(prometheus.url, headers).read(history, start, end, scheduler.step)
        filtered = exclude_unlearnable(settings, frame)
    if not filtered.frame["y"].notna().any():
        raise HistoryError(
            f"there is no sample of {history!r} since {start:%Y-%m-%d %H:%M} UTC; check the name "
            "or give a longer --since"
        )
    return filtered


@contextmanager
def show_run_progress(terminal: bool) -> "Iterator[RunListener]":
    """Yield a listener that shows a run's progress: a bar on a terminal, one line per stage elsewhere."""
    if not terminal:
        seen_stages: list[str] = []

        def print_stage(run: "RunRecord") -> None:
            if run.stage and run.stage not in seen_stages:
                seen_stages.append(run.stage)
                typer.echo(f"{run.pipeline}: {run.stage}", err=True)

        yield print_stage
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("load", total=1.0)
        yield lambda run: bar.update(task, completed=run.progress, description=f"load: {run.stage}")
