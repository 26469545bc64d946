"""A PostgreSQL: settings that a reload takes up, by ALTER SYSTEM, which stands in postgresql.auto.conf."""

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.settings.data_store_tools import PostgresqlTool
from trimtab.engine.tools.memory_budget import MemoryBudget, find_memory_budget, process_family_bytes
from trimtab.engine.tools.postgresql import postgresql_knobs as rules
from trimtab.engine.tools.postgresql import postgresql_maintenance as work
from trimtab.engine.tools.postgresql.postgresql_metrics import read_metrics
from trimtab.engine.tools.postgresql.postgresql_session import PostgresqlSession
from trimtab.engine.tools.refusals import DeniedError
from trimtab.engine.types import (
    AppliedChange,
    Knob,
    KnobReading,
    Lasts,
    MemoryOutlook,
    ToolAction,
    ToolState,
    ToolStatus,
    Value,
)

_RELOAD_TIMEOUT_S = 5.0
_POLL_INTERVAL_S = 0.05
_RIGHTS_SQL = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
    coalesce(current_setting('allow_alter_system', true), 'on') AS allowed, current_user AS role,
    has_function_privilege('pg_reload_conf()', 'execute') AS reloads, r.rolsuper AS super,
    pg_has_role('pg_read_all_settings', 'usage') AS sees, pg_is_in_recovery() AS standby
FROM pg_roles r WHERE r.rolname = current_user
"""
_SETTINGS_SQL = """
SELECT name, setting, boot_val, unit, vartype, source, sourcefile, sourceline
FROM pg_settings WHERE name = ANY(%s) AND context IN ('user', 'superuser', 'sighup')
"""
_PERMITTED_SQL = """
SELECT name FROM pg_settings WHERE name = ANY(%s) AND has_parameter_privilege(name, 'ALTER SYSTEM')
"""
_MEMORY_SETTINGS_SQL = """
SELECT name, setting::float8 * CASE unit WHEN '8kB' THEN 8192 WHEN 'kB' THEN 1024 ELSE 1 END AS size
FROM pg_settings WHERE name IN ('shared_buffers', 'work_mem', 'hash_mem_multiplier', 'maintenance_work_mem',
    'max_connections', 'autovacuum_max_workers')
"""
_OWN_BACKEND_SQL = """
SELECT pid, extract(epoch FROM backend_start)::float8 AS started FROM pg_stat_activity
WHERE pid = pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class RoleRights:
    """What our role may do on this server.

    forbidden : why nothing can be set; "" = something can
    knobs     : names that may be set
    """

    version: str
    version_number: int
    sees_source_files: bool
    is_standby: bool
    change_refusal: str
    settable_knobs: frozenset[str]


