"""`tools:` of the kinds redis and postgresql."""

from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, model_validator

from trimtab.engine.settings.section import Duration, Section, Tls
from trimtab.engine.settings.tools import ToolSettings

REDIS_SUBJECTS = frozenset(
    {
        "maxmemory", "maxmemory-policy", "maxmemory-samples", "maxmemory-eviction-tenacity", "lfu-log-factor",
        "lfu-decay-time", "lazyfree-lazy-eviction", "lazyfree-lazy-expire", "lazyfree-lazy-server-del",
        "lazyfree-lazy-user-del", "activedefrag", "activerehashing", "hz", "dynamic-hz", "timeout",
        "tcp-keepalive", "maxclients", "memory_purge", "warm_keys",
    }
)  # fmt: skip
POSTGRESQL_SUBJECTS = frozenset(
    {
        "work_mem", "hash_mem_multiplier", "maintenance_work_mem", "effective_cache_size", "random_page_cost",
        "effective_io_concurrency", "default_statistics_target", "max_parallel_workers_per_gather", "jit",
        "checkpoint_timeout", "checkpoint_completion_target", "max_wal_size", "bgwriter_lru_maxpages",
        "autovacuum_vacuum_scale_factor", "autovacuum_vacuum_insert_scale_factor",
        "autovacuum_analyze_scale_factor", "autovacuum_vacuum_cost_limit", "autovacuum_vacuum_cost_delay",
        "autovacuum_naptime", "analyze", "terminate_idle_in_transaction", "cancel_long_query",
    }
)  # fmt: skip
"""What modes can be given for. The tools' own tables say more; a test holds them equal."""


class CacheWarmingSettings(Section):
    """`warm:` keys that are fetched through the service which fills the cache.

    url         : of the service, with {key} where the key stands
    key         : how the service calls the entry in Redis, with {key}; it is skipped where it is there
    keys        : most wanted first
    origin_rate : requests/s that the origin serves; None = the cache's misses/s are measured
    rate        : requests/s at most, whatever the origin serves
    """

    url: str
    key: str = "{key}"
    keys: tuple[str, ...] = ()
    keys_file: Path | None = None
    origin_rate: float | None = Field(None, gt=0)
    rate: float = Field(10.0, gt=0, le=10)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "{key}" not in self.url:
            raise ValueError("url must be such as http://127.0.0.1:8000/items/{key}")
        if "{key}" in parts.netloc:
            raise ValueError("url has {key} in its host; only its path and query may hold it")
        if "{key}" not in self.key:
            raise ValueError("key must hold {key}, such as item:{key}")
        if bool(self.keys) == (self.keys_file is not None):
            raise ValueError("give either keys or keys_file")
        return self


class _DataStoreTool(ToolSettings):
    """One server, at one URL."""

    url: str
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    tls: Tls | None = None

    @model_validator(mode="after")
    def _one_server_is_one_target(self) -> Self:
        if self.targets is not None and len(self.targets) > 1:
            raise ValueError("targets names several, url is one server; write one tool for each server")
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file are both set; keep one")
        return self

    def hosts(self) -> tuple[str, ...]:
        """The server's machine; a path = a Unix socket of this one."""
        parts = urlsplit(self.url)
        inside = parse_qs(parts.query).get("host", [])
        return (parts.hostname,) if parts.hostname else tuple(inside)


class RedisTool(_DataStoreTool):
    """A Redis, or what speaks like one. `url`: redis://host:6379/0, rediss:// for TLS, unix:///path?db=0."""

    url: str = "redis://localhost:6379/0"
    warm: CacheWarmingSettings | None = None

    def subjects(self) -> frozenset[str]:
        """Its knobs and actions."""
        return REDIS_SUBJECTS

    @model_validator(mode="after")
    def _url_fits(self) -> Self:
        parts = urlsplit(self.url)
        _refuse_password(parts.username or parts.password)
        if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.hostname or parts.scheme == "unix"):
            raise ValueError("url must be such as redis://host:6379/0, rediss://host or unix:///path")
        if self.tls is not None and parts.scheme != "rediss":
            raise ValueError("tls is set, so url must begin with rediss://")
        database = parts.path.strip("/") if parts.scheme != "unix" else ""
        if database and not database.isdigit():
            raise ValueError(f"url ends in {database!r}; a database of Redis is a number, such as /0")
        return self


class SessionFilter(Section):
    """Which sessions may be ended: of these applications (application_name) or users, older than that."""

    older_than: Duration = Field(600.0, ge=10.0)
    applications: tuple[str, ...] = ()
    users: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if not any(self.applications) and not any(self.users):
            raise ValueError("name applications or users; sessions of everybody are never ended")
        return self


class PostgresqlTool(_DataStoreTool):
    """A PostgreSQL. `url`: postgresql://user@host:5432/database, or postgresql:///database?host=/folder.

    idle_in_transaction : sessions that may be terminated when they idle in a transaction for so long
    long_query          : sessions whose query may be cancelled when it runs for so long
    """

    url: str = "postgresql://localhost:5432/postgres"
    idle_in_transaction: SessionFilter | None = None
    long_query: SessionFilter | None = None

    def subjects(self) -> frozenset[str]:
        """Its knobs and actions."""
        return POSTGRESQL_SUBJECTS

    @model_validator(mode="after")
    def _url_fits(self) -> Self:
        parts = urlsplit(self.url)
        _refuse_password(parts.password)
        extra = set(parse_qs(parts.query)) - {"host"}
        if parts.scheme not in {"postgresql", "postgres"} or extra or not self.hosts():
            raise ValueError(
                "url must be such as postgresql://host:5432/database or postgresql:///database?host=/folder"
            )
        return self


def _refuse_password(found: str | None) -> None:
    if found:
        raise ValueError("url holds a user or password; write username and password_file below it")
