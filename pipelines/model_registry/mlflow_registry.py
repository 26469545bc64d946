"""The model registry: MLflow, on SQLite in the data folder unless a tracking server is configured.

What a trained model is made of, how it was judged and from which data is logged there; versions are
registered, and the aliases `champion` and `challenger` say which of them counts. The engine serves from
`shelf.Shelf`: it needs no registry to go on.
"""

import os
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from trimtab.pipelines.errors import ModelRefusedError, RegistryError
from trimtab.pipelines.model_registry.artifact import MANIFEST_FILE, MAX_MODEL_BYTES, Manifest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
ARTIFACT_FOLDER, DIGEST_TAG, KEY_TAG = "model", "manifest_sha256", "trimtab_key"
MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
"""Set before MLflow is imported: it tells nobody of itself, and a server that is away is soon known to be."""
_MOST_FILES = 20
_FILE = "mlflow.db"
T = TypeVar("T")


def registry_file_stamps(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells a registry in a folder from what it was before, without opening it; () = there is none."""
    found = []
    for path in sorted(folder.glob(f"{_FILE}*")):
        with suppress(FileNotFoundError):  # a journal that ended meanwhile
            stat = path.stat()
            found.append((path.name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What a training run tells the registry.

    key      : of data and parameters; the same key is the same version
    folder   : the model, as `artifact.write_model` left it
    digest   : of its manifest
    pictures : PNG files to look at
    """

    key: str
    folder: Path
    digest: str
    manifest: Manifest
    plots: Mapping[str, Path]
    run_id: str


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version in the registry."""

    version: str
    digest: str
    run_id: str


class MlflowRegistry:
    """Versions of one model.

    folder : where MLflow keeps all, unless `uri` names a tracking server
    uri    : "" = SQLite in the folder; else http(s)://...
    """

    def __init__(
        self, name: str, folder: Path, uri: str = "", environ: MutableMapping[str, str] = os.environ
    ) -> None:
        self.name = name
        self.folder = folder
        self.uri = uri
        self.environ = environ
        self._client: MlflowClient | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is in the folder."""
        return not self.uri

    def find_by_key(self, key: str) -> RegisteredVersion | None:
        """The version that was trained with this key. Raises RegistryError."""

        def ask(client: "MlflowClient") -> RegisteredVersion | None:
            found = client.search_model_versions(f"name = '{self.mlflow_name}'")
            return next((_registered(one) for one in found if one.tags.get(KEY_TAG) == key), None)

        return self._asked(ask)

    def get_alias(self, alias: str) -> RegisteredVersion | None:
        """The version that an alias names; None = it names none. Raises RegistryError."""

        def ask(client: "MlflowClient") -> RegisteredVersion | None:
            found = client.search_registered_models(f"name = '{self.mlflow_name}'")
            version = found[0].aliases.get(alias) if found else None
            return (
                None
                if version is None
                else _registered(client.get_model_version(self.mlflow_name, str(version)))
            )

        return self._asked(ask)

    def set_alias(self, alias: str, version: str | None) -> None:
        """Let an alias name a version, or none. Raises RegistryError."""
        if version is None:
            self._asked(lambda client: client.delete_registered_model_alias(self.mlflow_name, alias))
        else:
            self._asked(lambda client: client.set_registered_model_alias(self.mlflow_name, alias, version))

    def register(self, logged: TrainedModel) -> RegisteredVersion:
        """Log a run with parameters, figures, pictures and the model, and register it. Raises RegistryError.

        Nothing is registered before all is there.
        """
        return self._asked(lambda client: self._register(client, logged))

    def _register(self, client: "MlflowClient", logged: TrainedModel) -> RegisteredVersion:
        manifest = logged.manifest
        run = client.create_run(self._experiment(client), run_name=logged.run_id or None)
        run_id, address = run.info.run_id, run.info.artifact_uri
        try:
            for name, value in {"forecaster": manifest.forecaster, **manifest.parameters}.items():
                client.log_param(run_id, name, value)
            for name, told in manifest.trained.items():
                client.set_tag(run_id, f"trained.{name}", str(told))
            for name, figure in manifest.figures.items():
                if figure is not None:
                    client.log_metric(run_id, name, figure)
            for picture in logged.plots.values():
                client.log_artifact(run_id, str(picture), "pictures")
            for file in sorted(logged.folder.iterdir()):
                client.log_artifact(run_id, str(file), ARTIFACT_FOLDER)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
        if not client.search_registered_models(f"name = '{self.mlflow_name}'"):
            client.create_registered_model(self.mlflow_name)
        tags = {DIGEST_TAG: logged.digest, KEY_TAG: logged.key}
        made = client.create_model_version(
            self.mlflow_name, f"{address}/{ARTIFACT_FOLDER}", run_id, tags=tags
        )
        return _registered(made)

    def fetch(self, registered: RegisteredVersion, into: Path) -> Path:
        """Copy a version's files into a folder; nothing of them is run.

        Raises ModelRefusedError, RegistryError.

        They must be a handful of plain files, and stand where this registry keeps its own.
        """

        def ask(client: "MlflowClient") -> Path:
            address = client.get_run(registered.run_id).info.artifact_uri
            scheme, allowed = (
                urlsplit(address).scheme,
                {"file", ""} if self.is_local else {"mlflow-artifacts"},
            )
            if scheme not in allowed:
                raise ModelRefusedError(
                    f"version {registered.version}: its files are at {scheme}://..., which is not where this "
                    "registry keeps them; no other place is asked"
                )
            files = client.list_artifacts(registered.run_id, ARTIFACT_FOLDER)
            if len(files) > _MOST_FILES or any(one.is_dir for one in files):
                raise ModelRefusedError(f"version {registered.version}: is no handful of plain files")
            if sum(one.file_size or 0 for one in files) > MAX_MODEL_BYTES:
                raise ModelRefusedError(
                    f"version {registered.version}: is larger than a model of ours can be"
                )
            if MANIFEST_FILE not in {Path(one.path).name for one in files}:
                names = sorted(Path(one.path).name for one in files)
                raise ModelRefusedError(f"version {registered.version}: has no {MANIFEST_FILE}, but {names}")
            copied = [client.download_artifacts(registered.run_id, one.path, str(into)) for one in files]
            return Path(copied[0]).parent  # MLflow keeps the folder's name only where it asks a server

        return self._asked(ask)

    @property
    def mlflow_name(self) -> str:
        """Its name in MLflow."""
        return f"trimtab-{self.name}"

    def _experiment(self, client: "MlflowClient") -> str:
        found = client.get_experiment_by_name(self.mlflow_name)
        if found is not None:
            return str(found.experiment_id)
        place = (self.folder / "artifacts").absolute().as_uri() if self.is_local else None
        return str(client.create_experiment(self.mlflow_name, artifact_location=place))

    def _asked(self, ask: "Callable[[MlflowClient], T]") -> T:
        client = self._open()
        from mlflow.exceptions import MlflowException

        try:
            return ask(client)
        except (MlflowException, OSError) as error:
            first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
            if "Max retries exceeded" in first:
                first = "it does not answer; is the MLflow server running there, and is the address right?"
            raise RegistryError(
                f"the model registry {_public(self.uri) or self.folder} did not do it: {first}"
            ) from None

    def _open(self) -> "MlflowClient":
        if self._client is None:
            self.environ.update(MLFLOW_ENVIRONMENT)
            from mlflow import MlflowClient

            uri = self.uri
            if self.is_local:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                uri = f"sqlite:///{(self.folder / _FILE).absolute()}"
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        return self._client


def _registered(one: "ModelVersion") -> RegisteredVersion:
    tags: dict[str, Any] = one.tags or {}
    return RegisteredVersion(str(one.version), str(tags.get(DIGEST_TAG, "")), str(one.run_id))


def _public(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
