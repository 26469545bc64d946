"""From two weeks of history in Prometheus to a served forecast, with kills and hostile models."""

import hashlib
import math
import os
import pickle
import signal
import time
from dataclasses import dataclass, replace

import httpx
import numpy as np
import pytest

from tests.acceptance.engine import trimtab_up, wait_until
from tests.servers.mlflow import START_TIMEOUT_S, start_mlflow
from tests.servers.prometheus import backfill, free_port, start_exporter, start_prometheus
from trimtab.pipelines.model_registry.mlflow_registry import CHALLENGER, CHAMPION, MlflowRegistry
from trimtab.pipelines.model_registry.model_store import ModelStore
from trimtab.pipelines.training.pipeline_runs import PipelineRuns

pytestmark = pytest.mark.filterwarnings(  # MLflow uses a deprecated feature of SQLAlchemy
    "ignore::sqlalchemy.exc.SADeprecationWarning"
)
DAYS, STEP_S, BLOCK_S = 14, 300, 64_800
APPS = ("shop", "search")


def queue_length(app, time_s, rng=None):
    """Return the queue length of an app: a daily cycle, optionally with noise."""
    noise = 0.0 if rng is None else rng.normal(0, 3)
    return max(60 + 40 * math.sin(2 * math.pi * time_s / 86_400 + APPS.index(app)) + noise, 0.0)


def series_name(app, instance):
    """Return the series name in Prometheus form."""
    return f'app_queue_length{{app="{app}",instance="{instance}",job="app"}}'


