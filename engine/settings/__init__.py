"""What can be set: frozen, with defaults, read once where everything is built."""

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
    """`settings:`"""

    data_dir: Path = Path("~/.local/share/trimtab")
    false_alarms_per_week: float = Field(1.0, gt=0, le=1000)
    """Anomaly intervals per series and week that a healthy series may show."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    detectors: tuple[str, ...] = ("default",)
    max_series: int = Field(20_000, ge=1)
    """Per source; what is over it is left out and listed by `trimtab doctor`."""


class Host(Section):
    """`sources.host:` this machine."""

    enabled: bool = True
    interval: Duration = 5.0
    top_processes: int = Field(10, ge=0, le=100)


class Query(Section):
    """A PromQL expression of the user's own."""

    model_config = ConfigDict(allow_inf_nan=True)

    expr: str
    data_range: tuple[float, float] | None = None
    """Values outside are unknown; a side may be infinite (.inf)."""
    detection_direction: Literal["both", "above_expected", "below_expected"] = "both"
    min_dev_from_expected: float = Field(0.0, ge=0, allow_inf_nan=False)
    unit: str = ""

    @model_validator(mode="after")
    def _range_holds_something(self) -> Self:
        if self.data_range is not None and not self.data_range[0] < self.data_range[1]:
            raise ValueError("data_range must be [low, high], low below high")
        return self


class Prometheus(Credentialed):
    """`sources.prometheus:`"""

    enabled: bool = True
    url: str = "http://localhost:9090"
    interval: Duration | None = None
    """None = the scrape interval that most targets have."""
    selector: str = '{__name__!=""}'
    timeout: Duration = 10.0
    """In total, for one read."""
    tls: Tls = Tls()
    queries: dict[str, Query] = Field(default_factory=dict)
    season_window: Duration = 14 * 86_400.0
    season_step: Duration = 300.0
    noise_window: Duration = 6 * 3600.0


class Files(Section):
    """`sources.files:` recordings, replayed as if they were live."""

    enabled: bool = True
    paths: tuple[Path, ...]
    interval: Duration | None = None
    """How far apart rows are where the time column is a row number; None = 1m."""
    speed: float = Field(0.0, ge=0)
    """Recorded seconds per second; 0 = as fast as it goes."""


class Sources(Section):
    """`sources:`"""

    host: Host = Host()
    prometheus: Prometheus | None = None
    files: Files | None = None


class Api(Section):
    """`api:`"""

    host: str = "127.0.0.1"
    port: int = Field(8600, ge=0, le=65535)
    behind_proxy: bool = False
    """A proxy in front authenticates and speaks TLS."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses or networks of proxies. What they say of a client (X-Forwarded-For, -Proto) is believed up to
    the right-most address that is none of theirs; what stands left of it the client wrote itself."""
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    """Host names beside localhost and the bound address that a browser may use."""
    admin_key: SecretStr | None = None
    admin_key_file: Path | None = None

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            try:
                ip_network(one)
            except ValueError:
                raise ValueError(f"{one!r} is no address or network; write 10.0.0.7 or 10.0.0.0/8") from None
        return given


class Retention(Section):
    """`retention:` of scores, and of anomalies and incidents that ended."""

    days: float = Field(14.0, gt=0)
    size_bytes: int = Field(2_000_000_000, gt=0)
    full_series: int = Field(20_000, ge=0)
    """Up to so many series every score is kept, above only those of anomalous ones."""
    events_days: float = Field(400.0, gt=0)
    """So long after their end anomalies, incidents and changes are kept; what goes on is never removed."""


class Writer(Credentialed):
    """`writer:` scores go back to Prometheus."""

    remote_write_url: str
    provide_series: tuple[Literal["anomaly_score", "yhat", "yhat_lower", "yhat_upper", "y"], ...] = (
        "anomaly_score", "yhat", "yhat_lower", "yhat_upper",
    )  # fmt: skip
    tls: Tls = Tls()
    timeout: Duration = 10.0


class Settings(Section):
    """Everything."""

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
