"""Models in the data folder that the engine can serve, with or without the registry.

`shelf.json` lists the versions, which of them is champion, challenger and previous champion, and the refused
ones.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.model_registry.artifact import StoredModel, read_model

KEPT_VERSIONS = 3
"""Versions kept on disk: champion, previous and challenger, then the newest."""
INDEX_FILE = "shelf.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""A version becomes a folder name, so it must not be a path."""


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """What the store records of one version.

    digest : SHA-256 of its manifest at registration
    stored : int64 ns UTC
    by     : origin, such as "train" or "registry"
    said   : result of the gate, in words
    """

    digest: str
    stored: int
    by: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class ChampionChange:
    """A change of the champion that is not in the audit log yet.

    id      : unique id of the change
    version : the new champion
    by      : "schedule", or the operator who made the change
    before  : the previous champion; None = there was none
    """

    id: str
    version: str
    by: str
    before: str | None


@dataclass(frozen=True, slots=True)
class ModelIndex:
    """Content of `shelf.json`. A champion, challenger or previous version of None means there is none.

    versions : entries by version
    refused  : version -> reason
    untold   : an operator changed the champion here and the registry is not updated yet
    moves    : champion changes to audit, oldest first; written together with the champion, so a crash loses
               none
    """

    versions: dict[str, VersionEntry] = field(default_factory=dict)
    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    untold: bool = False
    moves: tuple[ChampionChange, ...] = ()


class ModelStore:
    """Stored versions of one model, each in a folder of its name. Safe for concurrent processes.

    folder : created with the first version
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def index(self) -> ModelIndex:
        """Return the current index; an unreadable file is an empty index, so that seasonal naive serves."""
        try:
            content = json.loads((self.folder / INDEX_FILE).read_bytes())
            content["versions"] = {name: VersionEntry(**entry) for name, entry in content["versions"].items()}
            content["moves"] = tuple(ChampionChange(**change) for change in content.get("moves", ()))
            return ModelIndex(**content)
        except (OSError, ValueError, TypeError, KeyError):
            return ModelIndex()

    def read(self, version: str) -> StoredModel:
        """Return a version, verified against its registered digest. Raises ModelRefusedError."""
        entry = self.index().versions.get(version)
        if entry is None:
            raise ModelRefusedError(f"version {version!r} is not in the model store {self.folder}")
        return read_model(self.folder / version, entry.digest)

    def add(self, version: str, source: Path, digest: str, now: int, by: str) -> StoredModel:
        """Verify a version in a folder and copy it into the store, atomically.

        digest : expected SHA-256 of its manifest
        now    : int64 ns UTC
        by     : origin, such as "train" or "registry"

        Raises ModelRefusedError, and records the reason in the index.
        """
        if not _NAME.fullmatch(version):
            raise ModelRefusedError(
                f"{version[:80]!r} is not a valid version; a registry uses numbers: 1, 2, 3"
            )
        with self._locked_index() as index:
            try:
                stored = read_model(source, digest)
            except ModelRefusedError as error:
                self._write(replace(index, refused=_keep_newest({**index.refused, version: str(error)})))
                raise
            temporary, target = self.folder / f".{version}.{os.getpid()}", self.folder / version
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(source, temporary)
            shutil.rmtree(target, ignore_errors=True)
            temporary.replace(target)
            refused = {name: reason for name, reason in index.refused.items() if name != version}
            entries = {**index.versions, version: VersionEntry(digest, now, by)}
            self._write(replace(index, versions=entries, refused=refused))
        return stored

    def set_challenger(self, version: str, note: str = "") -> None:
        """Make a version the challenger: its forecasts are evaluated but not served."""
        with self._locked_index() as index:
            self._require_version(index, version)
            self._write(replace(_with_note(index, version, note), challenger=version))

    def promote(
        self, version: str, note: str = "", *, registry_pending: bool = False, by: str | None = None
    ) -> ModelIndex:
        """Make a version the champion, keep the previous champion, and return the index.

        registry_pending : whether the registry has to be updated, see `registry_sync.sync_registry`
        by               : who made the change, for the audit; None = it is already audited

        Raises ModelRefusedError if the version is unknown or invalid.
        """
        with self._locked_index() as index:
            self._require_version(index, version)
            read_model(self.folder / version, index.versions[version].digest)
            if index.champion == version:
                return index
            challenger = None if index.challenger == version else index.challenger
            changes = [] if by is None else [ChampionChange(uuid4().hex, version, by, index.champion)]
            updated = replace(
                _with_note(index, version, note), champion=version, previous=index.champion,
                challenger=challenger, untold=registry_pending, moves=(*index.moves, *changes),
            )  # fmt: skip
            pruned = _prune(updated)
            self._write(pruned)
            for removed in updated.versions.keys() - pruned.versions.keys():
                shutil.rmtree(self.folder / removed, ignore_errors=True)
            return pruned

    def rollback(self) -> ModelIndex:
        """Make the previous champion the champion again. Raises ModelRefusedError if there is none."""
        previous = self.index().previous
        if previous is None:
            raise ModelRefusedError("there is no previous champion to roll back to")
        return self.promote(previous, "rolled back to", registry_pending=True)

    def audit_changes(self, write: Callable[[ChampionChange], None]) -> None:
        """Pass each unaudited change of the champion to `write`; an exception keeps the remaining changes.

        A process that ends in between passes a change again: `write` recognises it by its id.
        """
        if not self.index().moves:
            return
        with self._locked_index() as index:
            for done, change in enumerate(index.moves, 1):
                write(change)
                self._write(replace(index, moves=index.moves[done:]))

    def mark_registry_updated(self) -> None:
        """Record that the registry knows the current champion."""
        with self._locked_index() as index:
            self._write(replace(index, untold=False))

    def reject(self, version: str, note: str) -> None:
        """Record why a version failed the gate; a challenger loses its role."""
        with self._locked_index() as index:
            self._require_version(index, version)
            challenger = None if index.challenger == version else index.challenger
            self._write(replace(_with_note(index, version, note), challenger=challenger))

    def mark_refused(self, version: str, reason: str) -> bool:
        """Record that a version is not trusted, and return whether the reason is new."""
        with self._locked_index() as index:
            if index.refused.get(version) == reason:
                return False
            self._write(replace(index, refused=_keep_newest({**index.refused, version: reason})))
            return True

    def _require_version(self, index: ModelIndex, version: str) -> None:
        if version not in index.versions:
            raise ModelRefusedError(
                f"version {version!r} is not in the model store; known are {[*index.versions]}"
            )

    def _write(self, index: ModelIndex) -> None:
        temporary = self.folder / f".{INDEX_FILE}.{os.getpid()}"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(index), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / INDEX_FILE)

    @contextmanager
    def _locked_index(self) -> Iterator[ModelIndex]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.index()


def _with_note(index: ModelIndex, version: str, note: str) -> ModelIndex:
    return replace(index, versions={**index.versions, version: replace(index.versions[version], said=note)})


def _keep_newest(refused: dict[str, str], limit: int = 20) -> dict[str, str]:
    return dict(list(refused.items())[-limit:])


def _prune(index: ModelIndex) -> ModelIndex:
    named = [v for v in (index.champion, index.previous, index.challenger) if v is not None]
    others = sorted((v for v in index.versions if v not in named), key=lambda v: -index.versions[v].stored)
    kept = [*named, *others][: max(KEPT_VERSIONS, len(named))]
    return replace(index, versions={v: entry for v, entry in index.versions.items() if v in kept})
