"""Create incidents, changes, recommendations, actions, the audit chain, and single values."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _id(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _epoch() -> sa.Column[int]:
    return sa.Column("epoch", sa.BigInteger, nullable=False)


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "incidents",
        sa.Column("id", _id(64), primary_key=True),
        sa.Column("start_ns", sa.BigInteger, nullable=False),
        sa.Column("end_ns", sa.BigInteger),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("severity", sa.Double, nullable=False),
        sa.Column(
            "patterns", sa.Text, nullable=False, comment="names between commas: ,cache_thrash,memory_leak,"
        ),
        sa.Column("words", sa.Text, nullable=False, comment="what is searched, in lower case"),
        sa.Column("merged_into", sa.String(64)),
        *_texts("body"),
        _epoch(),
        comment="an Incident as JSON in body; the other columns are for finding it",
    )
    op.create_index("incidents_by_state", "incidents", ["state", "id"])
    op.create_index("incidents_by_end", "incidents", ["end_ns", "id"])
    op.create_table(
        "changes",
        sa.Column("id", _id(64), primary_key=True),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        *_texts("body"),
        _epoch(),
    )
    op.create_index("changes_by_time", "changes", ["time_ns", "id"])
    _acting()
    op.create_table(
        "memory",
        sa.Column("name", _id(200), primary_key=True),
        *_texts("body"),
        _epoch(),
        comment="single values that outlive a restart, as JSON: the pause, the head of the audit ...",
    )


def _acting() -> None:
    op.create_table(
        "recommendations",
        sa.Column("id", _id(64), primary_key=True),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("expires_ns", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("incident_id", _id(64)),
        *_texts("tool", "target", "fingerprint", "body"),
        _epoch(),
    )
    op.create_index("recommendations_by_state", "recommendations", ["state", "id"])
    op.create_index("recommendations_by_incident", "recommendations", ["incident_id", "id"])
    op.create_table(
        "actions",
        sa.Column("id", _id(64), primary_key=True),
        sa.Column("idempotency_key", sa.Text, nullable=False, unique=True),
        sa.Column("recommendation_id", _id(64)),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        *_texts("tool", "target", "body"),
        _epoch(),
    )
    op.create_index("actions_by_state", "actions", ["state", "id"])
    op.create_index("actions_by_target", "actions", ["tool", "target", "id"])
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        *_texts("actor", "what", "subject", "details"),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        _epoch(),
        comment="a chain: hash covers the row and the hash before it",
    )
    op.create_index("audit_by_subject", "audit", ["subject", "seq"])
