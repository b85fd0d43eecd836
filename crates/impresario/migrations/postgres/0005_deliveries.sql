-- How a stored webhook fares. A success clears the first two; its owner clears the others by making it active again.
ALTER TABLE webhook_endpoints ADD COLUMN failing_since BIGINT;
ALTER TABLE webhook_endpoints ADD COLUMN last_failure_at BIGINT;
ALTER TABLE webhook_endpoints ADD COLUMN disabled_at BIGINT;
ALTER TABLE webhook_endpoints ADD COLUMN disabled_reason TEXT COLLATE "C";
-- Counts its moves and its returns: what was on its way before says nothing of what it is now.
ALTER TABLE webhook_endpoints ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
-- Whether it was made active again and deliveries that were held back for it are still to be made due.
ALTER TABLE webhook_endpoints ADD COLUMN resuming BIGINT NOT NULL DEFAULT 0 CHECK (resuming IN (0, 1));
CREATE INDEX webhook_endpoints_resuming ON webhook_endpoints (id) WHERE resuming = 1;
CREATE INDEX webhook_endpoints_disabled ON webhook_endpoints (id) WHERE disabled_at IS NOT NULL;

-- The secrets that a stored webhook had before: until then they sign beside the one it has now, and some time later they are
-- removed. No reference to the webhook, which may be deleted before that.
CREATE TABLE webhook_old_secrets (
  webhook_endpoint_id TEXT COLLATE "C" NOT NULL,
  secret_id           TEXT COLLATE "C" NOT NULL REFERENCES secrets (id),
  valid_until         BIGINT NOT NULL,
  PRIMARY KEY (webhook_endpoint_id, secret_id)
);
CREATE INDEX webhook_old_secrets_by_end ON webhook_old_secrets (valid_until);
CREATE INDEX webhook_old_secrets_by_secret ON webhook_old_secrets (secret_id);

-- Why no attempt is made any more, or for the time being; and since when it is held back. One that is pending without a next
-- attempt is held back, because its endpoint is not active.
ALTER TABLE deliveries ADD COLUMN reason TEXT COLLATE "C";
ALTER TABLE deliveries ADD COLUMN held_back_at BIGINT;
-- A ping tells of neither a job nor a schedule.
ALTER TABLE deliveries DROP CONSTRAINT deliveries_check;
ALTER TABLE deliveries ADD CHECK (job_id IS NOT NULL OR schedule_id IS NOT NULL OR event = 'ping');
DROP INDEX deliveries_waiting;
CREATE INDEX deliveries_waiting ON deliveries (tenant_id, url, next_attempt_at, id)
  WHERE status = 'pending' AND lease_token IS NULL AND next_attempt_at IS NOT NULL;
-- What is held back, by endpoint and by age, and what has ended: for those who make it due again, and who prune.
CREATE INDEX deliveries_held_back ON deliveries (webhook_endpoint_id, created_at, id)
  WHERE status = 'pending' AND lease_token IS NULL AND next_attempt_at IS NULL;
CREATE INDEX deliveries_held_back_by_age ON deliveries (held_back_at, id)
  WHERE status = 'pending' AND lease_token IS NULL AND next_attempt_at IS NULL;
-- What somebody looks for among many that arrived.
CREATE INDEX deliveries_undelivered ON deliveries (tenant_id, created_at, id) WHERE status <> 'delivered';
CREATE INDEX deliveries_ended ON deliveries (completed_at, id) WHERE completed_at IS NOT NULL;

-- Whether the newest attempt failed: such receivers have places of their own, so that those which hang leave the others room.
ALTER TABLE delivery_receivers ADD COLUMN failing BIGINT NOT NULL DEFAULT 0 CHECK (failing IN (0, 1));
DROP INDEX delivery_receivers_by_turn;
DROP INDEX delivery_receivers_by_tenant;
CREATE INDEX delivery_receivers_by_turn ON delivery_receivers (failing, turn_at) WHERE turn_at IS NOT NULL;
CREATE INDEX delivery_receivers_by_tenant ON delivery_receivers (failing, tenant_id, turn_at) WHERE turn_at IS NOT NULL;
