"""A trained model on disk: arrays and a manifest that names each file's SHA-256. Reading one runs no code."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trimtab.models.contracts import State
from trimtab.pipelines.errors import ModelRefusedError

FORMAT = 1
MANIFEST_FILE, ARRAYS_FILE, SKOPS_FILE = "manifest.json", "model.safetensors", "model.skops"
MAX_MANIFEST_BYTES, MAX_MODEL_BYTES = 1 << 20, 256 << 20
KINDS: Mapping[str, frozenset[str]] = {
    "arrays": frozenset({ARRAYS_FILE}),
    "skops": frozenset({SKOPS_FILE}),
    "river": frozenset(),
}
"""What a model may be -> the files that it has beside its manifest."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is said of a model, beside the SHA-256 and length of its files.

    model      : what it is for, as "load"
    kind       : "arrays" (a forecaster of the catalogue), "skops" (scikit-learn), "river"
    forecaster : its name in the catalogue; of a river model, the path of its class
    parameters : what it was made with, plain JSON
    schema     : step_s, horizon, quantiles, features: what it must be asked with
    trained    : since, until (int64 ns UTC), series, rows, fingerprint of the data
    figures    : how it was judged; see `backtest_load.Figures`
    """

    model: str
    kind: str
    forecaster: str
    schema: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    trained: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model as it was read, checked.

    digest     : SHA-256 of the manifest, which names those of the files
    size_bytes : of all files together
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    digest: str
    size_bytes: int

    def arrays(self) -> State:
        """The arrays of a model of kind "arrays"."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            found: State = load(self.files[ARRAYS_FILE])
        except (SafetensorError, KeyError, ValueError) as error:
            raise ModelRefusedError(f"{ARRAYS_FILE}: is no safetensors file: {error}") from None
        return found


def write_model(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> str:
    """Write a model into an empty folder; the SHA-256 of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    listed = {name: {"sha256": _sha256(content), "bytes": len(content)} for name, content in files.items()}
    told = _plain({"format": FORMAT, **asdict(manifest), "files": listed})
    body = json.dumps(told, indent=1, sort_keys=True, allow_nan=False).encode()
    (folder / MANIFEST_FILE).write_bytes(body)
    return _sha256(body)


def pack_arrays(state: State) -> bytes:
    """The state of a forecaster as a safetensors file."""
    import numpy as np
    from safetensors.numpy import save

    packed: bytes = save({name: np.ascontiguousarray(array) for name, array in state.items()})
    return packed


def read_model(folder: Path, digest: str | None = None) -> StoredModel:
    """Read a model and check it; each file is read once, so that what was checked is what is used.

    digest : SHA-256 that the manifest must have; None = any
    Raises ModelRefusedError for a file too many or too few, a wrong hash or length, a link, an unknown format
    or kind, and whatever is larger than a model of ours can be.
    """
    body = _content(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    if digest is not None and _sha256(body) != digest:
        raise ModelRefusedError(
            f"{folder.name}/{MANIFEST_FILE}: SHA-256 is {_sha256(body)[:12]}..., the registered one is "
            f"{digest[:12]}...: it was changed since; train a new version"
        )
    manifest, listed = _parsed(body)
    there = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_FILE)
    if there != sorted(listed):
        strange = sorted(set(there) ^ set(listed))
        raise ModelRefusedError(
            f"{folder.name}: {', '.join(strange)[:200]} is not what the manifest lists ({sorted(listed)}); "
            "a model has these files and no other"
        )
    files = {name: _checked(folder / name, told) for name, told in listed.items()}
    size = len(body) + sum(len(content) for content in files.values())
    return StoredModel(manifest, files, _sha256(body), size)


def _parsed(body: bytes) -> tuple[Manifest, dict[str, dict[str, Any]]]:
    try:
        told = json.loads(body)
        form, listed = told.pop("format"), told.pop("files")
        if form != FORMAT:
            raise ModelRefusedError(
                f"{MANIFEST_FILE}: format is {form!r}, wanted is {FORMAT}; update Trimtab"
            )
        manifest = Manifest(**told)
        wanted = KINDS[manifest.kind]
    except ModelRefusedError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelRefusedError(f"{MANIFEST_FILE}: is no manifest of ours ({type(error).__name__})") from None
    if not isinstance(listed, dict) or set(listed) != wanted:
        raise ModelRefusedError(
            f"{MANIFEST_FILE}: a model of kind {manifest.kind!r} has the files {sorted(wanted)}, not "
            f"{sorted(map(str, listed))[:5]}"
        )
    return manifest, listed


def _checked(path: Path, told: Mapping[str, Any]) -> bytes:
    content = _content(path, MAX_MODEL_BYTES)
    if not isinstance(told, dict) or told.get("sha256") != _sha256(content):
        raise ModelRefusedError(
            f"{path.parent.name}/{path.name}: SHA-256 is {_sha256(content)[:12]}..., not what the manifest "
            "says: it was changed; train a new version"
        )
    return content


def _content(path: Path, most: int) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise ModelRefusedError(
            f"{path.parent.name}: has no {path.name}; a model is a manifest and its files"
        )
    size = path.stat().st_size
    if size > most:
        raise ModelRefusedError(f"{path.name}: has {size} bytes; a model of ours has at most {most}")
    with path.open("rb") as file:
        return file.read(most)


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
