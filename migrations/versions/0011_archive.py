"""The archive of deployments that are long over.

Works with the code before and after it: the table is new, and the version before only misses what was archived.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go one step forward."""
    op.create_table(
        "archived_deployments",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("service", sa.String(length=128), nullable=False),
        sa.Column("environment", sa.String(length=64), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("form", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archived_deployments")),
    )
    op.create_index("ix_archived_deployments_target", "archived_deployments", ["service", "environment", "id"])


def downgrade() -> None:
    """Go one step back."""
    op.drop_index("ix_archived_deployments_target", table_name="archived_deployments")
    op.drop_table("archived_deployments")
