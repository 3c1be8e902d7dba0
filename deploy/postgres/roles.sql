-- Two accounts for one database: the owner migrates, the other one runs and cannot rewrite the audit log.
--
--   psql "$OWNER_URL" -v app=slipway_app -f roles.sql        as the owner of the tables, after `slipway migrate`
--
-- Repeat it after each upgrade that migrates. Run `slipway migrate` with the owner's address and `slipway serve` with
-- the other one's. The audit table takes new rows only; its head is one row that says where the chain ends.
\set ON_ERROR_STOP on

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM :"app";
GRANT USAGE ON SCHEMA public TO :"app";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :"app";
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO :"app";

REVOKE UPDATE, DELETE, TRUNCATE ON audit FROM :"app";
REVOKE INSERT, DELETE, TRUNCATE ON audit_head FROM :"app";
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON alembic_version FROM :"app";
-- History is never taken back either: what a deployment went through, and who voted.
REVOKE UPDATE, DELETE, TRUNCATE ON transitions, votes FROM :"app";
