"""PostgreSQL tool: settings that a reload applies, changed by ALTER SYSTEM in postgresql.auto.conf."""

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from trimtab.engine.errors import ConflictError, NotFoundError, RefusedError, ToolError, ToolUncertainError
from trimtab.engine.settings.data_store_tools import PostgresqlTool
from trimtab.engine.tools.memory_budget import MemoryBudget, find_memory_budget, process_family_bytes
from trimtab.engine.tools.postgresql import postgresql_knobs, postgresql_maintenance
from trimtab.engine.tools.postgresql.postgresql_knobs import KNOBS, PgSetting
from trimtab.engine.tools.postgresql.postgresql_metrics import read_metrics
from trimtab.engine.tools.postgresql.postgresql_session import PostgresqlSession
from trimtab.engine.tools.server_access import DeniedError
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
    """Rights of our role on the server.

    version_number    : server_version_num
    sees_source_files : whether the role may see which file sets a setting
    change_refusal    : why nothing can be changed; "" = something can
    settable_knobs    : names of the knobs that the role may set
    """

    version: str
    version_number: int
    sees_source_files: bool
    is_standby: bool
    change_refusal: str
    settable_knobs: frozenset[str]


class Postgresql:
    """Tool for one PostgreSQL server. It connects on first use."""

    def __init__(self, name: str, settings: PostgresqlTool) -> None:
        self.name = name
        self.settings = settings
        self.targets: Sequence[str] = settings.targets_of(name)
        self.trial = settings.trial
        self._session = PostgresqlSession(name, settings)
        self._change_lock = asyncio.Lock()

    async def status(self) -> ToolStatus:
        """Return the server's state. Raises nothing."""
        try:
            rights = await self._read_rights()
        except DeniedError as error:
            return ToolStatus(ToolState.DENIED, str(error))
        except ToolError as error:
            return ToolStatus(ToolState.UNREACHABLE, str(error))
        if rights.change_refusal:
            detail = f"it allows no changes ({rights.change_refusal}); changes are written out as SQL"
            return ToolStatus(ToolState.EXPORT_ONLY, detail, rights.version)
        role = "standby" if rights.is_standby else "primary"
        return ToolStatus(ToolState.UP, f"{self._session.address}, {role}", rights.version)

    async def metrics(self, target: str) -> Mapping[str, float]:  # noqa: ARG002 - one server has one target
        """Return metrics of the URL's database by the names of postgres_exporter. Raises ToolError."""
        return await read_metrics(self._session, (await self._read_rights()).version_number)

    async def knobs(self, target: str) -> tuple[Knob, ...]:  # noqa: ARG002 - as above
        """Return the knobs of the allow-list that this server has. Raises ToolError."""
        found = await self._read_settings(tuple(KNOBS))
        sizes, budget = await self._read_memory_settings(), await self._memory_budget()
        return tuple(
            postgresql_knobs.bound_knob(KNOBS[name], sizes, budget) for name in KNOBS if name in found
        )

    async def read(self, target: str, knob: str) -> KnobReading:  # noqa: ARG002 - as above
        """Return a knob's current value in bytes or seconds. Raises NotFoundError, ToolError."""
        return postgresql_knobs.make_reading(
            await self._read_setting(knob), sees_source_files=(await self._read_rights()).sees_source_files
        )

    async def apply(self, target: str, knob: str, before: Value, after: Value) -> AppliedChange:  # noqa: ARG002 - as above
        """Run ALTER SYSTEM, reload and read back; None resets.

        Raises ConflictError, RefusedError with the projection or the SQL, ToolError, ToolUncertainError.
        """
        async with self._change_lock:
            setting, rights = await self._read_setting(knob), await self._read_rights()
            if not postgresql_knobs.values_equal(setting.value, before):
                raise ConflictError(
                    f"{self.name}: {knob} is {setting.value!r}, not {before!r}: it was changed; "
                    "nothing was done"
                )
            postgresql_knobs.refuse_unrestorable(setting)
            wanted = None if after is None else postgresql_knobs.validate_value(setting, after)
            if rights.change_refusal or knob not in rights.settable_knobs:
                raise RefusedError(
                    f"{self.name} does not allow {knob} to be set "
                    f"({rights.change_refusal or 'missing privilege'}); nothing was changed. A role with the "
                    f"privilege can run: {self._change_sql(setting, wanted)}"
                )
            if (
                wanted is not None
                and knob in postgresql_knobs.MEMORY_KNOBS
                and float(wanted) > float(before or 0)
            ):
                await self._refuse_over_budget(knob, float(wanted))
            now = await self._apply_setting(setting, wanted)
            return AppliedChange(before, now.value, Lasts.IN_A_FILE, self._change_sql(setting, wanted))

    async def outlook(self, target: str, knob: str, after: Value) -> MemoryOutlook | None:  # noqa: ARG002 - as above
        """Return the projected memory use of a value; None for other knobs. Raises ToolError."""
        if knob not in postgresql_knobs.MEMORY_KNOBS or not isinstance(after, int | float):
            return None
        return postgresql_knobs.project_memory(
            await self._read_memory_settings(), await self._memory_budget(), **{knob: float(after)}
        ).as_outlook

    async def actions(self, target: str) -> tuple[ToolAction, ...]:  # noqa: ARG002 - as above
        """Return `analyze`, and the actions that end sessions when the settings name sessions."""
        offered = {
            postgresql_maintenance.ANALYZE_ACTION: True,
            postgresql_maintenance.TERMINATE_ACTION: self.settings.idle_in_transaction,
            postgresql_maintenance.CANCEL_ACTION: self.settings.long_query,
        }
        return tuple(action for action, wanted in offered.items() if wanted)

    async def run(self, target: str, action: str, key: str) -> str:  # noqa: ARG002 - PostgreSQL takes no key
        """Run an action in a session of its own. Raises NotFoundError, ToolError, ToolUncertainError."""
        if action not in {each.name for each in await self.actions(target)}:
            known = ", ".join(each.name for each in await self.actions(target))
            raise NotFoundError(
                f"{self.name} has no action {action!r}; it has {known}; the settings can allow more"
            )
        session = PostgresqlSession(self.name, self.settings)
        try:
            if action == postgresql_maintenance.TERMINATE_ACTION.name and self.settings.idle_in_transaction:
                return await postgresql_maintenance.terminate_idle_session(
                    session, self.settings.idle_in_transaction
                )
            if action == postgresql_maintenance.CANCEL_ACTION.name and self.settings.long_query:
                return await postgresql_maintenance.cancel_long_query(session, self.settings.long_query)
            return await postgresql_maintenance.analyze_stale_tables(
                session, (await self._read_rights()).version_number
            )
        finally:
            await session.close()

    def command(self, target: str, subject: str, after: Value) -> str:  # noqa: ARG002 - as above
        """Return a psql command that does the same."""
        if subject == postgresql_maintenance.ANALYZE_ACTION.name:
            return f"psql {shlex.quote(self.settings.url)} -c ANALYZE"
        if subject not in KNOBS:
            return f"psql {shlex.quote(self.settings.url)}   # then look at pg_stat_activity"
        statement = f"ALTER SYSTEM RESET {subject}"
        if after is not None:
            unit = {"B": "kB", "s": "s"}.get(KNOBS[subject].unit)
            setting = PgSetting(subject, "", "", unit, "", "", None, None)
            statement = f"ALTER SYSTEM SET {subject} = '{postgresql_knobs.format_value(setting, after)}'"
        options = f"-c {shlex.quote(statement)} -c 'SELECT pg_reload_conf()'"
        return f"psql {shlex.quote(self.settings.url)} {options}"

    def grant(self) -> str:
        """Return the SQL that creates a least-privileged role; for PostgreSQL 15 and newer."""
        role, database = self.settings.username or "trimtab", self._session.database
        signals = self.settings.idle_in_transaction or self.settings.long_query
        lines = [
            f"CREATE ROLE {role} LOGIN PASSWORD 'CHANGE-THIS-PASSWORD';",
            f'GRANT CONNECT ON DATABASE "{database}" TO {role};',
            f"GRANT pg_monitor TO {role};",
            f"GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {role};",
            *(f"GRANT ALTER SYSTEM ON PARAMETER {knob} TO {role};" for knob in KNOBS),
            *([f"GRANT pg_signal_backend TO {role};"] if signals else []),
            "-- ANALYZE of tables that other roles own (before PostgreSQL 17 only the owner may):",
            "DO $$ BEGIN IF current_setting('server_version_num')::int >= 170000 THEN",
            f"  EXECUTE 'GRANT pg_maintain TO {role}'; END IF; END $$;",
        ]
        return "\n".join(lines) + "\n"

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()

    async def _read_rights(self) -> RoleRights:
        (row,) = await self._session.query(_RIGHTS_SQL)
        settable = frozenset(KNOBS) if row["super"] else await self._permitted_knobs(row["number"])
        refusal = ""
        if row["allowed"] != "on":
            refusal = "allow_alter_system is off"
        elif not row["reloads"]:
            refusal = f"{row['role']} may not execute pg_reload_conf()"
        elif not settable:
            refusal = f"{row['role']} has ALTER SYSTEM on no parameter"
        elif not row["sees"]:
            refusal = f"{row['role']} is not in pg_read_all_settings, so a change could not be undone exactly"
        return RoleRights(row["version"], row["number"], row["sees"], row["standby"], refusal, settable)

    async def _permitted_knobs(self, version: int) -> frozenset[str]:
        if version < 150_000:
            return frozenset()
        rows = await self._session.query(_PERMITTED_SQL, (list(KNOBS),))
        return frozenset(row["name"] for row in rows)

    async def _read_settings(self, names: Sequence[str]) -> dict[str, PgSetting]:
        return postgresql_knobs.parse_settings(await self._session.query(_SETTINGS_SQL, (list(names),)))

    async def _read_setting(self, knob: str) -> PgSetting:
        if knob in postgresql_knobs.FORBIDDEN_SETTINGS:
            raise RefusedError(
                f"{self.name}: {knob} is never changed: {postgresql_knobs.FORBIDDEN_SETTINGS[knob]}"
            )
        found = await self._read_settings((knob,)) if knob in KNOBS else {}
        if knob not in found:
            raise NotFoundError(f"{self.name} has no knob {knob!r}; it has {', '.join(KNOBS)}")
        return found[knob]

    async def _apply_setting(self, setting: PgSetting, wanted: Value) -> PgSetting:
        """Set, reload and read back; undo the change when the reload does not apply it."""
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
                f"{self.name}: a reload did not apply {setting.name}, so the change was undone; the server's "
                "log names the invalid line of its configuration"
            )
        return now

    async def _alter_system(self, setting: PgSetting, wanted: Value) -> None:
        await self._session.execute(
            sql.SQL("ALTER SYSTEM {}").format(self._alter_system_clause(setting, wanted))
        )
        await self._session.execute("SELECT pg_reload_conf()")

    async def _wait_for_reload(self, knob: str, wanted: Value) -> PgSetting | None:
        """Return the setting once it has the wanted value; None when it does not in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _RELOAD_TIMEOUT_S
        while loop.time() < end:
            now = await self._read_setting(knob)
            if (
                (not now.is_set_by_alter_system)
                if wanted is None
                else (now.is_set_by_alter_system and postgresql_knobs.values_equal(now.value, wanted))
            ):
                return now
            await asyncio.sleep(_POLL_INTERVAL_S)
        return None

    async def _refuse_over_budget(self, knob: str, wanted: float) -> None:
        projection = postgresql_knobs.project_memory(
            await self._read_memory_settings(), await self._memory_budget(), **{knob: wanted}
        )
        if not projection.fits:
            hint = f"; set tools.{self.name}.memory_limit" if projection.budget.limit_bytes is None else ""
            raise RefusedError(f"{self.name}: {knob} is refused: {projection}{hint}")

    async def _read_memory_settings(self) -> dict[str, float]:
        return {"hash_mem_multiplier": 1.0} | {
            row["name"]: float(row["size"]) for row in await self._session.query(_MEMORY_SETTINGS_SQL)
        }

    async def _memory_budget(self) -> MemoryBudget:
        (row,) = await self._session.query(_OWN_BACKEND_SQL)
        pid, start_time_s = row["pid"], row["started"] or 0.0
        used_bytes = await asyncio.to_thread(process_family_bytes, pid)
        return await asyncio.to_thread(
            find_memory_budget, pid, start_time_s, used_bytes, self.settings.memory_limit
        )

    def _alter_system_clause(self, setting: PgSetting, wanted: Value) -> sql.Composed:
        if wanted is None:
            return sql.SQL("RESET {}").format(sql.Identifier(setting.name))
        return sql.SQL("SET {} = {}").format(
            sql.Identifier(setting.name), sql.Literal(postgresql_knobs.format_value(setting, wanted))
        )

    def _change_sql(self, setting: PgSetting, wanted: Value) -> str:
        name = setting.name
        change = (
            f"RESET {name}"
            if wanted is None
            else f"SET {name} = '{postgresql_knobs.format_value(setting, wanted)}'"
        )
        return f"ALTER SYSTEM {change}; SELECT pg_reload_conf();"
