"""Runs that were asked of outside pipelines: what was sent, and which run it became.

Works with the code before and after it: add, backfill, switch, then drop, in separate steps.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go one step forward."""
    op.create_table(
        "pipeline_runs",
        sa.Column("intent", sa.String(length=160), nullable=False),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("definition", sa.String(length=500), server_default="", nullable=False),
        sa.Column("run_id", sa.String(length=255), server_default="", nullable=False),
        sa.Column("handle", sa.String(length=255), server_default="", nullable=False),
        sa.Column("sends", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("intent", name=op.f("pk_pipeline_runs")),
    )
    op.create_index("ix_pipeline_runs_run", "pipeline_runs", ["provider", "run_id"], unique=False)


def downgrade() -> None:
    """Go one step back."""
    op.drop_index("ix_pipeline_runs_run", table_name="pipeline_runs")

    op.drop_table("pipeline_runs")
