"""PostgreSQL metrics from the statistics views, by the names of postgres_exporter."""

from collections.abc import Iterator, Mapping
from typing import Any

from trimtab.engine.tools.postgresql.postgresql_session import PostgresqlSession, Row

_DATABASE_SQL = """
SELECT numbackends, xact_commit, xact_rollback, blks_read, blks_hit, tup_returned, tup_fetched, tup_inserted,
    tup_updated, tup_deleted, conflicts, temp_files, temp_bytes, deadlocks
FROM pg_stat_database WHERE datname = current_database()
"""
_SESSIONS_SQL = """
SELECT coalesce(state, 'unknown') AS state, count(*) AS sessions,
    max(extract(epoch FROM clock_timestamp() - xact_start)) AS oldest_s,
    count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting,
    bool_or(backend_type IS NULL) AS hidden
FROM pg_stat_activity
WHERE coalesce(backend_type, 'client backend') = 'client backend' AND pid <> pg_backend_pid()
GROUP BY 1
"""
_TABLES_SQL = """
SELECT sum(n_live_tup) AS n_live_tup, sum(n_dead_tup) AS n_dead_tup, sum(seq_scan) AS seq_scan,
    sum(idx_scan) AS idx_scan, sum(n_mod_since_analyze) AS n_mod_since_analyze
FROM pg_stat_user_tables
"""
_WRITER_SQL = """
SELECT checkpoints_timed AS checkpoints_timed_total, checkpoints_req AS checkpoints_req_total,
    buffers_checkpoint AS buffers_checkpoint_total, buffers_clean AS buffers_clean_total,
    buffers_backend AS buffers_backend_total, maxwritten_clean AS maxwritten_clean_total
FROM pg_stat_bgwriter
"""
_WRITER_SQL_17 = """
SELECT num_timed AS checkpoints_timed_total, num_requested AS checkpoints_req_total,
    buffers_written AS buffers_checkpoint_total, buffers_clean AS buffers_clean_total,
    maxwritten_clean AS maxwritten_clean_total
FROM pg_stat_checkpointer, pg_stat_bgwriter
"""
_SERVER_SQL = """
SELECT current_setting('max_connections')::int AS pg_settings_max_connections,
    pg_size_bytes(current_setting('shared_buffers')) AS pg_settings_shared_buffers_bytes,
    pg_size_bytes(current_setting('work_mem')) AS pg_settings_work_mem_bytes,
    (current_setting('autovacuum')::bool)::int AS pg_settings_autovacuum,
    (current_setting('fsync')::bool)::int AS pg_settings_fsync,
    (current_setting('full_page_writes')::bool)::int AS pg_settings_full_page_writes,
    pg_database_size(current_database()) AS pg_database_size_bytes,
    extract(epoch FROM pg_postmaster_start_time()) AS pg_postmaster_start_time_seconds,
    pg_is_in_recovery()::int AS pg_replication_is_replica
"""
_STATES = ("active", "idle", "idle in transaction", "idle in transaction (aborted)")
_VERSION_17 = 170_000


async def read_metrics(session: PostgresqlSession, version: int) -> Mapping[str, float]:
    """Return the metrics of the statistics views; what our role may not read is missing. Raises ToolError.

    version : server_version_num, such as 170002
    """
    found = {"pg_up": 1.0}
    found |= _row_metrics("", (await session.query(_SERVER_SQL))[0])
    found |= _row_metrics("pg_stat_database_", (await session.query(_DATABASE_SQL))[0])
    found |= _row_metrics("pg_stat_user_tables_", (await session.query(_TABLES_SQL))[0])
    writer = _WRITER_SQL_17 if version >= _VERSION_17 else _WRITER_SQL
    found |= _row_metrics("pg_stat_bgwriter_", (await session.query(writer))[0])
    return found | dict(_session_metrics(await session.query(_SESSIONS_SQL)))


def _row_metrics(prefix: str, row: Row) -> dict[str, float]:
    return {prefix + name: float(value) for name, value in row.items() if value is not None}


def _session_metrics(rows: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """Yield client sessions by state, without our own; nothing when some are hidden from our role."""
    if any(row["hidden"] for row in rows):
        return
    counts = {row["state"]: float(row["sessions"]) for row in rows}
    for state in _STATES:
        yield f'pg_stat_activity_count{{state="{state}"}}', counts.get(state, 0.0)
    ages = {row["state"]: float(row["oldest_s"]) for row in rows if row["oldest_s"] is not None}
    yield "pg_stat_activity_max_tx_duration", max(ages.values(), default=0.0)
    yield (
        'pg_stat_activity_max_tx_duration{state="idle in transaction"}',
        ages.get("idle in transaction", 0.0),
    )
    yield "pg_stat_activity_waiting_for_locks", float(sum(row["waiting"] for row in rows))
