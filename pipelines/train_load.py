"""The load pipeline: history -> panel -> judgement -> fit -> registry -> gate -> champion.

Nothing that serves changes before the last stage, so a run that fails or is killed changes nothing.
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
    "the next training tries again: more history (schedulers.load.fit_window) and more series make a model "
    "better; promote it by hand if you want it all the same"
)
"""What to do where the gate refuses."""


@dataclass(frozen=True, slots=True)
class LoadJob:
    """What is to be trained, plain JSON.

    selector   : what of the history; it is only written down here
    step_s     : grid of the panel
    horizon    : rows that are forecast
    window_s   : of history
    origins    : windows on which it is judged, each one horizon long
    most       : series at most
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
        """What the model must be asked with."""
        return required_schema(self.step_s, self.horizon)


@dataclass(frozen=True, slots=True)
class ModelWorkspace:
    """Where models live.

    trusted : types that a scikit-learn champion may hold, see `loaded.forecaster_of`
    make    : builds forecasters by name
    """

    registry: MlflowRegistry
    store: ModelStore
    runs: PipelineRuns
    trusted: tuple[str, ...] = ()
    make: ForecasterFactory = catalogue_forecaster


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What came of a run.

    beside : what else people should know of it, as on what it was judged and what was left out
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
    """Train, judge, register; make it the champion where the gate lets it pass.

    history : gives unique_id, ds, y, without what must not be learnt, see `left_out.left_out`; asked once, a
              run that goes on has it
    recipe  : what is trained; None = the job's forecaster of the catalogue
    hold    : only become challenger: it runs beside the champion before it may take its place
    as_set  : the job is what the engine's settings ask for: a champion that is made for something else, and
              so serves no more, is told by its recipe trained anew, and gives way at once
    told    : called with the run whenever it got on

    The same data and parameters give the version that there is. Raises BusyError, HistoryError,
    RegistryError.
    """
    recipe = recipe or CatalogueRecipe(job.forecaster, dict(job.parameters), workspace.make)
    with workspace.runs.start(asdict(job), by, on_change) as work:
        trained = _trained(job, history, workspace, recipe, work, hold=challenger_only, as_set=from_settings)
        if trained.notes:
            work.update(said="; ".join([work.run.said, *trained.notes]))
    return replace(trained, run=work.run)


def _trained(
    job: LoadJob,
    history: HistoryReader,
    place: ModelWorkspace,
    recipe: Recipe,
    work: ActiveRun,
    *,
    hold: bool,
    as_set: bool,
) -> TrainingResult:
    work.enter_stage("history", 0.0)
    named, left_out = _past(job, work, history)
    key = _key(job, named)
    known = place.registry.find_by_key(key)
    if known is not None:
        return _known(work, place, known)
    work.enter_stage("judge", 0.2)
    found = evaluate(job, named, place, recipe, work.folder)
    work.update(figures=_flat(found.figures))
    write_json(work.folder / "figures.json", dict(work.run.figures))
    work.enter_stage("fit", 0.5)
    stored = _fitted(job, named, found, recipe, work)
    restore_forecaster(stored, place.trusted, place.make)
    work.enter_stage("log", 0.75)
    registered = _registered(found, stored, key, place, work)
    work.enter_stage("gate", 0.9)
    wanted = job.schema() if as_set else None
    done = _gated(
        stored, registered, found, place, work, wanted, hold=hold and not (as_set and found.champion_mismatch)
    )
    return replace(done, notes=tuple(filter(None, (found.summary, left_out))))


def _past(job: LoadJob, work: ActiveRun, history: HistoryReader) -> tuple[NamedPanel, str]:
    """The panel, and what was left out; the table, which is several times its size, is let go."""
    past = _history(work, history)
    work.update(said=past.summary)
    return _panel(job, past.frame), past.summary


def _history(work: ActiveRun, history: HistoryReader) -> FilteredHistory:
    kept, words = work.folder / "history.parquet", work.folder / "left_out.txt"
    if kept.exists():
        return FilteredHistory(pd.read_parquet(kept), words.read_text("utf-8"))
    given = history()
    found = given if isinstance(given, FilteredHistory) else FilteredHistory(given)
    if not found.frame["y"].notna().any():
        raise HistoryError(NO_SAMPLES_MESSAGE)
    words.write_text(found.summary, "utf-8")
    part = kept.with_suffix(".part")
    found.frame.to_parquet(part)
    part.replace(kept)
    return found


def _panel(job: LoadJob, frame: pd.DataFrame) -> NamedPanel:
    return panel_from_history(frame, job.step_s, window_s=job.window_s, max_series=job.most)


