"""The end of the audit chain is found, locked and moved on by one question: no process holds it while it thinks.

Works with the code before and after it: both lock the same row and chain in the same way, which `verify` checks.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# before and after: the canonical JSON of an entry around its number, which only the head knows.
FUNCTION = """
CREATE FUNCTION audit_append(entries json) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    last bigint;
    digest text;
    one record;
BEGIN
    SELECT h.seq, h.hash INTO STRICT last, digest FROM audit_head h WHERE h.id = 1 FOR UPDATE;
    FOR one IN
        SELECT * FROM json_to_recordset(entries) AS v(
            at timestamptz, actor text, action text, subject text, outcome text, code text, detail text,
            before text, after text
        )
    LOOP
        last := last + 1;
        digest := encode(sha256(convert_to(digest || chr(10) || one.before || last || one.after, 'UTF8')), 'hex');
        INSERT INTO audit (seq, at, actor, action, subject, outcome, code, detail, hash)
        VALUES (
            last, one.at, one.actor, one.action, one.subject, one.outcome, one.code, one.detail, digest
        );
    END LOOP;
    UPDATE audit_head SET seq = last, hash = digest WHERE id = 1;
END
$$
"""


def upgrade() -> None:
    """Go one step forward."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(FUNCTION)


def downgrade() -> None:
    """Go one step back."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_append(json)")
