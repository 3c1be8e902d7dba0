"""The console's change numbers are given back before PostgreSQL has written its log to the disk: others wait for them.

A crash of the server can lose only a message of which nothing is on record yet. What follows it, the intent of who
typed or that the answer was sent, is written with its place in the same log before anybody relies on it; without that
the message is stored again, under its key. Works with the code before and after it: the lock and the numbers stay.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

FUNCTION = """
CREATE OR REPLACE FUNCTION console_next_seq() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
{first}    PERFORM pg_advisory_xact_lock(8317138543271964275);
    RETURN (SELECT coalesce(max(seq), 0) + 1 FROM console_messages);
END
$$
"""


def upgrade() -> None:
    """Go one step forward."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(FUNCTION.format(first="    PERFORM set_config('synchronous_commit', 'off', true);\n"))


def downgrade() -> None:
    """Go one step back."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(FUNCTION.format(first=""))
