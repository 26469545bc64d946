"""Synchronise the model store with the registry."""

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
    """Result of a synchronisation.

    champion : version that serves; "" = none
    refused  : version -> reason, for each newly refused version
    """

    champion: str
    refused: dict[str, str]


def sync_registry(registry: MlflowRegistry, store: ModelStore, now: int) -> SyncResult:
    """Send a local change of the champion to the registry, or adopt its champion and challenger.

    now : int64 ns UTC

    Raises RegistryError if the registry does not answer; the store is then unchanged.
    """
    index = store.index()
    if index.untold:
        registry.set_alias(CHAMPION, index.champion)
        store.mark_registry_updated()
        return SyncResult(index.champion or "", {})
    refused: dict[str, str] = {}
    champion = registry.get_alias(CHAMPION)
    if champion is not None and champion.version != index.champion:
        _copy_to_store(registry, store, champion, now, refused)
        if champion.version not in refused and champion.version in store.index().versions:
            store.promote(champion.version, "champion of the registry", by="the registry")
    challenger = registry.get_alias(CHALLENGER)
    if challenger is not None and challenger.version not in {index.challenger, index.champion}:
        _copy_to_store(registry, store, challenger, now, refused)
        if challenger.version not in refused and challenger.version in store.index().versions:
            store.set_challenger(challenger.version, "challenger of the registry")
    return SyncResult(store.index().champion or "", refused)


def _copy_to_store(
    registry: MlflowRegistry,
    store: ModelStore,
    registered: RegisteredVersion,
    now: int,
    refused: dict[str, str],
) -> None:
    """Copy a version into the store; a new refusal is added to `refused`."""
    index = store.index()
    if registered.version in index.versions:
        return
    known_reason = index.refused.get(registered.version)
    try:
        with tempfile.TemporaryDirectory(prefix="trimtab-model-") as folder:
            store.add(
                registered.version,
                registry.fetch(registered, Path(folder)),
                registered.digest,
                now,
                "registry",
            )
    except ModelRefusedError as error:
        store.mark_refused(registered.version, str(error))
        if known_reason != str(error):
            refused[registered.version] = str(error)
