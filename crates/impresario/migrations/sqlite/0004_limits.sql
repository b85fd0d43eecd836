-- What a tenant has set for itself, and what its operator lets it have; NULL is no limit.
ALTER TABLE tenants ADD COLUMN disable_job_failure_notifications INTEGER NOT NULL DEFAULT 0
  CHECK (disable_job_failure_notifications IN (0, 1));
ALTER TABLE tenants ADD COLUMN quota_schedules INTEGER;
ALTER TABLE tenants ADD COLUMN quota_queued_jobs INTEGER;
ALTER TABLE tenants ADD COLUMN quota_bundle_bytes INTEGER;

ALTER TABLE api_keys ADD COLUMN expires_at INTEGER;
-- Exact to a minute: not every request is worth a write.
ALTER TABLE api_keys ADD COLUMN last_used_at INTEGER;
CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, created_at, id);

CREATE TABLE browser_profiles (
  id         TEXT PRIMARY KEY,
  tenant_id  TEXT NOT NULL REFERENCES tenants (id),
  name       TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  UNIQUE (tenant_id, name)
) STRICT;

-- Whether its instant was made up for because its owner asked: such a run says nothing of how the schedule fares.
ALTER TABLE jobs ADD COLUMN backfill INTEGER NOT NULL DEFAULT 0 CHECK (backfill IN (0, 1));

-- How many attempts had been made when somebody last asked for another round of them.
ALTER TABLE deliveries ADD COLUMN earlier_attempts INTEGER NOT NULL DEFAULT 0;
