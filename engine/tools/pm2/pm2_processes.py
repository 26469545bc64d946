"""PM2 processes: parses the output of `pm2 jlist` strictly, and checks that a PM2 daemon runs."""

import socket
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from trimtab.engine.errors import ToolError

CONNECT_TIMEOUT_S = 2.0


class _Pm2Env(BaseModel):
    status: str
    exec_mode: str
    restart_time: int = 0
    unstable_restarts: int = 0
    pm_uptime: int | None = None
    max_memory_restart: int | None = None
    version: str = Field("", alias="_pm2_version")


class _Monit(BaseModel):
    memory: float
    cpu: float


class _Row(BaseModel):
    name: str
    pid: int | None = None
    pm2_env: _Pm2Env
    monit: _Monit | None = None


@dataclass(frozen=True, slots=True)
class Pm2Instance:
    """One process of an application.

    started_ms   : milliseconds since 1970
    memory_bytes : resident set size; None when offline, like cpu_ratio (1 = one core)
    limit_bytes  : PM2 reloads the instance above it; None = no limit
    """

    pid: int
    is_online: bool
    restarts: int
    unstable_restarts: int
    started_ms: int | None
    memory_bytes: float | None
    cpu_ratio: float | None
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class Pm2Application:
    """All instances of one application name."""

    name: str
    is_cluster: bool
    version: str
    instances: tuple[Pm2Instance, ...]

    @property
    def online_count(self) -> int:
        """Number of running instances."""
        return sum(instance.is_online for instance in self.instances)

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of the running instances."""
        return frozenset(instance.pid for instance in self.instances if instance.is_online)

    @property
    def largest_memory_bytes(self) -> float:
        """Memory of the largest instance, bytes; 0 when none runs."""
        return max((i.memory_bytes for i in self.instances if i.memory_bytes is not None), default=0.0)

    def metrics(self, now: int) -> dict[str, float]:
        """Return the metrics by name; unknown ones are missing. now : int64 ns UTC."""
        memory = [i.memory_bytes for i in self.instances if i.memory_bytes is not None]
        cpu = [i.cpu_ratio for i in self.instances if i.cpu_ratio is not None]
        started = [i.started_ms for i in self.instances if i.is_online and i.started_ms is not None]
        limits = [i.limit_bytes for i in self.instances if i.limit_bytes is not None]
        found: dict[str, float] = {
            "pm2_instances": len(self.instances),
            "pm2_instances_online": self.online_count,
            "pm2_restarts_total": sum(i.restarts for i in self.instances),
            "pm2_unstable_restarts_total": sum(i.unstable_restarts for i in self.instances),
        }
        if memory:
            found |= {"pm2_memory_bytes": sum(memory), "pm2_memory_largest_bytes": max(memory)}
        if cpu:
            found["pm2_cpu_ratio"] = sum(cpu)
        if started:
            found["pm2_uptime_seconds"] = max(0.0, now / 1e9 - max(started) / 1e3)
        if limits:
            found["pm2_memory_limit_bytes"] = min(limits)
        return found


def parse_applications(printed: str, name: str) -> dict[str, Pm2Application]:
    r"""Parse the last line of `pm2 jlist`, after its warnings, into applications by name. Raises ToolError.

    >>> parse_applications("[PM2][WARN] old\n[]", "pm2")
    {}
    """
    lines = [line for line in printed.splitlines() if line.startswith("[") and line.endswith("]")]
    try:
        rows = _ROW_LIST.validate_python(orjson.loads(lines[-1]))
    except (IndexError, ValueError) as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else "it"
        raise ToolError(
            f"{name}: pm2 jlist gives no list of applications ({where}); is this version of PM2 supported?"
        ) from None
    found: dict[str, list[_Row]] = {}
    for row in rows:
        found.setdefault(row.name, []).append(row)
    return {name: _application(name, members) for name, members in found.items()}


_ROW_LIST = TypeAdapter(list[_Row])


def _application(name: str, rows: list[_Row]) -> Pm2Application:
    cluster = all(row.pm2_env.exec_mode == "cluster_mode" for row in rows)
    return Pm2Application(name, cluster, rows[0].pm2_env.version, tuple(map(_instance, rows)))


def _instance(row: _Row) -> Pm2Instance:
    env = row.pm2_env
    online = env.status == "online" and bool(row.pid)
    monit = row.monit if online else None
    # PM2 reports 0 until it has measured a process for the first time.
    memory = monit.memory if monit is not None and monit.memory > 0 else None
    return Pm2Instance(
        row.pid or 0, online, env.restart_time, env.unstable_restarts, env.pm_uptime, memory,
        monit.cpu / 100 if monit is not None and memory is not None else None, env.max_memory_restart or None,
    )  # fmt: skip


def check_daemon(path: Path, name: str) -> None:
    """Return if a daemon listens on the socket. Blocks. Raises ToolError, PermissionError."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except PermissionError:
            raise
        except OSError as error:
            why = error.strerror or str(error)
            raise ToolError(
                f"{name}: no PM2 runs at {path.parent} ({why}); start your applications with pm2, or set "
                f"tools.{name}.home"
            ) from error
