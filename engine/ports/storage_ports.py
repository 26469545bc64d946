"""What outlives the process: events, scores, snapshots, incidents, and the ledger of actions."""

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
    """Durable events: anomalies, feedback, keys. A write that returned survives kill -9."""

    def save_series(self, infos: Iterable[SeriesInfo]) -> None:
        """Remember series, by id; known ones are updated."""
        ...

    def save_anomaly(self, anomaly: Anomaly) -> None:
        """Insert or update by id."""
        ...

    def anomaly(self, anomaly_id: str) -> Anomaly:
        """Raises NotFoundError."""
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
        """Newest first by id (a ULID of the start); `after` is the last id of the page before.

        search : every word must stand in the series' Prometheus form, case ignored
        """
        ...

    def save_feedback(self, feedback: Feedback) -> None:
        """One word per anomaly and author; a later one replaces it. Raises NotFoundError."""
        ...

    def feedback(self, anomaly_id: str) -> list[Feedback]:
        """Oldest first."""
        ...

    def save_key(self, key: ApiKey) -> None:
        """Insert or update by id."""
        ...

    def keys(self) -> list[ApiKey]:
        """All, revoked and expired ones too."""
        ...

    def stored_response(self, idempotency_key: str, route: str) -> tuple[int, bytes] | None:
        """Status and body that this POST was answered with before, kept for a day."""
        ...

    def save_response(self, idempotency_key: str, route: str, status: int, body: bytes, now: int) -> None:
        """Keep the answer to a POST."""
        ...

    def delete_ended(self, before: int, limit: int) -> int:
        """Remove what ended before that time, int64 ns, at most `limit` rows of a kind; how many went.

        Anomalies with what was said of them, incidents, changes. What goes on stays, however old.
        """
        ...

    def delete_keys(self, prefixes: Sequence[str], ended_before: int, limit: int) -> int:
        """Remove at most `limit` keys that begin so and expired or were revoked before then; how many."""
        ...

    def health_problem(self) -> str | None:
        """None, or what is wrong."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class ScoreLog(Protocol):
    """Scores by time: append a tick, read a series."""

    def append(self, keys: Sequence[SeriesKey], scores: TickScores) -> None:
        """Keep one tick; keys by slot. Rows without a sample are not kept."""
        ...

    def read(self, series_id: str, since: int, until: int, limit: int = 100_000) -> ScoreRows:
        """Rows with since <= time < until, oldest first; empty where nothing is known."""
        ...

    def size_bytes(self) -> int:
        """What the log takes on disk."""
        ...

    def flush(self) -> None:
        """Make what was appended durable, as before a snapshot. Raises StoreError."""
        ...

    def close(self) -> None:
        """Write what is open."""
        ...


class Snapshots(Protocol):
    """State of each source's scoring, and every tick since, so that a restart goes on where it was."""

    def log_tick(self, source: str, time: int, keys: Sequence[SeriesKey], values: bytes) -> None:
        """Append one closed tick before it is scored; values are float64 by slot."""
        ...

    def ticks_since(self, source: str) -> Iterable[tuple[int, tuple[SeriesKey, ...], bytes]]:
        """The logged ticks after the newest snapshot, oldest first."""
        ...

    def ticks_until(self, source: str) -> Iterable[tuple[int, tuple[SeriesKey, ...], bytes]]:
        """The logged ticks up to the newest snapshot that were not dropped, oldest first."""
        ...

    def save(
        self,
        source: str,
        time: int,
        arrays: State,
        meta: dict[str, object],
        keep_from: int | None = None,
    ) -> None:
        """A snapshot, atomically; the ticks up to `time` may then be dropped, if before `keep_from`."""
        ...

    def load(self, source: str) -> tuple[int, State, dict[str, object]] | None:
        """The newest snapshot that is whole; None = start afresh."""
        ...


class Incidents(Protocol):
    """Durable incidents and changes. A write that returned survives kill -9. Raises StoreError."""

    def save_incidents(self, incidents: Iterable[Incident]) -> None:
        """Insert or update by id, all or none."""
        ...

    def incident(self, incident_id: str) -> Incident:
        """Raises NotFoundError."""
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
        """Newest first by id (a ULID of the start); `after` is the last id of the page before.

        Incidents that were merged into another are left out.
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
        """Newest first by id."""
        ...


class Ledger(Protocol):
    """Recommendations, actions, their audit, and the kill switch. A write that returned survives kill -9.

    Every change of state is one transaction with its audit row: where the audit cannot be written,
    nothing is. Raises StoreError; LockedError where another engine took over.
    """

    def save_recommendation(
        self,
        recommendation: Recommendation,
        audit: str,
        actor: str,
        expected: RecommendationState | None = None,
    ) -> None:
        """Insert, or update by id, with an audit row `audit` by `actor`.

        expected : the state that must be stored now; ConflictError where it is another. None = any, or none
        """
        ...

    def recommendation(self, recommendation_id: str) -> Recommendation:
        """Raises NotFoundError."""
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
        """Newest first by id (a ULID of its creation)."""
        ...

    def propose(self, action: Action, audit: str, actor: str) -> Action:
        """Insert an action; where one has its key already that one is given back, and nothing written."""
        ...

    def transition(
        self,
        action: Action,
        expected: ActionState,
        audit: str,
        actor: str,
        details: dict[str, Value] | None = None,
    ) -> Action:
        """Write an action whose stored state is `expected`. Raises ConflictError where it is another."""
        ...

    def action(self, action_id: str) -> Action:
        """Raises NotFoundError."""
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
        """Newest first by id (a ULID of its creation); `since` compares with `created`."""
        ...

    def append_audit(
        self, what: str, subject: str, actor: str, details: dict[str, Value] | None = None
    ) -> AuditRow:
        """Append one audit row of its own."""
        ...

    def audit_rows(self, *, after: int = 0, limit: int = 1000, subject: str | None = None) -> list[AuditRow]:
        """Rows by `seq`, oldest first, those after `after`."""
        ...

    def audit_heads(self) -> AuditHeads:
        """Where the audit ends, as the store and the data folder remember it."""
        ...

    def pause(self) -> Pause:
        """Whether anything may act."""
        ...

    def set_pause(self, pause: Pause) -> None:
        """Switch it, with its audit row."""
        ...

    def silences(self) -> list[Silence]:
        """Those of people, newest first; such as ended lately, too."""
        ...

    def add_silence(self, silence: Silence) -> None:
        """Keep it, with its audit row."""
        ...

    def end_silence(self, silence_id: str, by: str) -> Silence:
        """It ends now, with its audit row. Raises NotFoundError; ConflictError where it is over already."""
        ...


class KeyValueStore(Protocol):
    """Single values that outlive a restart, as plain JSON by name. Blocks; raises StoreError."""

    def get(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        """What was set; None = nothing was."""
        ...

    def set(self, name: str, value: Any) -> None:  # noqa: ANN401 - as above
        """Keep it in place of what was there; durable when it returns."""
        ...
