"""Settings of tools of the kinds redis and postgresql."""

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
"""Knobs and actions that `mode:` can name. A test keeps these sets equal to the tools' own tables."""


class CacheWarmingSettings(Section):
    """`warm:` keys that are requested from the service that fills the cache.

    url         : URL of the service, with {key} in place of the key
    key         : name of the entry in Redis, with {key}; existing entries are skipped
    keys        : keys, most important first
    keys_file   : file with one key per line, instead of keys
    origin_rate : requests/s that the origin serves; None = measured from the cache's misses/s
    rate        : maximum requests/s
    """

    url: str
    key: str = "{key}"
    keys: tuple[str, ...] = ()
    keys_file: Path | None = None
    origin_rate: float | None = Field(None, gt=0)
    rate: float = Field(10.0, gt=0, le=10)

    @model_validator(mode="after")
    def _validate_url_and_keys(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "{key}" not in self.url:
            raise ValueError("url must be such as http://127.0.0.1:8000/items/{key}")
        if "{key}" in parts.netloc:
            raise ValueError("url has {key} in its host; use it only in the path or query")
        if "{key}" not in self.key:
            raise ValueError("key must contain {key}, such as item:{key}")
        if bool(self.keys) == (self.keys_file is not None):
            raise ValueError("set either keys or keys_file")
        return self


class _DataStoreTool(ToolSettings):
    """Common settings of tools that manage one database server."""

    url: str
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    tls: Tls | None = None

    @model_validator(mode="after")
    def _validate_single_target(self) -> Self:
        if self.targets is not None and len(self.targets) > 1:
            raise ValueError("targets has several names, but url is one server; define one tool per server")
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file are both set; keep one")
        return self

    def hosts(self) -> tuple[str, ...]:
        """Return the host of the server; a path is a Unix socket on this machine."""
        parts = urlsplit(self.url)
        inside = parse_qs(parts.query).get("host", [])
        return (parts.hostname,) if parts.hostname else tuple(inside)


class RedisTool(_DataStoreTool):
    """A Redis-compatible server. `url`: redis://host:6379/0, rediss:// for TLS, or unix:///path?db=0."""

    url: str = "redis://localhost:6379/0"
    warm: CacheWarmingSettings | None = None

    def subjects(self) -> frozenset[str]:
        """Return the names of its knobs and actions."""
        return REDIS_SUBJECTS

    @model_validator(mode="after")
    def _validate_redis_url(self) -> Self:
        parts = urlsplit(self.url)
        _refuse_password(parts.username or parts.password)
        if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.hostname or parts.scheme == "unix"):
            raise ValueError("url must be such as redis://host:6379/0, rediss://host or unix:///path")
        if self.tls is not None and parts.scheme != "rediss":
            raise ValueError("tls is set, so url must start with rediss://")
        database = parts.path.strip("/") if parts.scheme != "unix" else ""
        if database and not database.isdigit():
            raise ValueError(f"url ends in {database!r}; a Redis database is a number, such as /0")
        return self


class SessionFilter(Section):
    """Sessions that may be ended: older than `older_than` seconds, of these applications or users."""

    older_than: Duration = Field(600.0, ge=10.0)
    applications: tuple[str, ...] = ()
    users: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _validate_filter(self) -> Self:
        if not any(self.applications) and not any(self.users):
            raise ValueError("set applications or users; sessions of all users are never ended")
        return self


class PostgresqlTool(_DataStoreTool):
    """A PostgreSQL server. `url`: postgresql://user@host:5432/database or postgresql:///database?host=/folder.

    idle_in_transaction : sessions that may be terminated if they are idle in a transaction
    long_query          : sessions whose running query may be cancelled
    """

    url: str = "postgresql://localhost:5432/postgres"
    idle_in_transaction: SessionFilter | None = None
    long_query: SessionFilter | None = None

    def subjects(self) -> frozenset[str]:
        """Return the names of its knobs and actions."""
        return POSTGRESQL_SUBJECTS

    @model_validator(mode="after")
    def _validate_postgresql_url(self) -> Self:
        parts = urlsplit(self.url)
        _refuse_password(parts.password)
        extra = set(parse_qs(parts.query)) - {"host"}
        if parts.scheme not in {"postgresql", "postgres"} or extra or not self.hosts():
            raise ValueError(
                "url must be such as postgresql://host:5432/database or postgresql:///database?host=/folder"
            )
        return self


def _refuse_password(password: str | None) -> None:
    if password:
        raise ValueError("url contains a user or password; set username and password_file instead")