def two_weeks_of_load(now_s, instance):
    """Return OpenMetrics text of two weeks of both apps."""
    rng = np.random.default_rng(0)
    times = range(now_s - DAYS * 86_400, now_s, STEP_S)
    rows = [
        f"{series_name(app, instance)} {queue_length(app, t, rng):.3f} {t}" for app in APPS for t in times
    ]
    return "\n".join(["# TYPE app_queue_length gauge", *rows, "# EOF", ""])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """A Prometheus with two weeks of load that continues."""
    folder = tmp_path_factory.mktemp("prometheus")

    def text():
        rows = [f'app_queue_length{{app="{app}"}} {queue_length(app, time.time()):.3f}' for app in APPS]
        return "\n".join(["# TYPE app_queue_length gauge", *rows, ""])

    with start_exporter(text) as exporter:
        backfill(folder, two_weeks_of_load(int(time.time()) // STEP_S * STEP_S, exporter.address))
        with start_prometheus(folder, {"app": [exporter.address]}) as server:
            yield server


def settings_for(prometheus, **registry):
    """Return settings of an engine that trains at once and forecasts often."""
    load = {"first": "5s", "refresh": "10s", "series": "app_queue_length"}
    return {
        "sources": {"host": {"enabled": False}, "prometheus": {"url": prometheus.url, "interval": "5s"}},
        "schedulers": {"load": load},
        "registry": {"sync": "5s", **registry},
    }


def champion_of(engine):
    """Return the serving version; "" = none."""
    (model,) = engine.get("models")["items"]
    return model["serving"]


def run_now(engine):
    """Start a training run."""
    key = {"Authorization": f"Bearer {engine.key}"}
    return httpx.post(f"{engine.url}/api/pipelines/load/runs", headers=key, timeout=10, trust_env=False)


def audit_details(engine, kind):
    """Return the details of the audit entries of one kind."""
    return [row["details"] for row in engine.list_all("audit") if row["what"] == kind]


@dataclass(frozen=True)
class EngineModels:
    """State that a killed training must not change."""

    files: dict
    versions: dict
    aliases: dict
    model: dict
    forecasts: list
    audit: list


def engine_models(engine, registry):
    """Return the content of model store and registry, and the API's view of models and audit."""
    folders = (engine.data_dir / "models", registry.folder / "artifacts")
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    client = registry._open()
    (model,) = engine.get("models")["items"]
    return EngineModels(
        {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths},
        {forecast.version: (forecast.run_id, forecast.tags) for forecast in client.search_model_versions()},
        {alias: registry.get_alias(alias) for alias in (CHAMPION, CHALLENGER)},
        {name: model[name] for name in ("id", "serving", "series", "refused", "problem")}
        | {"versions": [{**forecast, "live": None} for forecast in model["versions"]]},
        [(forecast["series"], forecast["version"]) for forecast in engine.get("forecasts")["items"]],
        engine.list_all("audit"),
    )


def kill_during_training(engine):
    """Kill the engine during evaluation or fit, and wait until the run is interrupted."""
    runs = PipelineRuns(engine.data_dir / "training" / "load", "load", time.time_ns)
    assert run_now(engine).status_code == 202
    wait_until(lambda: runs.list_runs()[0].stage in {"judge", "fit"}, 600.0, 0.05)
    assert run_now(engine).status_code == 409
    engine.process.send_signal(signal.SIGKILL)
    engine.process.wait(10)
    wait_until(lambda: runs.list_runs()[0].state != "running", 30.0, 0.1)
    assert (runs.list_runs()[0].state, runs.list_runs()[0].stage in {"judge", "fit"}) == ("interrupted", True)


def register_pickle(registry, trace, pickled):
    """Register a pickle as champion and return its version."""

    class Hostile:
        def __reduce__(self):
            return (os.system, (f"touch {trace}",))

    pickled.write_bytes(pickle.dumps(Hostile()))
    client = registry._open()
    run = client.create_run(client.get_experiment_by_name(registry.model).experiment_id)
    client.log_artifact(run.info.run_id, str(pickled), "model")
    source = f"{run.info.artifact_uri}/model"
    version = str(client.create_model_version(registry.model, source, run.info.run_id).version)
    registry.set_alias(CHAMPION, version)
    return version


@pytest.mark.slow
@pytest.mark.trials
def test_scheduled_champion_survives_kill_and_hostile_model(tmp_path, prometheus):
    """A trained and served champion survives a kill during training and a registered pickle."""
    with trimtab_up(tmp_path, settings_for(prometheus)) as engine:
        wait_until(lambda: champion_of(engine), 900.0, 2.0)
        first = champion_of(engine)
        (run,) = engine.get("pipelines/load/runs")["items"]
        assert (run["state"], run["by"], run["version"], run["promoted"]) == ("done", "schedule", first, True)
        forecasts = engine.get("forecasts")["items"]
        assert sorted(f["series"].split('"')[1] for f in forecasts) == sorted(APPS)
        _forecasts_fit(forecasts)
        assert audit_details(engine, "model promoted")

        registry = MlflowRegistry("load", engine.data_dir / "mlflow", environ={})
        before = engine_models(engine, registry)
        assert before.aliases[CHAMPION].version == first
        kill_during_training(engine)
        engine.start_and_wait()
        after = engine_models(engine, registry)
        assert replace(after, audit=before.audit) == before
        assert [row for row in after.audit if row["what"].startswith("model")] == [
            row for row in before.audit if row["what"].startswith("model")
        ]
        assert engine.run_command("audit", "verify")

        trace = tmp_path / "trace"
        version = register_pickle(registry, trace, tmp_path / "model.pkl")
        refusals = wait_until(lambda: audit_details(engine, "model refused"), 600.0, 1.0)
        assert "manifest.json" in refusals[0]["why"]
        (model,) = engine.get("models")["items"]
        assert list(model["refused"]) == [version]
        assert champion_of(engine) == first
        assert not trace.exists()
        engine.stop()

        text = (tmp_path / "trimtab.yaml").read_text()
        unreachable = f"registry:\n  tracking_uri: http://127.0.0.1:{free_port()}"
        (tmp_path / "trimtab.yaml").write_text(text.replace("registry:", unreachable))
        engine.start_and_wait()
        wait_until(lambda: _problem_reported_while_served(engine, first), 600.0, 0.2)


@pytest.mark.slow
@pytest.mark.trials
def test_tracking_server_outage(tmp_path, prometheus):
    """While the tracking server is down no request fails; after its return training continues."""
    with start_mlflow(tmp_path / "mlflow") as server:
        settings = settings_for(prometheus, tracking_uri=server.url)
        with trimtab_up(tmp_path / "engine", settings) as engine:
            first = wait_until(lambda: champion_of(engine), 900.0, 2.0)
            registry = MlflowRegistry("load", tmp_path / "none", server.url, environ={})
            assert registry.get_alias(CHAMPION).version == first

            server.stop()
            wait_until(lambda: _problem_reported_while_served(engine, first), 600.0, 0.2)
            assert run_now(engine).status_code == 202
            failed = wait_until(lambda: _ended_while_served(engine, first), 600.0, 0.5)
            assert (failed["state"], failed["version"]) == ("failed", "")

            server.start(START_TIMEOUT_S)
            wait_until(lambda: not engine.get("models")["items"][0]["problem"], 600.0, 1.0)
            assert run_now(engine).status_code == 202
            second = wait_until(lambda: registry.get_alias(CHALLENGER), 600.0, 2.0).version
            assert second != first
            assert ModelStore(engine.data_dir / "models" / "load").index().challenger == second
            assert champion_of(engine) == first


def _ended_while_served(engine, version):
    """Return the newest run if it has ended; asserts that the champion still serves."""
    assert champion_of(engine) == version
    assert len(engine.get("forecasts")["items"]) == len(APPS)
    run = engine.get("pipelines/load/runs")["items"][0]
    return run if run["by"] != "schedule" and run["ended"] else None


def _problem_reported_while_served(engine, version):
    """Return whether the registry problem is reported; asserts that the champion still serves."""
    assert [forecast["version"] for forecast in engine.get("forecasts")["items"]] == [version] * len(APPS)
    (model,) = engine.get("models")["items"]
    assert model["serving"] == version
    return "registry" in model["problem"]


def _forecasts_fit(forecasts):
    """Assert that the median follows the daily cycle and lies within its quantiles."""
    for forecast in forecasts:
        app = forecast["series"].split('"')[1]
        begin = time.mktime(time.strptime(forecast["start"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
        actual = np.array(
            [queue_length(app, begin + k * STEP_S) for k in range(len(forecast["values"]["0.5"]))]
        )
        assert len(actual) == 288
        assert np.abs(np.array(forecast["values"]["0.5"]) - actual).mean() < 6
        assert (np.array(forecast["values"]["0.05"]) <= np.array(forecast["values"]["0.95"])).all()
