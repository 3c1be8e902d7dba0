"""What several replicas that send at once need: messages that are behind by place, and the console's change numbers.

Works with the code before and after it: the version before takes the same lock for a number and counts in the same way,
and finds what is behind by the new index as well.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# VOLATILE, so that what others committed while we waited for the lock is seen. The lock is that of the code before.
FUNCTION = """
CREATE FUNCTION console_next_seq() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(8317138543271964275);
    RETURN (SELECT coalesce(max(seq), 0) + 1 FROM console_messages);
END
$$
"""


BEHIND: dict[str, Any] = {
    "sqlite_where": sa.text("wanted > sent AND dead = 0"),
    "postgresql_where": sa.text("wanted > sent AND dead IS false"),
}


def upgrade() -> None:
    """Go one step forward."""
    op.create_index("ix_outbox_behind", "outbox", ["platform", "place", "id"], **BEHIND)
    op.drop_index("ix_outbox_due", table_name="outbox")
    if op.get_bind().dialect.name == "postgresql":
        op.execute(FUNCTION)


def downgrade() -> None:
    """Go one step back."""
    op.create_index("ix_outbox_due", "outbox", ["id"], **BEHIND)
    op.drop_index("ix_outbox_behind", table_name="outbox")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION console_next_seq()")
