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
from trimtab.pipelines.model_registry.artifact import Stored, read_model

KEEP = 3
"""Versions that are kept: champion, previous, challenger; then the newest."""
BOOK = "shelf.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""It becomes a folder, so it may not lead elsewhere."""


@dataclass(frozen=True, slots=True)
class Slip:
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
class Move:
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
class Book:
    """What `shelf.json` says. None = there is no such version.

    refused : version -> why
    untold  : a person changed the champion here, and the registry does not know it yet
    moves   : written with the champion, so that no crash parts them; oldest first
    """

    versions: dict[str, Slip] = field(default_factory=dict)
    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    untold: bool = False
    moves: tuple[Move, ...] = ()


class Shelf:
    """The stored versions of one model, by name in a folder of their own. Safe between processes.

    folder : is made with the first version
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def book(self) -> Book:
        """What there is now; a book that cannot be read is an empty one, so that seasonal naive serves."""
        try:
            told = json.loads((self.folder / BOOK).read_bytes())
            told["versions"] = {name: Slip(**slip) for name, slip in told["versions"].items()}
            told["moves"] = tuple(Move(**move) for move in told.get("moves", ()))
            return Book(**told)
        except (OSError, ValueError, TypeError, KeyError):
            return Book()

    def read(self, version: str) -> Stored:
        """A version, checked against what was registered. Raises ModelRefusedError."""
        slip = self.book().versions.get(version)
        if slip is None:
            raise ModelRefusedError(f"version {version!r} is not on the shelf {self.folder}")
        return read_model(self.folder / version, slip.digest)

    def put(self, version: str, source: Path, digest: str, now: int, by: str) -> Stored:
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
            slips = {**book.versions, version: Slip(digest, now, by)}
            self._write(replace(book, versions=slips, refused=refused))
        return stored

    def challenge(self, version: str, said: str = "") -> None:
        """Make a version the challenger: it forecasts beside the champion and serves nobody."""
        with self._writing() as book:
            self._known(book, version)
            self._write(replace(_with_word(book, version, said), challenger=version))

    def promote(self, version: str, said: str = "", *, untold: bool = False, by: str | None = None) -> Book:
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
            moves = [] if by is None else [Move(uuid4().hex, version, by, book.champion)]
            after = replace(
                _with_word(book, version, said), champion=version, previous=book.champion,
                challenger=challenger, untold=untold, moves=(*book.moves, *moves),
            )  # fmt: skip
            pruned = _pruned(after)
            self._write(pruned)
            for gone in after.versions.keys() - pruned.versions.keys():
                shutil.rmtree(self.folder / gone, ignore_errors=True)
            return pruned

    def rollback(self) -> Book:
        """Let the previous champion serve again. Raises ModelRefusedError where there is none."""
        previous = self.book().previous
        if previous is None:
            raise ModelRefusedError("there is no previous champion to go back to")
        return self.promote(previous, "rolled back to", untold=True)

    def audit(self, write: Callable[[Move], None]) -> None:
        """Hand over each change of the champion that the audit lacks; what `write` raises leaves the rest.

        A process that ends in between hands a change over again: `write` knows it by its id.
        """
        if not self.book().moves:
            return
        with self._writing() as book:
            for done, move in enumerate(book.moves, 1):
                write(move)
                self._write(replace(book, moves=book.moves[done:]))

    def told(self) -> None:
        """The registry knows who is champion."""
        with self._writing() as book:
            self._write(replace(book, untold=False))

    def dismiss(self, version: str, said: str) -> None:
        """A version that was refused keeps the reason; a challenger challenges no more."""
        with self._writing() as book:
            self._known(book, version)
            challenger = None if book.challenger == version else book.challenger
            self._write(replace(_with_word(book, version, said), challenger=challenger))

    def refuse(self, version: str, why: str) -> bool:
        """Remember that a version is not trusted; whether that is new."""
        with self._writing() as book:
            if book.refused.get(version) == why:
                return False
            self._write(replace(book, refused=_newest({**book.refused, version: why})))
            return True

    def _known(self, book: Book, version: str) -> None:
        if version not in book.versions:
            raise ModelRefusedError(f"version {version!r} is not on the shelf; there are {[*book.versions]}")

    def _write(self, book: Book) -> None:
        part = self.folder / f".{BOOK}.{os.getpid()}"
        with part.open("w", encoding="utf-8") as file:
            json.dump(_told(book), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / BOOK)

    @contextmanager
    def _writing(self) -> Iterator[Book]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.book()


def _told(book: Book) -> dict[str, Any]:
    return asdict(book)


def _with_word(book: Book, version: str, said: str) -> Book:
    return replace(book, versions={**book.versions, version: replace(book.versions[version], said=said)})


def _newest(refused: dict[str, str], most: int = 20) -> dict[str, str]:
    return dict(list(refused.items())[-most:])


def _pruned(book: Book) -> Book:
    named = [v for v in (book.champion, book.previous, book.challenger) if v is not None]
    others = sorted((v for v in book.versions if v not in named), key=lambda v: -book.versions[v].stored)
    kept = [*named, *others][: max(KEEP, len(named))]
    return replace(book, versions={v: slip for v, slip in book.versions.items() if v in kept})
