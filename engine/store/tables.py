"""SQL tables, portable: times are BIGINT ns UTC, lists and labels JSON text, unknown values NULL.

Every row carries the epoch of the lease under which it was written. A change here needs a revision in
`migrations/versions` and its number at the end of `database.REVISIONS`.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData()


def _id(length: int) -> TypeEngine[str]:
    # Page cursors compare ids, so every database must use byte order regardless of its locale.
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def _epoch() -> Column[int]:
    return Column("epoch", BigInteger, nullable=False)


lease = Table(
    "lease",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
    comment="one row: the newest epoch; a write of an older one is refused",
)

series = Table(
    "series",
    metadata,
    Column("id", _id(32), primary_key=True),
    Column("source", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("help", Text, nullable=False),
    _epoch(),
)

anomalies = Table(
    "anomalies",
    metadata,
    Column("id", _id(64), primary_key=True),
    Column("series_id", _id(32), nullable=False),
    Column("series", Text, nullable=False),
    Column("series_lower", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("end_ns", BigInteger),
    Column("peak_ns", BigInteger, nullable=False),
    Column("score", Double),
    Column("direction", String(16), nullable=False),
    Column("value", Double),
    Column("expected", Double),
    Column("lower_bound", Double),
    Column("upper_bound", Double),
    Column("detectors", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("labels", Text, nullable=False),
    _epoch(),
    Index("anomalies_by_series", "series_id", "id"),
    Index("anomalies_by_source", "source", "id"),
    Index("anomalies_by_end", "end_ns", "id"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("anomaly_id", _id(64), ForeignKey("anomalies.id"), primary_key=True),
    Column("author", Text, primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("note", Text, nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    _epoch(),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", _id(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger),
    Column("revoked_ns", BigInteger),
    _epoch(),
)

answers = Table(
    "answers",
    metadata,
    Column("idempotency_key", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    _epoch(),
    Index("answers_by_time", "time_ns"),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", _id(64), primary_key=True),
    Column("start_ns", BigInteger, nullable=False),
    Column("end_ns", BigInteger),
    Column("state", String(16), nullable=False),
    Column("severity", Double, nullable=False),
    Column("patterns", Text, nullable=False, comment="names between commas: ,cache_thrash,memory_leak,"),
    Column("words", Text, nullable=False, comment="what is searched, in lower case"),
    Column("merged_into", String(64)),
    Column("body", Text, nullable=False),
    _epoch(),
    Index("incidents_by_state", "state", "id"),
    Index("incidents_by_end", "end_ns", "id"),
    comment="an Incident as JSON in body; the other columns are for finding it",
)

changes = Table(
    "changes",
    metadata,
    Column("id", _id(64), primary_key=True),
    Column("time_ns", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    _epoch(),
    Index("changes_by_time", "time_ns", "id"),
)

recommendations = Table(
    "recommendations",
    metadata,
    Column("id", _id(64), primary_key=True),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("incident_id", _id(64)),
    Column("tool", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("body", Text, nullable=False),
    _epoch(),
    Index("recommendations_by_state", "state", "id"),
    Index("recommendations_by_incident", "incident_id", "id"),
)

actions = Table(
    "actions",
    metadata,
    Column("id", _id(64), primary_key=True),
    Column("idempotency_key", Text, nullable=False, unique=True),
    Column("recommendation_id", _id(64)),
    Column("created_ns", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("tool", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("body", Text, nullable=False),
    _epoch(),
    Index("actions_by_state", "state", "id"),
    Index("actions_by_target", "tool", "target", "id"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    _epoch(),
    Index("audit_by_subject", "subject", "seq"),
    comment="a chain: hash covers the row and the hash before it",
)

memory = Table(
    "memory",
    metadata,
    Column("name", _id(200), primary_key=True),
    Column("body", Text, nullable=False),
    _epoch(),
    comment="single values that outlive a restart, as JSON: the pause, the head of the audit ...",
)
