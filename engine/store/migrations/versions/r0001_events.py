"""Create series, anomalies, feedback, API keys, responses to POSTs and the lease."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _id(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _epoch() -> sa.Column[int]:
    return sa.Column("epoch", sa.BigInteger, nullable=False)


def upgrade() -> None:
    """Create the tables."""
    lease = op.create_table(
        "lease",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        comment="one row: the newest epoch; a write of an older one is refused",
    )
    op.bulk_insert(lease, [{"id": 1, "epoch": 0, "holder": ""}])
    op.create_table(
        "series",
        sa.Column("id", _id(32), primary_key=True),
        *(
            sa.Column(n, sa.Text, nullable=False)
            for n in ("source", "metric", "labels", "unit", "kind", "help")
        ),
        _epoch(),
    )
    _anomalies()
    op.create_table(
        "feedback",
        sa.Column("anomaly_id", _id(64), sa.ForeignKey("anomalies.id"), primary_key=True),
        sa.Column("author", sa.Text, primary_key=True),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        _epoch(),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", _id(64), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_ns", sa.BigInteger, nullable=False),
        sa.Column("expires_ns", sa.BigInteger),
        sa.Column("revoked_ns", sa.BigInteger),
        _epoch(),
    )
    op.create_table(
        "answers",
        sa.Column("idempotency_key", sa.Text, primary_key=True),
        sa.Column("route", sa.Text, primary_key=True),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("time_ns", sa.BigInteger, nullable=False),
        _epoch(),
    )
    op.create_index("answers_by_time", "answers", ["time_ns"])


def _anomalies() -> None:
    op.create_table(
        "anomalies",
        sa.Column("id", _id(64), primary_key=True),
        sa.Column("series_id", _id(32), nullable=False),
        sa.Column("series", sa.Text, nullable=False),
        sa.Column("series_lower", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("start_ns", sa.BigInteger, nullable=False),
        sa.Column("end_ns", sa.BigInteger),
        sa.Column("peak_ns", sa.BigInteger, nullable=False),
        sa.Column("score", sa.Double),
        sa.Column("direction", sa.String(16), nullable=False),
        *(sa.Column(n, sa.Double) for n in ("value", "expected", "lower_bound", "upper_bound")),
        *(sa.Column(n, sa.Text, nullable=False) for n in ("detectors", "reason", "labels")),
        _epoch(),
    )
    op.create_index("anomalies_by_series", "anomalies", ["series_id", "id"])
    op.create_index("anomalies_by_source", "anomalies", ["source", "id"])
    op.create_index("anomalies_by_end", "anomalies", ["end_ns", "id"])
