"""Reviews that emergencies leave behind, and passes given on the server.

Works with the code before and after it: both tables are new.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go one step forward."""
    op.create_table(
        "reviews",
        sa.Column("deployment_id", BigId, autoincrement=False, nullable=False),
        sa.Column("service", sa.String(length=128), nullable=False),
        sa.Column("environment", sa.String(length=64), nullable=False),
        sa.Column("rule", sa.String(length=100), nullable=False),
        sa.Column("requester", sa.String(length=128), nullable=False),
        sa.Column("owed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("block", sa.String(length=16), server_default="no", nullable=False),
        sa.Column("reminders", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("done_by", sa.String(length=128), server_default="", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"], ["deployments.id"], name=op.f("fk_reviews_deployment_id_deployments")
        ),
        sa.PrimaryKeyConstraint("deployment_id", name=op.f("pk_reviews")),
    )
    op.create_index("ix_reviews_owed", "reviews", ["done_at", "owed_at"])
    op.create_table(
        "passes",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("person", sa.String(length=128), nullable=False),
        sa.Column("service", sa.String(length=128), nullable=False),
        sa.Column("environment", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=255), server_default="", nullable=False),
        sa.Column("from_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("given_by", sa.String(length=128), nullable=False),
        sa.Column("used_by", BigId, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passes")),
    )
    op.create_index("ix_passes_target", "passes", ["service", "environment", "person"])


def downgrade() -> None:
    """Go one step back."""
    op.drop_index("ix_passes_target", table_name="passes")

    op.drop_table("passes")

    op.drop_index("ix_reviews_owed", table_name="reviews")

    op.drop_table("reviews")
