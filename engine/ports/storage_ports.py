"""Ports of durable storage: events, scores, snapshots, incidents, and the ledger of actions."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from trimtab.engine.types import (
    Action,
    ActionState,
    Anomaly,
    ApiKey,
    AuditHeads,
    AuditRow,
    Change,
    Feedback,
    Incident,
    IncidentState,
    Pause,
    Recommendation,
    RecommendationState,
    ScoreRows,
    SeriesInfo,
    SeriesKey,
    Silence,
    TickScores,
    Value,
)
from trimtab.models.contracts import State


class Store(Protocol):
    """Durable anomalies, feedback and API keys. A write that returned survives kill -9."""

    def save_series(self, infos: Iterable[SeriesInfo]) -> None:
        """Insert or update series by id."""
        ...

    def save_anomaly(self, anomaly: Anomaly) -> None:
        """Insert or update by id."""
        ...

    def anomaly(self, anomaly_id: str) -> Anomaly:
        """Return one by id. Raises NotFoundError."""
        ...

    def anomalies(
        self,
        *,
        series_id: str | None = None,
        source: str | None = None,
        open_only: bool = False,
        since: int | None = None,
        until: int | None = None,
        min_score: float | None = None,
        direction: str | None = None,
        search: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Anomaly]:
        """Return anomalies, newest first by id (a ULID of the start).

        since, until : int64 ns UTC; `after` : last id of the previous page
        search : words that the series' Prometheus form must all contain, ignoring case
        """
        ...

    def save_feedback(self, feedback: Feedback) -> None:
        """Store the feedback of one author on an anomaly, replacing an earlier one. Raises NotFoundError."""
        ...

    def feedback(self, anomaly_id: str) -> list[Feedback]:
        """Return the feedback on an anomaly, oldest first."""
        ...

    def save_key(self, key: ApiKey) -> None:
        """Insert or update by id."""
        ...

    def keys(self) -> list[ApiKey]:
        """Return all keys, including revoked and expired ones."""
        ...

    def stored_response(self, idempotency_key: str, route: str) -> tuple[int, bytes] | None:
        """Return status and body of the stored response to this request, kept for a day; None = none."""
        ...

    def save_response(self, idempotency_key: str, route: str, status: int, body: bytes, now: int) -> None:
        """Store the response to a request under its idempotency key."""
        ...

    def delete_ended(self, before: int, limit: int) -> int:
        """Delete what ended before `before` (int64 ns UTC), at most `limit` rows of a kind; return the count.

        Covers anomalies with their feedback, incidents and changes. Open ones are kept at any age.
        """
        ...

    def delete_keys(self, prefixes: Sequence[str], ended_before: int, limit: int) -> int:
        """Delete up to `limit` keys with these prefixes that ended before then; return the count."""
        ...

    def health_problem(self) -> str | None:
        """Return what is wrong with the store; None = healthy."""
        ...

    def close(self) -> None:
        """Close the store."""
        ...


class ScoreLog(Protocol):
    """Time series of scores: append by tick, read by series."""

    def append(self, keys: Sequence[SeriesKey], scores: TickScores) -> None:
        """Append one tick; keys by slot. Rows without a sample are omitted."""
        ...

    def read(self, series_id: str, since: int, until: int, limit: int = 100_000) -> ScoreRows:
        """Return rows with since <= time < until (int64 ns UTC), oldest first."""
        ...

    def size_bytes(self) -> int:
        """Return the size on disk in bytes."""
        ...

    def flush(self) -> None:
        """Make appended ticks durable, for example before a snapshot. Raises StoreError."""
        ...

    def close(self) -> None:
        """Write buffered ticks and close."""
        ...


class Snapshots(Protocol):
    """Snapshots of each source's learned state, and a log of the ticks since, for restarts."""

    def log_tick(self, source: str, time: int, keys: Sequence[SeriesKey], values: bytes) -> None:
        """Append one closed tick before it is scored; values are float64 by slot."""
        ...

    def ticks_since(self, source: str) -> Iterable[tuple[int, tuple[SeriesKey, ...], bytes]]:
        """Return the logged ticks after the newest snapshot, oldest first."""
        ...

    def ticks_until(self, source: str) -> Iterable[tuple[int, tuple[SeriesKey, ...], bytes]]:
        """Return the retained ticks up to the newest snapshot, oldest first."""
        ...

    def save(
        self,
        source: str,
        time: int,
        arrays: State,
        meta: dict[str, object],
        keep_from: int | None = None,
    ) -> None:
        """Write a snapshot atomically; ticks up to `time` and before `keep_from` may then be dropped."""
        ...

    def load(self, source: str) -> tuple[int, State, dict[str, object]] | None:
        """Return (time, arrays, meta) of the newest intact snapshot; None = there is none."""
        ...


