"""Forecasts, promotions and the training schedule, over a fake model process."""

import asyncio

import numpy as np
import pytest

from tests.builders.model_store import SMALL_JOB
from tests.fakes.fake_control_loop import FakeLedger
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError
from trimtab.engine.forecasting.forecast_service import ForecastService, audit_champion_changes
from trimtab.engine.forecasting.retraining import (
    CHECK_INTERVAL_S,
    FAILURE_COOLDOWN_S,
    FIRST_FORECAST_S,
    Retraining,
)
from trimtab.engine.platform.child_process import ModelProcessError
from trimtab.engine.settings import LoadScheduler, ModelRegistry
from trimtab.engine.sources.self_source import SelfSource
from trimtab.engine.types import RunState
from trimtab.pipelines.io.stored_forecasts import (
    FORECASTS_FILE,
    QUANTILES,
    StoredForecasts,
    read_forecasts,
    write_forecasts,
)
from trimtab.pipelines.model_registry.artifact import ARRAYS_FILE, Manifest, pack_arrays, write_model
from trimtab.pipelines.serving.past_forecasts import PAST_FORECASTS_FILE, record_forecasts
from trimtab.pipelines.training.pipeline_runs import write_json

MADE_NS = 1_767_225_600_000_000_000
IDS = {"a": "0" * 32, "b": "1" * 32, "c": "2" * 32}


