"""PostgreSQL maintenance actions: ANALYZE of stale tables, ending sessions that the settings name."""

import asyncio
from typing import LiteralString

from psycopg import sql

from trimtab.engine.errors import ToolError
from trimtab.engine.settings.data_store_tools import SessionFilter
from trimtab.engine.tools.postgresql.postgresql_session import PostgresqlSession, Row
from trimtab.engine.tools.server_access import DeniedError
from trimtab.engine.types import Risk, ToolAction

ANALYZE_ACTION = ToolAction(
    "analyze", "Update the statistics of the most changed tables (ANALYZE).", Risk.LOW, idempotent=True
)
TERMINATE_ACTION = ToolAction(
    "terminate_idle_in_transaction",
    "End the oldest session that is idle in a transaction, among those that the settings name.",
    Risk.MEDIUM,
    reduces=True,
)
CANCEL_ACTION = ToolAction(
    "cancel_long_query",
    "Cancel the longest running query, among the sessions that the settings name.",
    Risk.MEDIUM,
    reduces=True,
)
ANALYZE_BUDGET_S = 20.0
"""Time for one run; an action must end within 30 s. The next run analyses the remaining tables."""

_STALE_TABLES_SQL = """
SELECT s.schemaname AS schema, s.relname AS name,
    pg_has_role(c.relowner, 'usage') OR pg_has_role(d.datdba, 'usage') OR {maintain} AS may
FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
    JOIN pg_database d ON d.datname = current_database()
WHERE s.n_mod_since_analyze > 0.02 * s.n_live_tup
    OR (s.n_live_tup > 0 AND coalesce(s.last_analyze, s.last_autoanalyze) IS NULL)
ORDER BY s.n_mod_since_analyze DESC, 1, 2
"""
_END_SESSION_SQL = """
WITH one AS (
    SELECT pid, application_name, usename, extract(epoch FROM clock_timestamp() - {since}) AS age_s
    FROM pg_stat_activity
    WHERE {state} AND backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND {since} < clock_timestamp() - make_interval(secs => {older})
        AND (application_name = ANY({applications}) OR usename = ANY({users}))
    ORDER BY {since} LIMIT 1
)
SELECT pid, application_name, usename, age_s, {end}(pid) AS done FROM one
"""
_MAINTAIN_PRIVILEGE_SQL = "has_table_privilege(s.relid, 'MAINTAIN')"


async def analyze_stale_tables(
    session: PostgresqlSession, version: int, budget_s: float = ANALYZE_BUDGET_S
) -> str:
    """ANALYZE stale tables, most changed first, within the time budget; return a one-line result."""
    maintain: LiteralString = _MAINTAIN_PRIVILEGE_SQL if version >= 170_000 else "false"
    stale = await session.query(sql.SQL(_STALE_TABLES_SQL).format(maintain=sql.SQL(maintain)))
    permitted, loop = [row for row in stale if row["may"]], asyncio.get_running_loop()
    end, done, slow = loop.time() + budget_s, 0, ""
    for row in permitted:
        left_s = end - loop.time()
        if left_s <= 0:
            break
        try:
            await session.execute(
                sql.SQL("ANALYZE {}").format(sql.Identifier(row["schema"], row["name"])), left_s
            )
        except DeniedError:
            raise
        except ToolError:
            slow = f"; {row['schema']}.{row['name']} took too long and was cancelled"
            break
        done += 1
    parts = [f"{done} of {len(stale)} stale tables have fresh statistics{slow}"]
    if len(stale) > len(permitted):
        parts.append(f"{len(stale) - len(permitted)} need their owner or the role pg_maintain")
    if len(permitted) > done:
        parts.append(f"{len(permitted) - done} are left for the next run")
    return ", ".join(parts)


async def terminate_idle_session(session: PostgresqlSession, rule: SessionFilter) -> str:
    """End the oldest idle session that the filter matches; its transaction is rolled back."""
    state = "state IN ('idle in transaction', 'idle in transaction (aborted)')"
    ended = await _end_session(session, rule, state, "state_change", "pg_terminate_backend")
    return _describe_result(ended, rule, "terminated", "is idle in a transaction for")


async def cancel_long_query(session: PostgresqlSession, rule: SessionFilter) -> str:
    """Cancel the longest query of the sessions that the filter matches; its session stays open."""
    ended = await _end_session(session, rule, "state = 'active'", "query_start", "pg_cancel_backend")
    return _describe_result(ended, rule, "cancelled", "runs a query for")


async def _end_session(
    session: PostgresqlSession,
    rule: SessionFilter,
    state: LiteralString,
    since: LiteralString,
    end: LiteralString,
) -> list[Row]:
    """Select and end a session in one statement, so that a session that became active is not hit."""
    statement = sql.SQL(_END_SESSION_SQL).format(
        state=sql.SQL(state), since=sql.SQL(since), end=sql.SQL(end), older=sql.Literal(rule.older_than),
        applications=sql.Literal(list(rule.applications)), users=sql.Literal(list(rule.users)),
    )  # fmt: skip
    return await session.execute(statement)


def _describe_result(ended: list[Row], rule: SessionFilter, verb: str, condition: str) -> str:
    if not ended:
        return f"nothing to do: none of the named sessions {condition} more than {rule.older_than:g} s"
    (row,) = ended
    session = f"session {row['pid']} of {row['usename']} ({row['application_name'] or 'no application_name'})"
    if not row["done"]:
        return f"{session} had already ended"
    return f"{verb} {session} after {float(row['age_s']):.0f} s"
