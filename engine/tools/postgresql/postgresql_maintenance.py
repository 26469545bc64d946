"""What a PostgreSQL can be told to do once: fresh statistics, ending a session that the settings name."""

import asyncio
from typing import LiteralString

from psycopg import sql

from trimtab.engine.errors import ToolError
from trimtab.engine.settings.data_store_tools import SessionFilter
from trimtab.engine.tools.postgresql.postgresql_session import PostgresqlSession, Row
from trimtab.engine.tools.refusals import DeniedError
from trimtab.engine.types import Risk, ToolAction

ANALYZE_ACTION = ToolAction(
    "analyze", "Fresh statistics of the tables that changed most since the last.", Risk.LOW, idempotent=True
)
TERMINATE_ACTION = ToolAction(
    "terminate_idle_in_transaction",
    "Ends the oldest session that idles in a transaction, of those that the settings name.",
    Risk.MEDIUM,
    reduces=True,
)
CANCEL_ACTION = ToolAction(
    "cancel_long_query",
    "Cancels the query that runs longest, of the sessions that the settings name.",
    Risk.MEDIUM,
    reduces=True,
)
ANALYZE_BUDGET_S = 20.0
"""An action ends within 30 s; what is left waits for the next one."""

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
    """ANALYZE stale tables, most changed first, until time is over; what came of it in a line."""
    maintain: LiteralString = _MAINTAIN_PRIVILEGE_SQL if version >= 170_000 else "false"
    stale = await session.query(sql.SQL(_STALE_TABLES_SQL).format(maintain=sql.SQL(maintain)))
    ours, loop = [row for row in stale if row["may"]], asyncio.get_running_loop()
    end, done, slow = loop.time() + budget_s, 0, ""
    for row in ours:
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
            slow = f"; {row['schema']}.{row['name']} took too long and was given up"
            break
        done += 1
    parts = [f"{done} of {len(stale)} stale tables have fresh statistics{slow}"]
    if len(stale) > len(ours):
        parts.append(f"{len(stale) - len(ours)} belong to others: their owner, or pg_maintain, is needed")
    if len(ours) > done:
        parts.append(f"{len(ours) - done} are left for the next time")
    return ", ".join(parts)


async def terminate_idle_session(session: PostgresqlSession, rule: SessionFilter) -> str:
    """End the oldest session that the rule allows, and say which; its transaction is rolled back."""
    ended = await _end_session(session, rule, "state IN ('idle in transaction', 'idle in transaction (aborted)')",
                         "state_change", "pg_terminate_backend")  # fmt: skip
    return _describe_result(ended, rule, "terminated", "idles in a transaction for")


async def cancel_long_query(session: PostgresqlSession, rule: SessionFilter) -> str:
    """Cancel the longest query that the rule allows, and say of whom; its session goes on."""
    ended = await _end_session(session, rule, "state = 'active'", "query_start", "pg_cancel_backend")
    return _describe_result(ended, rule, "cancelled", "runs a query for")


async def _end_session(
    session: PostgresqlSession,
    rule: SessionFilter,
    state: LiteralString,
    since: LiteralString,
    end: LiteralString,
) -> list[Row]:
    """Look and end in one statement, so that a session that went on meanwhile is not hit."""
    statement = sql.SQL(_END_SESSION_SQL).format(
        state=sql.SQL(state), since=sql.SQL(since), end=sql.SQL(end), older=sql.Literal(rule.older_than),
        applications=sql.Literal(list(rule.applications)), users=sql.Literal(list(rule.users)),
    )  # fmt: skip
    return await session.execute(statement)


def _describe_result(ended: list[Row], rule: SessionFilter, word: str, what: str) -> str:
    if not ended:
        return f"nothing to do: no session of those that are named {what} more than {rule.older_than:g} s"
    (row,) = ended
    who = f"session {row['pid']} of {row['usename']} ({row['application_name'] or 'no application_name'})"
    if not row["done"]:
        return f"{who} had ended already"
    return f"{word} {who} after {float(row['age_s']):.0f} s"
