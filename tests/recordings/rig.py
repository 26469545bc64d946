"""Runs real processes, collects their metrics at a fast pace, and makes a recording of them."""

import json
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from tests.recordings.library import Recording
from tests.servers.postgresql import start_postgresql
from tests.servers.prometheus import find_binary, free_port
from trimtab.engine.sources.prometheus.query_plan import MetricMetadata, metric_kind
from trimtab.engine.sources.prometheus.series_layout import SeriesLayout
from trimtab.engine.sources.rates import rate_between

ROOT = Path(__file__).parents[2]
IGNORED_METRICS = ("_created", "python_info", "python_gc_objects_uncollectable_total")
REDIS_METRICS = {
    "redis_memory_used_bytes": ("used_memory", "gauge"), "redis_memory_max_bytes": ("maxmemory", "gauge"),
    "redis_keyspace_hits_total": ("keyspace_hits", "counter"),
    "redis_keyspace_misses_total": ("keyspace_misses", "counter"),
    "redis_evicted_keys_total": ("evicted_keys", "counter"),
    "redis_connected_clients": ("connected_clients", "gauge"),
    "redis_blocked_clients": ("blocked_clients", "gauge"),
    "redis_commands_processed_total": ("total_commands_processed", "counter"),
    "redis_rejected_connections_total": ("rejected_connections", "counter"),
    "redis_cpu_user_seconds_total": ("used_cpu_user", "counter"),
}  # fmt: skip
"""Metric of redis_exporter -> field of INFO and type."""
POSTGRESQL_QUERY = """
select 'pg_stat_activity_count', json_build_object('state', state), count(*)::float from pg_stat_activity
 where backend_type = 'client backend' group by state
union all select 'pg_settings_max_connections', '{}', current_setting('max_connections')::float
union all select 'pg_stat_database_numbackends', '{"datname": "postgres"}', numbackends from pg_stat_database
 where datname = 'postgres'
union all select 'pg_stat_database_xact_commit', '{"datname": "postgres"}', xact_commit from pg_stat_database
 where datname = 'postgres'
union all select 'pg_stat_database_blks_hit', '{"datname": "postgres"}', blks_hit from pg_stat_database
 where datname = 'postgres'
"""
COUNTERS = {"pg_stat_database_xact_commit", "pg_stat_database_blks_hit"}


@dataclass
class ChildProcess:
    """A child process that accepts settings while it runs."""

    port: int
    process: subprocess.Popen

    def configure(self, **settings):
        """Change settings."""
        self.process.stdin.write(json.dumps(settings).encode() + b"\n")
        self.process.stdin.flush()


def start_service(stack, given):
    """Start a service with these settings, or "dependency"."""
    port = free_port()
    text = given if isinstance(given, str) else json.dumps(given)
    argv = [sys.executable, "-m", "tests.recordings.service", str(port), text]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
    stack.callback(process.wait)
    stack.callback(process.stdin.close)
    wait_for(port)
    return ChildProcess(port, process)


def wait_for(port):
    """Wait until the port accepts connections. Raises OSError after 20 s."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            subprocess.run(["sleep", "0.1"], check=True)


def start_redis(stack, maxmemory):
    """Start a Redis with LRU eviction; return its port and a function that sends a command."""
    port = free_port()
    argv = [find_binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "",
            "--maxmemory", str(maxmemory), "--maxmemory-policy", "allkeys-lru"]  # fmt: skip
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    wait_for(port)
    link = socket.create_connection(("127.0.0.1", port), 5)
    stack.callback(link.close)
    stream = link.makefile("rwb")

    def command(line):
        stream.write(line.encode() + b"\r\n")
        stream.flush()
        head = stream.readline()
        return stream.read(int(head[1:]) + 2).decode() if head.startswith(b"$") else head.decode()

    return port, command


@dataclass
class SampleRecorder:
    """Collects samples of several scrapes and converts them to series."""

    types: dict[str, str] = field(default_factory=dict)
    samples: list[tuple[float, dict]] = field(default_factory=list)

    def add(self, at_s, samples):
        """Add a scrape; samples : (name, labels) -> value."""
        self.samples.append((at_s, samples))

    def series(self):
        """Return infos and values, (scrapes - 1, n), converted as by an engine source."""
        names = {name for _, samples in self.samples for name, _ in samples}
        meta = {name: MetricMetadata(kind) for name, kind in self.types.items()}
        layout = SeriesLayout({name: metric_kind(name, meta, names) for name in names}, meta, 10_000)
        raw = [
            {
                layout.find_or_add_slot({"__name__": name, **dict(labels)}): v
                for (name, labels), v in samples.items()
            }
            for _, samples in self.samples
        ]
        counts = np.full((len(raw), layout.n_raw), np.nan)
        for row, values in zip(counts, raw, strict=True):
            for slot, value in values.items():
                if slot >= 0:
                    row[slot] = value
        elapsed = np.diff([at for at, _ in self.samples])[:, None]
        rates = rate_between(counts[:-1], counts[1:], elapsed, 10.0)
        values = layout.watched_values(counts[1:], rates)
        infos = [layout.infos[key] for key in layout.keys]
        moving = [i for i in range(len(infos)) if not np.isnan(values[:, i]).all()]
        return tuple(infos[i] for i in moving), values[:, moving]


def scrape_service(recorder, port, labels):
    """Return the samples of a service's metrics endpoint."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        recorder.types[family.name] = recorder.types[f"{family.name}_total"] = family.type
        for sample in family.samples:
            if not sample.name.endswith(IGNORED_METRICS) and sample.name not in IGNORED_METRICS:
                found[sample.name, tuple(sorted({**sample.labels, **labels}.items()))] = sample.value
    return found


