"""The command `trimtab recommend` on a real Redis and a real PostgreSQL."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from tests.servers.postgresql import start_postgresql
from tests.servers.redis import start_redis

TRIMTAB = Path(sys.executable).with_name("trimtab")
SECRET = "s3cret/of-the-cache"


def test_bad_settings_are_reported_without_a_password(tmp_path):
    """A Redis that refuses writes and a PostgreSQL without autovacuum are found in seconds."""
    with (
        start_redis(tmp_path / "r", "--maxmemory", "50mb", password=SECRET) as redis,
        start_postgresql() as url,
    ):
        for number in range(120):
            redis.cli("SET", f"k{number}", "x", "EX", "1000")
        with psycopg.connect(url, autocommit=True) as session:
            session.execute("ALTER SYSTEM SET autovacuum = off")
            session.execute("SELECT pg_reload_conf()")
            login = f"redis://:{SECRET.replace('/', '%2F')}@127.0.0.1:{redis.port}"
            stores = ["--redis", login, "--postgresql", url]
            began = time.monotonic()
            completed = subprocess.run(
                [TRIMTAB, "recommend", *stores, "--seconds", "1", "-f", "json"],
                cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
    assert completed.returncode == 1, completed.stderr
    findings = {(row["tool"], row["finding"]): row for row in json.loads(completed.stdout)}
    assert ("redis", "a cache that refuses writes when it is full") in findings
    assert ("postgresql", "autovacuum is off") in findings
    planner = findings["postgresql", "the planner takes memory for a spinning disk"]
    assert "ALTER SYSTEM SET random_page_cost = " in planner["command"]
    assert "checking redis, postgresql: 1 s" in completed.stderr
    assert SECRET not in completed.stdout + completed.stderr
    assert time.monotonic() - began < 120