class Incidents(Protocol):
    """Durable incidents and change events. A write that returned survives kill -9. Raises StoreError."""

    def save_incidents(self, incidents: Iterable[Incident]) -> None:
        """Insert or update by id, in one transaction."""
        ...

    def incident(self, incident_id: str) -> Incident:
        """Return one by id. Raises NotFoundError."""
        ...

    def incidents(
        self,
        *,
        state: IncidentState | None = None,
        open_only: bool = False,
        since: int | None = None,
        until: int | None = None,
        pattern: str | None = None,
        min_severity: float | None = None,
        search: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Incident]:
        """Return incidents, newest first by id (a ULID of the start).

        Incidents that were merged into another are omitted.
        """
        ...

    def save_change(self, change: Change) -> None:
        """Insert or update by id."""
        ...

    def changes(
        self,
        *,
        since: int | None = None,
        until: int | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Change]:
        """Return change events, newest first by id."""
        ...


class Ledger(Protocol):
    """Recommendations, actions, audit, silences and the pause. A write that returned survives kill -9.

    Every change of state and its audit row are one transaction. Raises StoreError, or LockedError if
    another engine has taken over.
    """

    def save_recommendation(
        self,
        recommendation: Recommendation,
        audit: str,
        actor: str,
        expected: RecommendationState | None = None,
    ) -> None:
        """Insert or update by id, with an audit row `audit` by `actor`.

        expected : state that must be stored now, or ConflictError is raised; None = any state, or not stored
        """
        ...

    def recommendation(self, recommendation_id: str) -> Recommendation:
        """Return one by id. Raises NotFoundError."""
        ...

    def recommendations(
        self,
        *,
        state: RecommendationState | None = None,
        incident_id: str | None = None,
        tool: str | None = None,
        target: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Recommendation]:
        """Return recommendations, newest first by id (a ULID of the creation)."""
        ...

    def propose(self, action: Action, audit: str, actor: str) -> Action:
        """Insert an action; if one with its key exists, return that one and write nothing."""
        ...

    def transition(
        self,
        action: Action,
        expected: ActionState,
        audit: str,
        actor: str,
        details: dict[str, Value] | None = None,
    ) -> Action:
        """Update an action whose stored state is `expected`. Raises ConflictError if it is another."""
        ...

    def action(self, action_id: str) -> Action:
        """Return one by id. Raises NotFoundError."""
        ...

    def actions(
        self,
        *,
        state: ActionState | None = None,
        unfinished: bool = False,
        recommendation_id: str | None = None,
        tool: str | None = None,
        target: str | None = None,
        since: int | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Action]:
        """Return actions, newest first by id (a ULID of the creation); `since` compares with `created`."""
        ...

    def append_audit(
        self, what: str, subject: str, actor: str, details: dict[str, Value] | None = None
    ) -> AuditRow:
        """Append one audit row and return it."""
        ...

    def audit_rows(self, *, after: int = 0, limit: int = 1000, subject: str | None = None) -> list[AuditRow]:
        """Return rows with seq > `after`, oldest first."""
        ...

    def audit_heads(self) -> AuditHeads:
        """Return the last (seq, hash) of the audit according to the store and the data folder."""
        ...

    def pause(self) -> Pause:
        """Return the current pause."""
        ...

    def set_pause(self, pause: Pause) -> None:
        """Store the pause, with its audit row."""
        ...

    def silences(self) -> list[Silence]:
        """Return the silences of operators, newest first, including recently ended ones."""
        ...

    def add_silence(self, silence: Silence) -> None:
        """Store a silence, with its audit row."""
        ...

    def end_silence(self, silence_id: str, by: str) -> Silence:
        """End a silence now, with its audit row. Raises NotFoundError, or ConflictError if it has ended."""
        ...


class KeyValueStore(Protocol):
    """Durable JSON values by name. Blocks; raises StoreError."""

    def get(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        """Return the value; None = not set."""
        ...

    def set(self, name: str, value: Any) -> None:  # noqa: ANN401 - as above
        """Set or replace the value; durable when this returns."""
        ...