def redis_samples(recorder, command, labels):
    """Return the samples that redis_exporter would expose."""
    info = dict(line.split(":", 1) for line in command("INFO").splitlines() if ":" in line)
    recorder.types |= {name: kind for name, (_, kind) in REDIS_METRICS.items()}
    return {
        (name, tuple(sorted(labels.items()))): float(info[field])
        for name, (field, _) in REDIS_METRICS.items()
    }


def postgresql_samples(recorder, session, labels):
    """Return the samples that postgres_exporter would expose; a state without sessions counts 0."""
    recorder.types |= dict.fromkeys(COUNTERS, "counter") | {"pg_stat_activity_count": "gauge"}
    found = {}
    for state in ("active", "idle", "idle in transaction"):
        found["pg_stat_activity_count", tuple(sorted({"state": state, **labels}.items()))] = 0.0
    for name, own, value in session.execute(POSTGRESQL_QUERY).fetchall():
        of = own if isinstance(own, dict) else json.loads(own)
        if of.get("state", "idle") is not None:
            found[name, tuple(sorted({**of, **labels}.items()))] = float(value)
    session.commit()
    return found


def record(name, scenario, part, *, pace_s=0.2, calm=150, trouble=110):
    """Run a scenario: `calm` healthy ticks, then `trouble` ticks with its fault."""
    with ExitStack() as stack:
        processes = ScenarioProcesses(stack, scenario)
        recorder, begun, onset_tick = SampleRecorder(), time.monotonic(), None
        for tick in range(calm + trouble + 1):
            pause = begun + tick * pace_s - time.monotonic()
            if pause > 0:
                subprocess.run(["sleep", str(pause)], check=True)
            processes.act(tick, calm)
            recorder.add(time.monotonic(), processes.collect(recorder))
            onset_tick = calm if scenario.shows else None
        infos, values = recorder.series()
    onset = 0 if scenario.always else onset_tick
    changes = ((calm, "deploy of web", {"job": "web"}),) if scenario.deploy else ()
    return Recording(
        name, infos, values, scenario.shows, scenario.may, onset, changes, set=part,
        about={"pace_s": pace_s, "fault": scenario.fault},
    )  # fmt: skip


class ScenarioProcesses:
    """The processes of one scenario."""

    def __init__(self, stack, scenario):
        self.scenario = scenario
        self.command = self.session = self.dependency = None
        settings = dict(scenario.base)
        if scenario.redis:
            settings["redis"], self.command = start_redis(stack, scenario.redis)
            for key in range(min(settings["key_space"], 20_000)):
                self.command(f"SET k{key} {'x' * 1000}")
        if scenario.postgresql:
            import psycopg

            url = stack.enter_context(start_postgresql())
            settings["postgresql"] = url
            self.session = stack.enter_context(psycopg.connect(url))
        if scenario.dependency:
            self.dependency = start_service(stack, "dependency")
            settings["dependency"] = self.dependency.port
        self.service = start_service(stack, settings)

    def act(self, tick, calm):
        """Apply the scenario's settings of this tick."""
        wanted = dict(self.scenario.fault if tick == calm else self.scenario.acts.get(tick, {}))
        ramp = self.scenario.ramp
        if ramp and calm <= tick <= calm + ramp:
            part = (tick - calm) / ramp
            base = self.scenario.base
            self.service.configure(
                **{k: base[k] + part * (v - base[k]) for k, v in ramped_settings(self.scenario).items()}
            )
            return
        if "maxmemory" in wanted:
            self.command(f"CONFIG SET maxmemory {wanted.pop('maxmemory')}")
        if "dependency" in wanted:
            self.dependency.configure(**wanted.pop("dependency"))
        if wanted.pop("kill_dependency", False):
            self.dependency.process.kill()
        if wanted:
            self.service.configure(**wanted)

    def collect(self, recorder):
        """Return all current samples; a process that does not answer has none."""
        found = scrape_service(recorder, self.service.port, {"job": "web", "instance": "127.0.0.1:8000"})
        if self.command:
            found |= redis_samples(recorder, self.command, {"job": "redis", "instance": "127.0.0.1:9121"})
        if self.session:
            labels = {"job": "postgresql", "instance": "127.0.0.1:9187"}
            found |= postgresql_samples(recorder, self.session, labels)
        if self.dependency:
            up = float(self.dependency.process.poll() is None)
            found["up", (("instance", "127.0.0.1:8001"), ("job", "inventory"))] = up
        return found


def ramped_settings(scenario):
    """Return the numeric settings of a scenario's fault."""
    return {k: v for k, v in scenario.fault.items() if isinstance(v, int | float)}
