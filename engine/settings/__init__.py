"""Settings: frozen, with defaults, read once at startup."""

from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from trimtab.engine.settings.capacity import Capacities, CapacityOf
from trimtab.engine.settings.guardrails import Guardrails
from trimtab.engine.settings.notify import Notify
from trimtab.engine.settings.schedulers import LoadScheduler, ModelRegistry, Schedulers
from trimtab.engine.settings.section import BasicAuth, Credentialed, Duration, Section, Size, Tls, seconds
from trimtab.engine.settings.tools import Tools

__all__ = [
    "Api",
    "BasicAuth",
    "CapacityOf",
    "Credentialed",
    "Duration",
    "Files",
    "General",
    "Guardrails",
    "Host",
    "LoadScheduler",
    "ModelRegistry",
    "Notify",
    "Prometheus",
    "Query",
    "Retention",
    "Schedulers",
    "Section",
    "Settings",
    "Size",
    "Sources",
    "Tls",
    "Tools",
    "Writer",
    "seconds",
]


class General(Section):
    """`settings:` general settings."""

    data_dir: Path = Path("~/.local/share/trimtab")
    false_alarms_per_week: float = Field(1.0, gt=0, le=1000)
    """Tolerated anomaly intervals per healthy series and week."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    detectors: tuple[str, ...] = ("default",)
    max_series: int = Field(20_000, ge=1)
    """Maximum series per source; `trimtab doctor` lists the skipped ones."""


class Host(Section):
    """`sources.host:` metrics of this machine."""

    enabled: bool = True
    interval: Duration = 5.0
    top_processes: int = Field(10, ge=0, le=100)


class Query(Section):
    """`sources.prometheus.queries.<name>:` a user-defined PromQL expression."""

    model_config = ConfigDict(allow_inf_nan=True)

    expr: str
    data_range: tuple[float, float] | None = None
    """[low, high]; values outside are treated as unknown; a bound may be infinite (.inf)."""
    detection_direction: Literal["both", "above_expected", "below_expected"] = "both"
    min_dev_from_expected: float = Field(0.0, ge=0, allow_inf_nan=False)
    unit: str = ""

    @model_validator(mode="after")
    def _validate_data_range(self) -> Self:
        if self.data_range is not None and not self.data_range[0] < self.data_range[1]:
            raise ValueError("data_range must be [low, high] with low < high")
        return self


class Prometheus(Credentialed):
    """`sources.prometheus:`"""

    enabled: bool = True
    url: str = "http://localhost:9090"
    interval: Duration | None = None
    """Seconds; None = the most common scrape interval of the targets."""
    selector: str = '{__name__!=""}'
    timeout: Duration = 10.0
    """Total timeout of one request, seconds."""
    tls: Tls = Tls()
    queries: dict[str, Query] = Field(default_factory=dict)
    season_window: Duration = 14 * 86_400.0
    season_step: Duration = 300.0
    noise_window: Duration = 6 * 3600.0


class Files(Section):
    """`sources.files:` recordings that are replayed as live data."""

    enabled: bool = True
    paths: tuple[Path, ...]
    interval: Duration | None = None
    """Seconds between rows if the time column is a row number; None = 1m."""
    speed: float = Field(0.0, ge=0)
    """Recorded seconds per second of real time; 0 = as fast as possible."""


class Sources(Section):
    """`sources:` where samples come from."""

    host: Host = Host()
    prometheus: Prometheus | None = None
    files: Files | None = None


class Api(Section):
    """`api:` the HTTP API."""

    host: str = "127.0.0.1"
    port: int = Field(8600, ge=0, le=65535)
    behind_proxy: bool = False
    """Whether a reverse proxy authenticates users and terminates TLS."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses or networks of proxies. Their X-Forwarded-For and -Proto headers are trusted up to the
    right-most address that is not a proxy; addresses left of it come from the client and are ignored."""
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    """Host names that browsers may use, in addition to localhost and the bound address."""
    admin_key: SecretStr | None = None
    admin_key_file: Path | None = None

    @field_validator("trusted_proxies")
    @classmethod
    def _validate_trusted_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            try:
                ip_network(address)
            except ValueError:
                raise ValueError(
                    f"{address!r} is not an address or network; write 10.0.0.7 or 10.0.0.0/8"
                ) from None
        return value


class Retention(Section):
    """`retention:` of scores, ended anomalies and ended incidents."""

    days: float = Field(14.0, gt=0)
    size_bytes: int = Field(2_000_000_000, gt=0)
    full_series: int = Field(20_000, ge=0)
    """If a source has more series, only scores of anomalous and selected series are kept."""
    events_days: float = Field(400.0, gt=0)
    """Days until ended anomalies, ended incidents and changes are deleted; open ones are never deleted."""


class Writer(Credentialed):
    """`writer:` scores are written to Prometheus by remote_write."""

    remote_write_url: str
    provide_series: tuple[Literal["anomaly_score", "yhat", "yhat_lower", "yhat_upper", "y"], ...] = (
        "anomaly_score", "yhat", "yhat_lower", "yhat_upper",
    )  # fmt: skip
    tls: Tls = Tls()
    timeout: Duration = 10.0


class Settings(Section):
    """All settings."""

    settings: General = General()
    sources: Sources = Sources()
    api: Api = Api()
    retention: Retention = Retention()
    tools: Tools = Field(default_factory=dict)
    writer: Writer | None = None
    notify: Notify = Notify()
    guardrails: Guardrails = Guardrails()
    schedulers: Schedulers = Schedulers()
    registry: ModelRegistry = ModelRegistry()
    capacity: Capacities = Field(default_factory=dict)
