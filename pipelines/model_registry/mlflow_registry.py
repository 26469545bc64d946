"""Model registry over MLflow: SQLite in the data folder, or a configured tracking server.

A training run logs its parameters, metrics, plots and data fingerprint, and registers a version; the aliases
`champion` and `challenger` each name one version. The engine serves from `model_store.ModelStore`, so it
works without the registry.
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
"""Set before MLflow is imported: disables its telemetry and makes an absent server fail quickly."""
_MAX_FILES = 20
_FILE = "mlflow.db"
T = TypeVar("T")


def registry_file_stamps(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Return (name, mtime in ns, bytes) of the registry's files, to detect changes; () = no files."""
    found = []
    for path in sorted(folder.glob(f"{_FILE}*")):
        with suppress(FileNotFoundError):  # a journal file that was just removed
            stat = path.stat()
            found.append((path.name, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained model to register.

    key      : hash of data and parameters; the same key means the same version
    folder   : folder that `artifact.write_model` wrote
    digest   : SHA-256 of its manifest
    manifest : description of the model
    plots    : PNG files by name
    run_id   : id of the pipeline run
    """

    key: str
    folder: Path
    digest: str
    manifest: Manifest
    plots: Mapping[str, Path]
    run_id: str


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version in the registry: its number, the SHA-256 of its manifest, and its MLflow run."""

    version: str
    digest: str
    run_id: str


class MlflowRegistry:
    """Registered versions of one model.

    name    : name of the model, such as "load"
    folder  : folder of the SQLite registry and its artifacts; unused with a tracking server
    uri     : http(s)://... of a tracking server; "" = SQLite in the folder
    environ : process environment, which receives MLFLOW_ENVIRONMENT
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
        """Whether the registry is in the folder."""
        return not self.uri

    def find_by_key(self, key: str) -> RegisteredVersion | None:
        """Return the version trained with this key; None = there is none. Raises RegistryError."""

        def query(client: "MlflowClient") -> RegisteredVersion | None:
            found = client.search_model_versions(f"name = '{self.mlflow_name}'")
            return next((_to_registered_version(one) for one in found if one.tags.get(KEY_TAG) == key), None)

        return self._call(query)

    def get_alias(self, alias: str) -> RegisteredVersion | None:
        """Return the version that an alias names; None = none. Raises RegistryError."""

        def query(client: "MlflowClient") -> RegisteredVersion | None:
            found = client.search_registered_models(f"name = '{self.mlflow_name}'")
            version = found[0].aliases.get(alias) if found else None
            if version is None:
                return None
            return _to_registered_version(client.get_model_version(self.mlflow_name, str(version)))

        return self._call(query)

    def set_alias(self, alias: str, version: str | None) -> None:
        """Make an alias name a version; None removes the alias. Raises RegistryError."""
        if version is None:
            self._call(lambda client: client.delete_registered_model_alias(self.mlflow_name, alias))
        else:
            self._call(lambda client: client.set_registered_model_alias(self.mlflow_name, alias, version))

    def register(self, trained_model: TrainedModel) -> RegisteredVersion:
        """Log a run with parameters, metrics, plots and the model, then register it as a version.

        The version is created last, so it is never incomplete. Raises RegistryError.
        """
        return self._call(lambda client: self._register(client, trained_model))

    def _register(self, client: "MlflowClient", trained_model: TrainedModel) -> RegisteredVersion:
        manifest = trained_model.manifest
        run = client.create_run(self._experiment_id(client), run_name=trained_model.run_id or None)
        run_id, artifact_address = run.info.run_id, run.info.artifact_uri
        try:
            for name, value in {"forecaster": manifest.forecaster, **manifest.parameters}.items():
                client.log_param(run_id, name, value)
            for name, value in manifest.trained.items():
                client.set_tag(run_id, f"trained.{name}", str(value))
            for name, metric in manifest.figures.items():
                if metric is not None:
                    client.log_metric(run_id, name, metric)
            for plot in trained_model.plots.values():
                client.log_artifact(run_id, str(plot), "pictures")
            for file in sorted(trained_model.folder.iterdir()):
                client.log_artifact(run_id, str(file), ARTIFACT_FOLDER)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
        if not client.search_registered_models(f"name = '{self.mlflow_name}'"):
            client.create_registered_model(self.mlflow_name)
        tags = {DIGEST_TAG: trained_model.digest, KEY_TAG: trained_model.key}
        created = client.create_model_version(
            self.mlflow_name, f"{artifact_address}/{ARTIFACT_FOLDER}", run_id, tags=tags
        )
        return _to_registered_version(created)

    def fetch(self, registered: RegisteredVersion, into: Path) -> Path:
        """Copy a version's files into a folder and return that folder; executes none of them.

        Accepts only a small number of plain files from this registry's own artifact store.
        Raises ModelRefusedError for anything else, RegistryError if the registry does not answer.
        """

        def query(client: "MlflowClient") -> Path:
            artifact_address = client.get_run(registered.run_id).info.artifact_uri
            scheme = urlsplit(artifact_address).scheme
            allowed = {"file", ""} if self.is_local else {"mlflow-artifacts"}
            if scheme not in allowed:
                raise ModelRefusedError(
                    f"version {registered.version}: its files are at {scheme}://..., outside the artifact "
                    "store of this registry, and are not fetched"
                )
            files = client.list_artifacts(registered.run_id, ARTIFACT_FOLDER)
            if len(files) > _MAX_FILES or any(one.is_dir for one in files):
                raise ModelRefusedError(
                    f"version {registered.version}: contains a folder or more than {_MAX_FILES} files"
                )
            if sum(one.file_size or 0 for one in files) > MAX_MODEL_BYTES:
                raise ModelRefusedError(f"version {registered.version}: exceeds {MAX_MODEL_BYTES} bytes")
            if MANIFEST_FILE not in {Path(one.path).name for one in files}:
                names = sorted(Path(one.path).name for one in files)
                raise ModelRefusedError(f"version {registered.version}: has no {MANIFEST_FILE}, only {names}")
            copied = [client.download_artifacts(registered.run_id, one.path, str(into)) for one in files]
            return Path(copied[0]).parent  # MLflow keeps the folder's name only for a tracking server

        return self._call(query)

    @property
    def mlflow_name(self) -> str:
        """Name of the model in MLflow."""
        return f"trimtab-{self.name}"

    def _experiment_id(self, client: "MlflowClient") -> str:
        found = client.get_experiment_by_name(self.mlflow_name)
        if found is not None:
            return str(found.experiment_id)
        location = (self.folder / "artifacts").absolute().as_uri() if self.is_local else None
        return str(client.create_experiment(self.mlflow_name, artifact_location=location))

    def _call(self, query: "Callable[[MlflowClient], T]") -> T:
        client = self._open()
        from mlflow.exceptions import MlflowException

        try:
            return query(client)
        except (MlflowException, OSError) as error:
            reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
            if "Max retries exceeded" in reason:
                reason = "it does not answer; check that the server is running and that the address is right"
            raise RegistryError(
                f"the model registry {_without_credentials(self.uri) or self.folder} failed: {reason}"
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


def _to_registered_version(version: "ModelVersion") -> RegisteredVersion:
    tags: dict[str, Any] = version.tags or {}
    return RegisteredVersion(str(version.version), str(tags.get(DIGEST_TAG, "")), str(version.run_id))


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