class Postgresql:
    """The port Tool for one PostgreSQL. Opens its session at the first call."""

    def __init__(self, name: str, settings: PostgresqlTool) -> None:
        self.name = name
        self.settings = settings
        self.targets: Sequence[str] = settings.targets_of(name)
        self.trial = settings.trial
        self._session = PostgresqlSession(name, settings)
        self._change_lock = asyncio.Lock()

    async def status(self) -> ToolStatus:
        """How it does. Raises nothing."""
        try:
            rights = await self._read_rights()
        except DeniedError as error:
            return ToolStatus(ToolState.DENIED, str(error))
        except ToolError as error:
            return ToolStatus(ToolState.UNREACHABLE, str(error))
        if rights.change_refusal:
            detail = f"it lets nothing be set ({rights.change_refusal}); changes are written down as SQL"
            return ToolStatus(ToolState.EXPORT_ONLY, detail, rights.version)
        role = "standby" if rights.is_standby else "primary"
        return ToolStatus(ToolState.UP, f"{self._session.address}, {role}", rights.version)

    async def metrics(self, target: str) -> Mapping[str, float]:  # noqa: ARG002 - it is one server
        """Figures by the names of postgres_exporter, of the database of the URL. Raises ToolError."""
        return await read_metrics(self._session, (await self._read_rights()).version_number)

    async def knobs(self, target: str) -> tuple[Knob, ...]:  # noqa: ARG002 - as above
        """Those of the allow-list that this server has. Raises ToolError."""
        found = await self._read_settings(tuple(rules.KNOBS))
        sizes, room = await self._read_memory_settings(), await self._memory_budget()
        return tuple(
            rules.bound_knob(rules.KNOBS[name], sizes, room) for name in rules.KNOBS if name in found
        )

    async def read(self, target: str, knob: str) -> KnobReading:  # noqa: ARG002 - as above
        """The value now, in bytes or seconds. Raises NotFoundError, ToolError."""
        return rules.make_reading(
            await self._read_setting(knob), sees_source_files=(await self._read_rights()).sees_source_files
        )

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:  # noqa: ARG002 - as above
        """ALTER SYSTEM, reload, read back; None resets.

        Raises ConflictError, RefusedError with the sum or the SQL, ToolError, ToolUncertainError.
        """
        async with self._change_lock:
            setting, rights = await self._read_setting(knob), await self._read_rights()
            if not rules.values_equal(setting.value, before):
                raise ConflictError(
                    f"{self.name}: {knob} is {setting.value!r}, not {before!r}: somebody changed it, "
                    "nothing was done"
                )
            rules.refuse_unrestorable(setting)
            wanted = None if after is None else rules.validate_value(setting, after)
            if rights.change_refusal or knob not in rights.settable_knobs:
                raise RefusedError(
                    f"{self.name} lets {knob} not be set ({rights.change_refusal or 'no right to it'}); nothing "
                    f"was changed. Let somebody who may run: {self._change_sql(setting, wanted)}"
                )
            if wanted is not None and knob in rules.MEMORY_KNOBS and float(wanted) > float(before or 0):
                await self._refuse_over_budget(knob, float(wanted))
            now = await self._apply_setting(setting, wanted)
            return AppliedChange(before, now.value, Lasts.IN_A_FILE, self._change_sql(setting, wanted))

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:  # noqa: ARG002 - as above
        """What memory would come to with that value; None = the knob has no part in it. Raises ToolError."""
        if knob not in rules.MEMORY_KNOBS or not isinstance(after, int | float):
            return None
        return rules.project_memory(
            await self._read_memory_settings(), await self._memory_budget(), **{knob: float(after)}
        ).as_outlook

    async def actions(self, target: str) -> tuple[ToolAction, ...]:  # noqa: ARG002 - as above
        """ANALYZE; ending sessions, where the settings name them."""
        offered = {
            work.ANALYZE_ACTION: True,
            work.TERMINATE_ACTION: self.settings.idle_in_transaction,
            work.CANCEL_ACTION: self.settings.long_query,
        }
        return tuple(action for action, wanted in offered.items() if wanted)

    async def run(self, target: str, action: str, key: str) -> str:  # noqa: ARG002 - as above; there is no key
        """Do it, in a session of its own. Raises NotFoundError, ToolError, ToolUncertainError."""
        if action not in {each.name for each in await self.actions(target)}:
            known = ", ".join(each.name for each in await self.actions(target))
            raise NotFoundError(
                f"{self.name} has no action {action!r}; it has {known}, and others by settings"
            )
        aside = PostgresqlSession(self.name, self.settings)
        try:
            if action == work.TERMINATE_ACTION.name and self.settings.idle_in_transaction:
                return await work.terminate_idle_session(aside, self.settings.idle_in_transaction)
            if action == work.CANCEL_ACTION.name and self.settings.long_query:
                return await work.cancel_long_query(aside, self.settings.long_query)
            return await work.analyze_stale_tables(aside, (await self._read_rights()).version_number)
        finally:
            await aside.close()

    def command(self, target: str, subject: str, after: Value) -> str:  # noqa: ARG002 - as above
        """The line of psql."""
        if subject == work.ANALYZE_ACTION.name:
            return f"psql {shlex.quote(self.settings.url)} -c ANALYZE"
        if subject not in rules.KNOBS:
            return f"psql {shlex.quote(self.settings.url)}   # then look at pg_stat_activity"
        statement = f"ALTER SYSTEM RESET {subject}"
        if after is not None:
            unit = {"B": "kB", "s": "s"}.get(rules.KNOBS[subject].unit)
            plain = rules.PgSetting(subject, "", "", unit, "", "", None, None)
            statement = f"ALTER SYSTEM SET {subject} = '{rules.format_value(plain, after)}'"
        words = f"-c {shlex.quote(statement)} -c 'SELECT pg_reload_conf()'"
        return f"psql {shlex.quote(self.settings.url)} {words}"

    def grant(self) -> str:
        """The SQL of a role that may do no more than Trimtab does; for PostgreSQL 15 and newer."""
        role, database = self.settings.username or "trimtab", self._session.database
        signals = self.settings.idle_in_transaction or self.settings.long_query
        lines = [
            f"CREATE ROLE {role} LOGIN PASSWORD 'CHANGE-THIS-PASSWORD';",
            f'GRANT CONNECT ON DATABASE "{database}" TO {role};',
            f"GRANT pg_monitor TO {role};",
            f"GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {role};",
            *(f"GRANT ALTER SYSTEM ON PARAMETER {knob} TO {role};" for knob in rules.KNOBS),
            *([f"GRANT pg_signal_backend TO {role};"] if signals else []),
            "-- Statistics of tables that belong to others (before PostgreSQL 17 only their owner may):",
            "DO $$ BEGIN IF current_setting('server_version_num')::int >= 170000 THEN",
            f"  EXECUTE 'GRANT pg_maintain TO {role}'; END IF; END $$;",
        ]
        return "\n".join(lines) + "\n"

    async def close(self) -> None:
        """Let go of the session."""
        await self._session.close()

    async def _read_rights(self) -> RoleRights:
        (row,) = await self._session.query(_RIGHTS_SQL)
        may = frozenset(rules.KNOBS) if row["super"] else await self._permitted_knobs(row["number"])
        why = ""
        if row["allowed"] != "on":
            why = "allow_alter_system is off"
        elif not row["reloads"]:
            why = f"{row['role']} may not execute pg_reload_conf()"
        elif not may:
            why = f"{row['role']} has ALTER SYSTEM on no parameter"
        elif not row["sees"]:
            why = (
                f"{row['role']} is not in pg_read_all_settings, so that a change could not be undone exactly"
            )
        return RoleRights(row["version"], row["number"], row["sees"], row["standby"], why, may)

    async def _permitted_knobs(self, version: int) -> frozenset[str]:
        if version < 150_000:
            return frozenset()
        rows = await self._session.query(_PERMITTED_SQL, (list(rules.KNOBS),))
        return frozenset(row["name"] for row in rows)

    async def _read_settings(self, names: Sequence[str]) -> dict[str, rules.PgSetting]:
        return rules.parse_settings(await self._session.query(_SETTINGS_SQL, (list(names),)))

    async def _read_setting(self, knob: str) -> rules.PgSetting:
        if knob in rules.FORBIDDEN_SETTINGS:
            raise RefusedError(f"{self.name}: {knob} is never touched: {rules.FORBIDDEN_SETTINGS[knob]}")
        found = await self._read_settings((knob,)) if knob in rules.KNOBS else {}
        if knob not in found:
            raise NotFoundError(f"{self.name} has no knob {knob!r}; it has {', '.join(rules.KNOBS)}")
        return found[knob]

    async def _apply_setting(self, setting: rules.PgSetting, wanted: Value) -> rules.PgSetting:
        """Set and reload; where the reload does not take it up it is taken back."""
        await self._alter_system(setting, wanted)
        try:
            now = await self._wait_for_reload(setting.name, wanted)
        except ToolError as error:
            raise ToolUncertainError(
                f"{setting.name} was acknowledged but could not be read back: {error}"
            ) from None
        if now is None:
            await self._alter_system(setting, setting.value if setting.is_set_by_alter_system else None)
            raise ToolError(
                f"{self.name}: a reload did not take up {setting.name}, so it was taken back; the server's "
                "log says which line of its configuration does not fit"
            )
        return now

    async def _alter_system(self, setting: rules.PgSetting, wanted: Value) -> None:
        await self._session.execute(
            sql.SQL("ALTER SYSTEM {}").format(self._alter_system_clause(setting, wanted))
        )
        await self._session.execute("SELECT pg_reload_conf()")

    async def _wait_for_reload(self, knob: str, wanted: Value) -> rules.PgSetting | None:
        """The setting once it reads as wanted; None where it does not in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _RELOAD_TIMEOUT_S
        while loop.time() < end:
            now = await self._read_setting(knob)
            if (
                (not now.is_set_by_alter_system)
                if wanted is None
                else (now.is_set_by_alter_system and rules.values_equal(now.value, wanted))
            ):
                return now
            await asyncio.sleep(_POLL_INTERVAL_S)
        return None

    async def _refuse_over_budget(self, knob: str, wanted: float) -> None:
        seen = rules.project_memory(
            await self._read_memory_settings(), await self._memory_budget(), **{knob: wanted}
        )
        if not seen.fits:
            hint = f"; set tools.{self.name}.memory_limit" if seen.budget.limit_bytes is None else ""
            raise RefusedError(f"{self.name}: {knob} is refused: {seen}{hint}")

    async def _read_memory_settings(self) -> dict[str, float]:
        return {"hash_mem_multiplier": 1.0} | {
            row["name"]: float(row["size"]) for row in await self._session.query(_MEMORY_SETTINGS_SQL)
        }

    async def _memory_budget(self) -> MemoryBudget:
        (row,) = await self._session.query(_OWN_BACKEND_SQL)
        pid, started = row["pid"], row["started"] or 0.0
        used = await asyncio.to_thread(process_family_bytes, pid)
        return await asyncio.to_thread(find_memory_budget, pid, started, used, self.settings.memory_limit)

    def _alter_system_clause(self, setting: rules.PgSetting, wanted: Value) -> sql.Composed:
        if wanted is None:
            return sql.SQL("RESET {}").format(sql.Identifier(setting.name))
        return sql.SQL("SET {} = {}").format(
            sql.Identifier(setting.name), sql.Literal(rules.format_value(setting, wanted))
        )

    def _change_sql(self, setting: rules.PgSetting, wanted: Value) -> str:
        name = setting.name
        change = (
            f"RESET {name}" if wanted is None else f"SET {name} = '{rules.format_value(setting, wanted)}'"
        )
        return f"ALTER SYSTEM {change}; SELECT pg_reload_conf();"
