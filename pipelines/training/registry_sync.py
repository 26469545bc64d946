"""Shelf and registry brought together: a champion that was named elsewhere is fetched, checked, served."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.model_registry.mlflow_registry import CHALLENGER, CHAMPION, Registered, Registry
from trimtab.pipelines.model_registry.model_store import Shelf


@dataclass(frozen=True, slots=True)
class Synced:
    """What came of it.

    champion : version that serves now; "" = none
    refused  : version -> why it is not trusted; told once
    """

    champion: str
    refused: dict[str, str]


def sync(registry: Registry, shelf: Shelf, now: int) -> Synced:
    """Tell the registry what a person decided here; else take its champion and challenger over.

    Raises RegistryError where it does not answer: the shelf is as it was.
    """
    book = shelf.book()
    if book.untold:
        registry.set_alias(CHAMPION, book.champion)
        shelf.told()
        return Synced(book.champion or "", {})
    refused: dict[str, str] = {}
    champion = registry.alias(CHAMPION)
    if champion is not None and champion.version != book.champion:
        _taken(registry, shelf, champion, now, refused)
        if champion.version not in refused and champion.version in shelf.book().versions:
            shelf.promote(champion.version, "champion of the registry", by="the registry")
    challenger = registry.alias(CHALLENGER)
    if challenger is not None and challenger.version not in {book.challenger, book.champion}:
        _taken(registry, shelf, challenger, now, refused)
        if challenger.version not in refused and challenger.version in shelf.book().versions:
            shelf.challenge(challenger.version, "challenger of the registry")
    return Synced(shelf.book().champion or "", refused)


def _taken(registry: Registry, shelf: Shelf, one: Registered, now: int, refused: dict[str, str]) -> None:
    """Put it on the shelf; a refusal that is new is noted in `refused`."""
    book = shelf.book()
    if one.version in book.versions:
        return
    known = book.refused.get(one.version)
    try:
        with tempfile.TemporaryDirectory(prefix="trimtab-model-") as folder:
            shelf.put(one.version, registry.fetch(one, Path(folder)), one.digest, now, "registry")
    except ModelRefusedError as error:
        shelf.refuse(one.version, str(error))
        if known != str(error):
            refused[one.version] = str(error)
