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
from trimtab.pipelines.forecasting.backtest_load import Figures
from trimtab.pipelines.io.panel import NO_SAMPLE, NS, Named, panel_of
from trimtab.pipelines.model_registry.artifact import Manifest, Stored, read_model, write_model
from trimtab.pipelines.model_registry.mlflow_registry import (
    CHALLENGER,
    CHAMPION,
    Logged,
    Registered,
    Registry,
)
from trimtab.pipelines.model_registry.model_loader import Make, forecaster_of, made
from trimtab.pipelines.model_registry.model_schema import asked
from trimtab.pipelines.model_registry.model_store import Shelf
from trimtab.pipelines.model_registry.recipe import Catalogued, Recipe
from trimtab.pipelines.training.evaluation import NAIVE, Judged, judged
from trimtab.pipelines.training.excluded_windows import Left
from trimtab.pipelines.training.pipeline_runs import Run, Runs, Work, write_json
from trimtab.pipelines.training.promotion_gate import Candidate, Verdict, judge

MODEL = "load"
STAGES = ("history", "judge", "fit", "log", "gate")
NEXT = (
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
        return asked(self.step_s, self.horizon)


@dataclass(frozen=True, slots=True)
class Place:
    """Where models live.

    trusted : types that a scikit-learn champion may hold, see `loaded.forecaster_of`
    make    : builds forecasters by name
    """

    registry: Registry
    shelf: Shelf
    runs: Runs
    trusted: tuple[str, ...] = ()
    make: Make = made


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a run.

    beside : what else people should know of it, as on what it was judged and what was left out
    """

    run: Run
    version: str
    verdict: Verdict
    promoted: bool
    figures: Mapping[str, Figures]
    beside: tuple[str, ...] = ()


Told = Callable[[Run], None]
History = Callable[[], "pd.DataFrame | Left"]


def train_load(
    job: LoadJob,
    history: History,
    place: Place,
    *,
    by: str = "",
    recipe: Recipe | None = None,
    hold: bool = False,
    as_set: bool = False,
    told: Told = lambda _: None,
) -> Trained:
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
    recipe = recipe or Catalogued(job.forecaster, dict(job.parameters), place.make)
    with place.runs.begin(asdict(job), by, told) as work:
        trained = _trained(job, history, place, recipe, work, hold=hold, as_set=as_set)
        if trained.beside:
            work.change(said="; ".join([work.run.said, *trained.beside]))
    return replace(trained, run=work.run)


def _trained(
    job: LoadJob,
    history: History,
    place: Place,
    recipe: Recipe,
    work: Work,
    *,
    hold: bool,
    as_set: bool,
) -> Trained:
    work.at("history", 0.0)
    named, left_out = _past(job, work, history)
    key = _key(job, named)
    known = place.registry.find(key)
    if known is not None:
        return _known(work, place, known)
    work.at("judge", 0.2)
    found = judged(job, named, place, recipe, work.folder)
    work.change(figures=_flat(found.figures))
    write_json(work.folder / "figures.json", dict(work.run.figures))
    work.at("fit", 0.5)
    stored = _fitted(job, named, found, recipe, work)
    forecaster_of(stored, place.trusted, place.make)
    work.at("log", 0.75)
    registered = _registered(found, stored, key, place, work)
    work.at("gate", 0.9)
    wanted = job.schema() if as_set else None
    done = _gated(stored, registered, found, place, work, wanted, hold=hold and not (as_set and found.unfit))
    return replace(done, beside=tuple(filter(None, (found.said, left_out))))


def _past(job: LoadJob, work: Work, history: History) -> tuple[Named, str]:
    """The panel, and what was left out; the table, which is several times its size, is let go."""
    past = _history(work, history)
    work.change(said=past.said)
    return _panel(job, past.frame), past.said


def _history(work: Work, history: History) -> Left:
    kept, words = work.folder / "history.parquet", work.folder / "left_out.txt"
    if kept.exists():
        return Left(pd.read_parquet(kept), words.read_text("utf-8"))
    given = history()
    found = given if isinstance(given, Left) else Left(given)
    if not found.frame["y"].notna().any():
        raise HistoryError(NO_SAMPLE)
    words.write_text(found.said, "utf-8")
    part = kept.with_suffix(".part")
    found.frame.to_parquet(part)
    part.replace(kept)
    return found


def _panel(job: LoadJob, frame: pd.DataFrame) -> Named:
    return panel_of(frame, job.step_s, window_s=job.window_s, most=job.most)


def _key(job: LoadJob, named: Named) -> str:
    told = json.dumps(asdict(job), sort_keys=True).encode()
    return hashlib.blake2b(told + named.fingerprint().encode(), digest_size=16).hexdigest()


def _known(work: Work, place: Place, known: Registered) -> Trained:
    champion = place.shelf.book().champion == known.version
    said = f"nothing new: version {known.version} was trained from the same data and parameters"
    work.change(version=known.version, said=said)
    return Trained(work.run, known.version, Verdict((said,)), champion, {})


def _fitted(job: LoadJob, named: Named, found: Judged, recipe: Recipe, work: Work) -> Stored:
    folder = work.folder / "model"
    if folder.exists():
        shutil.rmtree(folder)
    forecaster = recipe.fresh()
    forecaster.fit(named.panel)
    schema = {**job.schema(), "features": list(recipe.features)}
    manifest = Manifest(
        MODEL,
        recipe.kind,
        recipe.name,
        schema,
        recipe.parameters,
        _data(named),
        _flat(found.figures),
    )
    write_model(folder, manifest, recipe.pack(forecaster))
    return read_model(folder)


def _data(named: Named) -> dict[str, Any]:
    panel = named.panel
    until = int(panel.end.max())
    return {
        "since": until - panel.y.shape[0] * round(panel.step_s * NS), "until": until,
        "series": len(named.names), "rows": panel.y.shape[0], "fingerprint": named.fingerprint(),
    }  # fmt: skip


def _registered(found: Judged, stored: Stored, key: str, place: Place, work: Work) -> Registered:
    manifest = replace(stored.manifest, parameters={**work.run.request, **stored.manifest.parameters})
    logged = Logged(key, work.folder / "model", stored.digest, manifest, found.pictures, work.run.id)
    registered = place.registry.register(logged)
    place.shelf.put(registered.version, logged.folder, stored.digest, place.runs.now(), "train")
    work.change(version=registered.version)
    return registered


def _gated(
    stored: Stored,
    registered: Registered,
    found: Judged,
    place: Place,
    work: Work,
    wanted: Mapping[str, Any] | None,
    *,
    hold: bool,
) -> Trained:
    challenger, champion = _candidates(stored, found)
    verdict = judge(challenger, champion, found.figures[NAIVE], wanted)
    version = registered.version
    if not verdict.passed:
        place.shelf.dismiss(version, f"refused: {verdict}")
        said = f"version {version} does not become champion: {verdict}. {_stays(found, place, wanted)}"
        work.change(said=f"{said}; {NEXT}")
        return Trained(work.run, version, verdict, False, found.figures)
    place.registry.set_alias(CHALLENGER, version)
    place.shelf.challenge(version, "passed the gate")
    if hold:
        beside = "runs beside the champion" if champion else "is the challenger; there is no champion yet"
        work.change(said=f"version {version} {beside}: it passed the gate, and may take its place")
        return Trained(work.run, version, verdict, False, found.figures)
    place.registry.set_alias(CHAMPION, version)
    place.registry.set_alias(CHALLENGER, None)
    place.shelf.promote(version, "passed the gate", by=work.run.by)
    before = f"; of the one before, {found.unfit}" if found.unfit else ""
    work.change(said=f"version {version} is the champion{before}", promoted=True)
    return Trained(work.run, version, verdict, True, found.figures)


def _stays(found: Judged, place: Place, wanted: Mapping[str, Any] | None) -> str:
    """Who goes on forecasting after a refusal."""
    champion = place.shelf.book().champion
    if found.champion is None or champion is None or (wanted is not None and found.unfit):
        return "Seasonal naive goes on forecasting"
    return f"Version {champion} goes on forecasting"


def _candidates(stored: Stored, found: Judged) -> tuple[Candidate, Candidate | None]:
    mine = _candidate(stored, found.figures["challenger"])
    held = found.champion
    return mine, None if held is None else _candidate(held, found.figures["champion"])


def _candidate(stored: Stored, figures: Figures) -> Candidate:
    manifest = stored.manifest
    return Candidate(stored.size_bytes, manifest.schema, figures, manifest.forecaster)


def _flat(figures: Mapping[str, Figures]) -> dict[str, float | None]:
    """Figures of all contenders as "who.what"; None = unknown."""
    return {
        f"{who}.{what}": value if math.isfinite(value) else None
        for who, of in figures.items()
        for what, value in of.as_dict().items()
    }
