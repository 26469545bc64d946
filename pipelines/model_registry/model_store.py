"""Models that may serve, in the data folder: the engine serves from here, whatever the registry does.

`shelf.json` names the versions, which of them is champion, challenger and previous, and what was refused.
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
from typing import Any
from uuid import uuid4

from trimtab.pipelines.errors import ModelRefusedError
from trimtab.pipelines.model_registry.artifact import StoredModel, read_model

KEPT_VERSIONS = 3
"""Versions that are kept: champion, previous, challenger; then the newest."""
INDEX_FILE = "shelf.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""It becomes a folder, so it may not lead elsewhere."""


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """What the shelf knows of one version.

    digest : SHA-256 of its manifest, as it was registered
    stored : int64 ns UTC
    by     : what brought it, as "train" or "registry"
    said   : of the gate
    """

    digest: str
    stored: int
    by: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class ChampionChange:
    """A change of the champion that the audit does not know yet.

    id     : of this change alone
    by     : who made it, as "schedule" or a person
    before : the champion before; None = there was none
    """

    id: str
    version: str
    by: str
    before: str | None


@dataclass(frozen=True, slots=True)
class ModelIndex:
    """What `shelf.json` says. None = there is no such version.

    refused : version -> why
    untold  : a person changed the champion here, and the registry does not know it yet
    moves   : written with the champion, so that no crash parts them; oldest first
    """

    versions: dict[str, VersionEntry] = field(default_factory=dict)
    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    untold: bool = False
    moves: tuple[ChampionChange, ...] = ()


class ModelStore:
    """The stored versions of one model, by name in a folder of their own. Safe between processes.

    folder : is made with the first version
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def index(self) -> ModelIndex:
        """What there is now; a book that cannot be read is an empty one, so that seasonal naive serves."""
        try:
            told = json.loads((self.folder / INDEX_FILE).read_bytes())
            told["versions"] = {name: VersionEntry(**slip) for name, slip in told["versions"].items()}
            told["moves"] = tuple(ChampionChange(**move) for move in told.get("moves", ()))
            return ModelIndex(**told)
        except (OSError, ValueError, TypeError, KeyError):
            return ModelIndex()

    def read(self, version: str) -> StoredModel:
        """A version, checked against what was registered. Raises ModelRefusedError."""
        slip = self.index().versions.get(version)
        if slip is None:
            raise ModelRefusedError(f"version {version!r} is not on the shelf {self.folder}")
        return read_model(self.folder / version, slip.digest)

    def add(self, version: str, source: Path, digest: str, now: int, by: str) -> StoredModel:
        """Take a version in, from a folder that holds it; checked before and whole or not at all.

        Raises ModelRefusedError, with the refusal in the book.
        """
        if not _NAME.fullmatch(version):
            raise ModelRefusedError(f"{version[:80]!r} is no name of a version; a registry counts 1, 2, 3")
        with self._writing() as book:
            try:
                stored = read_model(source, digest)
            except ModelRefusedError as error:
                self._write(replace(book, refused=_newest({**book.refused, version: str(error)})))
                raise
            part, place = self.folder / f".{version}.{os.getpid()}", self.folder / version
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(source, part)
            shutil.rmtree(place, ignore_errors=True)
            part.replace(place)
            refused = {name: why for name, why in book.refused.items() if name != version}
            slips = {**book.versions, version: VersionEntry(digest, now, by)}
            self._write(replace(book, versions=slips, refused=refused))
        return stored

    def set_challenger(self, version: str, note: str = "") -> None:
        """Make a version the challenger: it forecasts beside the champion and serves nobody."""
        with self._writing() as book:
            self._known(book, version)
            self._write(replace(_with_word(book, version, note), challenger=version))

    def promote(
        self, version: str, note: str = "", *, registry_pending: bool = False, by: str | None = None
    ) -> ModelIndex:
        """Make a version the champion; the one before is kept as previous. Raises ModelRefusedError.

        untold : the registry has to be told, see `syncing.sync`
        by     : who does, for the audit, see `audit`; None = it stands there already
        """
        with self._writing() as book:
            self._known(book, version)
            read_model(self.folder / version, book.versions[version].digest)
            if book.champion == version:
                return book
            challenger = None if book.challenger == version else book.challenger
            moves = [] if by is None else [ChampionChange(uuid4().hex, version, by, book.champion)]
            after = replace(
                _with_word(book, version, note), champion=version, previous=book.champion,
                challenger=challenger, untold=registry_pending, moves=(*book.moves, *moves),
            )  # fmt: skip
            pruned = _pruned(after)
            self._write(pruned)
            for gone in after.versions.keys() - pruned.versions.keys():
                shutil.rmtree(self.folder / gone, ignore_errors=True)
            return pruned

    def rollback(self) -> ModelIndex:
        """Let the previous champion serve again. Raises ModelRefusedError where there is none."""
        previous = self.index().previous
        if previous is None:
            raise ModelRefusedError("there is no previous champion to go back to")
        return self.promote(previous, "rolled back to", registry_pending=True)

    def audit_changes(self, write: Callable[[ChampionChange], None]) -> None:
        """Hand over each change of the champion that the audit lacks; what `write` raises leaves the rest.

        A process that ends in between hands a change over again: `write` knows it by its id.
        """
        if not self.index().moves:
            return
        with self._writing() as book:
            for done, move in enumerate(book.moves, 1):
                write(move)
                self._write(replace(book, moves=book.moves[done:]))

    def mark_registry_updated(self) -> None:
        """The registry knows who is champion."""
        with self._writing() as book:
            self._write(replace(book, untold=False))

    def reject(self, version: str, note: str) -> None:
        """A version that was refused keeps the reason; a challenger challenges no more."""
        with self._writing() as book:
            self._known(book, version)
            challenger = None if book.challenger == version else book.challenger
            self._write(replace(_with_word(book, version, note), challenger=challenger))

    def mark_refused(self, version: str, why: str) -> bool:
        """Remember that a version is not trusted; whether that is new."""
        with self._writing() as book:
            if book.refused.get(version) == why:
                return False
            self._write(replace(book, refused=_newest({**book.refused, version: why})))
            return True

    def _known(self, book: ModelIndex, version: str) -> None:
        if version not in book.versions:
            raise ModelRefusedError(f"version {version!r} is not on the shelf; there are {[*book.versions]}")

    def _write(self, book: ModelIndex) -> None:
        part = self.folder / f".{INDEX_FILE}.{os.getpid()}"
        with part.open("w", encoding="utf-8") as file:
            json.dump(_told(book), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / INDEX_FILE)

    @contextmanager
    def _writing(self) -> Iterator[ModelIndex]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.index()


def _told(book: ModelIndex) -> dict[str, Any]:
    return asdict(book)


def _with_word(book: ModelIndex, version: str, said: str) -> ModelIndex:
    return replace(book, versions={**book.versions, version: replace(book.versions[version], said=said)})


def _newest(refused: dict[str, str], most: int = 20) -> dict[str, str]:
    return dict(list(refused.items())[-most:])


def _pruned(book: ModelIndex) -> ModelIndex:
    named = [v for v in (book.champion, book.previous, book.challenger) if v is not None]
    others = sorted((v for v in book.versions if v not in named), key=lambda v: -book.versions[v].stored)
    kept = [*named, *others][: max(KEPT_VERSIONS, len(named))]
    return replace(book, versions={v: slip for v, slip in book.versions.items() if v in kept})
