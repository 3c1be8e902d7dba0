"""Jobs that work by themselves hold a lease; what has ended is found by when it did.

Works with the code before and after it: the new columns may be empty, and an older replica leaves them so.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go one step forward."""
    op.add_column("firings", sa.Column("lease_owner", sa.String(length=64), nullable=True))
    op.add_column("firings", sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_deployments_ended",
        "deployments",
        ["ended_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NOT NULL"),
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )


def downgrade() -> None:
    """Go one step back."""
    op.drop_index("ix_deployments_ended", table_name="deployments")
    with op.batch_alter_table("firings") as firings:
        firings.drop_column("lease_until")
        firings.drop_column("lease_owner")
