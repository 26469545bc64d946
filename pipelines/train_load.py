"""The training pipeline of the load model: history, panel, evaluation, fit, registry, gate, champion.

Only the last stage changes what is served, so a run that fails or is killed changes nothing.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from trimtab.pipelines.errors import HistoryError
from trimtab.pipelines.forecasting.backtest_load import ForecastMetrics
from trimtab.pipelines.io.panel import NO_SAMPLES_MESSAGE, NS, NamedPanel, panel_from_history
from trimtab.pipelines.model_registry.artifact import Manifest, StoredModel, read_model, write_model
from trimtab.pipelines.model_registry.mlflow_registry import (
    CHALLENGER,
    CHAMPION,
    MlflowRegistry,
    RegisteredVersion,
    TrainedModel,
)
from trimtab.pipelines.model_registry.model_loader import (
    ForecasterFactory,
    catalogue_forecaster,
    restore_forecaster,
)
from trimtab.pipelines.model_registry.model_schema import required_schema
from trimtab.pipelines.model_registry.model_store import ModelStore
from trimtab.pipelines.model_registry.recipe import CatalogueRecipe, Recipe
from trimtab.pipelines.training.evaluation import NAIVE, Evaluation, evaluate
from trimtab.pipelines.training.excluded_windows import FilteredHistory
from trimtab.pipelines.training.pipeline_runs import ActiveRun, PipelineRuns, RunRecord, write_json
from trimtab.pipelines.training.promotion_gate import Candidate, GateVerdict, check_promotion

MODEL_NAME = "load"
STAGES = ("history", "judge", "fit", "log", "gate")
REFUSAL_ADVICE = (
    "the next training tries again: more history (schedulers.load.fit_window) and more series improve a "
    "model; you can still promote it by hand"
)
"""What an operator can do after a refusal."""


@dataclass(frozen=True, slots=True)
class LoadJob:
    """Settings of a training, plain JSON.

    selector   : series of the history; recorded only
    forecaster : name in the catalogue
    parameters : constructor parameters of the forecaster
    step_s     : seconds per row of the panel
    horizon    : rows of the forecast
    window_s   : seconds of history
    origins    : number of evaluated windows, each one horizon long
    most       : maximum number of series
    """

    selector: str = ""
    forecaster: str = "load"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    step_s: float = 300.0
    horizon: int = 288
    window_s: float = 14 * 86_400.0
    origins: int = 3
    most: int = 500

    def schema(self) -> dict[str, Any]:
        """Return the schema that the trained model will have."""
        return required_schema(self.step_s, self.horizon)


@dataclass(frozen=True, slots=True)
class ModelWorkspace:
    """Registry, store and runs of one model.

    trusted : type names that a scikit-learn model may contain, see `restore_forecaster`
    make    : factory of catalogue forecasters
    """

    registry: MlflowRegistry
    store: ModelStore
    runs: PipelineRuns
    trusted: tuple[str, ...] = ()
    make: ForecasterFactory = catalogue_forecaster


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Result of a run.

    run      : record of the run
    version  : trained version
    verdict  : decision of the gate
    promoted : whether the version is the champion
    figures  : metrics by contender
    notes    : remarks for operators: the evaluated windows and the excluded samples
    """

    run: RunRecord
    version: str
    verdict: GateVerdict
    promoted: bool
    figures: Mapping[str, ForecastMetrics]
    notes: tuple[str, ...] = ()


RunListener = Callable[[RunRecord], None]
HistoryReader = Callable[[], "pd.DataFrame | FilteredHistory"]


def train_load(
    job: LoadJob,
    history: HistoryReader,
    workspace: ModelWorkspace,
    *,
    by: str = "",
    recipe: Recipe | None = None,
    challenger_only: bool = False,
    from_settings: bool = False,
    on_change: RunListener = lambda _: None,
) -> TrainingResult:
    """Train, evaluate and register a model; promote it to champion if it passes the gate.

    history         : returns unique_id, ds, y without excluded samples, see `exclude_windows`; called once,
                      and not at all by a resumed run
    by              : who requested the run
    recipe          : model to train; None = the job's forecaster of the catalogue
    challenger_only : make the model the challenger even if it could become champion
    from_settings   : whether the job comes from the engine's settings; a champion made for other settings
                      then is evaluated by retraining its recipe, and replaced at once
    on_change       : called with the run record after each change

    The same data and parameters return the existing version. Raises BusyError, HistoryError, RegistryError.
    """
    recipe = recipe or CatalogueRecipe(job.forecaster, dict(job.parameters), workspace.make)
    with workspace.runs.start(asdict(job), by, on_change) as active:
        result = _run_stages(
            job,
            history,
            workspace,
            recipe,
            active,
            challenger_only=challenger_only,
            from_settings=from_settings,
        )
        if result.notes:
            active.update(said="; ".join([active.run.said, *result.notes]))
    return replace(result, run=active.run)


