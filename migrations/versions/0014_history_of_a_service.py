"""The newest deployments of a service, of all environments: found by an index, not sorted out of its whole past.

Works with the code before and after it: nothing but indexes is added.
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go one step forward."""
    op.create_index("ix_deployments_service", "deployments", ["service", "id"])
    op.create_index("ix_archived_deployments_service", "archived_deployments", ["service", "id"])
    op.create_index("ix_archived_deployments_environment", "archived_deployments", ["environment", "id"])


def downgrade() -> None:
    """Go one step back."""
    op.drop_index("ix_archived_deployments_environment", table_name="archived_deployments")
    op.drop_index("ix_archived_deployments_service", table_name="archived_deployments")
    op.drop_index("ix_deployments_service", table_name="deployments")
