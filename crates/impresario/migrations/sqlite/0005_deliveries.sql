-- How a stored webhook fares. A success clears the first two; its owner clears the others by making it active again.
ALTER TABLE webhook_endpoints ADD COLUMN failing_since INTEGER;
ALTER TABLE webhook_endpoints ADD COLUMN last_failure_at INTEGER;
ALTER TABLE webhook_endpoints ADD COLUMN disabled_at INTEGER;
ALTER TABLE webhook_endpoints ADD COLUMN disabled_reason TEXT;
-- Counts its moves and its returns: what was on its way before says nothing of what it is now.
ALTER TABLE webhook_endpoints ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
-- Whether it was made active again and deliveries that were held back for it are still to be made due.
ALTER TABLE webhook_endpoints ADD COLUMN resuming INTEGER NOT NULL DEFAULT 0 CHECK (resuming IN (0, 1));
CREATE INDEX webhook_endpoints_resuming ON webhook_endpoints (id) WHERE resuming = 1;
CREATE INDEX webhook_endpoints_disabled ON webhook_endpoints (id) WHERE disabled_at IS NOT NULL;

-- The secrets that a stored webhook had before: until then they sign beside the one it has now, and some time later they are
-- removed. No reference to the webhook, which may be deleted before that.
CREATE TABLE webhook_old_secrets (
  webhook_endpoint_id TEXT NOT NULL,
  secret_id           TEXT NOT NULL REFERENCES secrets (id),
  valid_until         INTEGER NOT NULL,
  PRIMARY KEY (webhook_endpoint_id, secret_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_old_secrets_by_end ON webhook_old_secrets (valid_until);
CREATE INDEX webhook_old_secrets_by_secret ON webhook_old_secrets (secret_id);

-- A ping tells of neither a job nor a schedule: the check changes, which takes a new table.
CREATE TABLE deliveries_new (
  id                  TEXT PRIMARY KEY,
  tenant_id           TEXT NOT NULL REFERENCES tenants (id),
  job_id              TEXT REFERENCES jobs (id),
  -- No reference: the schedule may be deleted while somebody is owed news of it.
  schedule_id         TEXT,
  -- NULL for a job's own callback. No reference: an endpoint may be deleted while it is owed something.
  webhook_endpoint_id TEXT,
  url                 TEXT NOT NULL,
  secret_id           TEXT NOT NULL REFERENCES secrets (id),
  event               TEXT NOT NULL,
  body                TEXT NOT NULL,
  status              TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'failed')),
  attempts            INTEGER NOT NULL DEFAULT 0,
  -- NULL in one that is pending: it is held back, because its endpoint is not active.
  next_attempt_at     INTEGER,
  lease_token         TEXT,
  created_at          INTEGER NOT NULL,
  completed_at        INTEGER,
  lease_until         INTEGER,
  earlier_attempts    INTEGER NOT NULL DEFAULT 0,
  -- Why no attempt is made any more, or for the time being; and since when it is held back.
  reason              TEXT,
  held_back_at        INTEGER,
  CHECK (job_id IS NOT NULL OR schedule_id IS NOT NULL OR event = 'ping')
) STRICT;
INSERT INTO deliveries_new (id, tenant_id, job_id, schedule_id, webhook_endpoint_id, url, secret_id, event, body, status, attempts,
    next_attempt_at, lease_token, created_at, completed_at, lease_until, earlier_attempts)
  SELECT id, tenant_id, job_id, schedule_id, webhook_endpoint_id, url, secret_id, event, body, status, attempts,
    next_attempt_at, lease_token, created_at, completed_at, lease_until, earlier_attempts
  FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE deliveries_new RENAME TO deliveries;
CREATE INDEX deliveries_waiting ON deliveries (tenant_id, url, next_attempt_at, id)
  WHERE status = 'pending' AND lease_token IS NULL AND next_attempt_at IS NOT NULL;
CREATE INDEX deliveries_in_flight ON deliveries (tenant_id, url) WHERE lease_token IS NOT NULL;
CREATE INDEX deliveries_by_job ON deliveries (job_id, tenant_id, created_at, id) WHERE job_id IS NOT NULL;
CREATE INDEX deliveries_by_schedule ON deliveries (schedule_id, tenant_id, created_at, id)
  WHERE schedule_id IS NOT NULL;
CREATE INDEX deliveries_by_endpoint ON deliveries (webhook_endpoint_id, tenant_id, created_at, id)
  WHERE webhook_endpoint_id IS NOT NULL;
CREATE INDEX deliveries_by_tenant ON deliveries (tenant_id, created_at, id);
CREATE INDEX deliveries_by_secret ON deliveries (secret_id);
CREATE INDEX deliveries_by_lease ON deliveries (lease_until) WHERE lease_until IS NOT NULL;
-- What is held back, by endpoint and by age, and what has ended: for those who make it due again, and who prune.
CREATE INDEX deliveries_held_back ON deliveries (webhook_endpoint_id, created_at, id)
  WHERE status = 'pending' AND lease_token IS NULL AND next_attempt_at IS NULL;
CREATE INDEX deliveries_held_back_by_age ON deliveries (held_back_at, id)
  WHERE status = 'pending' AND lease_token IS NULL AND next_attempt_at IS NULL;
-- What somebody looks for among many that arrived.
CREATE INDEX deliveries_undelivered ON deliveries (tenant_id, created_at, id) WHERE status <> 'delivered';
CREATE INDEX deliveries_ended ON deliveries (completed_at, id) WHERE completed_at IS NOT NULL;

-- Whether the newest attempt failed: such receivers have places of their own, so that those which hang leave the others room.
ALTER TABLE delivery_receivers ADD COLUMN failing INTEGER NOT NULL DEFAULT 0 CHECK (failing IN (0, 1));
DROP INDEX delivery_receivers_by_turn;
DROP INDEX delivery_receivers_by_tenant;
CREATE INDEX delivery_receivers_by_turn ON delivery_receivers (failing, turn_at) WHERE turn_at IS NOT NULL;
CREATE INDEX delivery_receivers_by_tenant ON delivery_receivers (failing, tenant_id, turn_at) WHERE turn_at IS NOT NULL;