class FakeModelProcess:
    """Returns a fixed answer for each verb, or raises it if it is an exception."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict]] = []
        self.current_verb = ""
        self.answers = {
            "forecast": {"series": 3, "version": "", "refused": {}, "error": None, "drifted": False},
            "sync": {"champion": "", "refused": {}},
            "retrain": {"version": "1", "promoted": True, "said": "version 1 is the champion"},
        }

    async def __call__(self, verb, more=None, said=None):  # noqa: ARG002 - part of the interface
        self.calls.append((verb, more or {}))
        answer = self.answers[verb]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.calls]


class ForecastingHarness:
    """Forecast service and retraining in a folder."""

    def __init__(self, folder, **scheduler) -> None:
        self.folder, self.clock, self.process = folder, FakeClock(), FakeModelProcess()
        self.ledger, self.reported_errors = FakeLedger(self.clock), []
        settings = LoadScheduler(**scheduler)
        self.forecast_service = ForecastService(
            folder, settings, ModelRegistry(), self.process, self.ledger, self.clock,
            lambda *error: self.reported_errors.append(error),
        )  # fmt: skip
        self.retraining = Retraining(folder, settings, self.forecast_service, self.process, self.clock)

    def write_forecasts(self, version="1"):
        """Store forecasts of three series, one of them without values."""
        values = np.arange(30.0).reshape(5, 2, 3)
        values[:, :, 1] = np.nan
        past = np.array([1.0, 5.0, 20.0]) * 86_400
        forecasts_dir = self.folder / "forecasts" / "load"
        write_forecasts(
            forecasts_dir / FORECASTS_FILE,
            StoredForecasts(("a", "b", "c"), np.full(3, MADE_NS), 300.0, values, past, "load", version),
        )
        write_json(forecasts_dir / "series.json", {name: [IDS[name], "prometheus", "1/s"] for name in IDS})

    def add_versions(self, *versions, by=None):
        """Add versions, the last one champion; `by` is another process, which writes no audit."""
        for version in versions:
            folder = self.folder / f"made-{version}"
            files = {ARRAYS_FILE: pack_arrays({"fitted": np.ones(1)})}
            digest = write_model(folder, Manifest("load", "arrays", "load", SMALL_JOB.schema()), files)
            self.forecast_service.model_store.add(version, folder, digest, MADE_NS, "train")
            self.forecast_service.model_store.promote(version, by=by)

    def write_registry(self, text="a version"):
        """Write the registry file of the data folder."""
        (self.folder / "mlflow").mkdir(exist_ok=True)
        (self.folder / "mlflow" / "mlflow.db").write_text(text)

    async def advance(self, seconds):
        """Advance the clock and let all tasks run."""
        await self.settle()
        self.clock.tick(seconds)
        await self.settle()

    async def settle(self):
        """Let all tasks run until they wait, in threads too."""
        for _ in range(50):
            await asyncio.sleep(0.002)


@pytest.fixture
def harness(tmp_path):
    """Harness without models."""
    return ForecastingHarness(tmp_path)


async def test_past_forecasts_are_read_by_series_id(harness):
    """The last row of a short forecast has its full lead time; an unknown series has no past forecasts."""
    harness.write_forecasts()
    record_forecasts(
        harness.folder / "forecasts" / "load" / PAST_FORECASTS_FILE,
        read_forecasts(harness.folder / "forecasts" / "load" / FORECASTS_FILE),
    )
    await harness.forecast_service.refresh()
    past = await harness.retraining.past_forecast(IDS["a"])
    assert (past.lead_s, past.times.tolist()) == (600.0, [MADE_NS + 600_000_000_000])
    assert {q: rows.tolist() for q, rows in past.values.items()} == {
        "0.05": [3.0],
        "0.5": [9.0],
        "0.95": [21.0],
    }
    assert len((await harness.retraining.past_forecast("f" * 32)).times) == 0


async def test_forecasts_stay_when_a_refresh_fails(harness):
    """After a failed refresh the previous forecasts are served, and the model reports the problem."""
    harness.write_forecasts()
    await harness.forecast_service.refresh()
    first, third = harness.forecast_service.forecasts()
    assert (first.id, third.id) == (IDS["a"], IDS["c"])
    assert (first.confidence, third.confidence) == ("low", "good")
    assert (first.made, first.start) == (MADE_NS, MADE_NS + 300_000_000_000)
    assert list(first.values) == [f"{q:g}" for q in QUANTILES]
    assert first.values["0.5"].tolist() == [6.0, 9.0]
    assert [forecast.id for forecast in harness.forecast_service.forecasts(after=IDS["a"])] == [IDS["c"]]
    assert harness.forecast_service.forecasts(search="nothing") == []
    harness.process.answers["forecast"] = ModelProcessError("Prometheus is away")
    await harness.forecast_service.refresh()
    assert len(harness.forecast_service.forecasts()) == 2
    assert (await harness.forecast_service.model_view()).problem == "Prometheus is away"


async def test_errors_are_reported_and_drift_starts_a_training(harness):
    """The error of the serving version is a metric and part of the view; drift starts a training."""
    accuracy = {"version": "1", "error": 0.4, "challenger_version": "2", "challenger": 0.3}
    harness.process.answers["forecast"] = {"version": "1", "refused": {}, "error": accuracy, "drifted": True}
    harness.add_versions("2", "1")
    harness.write_forecasts()
    running = asyncio.create_task(harness.retraining.run())
    await harness.advance(FIRST_FORECAST_S)
    await harness.advance(CHECK_INTERVAL_S)
    assert harness.reported_errors[0] == ("load", "1", 0.4)
    view = await harness.forecast_service.model_view()
    assert view.error == 0.4
    assert {v.version: (v.role, v.live) for v in view.versions} == {
        "1": ("champion", 0.4),
        "2": ("previous", 0.3),
    }
    assert [more["by"] for verb, more in harness.process.calls if verb == "retrain"] == ["drift"]
    await cancel_task(running)


async def test_an_incompatible_champion_is_reported_and_starts_one_training(harness):
    """An incompatible champion is reported with its reason and starts exactly one training."""
    harness.add_versions("7")
    harness.write_forecasts("")
    reason = "it is made for 24 steps of 3600 s, and 288 steps of 300 s are asked"
    harness.process.answers["forecast"] |= {"unfit": {"7": reason}}
    harness.process.answers["retrain"] = ModelProcessError("no history", "HistoryError")
    running = asyncio.create_task(harness.retraining.run())
    await harness.advance(FIRST_FORECAST_S)
    for _ in range(3):
        await harness.advance(CHECK_INTERVAL_S)
    assert [more["by"] for verb, more in harness.process.calls if verb == "retrain"] == ["settings"]
    problem = (await harness.forecast_service.model_view()).problem
    assert f"version 7, does not fit schedulers.load: {reason}; seasonal naive forecasts" in problem
    harness.process.answers["forecast"]["unfit"] = {}
    await harness.forecast_service.refresh()
    assert (await harness.forecast_service.model_view()).problem == ""
    await cancel_task(running)


async def test_the_forecast_error_is_a_series(harness):
    """The series starts with the first known error and is NaN after a failed refresh."""
    watched = []

    async def watch():
        watched.append(1)

    harness.forecast_service.on_error_known = watch
    source = SelfSource(harness.retraining.metrics, harness.clock, 300.0)
    await harness.forecast_service.refresh()
    assert (watched, [*(await source.read()).values]) == ([], [pytest.approx(np.nan, nan_ok=True)])
    accuracy = {"version": "1", "error": 0.4, "challenger_version": "", "challenger": None}
    harness.process.answers["forecast"] = {"version": "1", "refused": {}, "error": accuracy, "drifted": False}
    await harness.forecast_service.refresh()
    reading = await source.read()
    assert watched == [1]
    assert [str(key) for key in reading.keys] == ['trimtab_forecast_error{model="load"}']
    assert reading.values.tolist() == [0.4]
    assert reading.times.tolist() == [harness.clock.now()]
    harness.process.answers["forecast"] = ModelProcessError("Prometheus is away")
    await harness.forecast_service.refresh()
    assert np.isnan((await source.read()).values).all()


async def test_refused_models_and_registry_promotions_are_audited(harness):
    """A refused model and a champion named by the registry are one audit row each."""
    harness.write_registry()
    harness.process.answers["sync"] = {"champion": "4", "refused": {"5": "is a pickle"}}
    harness.add_versions("4", by="the registry")
    await harness.forecast_service.sync()
    assert [(row.what, row.subject) for row in harness.ledger.rows] == [
        ("model promoted", "load/4"), ("model refused", "load/5"),
    ]  # fmt: skip


async def test_a_registry_problem_lasts_until_the_registry_answers(harness):
    """A successful forecast does not clear a registry problem; problems of both are shown together."""
    harness.write_registry()
    harness.process.answers["sync"] = ModelProcessError("the registry is away")
    await harness.forecast_service.sync()
    await harness.forecast_service.refresh()
    assert (await harness.forecast_service.model_view()).problem == "the registry is away"
    fine = harness.process.answers["forecast"]
    harness.process.answers["forecast"] = ModelProcessError("Prometheus is away")
    await harness.forecast_service.refresh()
    assert (await harness.forecast_service.model_view()).problem == "the registry is away; Prometheus is away"
    harness.process.answers |= {"forecast": fine, "sync": {"champion": "", "changed": False, "refused": {}}}
    await harness.forecast_service.refresh()
    await harness.forecast_service.sync()
    assert (await harness.forecast_service.model_view()).problem == ""


@pytest.mark.parametrize("method", ["resume", "refresh", "sync"])
async def test_champion_changes_of_other_processes_are_audited(harness, method):
    """Each champion change is audited once, oldest first, with the process that made it."""
    harness.add_versions("1", "2", by="schedule")
    await getattr(harness.forecast_service, method)()
    await getattr(harness.forecast_service, method)()
    reading = [(row.what, row.subject, row.actor) for row in harness.ledger.rows]
    assert reading == [("model promoted", "load/1", "trimtab"), ("model promoted", "load/2", "trimtab")]
    assert [(row.details["by"], row.details["before"]) for row in harness.ledger.rows] == [
        ("schedule", None), ("schedule", "1"),
    ]  # fmt: skip
    assert harness.forecast_service.model_store.index().moves == ()


async def test_audit_rows_are_written_once_after_a_store_failure(harness):
    """Rows that a failing store or a crash left open are written once."""
    harness.add_versions("1", by="anna")
    harness.ledger.broken = "the disk is full"
    await harness.forecast_service.resume()
    assert (await harness.forecast_service.model_view()).problem == "the disk is full"
    harness.ledger.broken = ""
    with pytest.raises(ProcessKilled):
        harness.forecast_service.model_store.audit_changes(append_then_die(harness.ledger))
    assert len(harness.forecast_service.model_store.index().moves) == 1
    audit_champion_changes(
        harness.forecast_service.model_store, harness.ledger, "load", "anna", "trimtab retrain"
    )
    assert [(row.subject, row.actor) for row in harness.ledger.rows] == [("load/1", "anna")]
    assert harness.forecast_service.model_store.index().moves == ()


class ProcessKilled(BaseException):
    """Simulates kill -9: no code catches it."""


def append_then_die(ledger):
    """Return a writer that appends the row and then raises ProcessKilled."""

    def write(move):
        ledger.append_audit("model promoted", f"load/{move.version}", move.by, {"move": move.id})
        raise ProcessKilled

    return write


async def test_a_local_registry_is_synced_only_after_a_change(harness):
    """A registry in the data folder is synced after changes, failures and refusals; a server always."""

    async def count_calls():
        past = len(harness.process.calls)
        await harness.forecast_service.sync()
        return len(harness.process.calls) - past

    model_store = harness.forecast_service.model_store
    assert await count_calls() == 0  # the registry does not exist yet
    harness.write_registry()
    assert [await count_calls(), await count_calls()] == [1, 0]
    harness.write_registry("a second version")
    away, harness.process.answers["sync"] = harness.process.answers["sync"], ModelProcessError("it is locked")
    assert [await count_calls(), await count_calls()] == [1, 1]
    harness.process.answers["sync"] = away
    assert [await count_calls(), await count_calls()] == [1, 0]
    harness.add_versions("1", "2")
    assert [await count_calls(), await count_calls()] == [1, 0]
    model_store.promote("1", registry_pending=True)
    assert [await count_calls(), await count_calls()] == [1, 1]
    model_store.mark_registry_updated()
    model_store.mark_refused("3", "is a pickle")
    assert [await count_calls(), await count_calls()] == [1, 1]
    server = ModelRegistry(tracking_uri="http://127.0.0.1:5000")
    harness.forecast_service.registry, harness.process.calls = server, []
    assert [await count_calls(), await count_calls()] == [1, 1]


async def test_operators_promote_and_roll_back(harness):
    """Each change is audited with its operator; unknown versions and changed files are refused."""
    harness.add_versions("1")
    with pytest.raises(ConflictError, match="no previous"):
        await harness.retraining.rollback("load", "anna")
    harness.add_versions("2")
    await harness.retraining.rollback("load", "anna")
    index = harness.forecast_service.model_store.index()
    assert (index.champion, index.previous, index.untold) == ("1", "2", True)
    await harness.retraining.promote("load", "2", "bert")
    assert [(row.what, row.actor) for row in harness.ledger.rows] == [
        ("model rolled back", "anna"), ("model promoted", "bert"),
    ]  # fmt: skip
    with pytest.raises(NotFoundError):
        await harness.retraining.promote("load", "9", "anna")
    with pytest.raises(NotFoundError):
        await harness.retraining.promote("policy", "1", "anna")
    (harness.forecast_service.model_store.folder / "1" / ARRAYS_FILE).write_bytes(b"x")
    with pytest.raises(RefusedError, match="SHA-256"):
        await harness.retraining.rollback("load", "anna")
    assert harness.forecast_service.model_store.index().champion == "2"
    assert (harness.ledger.rows[-1].what, harness.ledger.rows[-1].subject) == ("model refused", "load/1")


async def test_training_schedule(tmp_path):
    """Training starts soon after the start, within the hour after a failure, and then daily."""
    harness = ForecastingHarness(tmp_path, first=600.0)
    harness.process.answers["retrain"] = ModelProcessError("no history", "HistoryError")
    running = asyncio.create_task(harness.retraining.run())
    await harness.advance(590.0)
    assert "retrain" not in harness.process.verbs()
    await harness.advance(15.0)
    assert harness.process.verbs().count("retrain") == 1
    (run,) = await harness.retraining.runs("load")
    assert (run.state, run.said, run.by) == (RunState.FAILED, "no history", "schedule")
    harness.process.answers["retrain"] = ModelProcessError("the disk is full")
    await harness.advance(FAILURE_COOLDOWN_S + CHECK_INTERVAL_S)
    (run,) = await harness.retraining.runs("load")
    assert run.said == "the disk is full"
    harness.process.answers["retrain"] = {"version": "1", "promoted": True, "said": ""}
    harness.add_versions("1", by="schedule")
    await harness.advance(FAILURE_COOLDOWN_S + CHECK_INTERVAL_S)
    assert harness.process.verbs().count("retrain") == 3
    assert harness.ledger.rows[-1].subject == "load/1"
    await harness.advance(86_300.0)
    assert harness.process.verbs().count("retrain") == 3
    await harness.advance(200.0)
    assert harness.process.verbs().count("retrain") == 4
    await cancel_task(running)


async def test_an_operator_starts_one_run_at_a_time(harness):
    """A started run is listed at once with what it waits for; another one raises ConflictError."""
    gate = asyncio.Event()

    class Slow(FakeModelProcess):
        async def __call__(self, *_):
            await gate.wait()
            return {"version": "1", "promoted": False, "said": ""}

    harness.retraining._process = Slow()
    harness.retraining._process.current_verb = "forecast"
    run = await harness.retraining.start_training("load", "anna")
    assert (run.state, run.by) == (RunState.WAITING, "anna")
    assert run.said.startswith("waits for the running forecast; model work runs one at a time")
    harness.retraining._process.current_verb = "sync"
    (listed,) = await harness.retraining.runs("load")
    assert (listed.id, "the running sync with the model registry" in listed.said) == (run.id, True)
    with pytest.raises(ConflictError, match="already running"):
        await harness.retraining.start_training("load", "bert")
    with pytest.raises(NotFoundError):
        await harness.retraining.start_training("cpu", "anna")
    gate.set()
    await harness.retraining._task


async def cancel_task(task):
    """Cancel a task and wait for it."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
