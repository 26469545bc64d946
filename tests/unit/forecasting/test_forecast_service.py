"""What is forecast, promoted and trained when, over a process for models that is only played."""

import asyncio

import numpy as np
import pytest

from tests.builders.model_store import SMALL_JOB
from tests.fakes.fake_control_loop import FakeLedger
from tests.fakes.ports import FakeClock
from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError
from trimtab.engine.forecasting.champion_audit import audit_champion_changes
from trimtab.engine.forecasting.forecast_service import ForecastService
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
    """Answers each verb as it was told to; what is an error is raised."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict]] = []
        self.current_verb = ""
        self.answers = {
            "forecast": {"series": 3, "version": "", "refused": {}, "error": None, "drifted": False},
            "sync": {"champion": "", "refused": {}},
            "retrain": {"version": "1", "promoted": True, "said": "version 1 is the champion"},
        }

    async def __call__(self, verb, more=None, said=None):  # noqa: ARG002 - the engine gives it
        self.calls.append((verb, more or {}))
        answer = self.answers[verb]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.calls]


class ForecastingHarness:
    """Forecasting and retraining in a folder."""

    def __init__(self, folder, **scheduler) -> None:
        self.folder, self.clock, self.process = folder, FakeClock(), FakeModelProcess()
        self.ledger, self.reported_errors = FakeLedger(self.clock), []
        settings = LoadScheduler(**scheduler)
        self.forecast_service = ForecastService(
            folder, settings, ModelRegistry(), self.process, self.ledger, self.clock,
            lambda *one: self.reported_errors.append(one),
        )  # fmt: skip
        self.retraining = Retraining(folder, settings, self.forecast_service, self.process, self.clock)

    def write_forecasts(self, version="1"):
        """Forecasts of three series, of which one cannot be forecast."""
        values = np.arange(30.0).reshape(5, 2, 3)
        values[:, :, 1] = np.nan
        past = np.array([1.0, 5.0, 20.0]) * 86_400
        there = self.folder / "forecasts" / "load"
        write_forecasts(
            there / FORECASTS_FILE,
            StoredForecasts(("a", "b", "c"), np.full(3, MADE_NS), 300.0, values, past, "load", version),
        )
        write_json(there / "series.json", {name: [IDS[name], "prometheus", "1/s"] for name in IDS})

    def add_versions(self, *versions, by=None):
        """Versions on the shelf, the last one champion; `by` another process, which writes no audit."""
        for version in versions:
            folder = self.folder / f"made-{version}"
            files = {ARRAYS_FILE: pack_arrays({"fitted": np.ones(1)})}
            digest = write_model(folder, Manifest("load", "arrays", "load", SMALL_JOB.schema()), files)
            self.forecast_service.model_store.add(version, folder, digest, MADE_NS, "train")
            self.forecast_service.model_store.promote(version, by=by)

    def write_registry(self, told="a version"):
        """Somebody writes into the registry of the data folder."""
        (self.folder / "mlflow").mkdir(exist_ok=True)
        (self.folder / "mlflow" / "mlflow.db").write_text(told)

    async def advance(self, seconds):
        """Let it be so much later."""
        await self.settle()
        self.clock.tick(seconds)
        await self.settle()

    async def settle(self):
        """Let everybody come to where they wait, in threads too."""
        for _ in range(50):
            await asyncio.sleep(0.002)


@pytest.fixture
def world(tmp_path):
    """A world without models."""
    return ForecastingHarness(tmp_path)


async def test_what_had_been_forecast_is_read_by_id_of_the_series(world):
    """The last row of a short forecast was forecast so long before; of an unknown series nothing was."""
    world.write_forecasts()
    record_forecasts(
        world.folder / "forecasts" / "load" / PAST_FORECASTS_FILE,
        read_forecasts(world.folder / "forecasts" / "load" / FORECASTS_FILE),
    )
    await world.forecast_service.refresh()
    before = await world.retraining.past_forecast(IDS["a"])
    assert (before.lead_s, before.times.tolist()) == (600.0, [MADE_NS + 600_000_000_000])
    assert {q: rows.tolist() for q, rows in before.values.items()} == {
        "0.05": [3.0],
        "0.5": [9.0],
        "0.95": [21.0],
    }
    assert len((await world.retraining.past_forecast("f" * 32)).times) == 0


async def test_forecasts_stay_when_a_refresh_fails(world):
    """What was forecast goes on being served, and the model says what is wrong."""
    world.write_forecasts()
    await world.forecast_service.refresh()
    first, third = world.forecast_service.forecasts()
    assert (first.id, third.id) == (IDS["a"], IDS["c"])
    assert (first.confidence, third.confidence) == ("low", "good")
    assert (first.made, first.start) == (MADE_NS, MADE_NS + 300_000_000_000)
    assert list(first.values) == [f"{q:g}" for q in QUANTILES]
    assert first.values["0.5"].tolist() == [6.0, 9.0]
    assert [one.id for one in world.forecast_service.forecasts(after=IDS["a"])] == [IDS["c"]]
    assert world.forecast_service.forecasts(search="nothing") == []
    world.process.answers["forecast"] = ModelProcessError("Prometheus is away")
    await world.forecast_service.refresh()
    assert len(world.forecast_service.forecasts()) == 2
    assert (await world.forecast_service.model_view()).problem == "Prometheus is away"


async def test_errors_are_told_and_drift_asks_for_a_training(world):
    """The error of what serves is a metric and stands at its version; drift starts a training at once."""
    seen = {"version": "1", "error": 0.4, "challenger_version": "2", "challenger": 0.3}
    world.process.answers["forecast"] = {"version": "1", "refused": {}, "error": seen, "drifted": True}
    world.add_versions("2", "1")
    world.write_forecasts()
    running = asyncio.create_task(world.retraining.run())
    await world.advance(FIRST_FORECAST_S)
    await world.advance(CHECK_INTERVAL_S)
    assert world.told[0] == ("load", "1", 0.4)
    view = await world.forecast_service.model_view()
    assert view.error == 0.4
    assert {v.version: (v.role, v.live) for v in view.versions} == {
        "1": ("champion", 0.4),
        "2": ("previous", 0.3),
    }
    assert [more["by"] for verb, more in world.process.asked if verb == "retrain"] == ["drift"]
    await cancel_task(running)


async def test_a_champion_of_other_settings_is_said_and_asks_for_one_training(world):
    """What it was made for, who forecasts meanwhile; one training at once, not one a look."""
    world.add_versions("7")
    world.write_forecasts("")
    why = "it is made for 24 steps of 3600 s, and 288 steps of 300 s are asked"
    world.process.answers["forecast"] |= {"unfit": {"7": why}}
    world.process.answers["retrain"] = ModelProcessError("no history", "HistoryError")
    running = asyncio.create_task(world.retraining.run())
    await world.advance(FIRST_FORECAST_S)
    for _ in range(3):
        await world.advance(CHECK_INTERVAL_S)
    assert [more["by"] for verb, more in world.process.asked if verb == "retrain"] == ["settings"]
    problem = (await world.forecast_service.model_view()).problem
    assert f"version 7, does not serve: {why} by schedulers.load; seasonal naive forecasts" in problem
    world.process.answers["forecast"]["unfit"] = {}
    await world.forecast_service.refresh()
    assert (await world.forecast_service.model_view()).problem == ""
    await cancel_task(running)


async def test_the_error_of_what_serves_is_a_series_to_be_watched(world):
    """It begins with the first error that is known; while a refresh fails it is unknown, never as it was."""
    watched = []

    async def watch():
        watched.append(1)

    world.forecast_service.error_known = watch
    source = SelfSource(world.retraining.metrics, world.clock, 300.0)
    await world.forecast_service.refresh()
    assert (watched, [*(await source.read()).values]) == ([], [pytest.approx(np.nan, nan_ok=True)])
    seen = {"version": "1", "error": 0.4, "challenger_version": "", "challenger": None}
    world.process.answers["forecast"] = {"version": "1", "refused": {}, "error": seen, "drifted": False}
    await world.forecast_service.refresh()
    told = await source.read()
    assert watched == [1]
    assert [str(key) for key in told.keys] == ['trimtab_forecast_error{model="load"}']
    assert told.values.tolist() == [0.4]
    assert told.times.tolist() == [world.clock.now()]
    world.process.answers["forecast"] = ModelProcessError("Prometheus is away")
    await world.forecast_service.refresh()
    assert np.isnan((await source.read()).values).all()


async def test_refused_models_and_the_registrys_choice_stand_in_the_audit(world):
    """A model that is not trusted, and a champion that was named elsewhere, are one audit row each."""
    world.write_registry()
    world.process.answers["sync"] = {"champion": "4", "refused": {"5": "is a pickle"}}
    world.add_versions("4", by="the registry")
    await world.forecast_service.sync()
    assert [(row.what, row.subject) for row in world.ledger.rows] == [
        ("model promoted", "load/4"), ("model refused", "load/5"),
    ]  # fmt: skip


async def test_the_registrys_trouble_lasts_until_it_answers(world):
    """A forecast that is made does not end it, and each trouble is told beside the other."""
    world.write_registry()
    world.process.answers["sync"] = ModelProcessError("the registry is away")
    await world.forecast_service.sync()
    await world.forecast_service.refresh()
    assert (await world.forecast_service.model_view()).problem == "the registry is away"
    fine = world.process.answers["forecast"]
    world.process.answers["forecast"] = ModelProcessError("Prometheus is away")
    await world.forecast_service.refresh()
    assert (await world.forecast_service.model_view()).problem == "the registry is away; Prometheus is away"
    world.process.answers |= {"forecast": fine, "sync": {"champion": "", "changed": False, "refused": {}}}
    await world.forecast_service.refresh()
    await world.forecast_service.sync()
    assert (await world.forecast_service.model_view()).problem == ""


@pytest.mark.parametrize("how", ["resume", "refresh", "sync"])
async def test_who_became_champion_in_another_process_stands_in_the_audit_after_a_crash(world, how):
    """Each change once, oldest first, by whoever made it, whatever ended before the engine heard of it."""
    world.add_versions("1", "2", by="schedule")
    await getattr(world.forecast_service, how)()
    await getattr(world.forecast_service, how)()
    told = [(row.what, row.subject, row.actor) for row in world.ledger.rows]
    assert told == [("model promoted", "load/1", "trimtab"), ("model promoted", "load/2", "trimtab")]
    assert [(row.details["by"], row.details["before"]) for row in world.ledger.rows] == [
        ("schedule", None), ("schedule", "1"),
    ]  # fmt: skip
    assert world.forecast_service.model_store.book().moves == ()


async def test_a_store_that_fails_leaves_the_rows_to_be_written(world):
    """And one whose row is there already, as a crash can leave it, is not written again."""
    world.add_versions("1", by="anna")
    world.ledger.broken = "the disk is full"
    await world.forecast_service.resume()
    assert (await world.forecast_service.model_view()).problem == "the disk is full"
    world.ledger.broken = ""
    with pytest.raises(ProcessKilled):
        world.forecast_service.model_store.audit(append_then_die(world.ledger))
    assert len(world.forecast_service.model_store.book().moves) == 1
    audit_champion_changes(
        world.forecast_service.model_store, world.ledger, "load", "anna", "trimtab retrain"
    )
    assert [(row.subject, row.actor) for row in world.ledger.rows] == [("load/1", "anna")]
    assert world.forecast_service.model_store.book().moves == ()


class ProcessKilled(BaseException):
    """Stands for what no code can catch."""


def append_then_die(ledger):
    """Writes the row, and ends before anybody hears of it."""

    def write(move):
        ledger.note("model promoted", f"load/{move.version}", move.by, {"move": move.id})
        raise ProcessKilled

    return write


async def test_a_registry_in_the_data_folder_is_asked_only_after_a_change(world):
    """MLflow is not loaded for nothing; failures, refusals and what a person chose are tried again."""

    async def asked():
        before = len(world.process.asked)
        await world.forecast_service.sync()
        return len(world.process.asked) - before

    shelf = world.forecast_service.model_store
    assert await asked() == 0  # there is no registry yet
    world.write_registry()
    assert [await asked(), await asked()] == [1, 0]
    world.write_registry("a second version")
    away, world.process.answers["sync"] = world.process.answers["sync"], ModelProcessError("it is locked")
    assert [await asked(), await asked()] == [1, 1]
    world.process.answers["sync"] = away
    assert [await asked(), await asked()] == [1, 0]
    world.add_versions("1", "2")
    assert [await asked(), await asked()] == [1, 0]
    shelf.promote("1", untold=True)
    assert [await asked(), await asked()] == [1, 1]
    shelf.told()
    shelf.refuse("3", "is a pickle")
    assert [await asked(), await asked()] == [1, 1]
    server = ModelRegistry(tracking_uri="http://127.0.0.1:5000")
    world.forecast_service.registry, world.process.asked = server, []
    assert [await asked(), await asked()] == [1, 1]


async def test_people_promote_and_roll_back(world):
    """Each is an audit row by its person; what is not there, has no way back, or was changed is refused."""
    world.add_versions("1")
    with pytest.raises(ConflictError, match="no previous"):
        await world.retraining.rollback("load", "anna")
    world.add_versions("2")
    await world.retraining.rollback("load", "anna")
    book = world.forecast_service.model_store.book()
    assert (book.champion, book.previous, book.untold) == ("1", "2", True)
    await world.retraining.promote("load", "2", "bert")
    assert [(row.what, row.actor) for row in world.ledger.rows] == [
        ("model rolled back", "anna"), ("model promoted", "bert"),
    ]  # fmt: skip
    with pytest.raises(NotFoundError):
        await world.retraining.promote("load", "9", "anna")
    with pytest.raises(NotFoundError):
        await world.retraining.promote("policy", "1", "anna")
    (world.forecast_service.model_store.folder / "1" / ARRAYS_FILE).write_bytes(b"x")
    with pytest.raises(RefusedError, match="SHA-256"):
        await world.retraining.rollback("load", "anna")
    assert world.forecast_service.model_store.book().champion == "2"
    assert (world.ledger.rows[-1].what, world.ledger.rows[-1].subject) == ("model refused", "load/1")


async def test_training_is_due_after_the_start_again_after_a_failure_and_then_daily(tmp_path):
    """The first training comes soon, one that failed within the hour, and then one a day."""
    world = ForecastingHarness(tmp_path, first=600.0)
    world.process.answers["retrain"] = ModelProcessError("no history", "HistoryError")
    running = asyncio.create_task(world.retraining.run())
    await world.advance(590.0)
    assert "retrain" not in world.process.verbs()
    await world.advance(15.0)
    assert world.process.verbs().count("retrain") == 1
    (run,) = await world.retraining.runs("load")
    assert (run.state, run.said, run.by) == (RunState.FAILED, "no history", "schedule")
    world.process.answers["retrain"] = ModelProcessError("the disk is full")
    await world.advance(FAILURE_COOLDOWN_S + CHECK_INTERVAL_S)
    (run,) = await world.retraining.runs("load")
    assert run.said == "the disk is full"
    world.process.answers["retrain"] = {"version": "1", "promoted": True, "said": ""}
    world.add_versions("1", by="schedule")
    await world.advance(FAILURE_COOLDOWN_S + CHECK_INTERVAL_S)
    assert world.process.verbs().count("retrain") == 3
    assert world.ledger.rows[-1].subject == "load/1"
    await world.advance(86_300.0)
    assert world.process.verbs().count("retrain") == 3
    await world.advance(200.0)
    assert world.process.verbs().count("retrain") == 4
    await cancel_task(running)


async def test_a_person_starts_one_run_at_a_time(world):
    """A run that a person starts is listed at once; another one meanwhile is a conflict."""
    gate = asyncio.Event()

    class Slow(FakeModelProcess):
        async def __call__(self, *_):
            await gate.wait()
            return {"version": "1", "promoted": False, "said": ""}

    world.retraining._child = Slow()
    world.retraining._child.current_verb = "forecast"
    run = await world.retraining.start_training("load", "anna")
    assert (run.state, run.by) == (RunState.WAITING, "anna")
    assert run.said.startswith("waits for the forecasts that are being made: one thing at a time")
    world.retraining._child.current_verb = "sync"
    (listed,) = await world.retraining.runs("load")
    assert (listed.id, "a look into the model registry" in listed.said) == (run.id, True)
    with pytest.raises(ConflictError, match="runs already"):
        await world.retraining.start_training("load", "bert")
    with pytest.raises(NotFoundError):
        await world.retraining.start_training("cpu", "anna")
    gate.set()
    await world.retraining._task


async def cancel_task(task):
    """End a loop."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