def _run_stages(
    job: LoadJob,
    history: HistoryReader,
    workspace: ModelWorkspace,
    recipe: Recipe,
    active: ActiveRun,
    *,
    challenger_only: bool,
    from_settings: bool,
) -> TrainingResult:
    active.enter_stage("history", 0.0)
    named_panel, excluded = _read_panel(job, active, history)
    key = _training_key(job, named_panel)
    existing = workspace.registry.find_by_key(key)
    if existing is not None:
        return _reuse_version(active, workspace, existing)
    active.enter_stage("judge", 0.2)
    evaluation = evaluate(job, named_panel, workspace, recipe, active.folder)
    active.update(figures=_flatten_metrics(evaluation.metrics))
    write_json(active.folder / "figures.json", dict(active.run.figures))
    active.enter_stage("fit", 0.5)
    stored = _fit_and_store(job, named_panel, evaluation, recipe, active)
    restore_forecaster(stored, workspace.trusted, workspace.make)
    active.enter_stage("log", 0.75)
    registered = _register(evaluation, stored, key, workspace, active)
    active.enter_stage("gate", 0.9)
    required = job.schema() if from_settings else None
    result = _apply_gate(
        stored,
        registered,
        evaluation,
        workspace,
        active,
        required,
        challenger_only=challenger_only and not (from_settings and evaluation.champion_mismatch),
    )
    return replace(result, notes=tuple(filter(None, (evaluation.summary, excluded))))


def _read_panel(job: LoadJob, active: ActiveRun, history: HistoryReader) -> tuple[NamedPanel, str]:
    """Return the panel and a summary of excluded samples; frees the table, which is much larger."""
    filtered = _read_history(active, history)
    active.update(said=filtered.summary)
    return _build_panel(job, filtered.frame), filtered.summary


def _read_history(active: ActiveRun, history: HistoryReader) -> FilteredHistory:
    kept, summary_file = active.folder / "history.parquet", active.folder / "left_out.txt"
    if kept.exists():
        return FilteredHistory(pd.read_parquet(kept), summary_file.read_text("utf-8"))
    given = history()
    found = given if isinstance(given, FilteredHistory) else FilteredHistory(given)
    if not found.frame["y"].notna().any():
        raise HistoryError(NO_SAMPLES_MESSAGE)
    summary_file.write_text(found.summary, "utf-8")
    part = kept.with_suffix(".part")
    found.frame.to_parquet(part)
    part.replace(kept)
    return found


def _build_panel(job: LoadJob, frame: pd.DataFrame) -> NamedPanel:
    return panel_from_history(frame, job.step_s, window_s=job.window_s, max_series=job.most)


def _training_key(job: LoadJob, named_panel: NamedPanel) -> str:
    content = json.dumps(asdict(job), sort_keys=True).encode()
    return hashlib.blake2b(content + named_panel.fingerprint().encode(), digest_size=16).hexdigest()


def _reuse_version(
    active: ActiveRun, workspace: ModelWorkspace, existing: RegisteredVersion
) -> TrainingResult:
    champion = workspace.store.index().champion == existing.version
    summary = f"nothing new: version {existing.version} was trained from the same data and parameters"
    active.update(version=existing.version, said=summary)
    return TrainingResult(active.run, existing.version, GateVerdict((summary,)), champion, {})


def _fit_and_store(
    job: LoadJob, named_panel: NamedPanel, evaluation: Evaluation, recipe: Recipe, active: ActiveRun
) -> StoredModel:
    folder = active.folder / "model"
    if folder.exists():
        shutil.rmtree(folder)
    forecaster = recipe.make_forecaster()
    forecaster.fit(named_panel.panel)
    schema = {**job.schema(), "features": list(recipe.features)}
    manifest = Manifest(
        MODEL_NAME,
        recipe.kind,
        recipe.name,
        schema,
        recipe.parameters,
        _training_data(named_panel),
        _flatten_metrics(evaluation.metrics),
    )
    write_model(folder, manifest, recipe.pack(forecaster))
    return read_model(folder)


