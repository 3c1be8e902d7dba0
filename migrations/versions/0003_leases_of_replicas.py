"""Which replica is at an intent, and which one sends to a place.

Works with the code before and after it: the new columns may be empty, and nobody else reads the new table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go one step forward."""
    op.add_column("inbox", sa.Column("lease_owner", sa.String(length=64), nullable=True))
    op.add_column("inbox", sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "senders",
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("place", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("platform", "place", name=op.f("pk_senders")),
    )


def downgrade() -> None:
    """Go one step back."""
    op.drop_table("senders")

    op.drop_column("inbox", "lease_until")

    op.drop_column("inbox", "lease_owner")