def _key(job: LoadJob, named: NamedPanel) -> str:
    told = json.dumps(asdict(job), sort_keys=True).encode()
    return hashlib.blake2b(told + named.fingerprint().encode(), digest_size=16).hexdigest()


def _known(work: ActiveRun, place: ModelWorkspace, known: RegisteredVersion) -> TrainingResult:
    champion = place.store.index().champion == known.version
    said = f"nothing new: version {known.version} was trained from the same data and parameters"
    work.update(version=known.version, said=said)
    return TrainingResult(work.run, known.version, GateVerdict((said,)), champion, {})


def _fitted(
    job: LoadJob, named: NamedPanel, found: Evaluation, recipe: Recipe, work: ActiveRun
) -> StoredModel:
    folder = work.folder / "model"
    if folder.exists():
        shutil.rmtree(folder)
    forecaster = recipe.make_forecaster()
    forecaster.fit(named.panel)
    schema = {**job.schema(), "features": list(recipe.features)}
    manifest = Manifest(
        MODEL_NAME,
        recipe.kind,
        recipe.name,
        schema,
        recipe.parameters,
        _data(named),
        _flat(found.figures),
    )
    write_model(folder, manifest, recipe.pack(forecaster))
    return read_model(folder)


def _data(named: NamedPanel) -> dict[str, Any]:
    panel = named.panel
    until = int(panel.end.max())
    return {
        "since": until - panel.y.shape[0] * round(panel.step_s * NS), "until": until,
        "series": len(named.names), "rows": panel.y.shape[0], "fingerprint": named.fingerprint(),
    }  # fmt: skip


def _registered(
    found: Evaluation, stored: StoredModel, key: str, place: ModelWorkspace, work: ActiveRun
) -> RegisteredVersion:
    manifest = replace(stored.manifest, parameters={**work.run.request, **stored.manifest.parameters})
    logged = TrainedModel(key, work.folder / "model", stored.digest, manifest, found.plots, work.run.id)
    registered = place.registry.register(logged)
    place.store.add(registered.version, logged.folder, stored.digest, place.runs.now(), "train")
    work.update(version=registered.version)
    return registered


def _gated(
    stored: StoredModel,
    registered: RegisteredVersion,
    found: Evaluation,
    place: ModelWorkspace,
    work: ActiveRun,
    wanted: Mapping[str, Any] | None,
    *,
    hold: bool,
) -> TrainingResult:
    challenger, champion = _candidates(stored, found)
    verdict = check_promotion(challenger, champion, found.figures[NAIVE], wanted)
    version = registered.version
    if not verdict.passed:
        place.store.reject(version, f"refused: {verdict}")
        said = f"version {version} does not become champion: {verdict}. {_stays(found, place, wanted)}"
        work.update(said=f"{said}; {REFUSAL_ADVICE}")
        return TrainingResult(work.run, version, verdict, False, found.figures)
    place.registry.set_alias(CHALLENGER, version)
    place.store.set_challenger(version, "passed the gate")
    if hold:
        beside = "runs beside the champion" if champion else "is the challenger; there is no champion yet"
        work.update(said=f"version {version} {beside}: it passed the gate, and may take its place")
        return TrainingResult(work.run, version, verdict, False, found.figures)
    place.registry.set_alias(CHAMPION, version)
    place.registry.set_alias(CHALLENGER, None)
    place.store.promote(version, "passed the gate", by=work.run.by)
    before = f"; of the one before, {found.champion_mismatch}" if found.champion_mismatch else ""
    work.update(said=f"version {version} is the champion{before}", promoted=True)
    return TrainingResult(work.run, version, verdict, True, found.figures)


def _stays(found: Evaluation, place: ModelWorkspace, wanted: Mapping[str, Any] | None) -> str:
    """Who goes on forecasting after a refusal."""
    champion = place.store.index().champion
    if found.champion is None or champion is None or (wanted is not None and found.champion_mismatch):
        return "Seasonal naive goes on forecasting"
    return f"Version {champion} goes on forecasting"


def _candidates(stored: StoredModel, found: Evaluation) -> tuple[Candidate, Candidate | None]:
    mine = _candidate(stored, found.figures["challenger"])
    held = found.champion
    return mine, None if held is None else _candidate(held, found.figures["champion"])


def _candidate(stored: StoredModel, figures: ForecastMetrics) -> Candidate:
    manifest = stored.manifest
    return Candidate(stored.size_bytes, manifest.schema, figures, manifest.forecaster)


def _flat(figures: Mapping[str, ForecastMetrics]) -> dict[str, float | None]:
    """Figures of all contenders as "who.what"; None = unknown."""
    return {
        f"{who}.{what}": value if math.isfinite(value) else None
        for who, of in figures.items()
        for what, value in of.as_dict().items()
    }