def _training_data(named_panel: NamedPanel) -> dict[str, Any]:
    panel = named_panel.panel
    until = int(panel.end.max())
    return {
        "since": until - panel.y.shape[0] * round(panel.step_s * NS), "until": until,
        "series": len(named_panel.names), "rows": panel.y.shape[0], "fingerprint": named_panel.fingerprint(),
    }  # fmt: skip


def _register(
    evaluation: Evaluation, stored: StoredModel, key: str, workspace: ModelWorkspace, active: ActiveRun
) -> RegisteredVersion:
    manifest = replace(stored.manifest, parameters={**active.run.request, **stored.manifest.parameters})
    trained_model = TrainedModel(
        key, active.folder / "model", stored.digest, manifest, evaluation.plots, active.run.id
    )
    registered = workspace.registry.register(trained_model)
    workspace.store.add(
        registered.version, trained_model.folder, stored.digest, workspace.runs.now(), "train"
    )
    active.update(version=registered.version)
    return registered


def _apply_gate(
    stored: StoredModel,
    registered: RegisteredVersion,
    evaluation: Evaluation,
    workspace: ModelWorkspace,
    active: ActiveRun,
    required: Mapping[str, Any] | None,
    *,
    challenger_only: bool,
) -> TrainingResult:
    challenger, champion = _candidates(stored, evaluation)
    verdict = check_promotion(challenger, champion, evaluation.metrics[NAIVE], required)
    version = registered.version
    if not verdict.passed:
        workspace.store.reject(version, f"refused: {verdict}")
        serving = _still_serving(evaluation, workspace, required)
        summary = f"version {version} does not become champion: {verdict}. {serving}; {REFUSAL_ADVICE}"
        active.update(said=summary)
        return TrainingResult(active.run, version, verdict, False, evaluation.metrics)
    workspace.registry.set_alias(CHALLENGER, version)
    workspace.store.set_challenger(version, "passed the gate")
    if challenger_only:
        role = "is the challenger" if champion else "is the challenger; there is no champion yet"
        active.update(said=f"version {version} {role}: it passed the gate")
        return TrainingResult(active.run, version, verdict, False, evaluation.metrics)
    workspace.registry.set_alias(CHAMPION, version)
    workspace.registry.set_alias(CHALLENGER, None)
    workspace.store.promote(version, "passed the gate", by=active.run.by)
    before = f"; of the previous one, {evaluation.champion_mismatch}" if evaluation.champion_mismatch else ""
    active.update(said=f"version {version} is the champion{before}", promoted=True)
    return TrainingResult(active.run, version, verdict, True, evaluation.metrics)


def _still_serving(
    evaluation: Evaluation, workspace: ModelWorkspace, required: Mapping[str, Any] | None
) -> str:
    """State what keeps forecasting after a refusal."""
    champion = workspace.store.index().champion
    if (
        evaluation.champion is None
        or champion is None
        or (required is not None and evaluation.champion_mismatch)
    ):
        return "Seasonal naive keeps forecasting"
    return f"Version {champion} keeps forecasting"


def _candidates(stored: StoredModel, evaluation: Evaluation) -> tuple[Candidate, Candidate | None]:
    challenger = _candidate(stored, evaluation.metrics["challenger"])
    if evaluation.champion is None:
        return challenger, None
    return challenger, _candidate(evaluation.champion, evaluation.metrics["champion"])


def _candidate(stored: StoredModel, figures: ForecastMetrics) -> Candidate:
    manifest = stored.manifest
    return Candidate(stored.size_bytes, manifest.schema, figures, manifest.forecaster)


def _flatten_metrics(figures: Mapping[str, ForecastMetrics]) -> dict[str, float | None]:
    """Flatten metrics to "contender.metric" -> value; None = unknown."""
    return {
        f"{contender}.{metric}": value if math.isfinite(value) else None
        for contender, metrics in figures.items()
        for metric, value in metrics.as_dict().items()
    }
