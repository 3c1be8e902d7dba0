"""Locks, and freezes set from a chat.

Works with the code before and after it: add, backfill, switch, then drop, in separate steps.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Go one step forward."""
    op.create_table(
        "locks",
        sa.Column("what", sa.String(length=300), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("since_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("warning", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("exempt", sa.JSON(), nullable=False),
        sa.Column("nagged_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("what", name=op.f("pk_locks")),
    )
    op.create_table(
        "freezes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("scope", sa.JSON(), nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT, nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("exempt", sa.JSON(), nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("lifted_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_freezes")),
    )
    op.create_index("ix_freezes_name", "freezes", ["name"], unique=False)


def downgrade() -> None:
    """Go one step back."""
    op.drop_index("ix_freezes_name", table_name="freezes")

    op.drop_table("freezes")
    op.drop_table("locks")
