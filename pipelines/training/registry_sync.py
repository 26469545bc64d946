"""Shelf and registry brought together: a champion that was named elsewhere is fetched, checked, served."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.model_registry.mlflow_registry import (
    CHALLENGER,
    CHAMPION,
    MlflowRegistry,
    RegisteredVersion,
)
from trimtab.pipelines.model_registry.model_store import ModelStore


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What came of it.

    champion : version that serves now; "" = none
    refused  : version -> why it is not trusted; told once
    """

    champion: str
    refused: dict[str, str]


def sync_registry(registry: MlflowRegistry, shelf: ModelStore, now: int) -> SyncResult:
    """Tell the registry what a person decided here; else take its champion and challenger over.

    Raises RegistryError where it does not answer: the shelf is as it was.
    """
    book = shelf.index()
    if book.untold:
        registry.set_alias(CHAMPION, book.champion)
        shelf.mark_registry_updated()
        return SyncResult(book.champion or "", {})
    refused: dict[str, str] = {}
    champion = registry.get_alias(CHAMPION)
    if champion is not None and champion.version != book.champion:
        _taken(registry, shelf, champion, now, refused)
        if champion.version not in refused and champion.version in shelf.index().versions:
            shelf.promote(champion.version, "champion of the registry", by="the registry")
    challenger = registry.get_alias(CHALLENGER)
    if challenger is not None and challenger.version not in {book.challenger, book.champion}:
        _taken(registry, shelf, challenger, now, refused)
        if challenger.version not in refused and challenger.version in shelf.index().versions:
            shelf.set_challenger(challenger.version, "challenger of the registry")
    return SyncResult(shelf.index().champion or "", refused)


def _taken(
    registry: MlflowRegistry, shelf: ModelStore, one: RegisteredVersion, now: int, refused: dict[str, str]
) -> None:
    """Put it on the shelf; a refusal that is new is noted in `refused`."""
    book = shelf.index()
    if one.version in book.versions:
        return
    known = book.refused.get(one.version)
    try:
        with tempfile.TemporaryDirectory(prefix="trimtab-model-") as folder:
            shelf.add(one.version, registry.fetch(one, Path(folder)), one.digest, now, "registry")
    except ModelRefusedError as error:
        shelf.mark_refused(one.version, str(error))
        if known != str(error):
            refused[one.version] = str(error)
