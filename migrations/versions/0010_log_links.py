"""Links to whole logs.

Works with the code before and after it: the table is new.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go one step forward."""
    op.create_table(
        "log_links",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("deployment_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("stage", sa.String(length=200), server_default="", nullable=False),
        sa.Column("person", sa.String(length=128), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_log_links")),
    )
    op.create_index("ix_log_links_expires_at", "log_links", ["expires_at"], unique=False)


def downgrade() -> None:
    """Go one step back."""
    op.drop_index("ix_log_links_expires_at", table_name="log_links")
    op.drop_table("log_links")
