"""Every table but the console's. State names and row data are a promise over one version up and down.

Indexes of a part of the rows are in `indexes.py`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from bot.store.database import UtcDateTime, metadata

BigId = BigInteger().with_variant(Integer, "sqlite")
"""An identity column: SQLite counts only `INTEGER PRIMARY KEY`."""

inbox = Table(
    "inbox",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("platform", String(32), nullable=False),
    Column("event_id", String(255), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("done_at", UtcDateTime),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("outcome", String(32)),
    Column("answer", Text),
    # Which replica is at it, and until when the others leave it alone.
    Column("lease_owner", String(64)),
    Column("lease_until", UtcDateTime),
    UniqueConstraint("platform", "event_id"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("intent", String(64), nullable=False, unique=True),
    Column("idempotency_key", String(255), nullable=False, unique=True),
    Column("service", String(128), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("state", String(32), nullable=False),
    Column("version", Integer, nullable=False, server_default=text("0")),
    # "service/environment" while it holds the target: one deployment per target is this unique key, not a convention.
    Column("slot", String(200), unique=True),
    Column("wake_at", UtcDateTime),
    Column("lease_owner", String(64)),
    Column("lease_until", UtcDateTime),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("signal_seq", Integer, nullable=False, server_default=text("0")),
    Column("requested_by", String(128), nullable=False),
    Column("origin", JSON, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("release_version", String(255), nullable=False),
    Column("commit", String(64), nullable=False),
    Column("branch", String(255), nullable=False, server_default=""),
    Column("digest", String(80), nullable=False, server_default=""),
    Column("data", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_deployments_target", "service", "environment", "id"),
    Index("ix_deployments_service", "service", "id"),
    Index("ix_deployments_environment", "environment", "id"),
)

transitions = Table(
    "transitions",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("deployment_id", BigId, ForeignKey("deployments.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("from_state", String(32), nullable=False),
    Column("to_state", String(32), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("at", UtcDateTime, nullable=False),
    UniqueConstraint("deployment_id", "version"),
)

votes = Table(
    "votes",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("deployment_id", BigId, ForeignKey("deployments.id"), nullable=False),
    Column("person", String(128), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("decision", String(16), nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("platform", String(32), nullable=False, server_default=""),
    Column("at", UtcDateTime, nullable=False),
    UniqueConstraint("deployment_id", "person", "subject"),
)

releases = Table(
    "releases",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("service", String(128), nullable=False),
    Column("commit", String(64), nullable=False),
    Column("version", String(255), nullable=False),
    Column("branch", String(255), nullable=False, server_default=""),
    Column("digest", String(80), nullable=False),
    Column("location", Text, nullable=False, server_default=""),
    Column("run_id", String(255), nullable=False, server_default=""),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("service", "commit"),
    Index("ix_releases_version", "service", "version"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("key", String(255), nullable=False, unique=True),
    Column("platform", String(32), nullable=False),
    Column("place", String(255), nullable=False),
    Column("thread", String(255), nullable=False, server_default=""),
    Column("kind", String(16), nullable=False),
    Column("deployment_id", BigId, ForeignKey("deployments.id")),
    Column("content", JSON),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    # Level-triggered: what is wanted against what was sent. Any number of changes is one edit.
    Column("wanted", Integer, nullable=False, server_default=text("1")),
    Column("sent", Integer, nullable=False, server_default=text("0")),
    Column("ref", String(255), nullable=False, server_default=""),
    Column("last_hash", String(64), nullable=False, server_default=""),
    Column("dead", Boolean, nullable=False, server_default=false()),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_at", UtcDateTime, nullable=False),
    Column("error", Text, nullable=False, server_default=""),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_outbox_deployment", "deployment_id"),
    Index("ix_outbox_ref", "platform", "ref"),
)
# Which replica sends to a place now: one at a time, so that order is kept and nothing is posted twice.
senders = Table(
    "senders",
    metadata,
    Column("platform", String(32), primary_key=True),
    Column("place", String(255), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("until", UtcDateTime, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("code", String(64), nullable=False, server_default=""),
    Column("detail", Text, nullable=False, server_default=""),
    Column("hash", String(64), nullable=False),
    Index("ix_audit_subject", "subject", "seq"),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

pipeline_runs = Table(
    "pipeline_runs",
    metadata,
    Column("intent", String(160), primary_key=True),
    Column("provider", String(32), nullable=False),
    Column("definition", String(500), nullable=False, server_default=""),
    Column("run_id", String(255), nullable=False, server_default=""),
    # The system's first answer where it is not the run itself, such as a queue item.
    Column("handle", String(255), nullable=False, server_default=""),
    Column("sends", Integer, nullable=False, server_default=text("0")),
    Column("sent_at", UtcDateTime, nullable=False),
    Index("ix_pipeline_runs_run", "provider", "run_id"),
)
