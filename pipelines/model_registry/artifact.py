"""A trained model on disk: its files and a manifest with the SHA-256 of each. Reading executes no code."""

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
"""Kind of model -> the files it has in addition to its manifest."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Description of a model; the file also lists the SHA-256 and length of the model's files.

    model      : purpose of the model, such as "load"
    kind       : "arrays" (a forecaster of the catalogue), "skops" (scikit-learn), "river"
    forecaster : name in the catalogue; for river, the import path of the class
    schema     : step_s, horizon, quantiles and features the model is made for
    parameters : constructor parameters, plain JSON
    trained    : since, until (int64 ns UTC), series, rows and fingerprint of the training data
    figures    : metrics of the evaluation by name; see `backtest_load.ForecastMetrics`
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
    """A model read from disk and verified.

    manifest   : description of the model
    files      : content by file name
    digest     : SHA-256 of the manifest, which lists those of the files
    size_bytes : size of all files
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    digest: str
    size_bytes: int

    def arrays(self) -> State:
        """Return the arrays of a model of kind "arrays". Raises ModelRefusedError if the file is invalid."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            found: State = load(self.files[ARRAYS_FILE])
        except (SafetensorError, KeyError, ValueError) as error:
            raise ModelRefusedError(f"{ARRAYS_FILE}: is not a valid safetensors file: {error}") from None
        return found


def write_model(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> str:
    """Write a model into an empty folder and return the SHA-256 of its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    listed = {name: {"sha256": _sha256(content), "bytes": len(content)} for name, content in files.items()}
    document = _json_safe({"format": FORMAT, **asdict(manifest), "files": listed})
    body = json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()
    (folder / MANIFEST_FILE).write_bytes(body)
    return _sha256(body)


def pack_arrays(state: State) -> bytes:
    """Return the state of a forecaster as the bytes of a safetensors file."""
    import numpy as np
    from safetensors.numpy import save

    packed: bytes = save({name: np.ascontiguousarray(array) for name, array in state.items()})
    return packed


def read_model(folder: Path, digest: str | None = None) -> StoredModel:
    """Read and verify a model. Each file is read once, so the verified content is the content used.

    digest : required SHA-256 of the manifest; None = any

    Raises ModelRefusedError for a missing or additional file, a wrong hash, a link, an unknown format or
    kind, and a file above the size limit.
    """
    body = _read_file(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    if digest is not None and _sha256(body) != digest:
        raise ModelRefusedError(
            f"{folder.name}/{MANIFEST_FILE}: SHA-256 is {_sha256(body)[:12]}..., not the registered "
            f"{digest[:12]}...: it was changed; train a new version"
        )
    manifest, listed = _parse_manifest(body)
    present = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_FILE)
    if present != sorted(listed):
        mismatch = sorted(set(present) ^ set(listed))
        raise ModelRefusedError(
            f"{folder.name}: {', '.join(mismatch)[:200]} does not match the manifest, which "
            f"lists {sorted(listed)}; train a new version"
        )
    files = {name: _read_verified(folder / name, entry) for name, entry in listed.items()}
    size = len(body) + sum(len(content) for content in files.values())
    return StoredModel(manifest, files, _sha256(body), size)


def _parse_manifest(body: bytes) -> tuple[Manifest, dict[str, dict[str, Any]]]:
    try:
        document = json.loads(body)
        format_version, listed = document.pop("format"), document.pop("files")
        if format_version != FORMAT:
            raise ModelRefusedError(
                f"{MANIFEST_FILE}: format is {format_version!r}, supported is {FORMAT}; update Trimtab"
            )
        manifest = Manifest(**document)
        expected = KINDS[manifest.kind]
    except ModelRefusedError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelRefusedError(
            f"{MANIFEST_FILE}: is not a valid manifest ({type(error).__name__})"
        ) from None
    if not isinstance(listed, dict) or set(listed) != expected:
        raise ModelRefusedError(
            f"{MANIFEST_FILE}: a model of kind {manifest.kind!r} has the files {sorted(expected)}, not "
            f"{sorted(map(str, listed))[:5]}"
        )
    return manifest, listed


def _read_verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    content = _read_file(path, MAX_MODEL_BYTES)
    if not isinstance(entry, dict) or entry.get("sha256") != _sha256(content):
        raise ModelRefusedError(
            f"{path.parent.name}/{path.name}: SHA-256 is {_sha256(content)[:12]}..., not that of the "
            "manifest: it was changed; train a new version"
        )
    return content


def _read_file(path: Path, max_bytes: int) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise ModelRefusedError(
            f"{path.parent.name}: has no {path.name}; a model is a manifest and its files"
        )
    size = path.stat().st_size
    if size > max_bytes:
        raise ModelRefusedError(f"{path.name}: has {size} bytes; the limit is {max_bytes}")
    with path.open("rb") as file:
        return file.read(max_bytes)


def _json_safe(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Replace numbers that are not finite by None, for JSON."""
    if isinstance(value, Mapping):
        return {str(name): _json_safe(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_json_safe(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
