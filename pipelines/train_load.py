"""The load pipeline: history -> panel -> judgement -> fit -> registry -> gate -> champion.

Nothing that serves changes before the last stage, so a run that fails or is killed changes nothing.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from trimtab.models.contracts import Forecaster
from trimtab.pipelines.ahead import QUANTILES
from trimtab.pipelines.artifact import Manifest, Stored, read_model, write_model
from trimtab.pipelines.backtest_load import Figures, backtest_load, origins_of
from trimtab.pipelines.errors import HistoryError
from trimtab.pipelines.load_pictures import draw
from trimtab.pipelines.loaded import Make, forecaster_of, made
from trimtab.pipelines.mlflow_registry import CHALLENGER, CHAMPION, Logged, Registered, Registry
from trimtab.pipelines.panel import NO_SAMPLE, NS, Named, panel_of
from trimtab.pipelines.promote import Candidate, Verdict, judge
from trimtab.pipelines.recipes import Catalogued, Recipe
from trimtab.pipelines.runs import Run, Runs, Work, write_json
from trimtab.pipelines.shelf import Shelf

MODEL, NAIVE = "load", "seasonal_naive"
STAGES = ("history", "judge", "fit", "log", "gate")
FEWEST_ROWS = 24
"""Rows that the past of the first judged window must have at least."""


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
        return {"step_s": self.step_s, "horizon": self.horizon, "quantiles": list(QUANTILES)}


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
    """What came of a run."""

    run: Run
    version: str
    verdict: Verdict
    promoted: bool
    figures: Mapping[str, Figures]


Told = Callable[[Run], None]


def train_load(
    job: LoadJob,
    history: Callable[[], pd.DataFrame],
    place: Place,
    *,
    by: str = "",
    recipe: Recipe | None = None,
    hold: bool = False,
    told: Told = lambda _: None,
) -> Trained:
    """Train, judge, register; make it the champion where the gate lets it pass.

    history : gives unique_id, ds, y, without what must not be learnt; asked once, a run that goes on has it
    recipe  : what is trained; None = the job's forecaster of the catalogue
    hold    : only become challenger: it runs beside the champion before it may take its place
    told    : called with the run whenever it got on

    The same data and parameters give the version that there is. Raises BusyError, HistoryError,
    RegistryError.
    """
    recipe = recipe or Catalogued(job.forecaster, dict(job.parameters), place.make)
    with place.runs.begin(asdict(job), by, told) as work:
        trained = _trained(job, history, place, recipe, work, hold=hold)
    return replace(trained, run=work.run)


def _trained(
    job: LoadJob,
    history: Callable[[], pd.DataFrame],
    place: Place,
    recipe: Recipe,
    work: Work,
    *,
    hold: bool,
) -> Trained:
    work.at("history", 0.0)
    named = _panel(job, _history(work, history))
    key = _key(job, named)
    known = place.registry.find(key)
    if known is not None:
        return _known(work, place, known)
    work.at("judge", 0.2)
    judged = _judged(job, named, place, recipe, work)
    work.at("fit", 0.5)
    stored = _fitted(job, named, judged, recipe, work)
    forecaster_of(stored, place.trusted, place.make)
    work.at("log", 0.75)
    registered = _registered(judged, stored, key, place, work)
    work.at("gate", 0.9)
    return _gated(stored, registered, judged, place, work, hold=hold)


def _history(work: Work, history: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    kept = work.folder / "history.parquet"
    if kept.exists():
        return pd.read_parquet(kept)
    frame = history()
    if not frame["y"].notna().any():
        raise HistoryError(NO_SAMPLE)
    part = kept.with_suffix(".part")
    frame.to_parquet(part)
    part.replace(kept)
    return frame


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


@dataclass(frozen=True, slots=True)
class Judged:
    """Figures on the same windows; champion None = there is none that can be read."""

    figures: Mapping[str, Figures]
    champion: Stored | None
    pictures: Mapping[str, Path]


def _judged(job: LoadJob, named: Named, place: Place, recipe: Recipe, work: Work) -> Judged:
    rows = named.panel.y.shape[0]
    horizon = min(job.horizon, rows // 3)
    origins = origins_of(rows, horizon, job.origins, max(FEWEST_ROWS, horizon))
    if not origins:
        raise HistoryError(
            f"the history has {rows} steps of {job.step_s:g} s, wanted are {2 * FEWEST_ROWS} at least to "
            "learn from and to judge by; wait, or give a longer --since"
        )
    past = named.rows(origins[0]).panel
    contenders: dict[str, Forecaster] = {"challenger": recipe.fresh(), NAIVE: place.make(NAIVE)}
    for contender in contenders.values():
        contender.fit(past)
    champion = _champion(place, named.rows(origins[0]), horizon)
    if champion is not None:
        contenders["champion"] = forecaster_of(champion, place.trusted, place.make)
    figures = backtest_load(named, contenders, horizon, origins)
    work.change(figures=_flat(figures))
    write_json(work.folder / "figures.json", dict(work.run.figures))
    return Judged(figures, champion, draw(named, contenders, horizon, origins[-1], figures, work.folder))


def _champion(place: Place, past: Named, horizon: int) -> Stored | None:
    """The champion; None where there is none that can be read, and forecasts."""
    book = place.shelf.book()
    named = None if book.untold else place.registry.alias(CHAMPION)  # as a notebook promotes
    version = named.version if named is not None and named.version in book.versions else book.champion
    if version is None:
        return None
    try:
        stored = place.shelf.read(version)
        forecaster_of(stored, place.trusted, place.make).predict(past.panel, horizon, QUANTILES)
    except Exception:  # forecasting tells why; a champion that fails must not keep a better one away
        return None
    return stored


def _fitted(job: LoadJob, named: Named, judged: Judged, recipe: Recipe, work: Work) -> Stored:
    folder = work.folder / "model"
    if folder.exists():
        shutil.rmtree(folder)
    forecaster = recipe.fresh()
    forecaster.fit(named.panel)
    manifest = Manifest(
        MODEL, recipe.kind, recipe.name, job.schema(), recipe.parameters, _data(named), _flat(judged.figures)
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


def _registered(judged: Judged, stored: Stored, key: str, place: Place, work: Work) -> Registered:
    manifest = replace(stored.manifest, parameters={**work.run.request, **stored.manifest.parameters})
    logged = Logged(key, work.folder / "model", stored.digest, manifest, judged.pictures, work.run.id)
    registered = place.registry.register(logged)
    place.shelf.put(registered.version, logged.folder, stored.digest, place.runs.now(), "train")
    work.change(version=registered.version)
    return registered


def _gated(
    stored: Stored, registered: Registered, judged: Judged, place: Place, work: Work, *, hold: bool
) -> Trained:
    challenger, champion = _candidates(stored, judged)
    verdict = judge(challenger, champion, judged.figures[NAIVE])
    version = registered.version
    if not verdict.passed:
        place.shelf.dismiss(version, f"refused: {verdict}")
        work.change(said=f"version {version} does not become champion: {verdict}")
        return Trained(work.run, version, verdict, False, judged.figures)
    place.registry.set_alias(CHALLENGER, version)
    place.shelf.challenge(version, "passed the gate")
    if hold:
        beside = "runs beside the champion" if champion else "is the challenger; there is no champion yet"
        work.change(said=f"version {version} {beside}: it passed the gate, and may take its place")
        return Trained(work.run, version, verdict, False, judged.figures)
    place.registry.set_alias(CHAMPION, version)
    place.registry.set_alias(CHALLENGER, None)
    place.shelf.promote(version, "passed the gate")
    work.change(said=f"version {version} is the champion", promoted=True)
    return Trained(work.run, version, verdict, True, judged.figures)


def _candidates(stored: Stored, judged: Judged) -> tuple[Candidate, Candidate | None]:
    mine = Candidate(stored.size_bytes, stored.manifest.schema, judged.figures["challenger"])
    held = judged.champion
    if held is None:
        return mine, None
    return mine, Candidate(held.size_bytes, held.manifest.schema, judged.figures["champion"])


def _flat(figures: Mapping[str, Figures]) -> dict[str, float | None]:
    """Figures of all contenders as "who.what"; None = unknown."""
    return {
        f"{who}.{what}": value if math.isfinite(value) else None
        for who, of in figures.items()
        for what, value in of.as_dict().items()
    }
