-- What a schedule is called, when it is bounded, how its fires are spread, and what happens to missed and overlapping
-- ones.
ALTER TABLE schedules ADD COLUMN name TEXT;
ALTER TABLE schedules ADD COLUMN description TEXT;
ALTER TABLE schedules ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE schedules ADD COLUMN start_at INTEGER;
ALTER TABLE schedules ADD COLUMN end_at INTEGER;
ALTER TABLE schedules ADD COLUMN jitter_seconds INTEGER NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN misfire_policy TEXT NOT NULL DEFAULT 'fire_once'
  CHECK (misfire_policy IN ('fire_once', 'skip', 'fire_all'));
ALTER TABLE schedules ADD COLUMN catchup_window_seconds INTEGER NOT NULL DEFAULT 86400;
ALTER TABLE schedules ADD COLUMN overlap_policy TEXT NOT NULL DEFAULT 'allow'
  CHECK (overlap_policy IN ('allow', 'skip', 'buffer_one', 'cancel_running'));
ALTER TABLE schedules ADD COLUMN max_consecutive_failures INTEGER;
-- Of the failures in a row, those that count against the limit: the server's own faults do not.
ALTER TABLE schedules ADD COLUMN counted_failures INTEGER NOT NULL DEFAULT 0;
-- Why and when it disabled itself; NULL where its owner did, or nobody has.
ALTER TABLE schedules ADD COLUMN disabled_reason TEXT;
ALTER TABLE schedules ADD COLUMN disabled_at INTEGER;
-- The deployment whose schema the params were last checked against, and what was wrong with them.
ALTER TABLE schedules ADD COLUMN params_checked TEXT;
ALTER TABLE schedules ADD COLUMN params_error TEXT;
-- How often the params were changed: a verdict holds only for those it was given on, whatever the clock does.
ALTER TABLE schedules ADD COLUMN params_revision INTEGER NOT NULL DEFAULT 0;
-- When the cursor's instant is acted on: the instant itself, and its share of the spread.
ALTER TABLE schedules ADD COLUMN next_due_at INTEGER;
UPDATE schedules SET next_due_at = next_fire_at;
DROP INDEX schedules_due;
CREATE INDEX schedules_due ON schedules (next_due_at) WHERE enabled = 1;
CREATE UNIQUE INDEX schedules_by_name ON schedules (tenant_id, name) WHERE name IS NOT NULL;
CREATE INDEX schedules_by_workflow ON schedules (tenant_id, workflow, created_at, id);
-- Those whose params do not fit: few, so neither their list nor a deployment's looks at all the others.
CREATE INDEX schedules_unfit ON schedules (tenant_id, created_at, id, params_checked, workflow)
  WHERE params_error IS NOT NULL;

-- When the instant was to be acted on, and the kind of reason for what became of it.
ALTER TABLE fires ADD COLUMN due_at INTEGER;
ALTER TABLE fires ADD COLUMN reason TEXT;

-- What a schedule of the misfire policy 'fire_all' still owes: instants from `from_at` to `until_at`, fired oldest
-- first, one after the other. Not in the ledger until they fire, or are given up.
CREATE TABLE catch_ups (
  schedule_id TEXT NOT NULL REFERENCES schedules (id),
  from_at     INTEGER NOT NULL,
  until_at    INTEGER NOT NULL,
  instants    INTEGER NOT NULL,
  -- 0 while the next one waits for a job of the schedule to end.
  ready       INTEGER NOT NULL DEFAULT 1 CHECK (ready IN (0, 1)),
  -- When it last had a turn.
  served_at   INTEGER NOT NULL,
  PRIMARY KEY (schedule_id, until_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX catch_ups_ready ON catch_ups (served_at) WHERE ready = 1;

-- A job that waits for the one before it of its schedule.
ALTER TABLE jobs ADD COLUMN held INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1));
-- Whether it makes up for a missed instant.
ALTER TABLE jobs ADD COLUMN catch_up INTEGER NOT NULL DEFAULT 0 CHECK (catch_up IN (0, 1));
-- What waits for a worker, without what waits for another job.
CREATE INDEX jobs_claimable ON jobs (tenant_id, created_at, id) WHERE status = 'queued' AND held = 0;
CREATE INDEX jobs_of_schedule_unfinished ON jobs (schedule_id, status, held)
  WHERE schedule_id IS NOT NULL AND status IN ('queued', 'starting_browser', 'running');

-- Which events an endpoint hears of.
ALTER TABLE webhook_endpoints ADD COLUMN events TEXT NOT NULL DEFAULT '["job.completed","job.failed"]';

-- A delivery may tell of a schedule and no job: the column loses its NOT NULL, which takes a new table.
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
  next_attempt_at     INTEGER,
  lease_token         TEXT,
  created_at          INTEGER NOT NULL,
  completed_at        INTEGER,
  CHECK (job_id IS NOT NULL OR schedule_id IS NOT NULL)
) STRICT;
INSERT INTO deliveries_new (id, tenant_id, job_id, schedule_id, webhook_endpoint_id, url, secret_id, event, body, status, attempts,
    next_attempt_at, lease_token, created_at, completed_at)
  SELECT id, tenant_id, job_id, (SELECT j.schedule_id FROM jobs j WHERE j.id = deliveries.job_id), webhook_endpoint_id,
    url, secret_id, event, body, status, attempts, next_attempt_at, lease_token, created_at, completed_at
  FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE deliveries_new RENAME TO deliveries;
CREATE INDEX deliveries_waiting ON deliveries (tenant_id, url, next_attempt_at, id)
  WHERE status = 'pending' AND lease_token IS NULL;
CREATE INDEX deliveries_in_flight ON deliveries (tenant_id, url) WHERE lease_token IS NOT NULL;
CREATE INDEX deliveries_by_job ON deliveries (job_id, tenant_id, created_at, id) WHERE job_id IS NOT NULL;
CREATE INDEX deliveries_by_schedule ON deliveries (schedule_id, tenant_id, created_at, id)
  WHERE schedule_id IS NOT NULL;
CREATE INDEX deliveries_by_endpoint ON deliveries (webhook_endpoint_id, tenant_id, created_at, id)
  WHERE webhook_endpoint_id IS NOT NULL;
CREATE INDEX deliveries_by_tenant ON deliveries (tenant_id, created_at, id);
CREATE INDEX deliveries_by_secret ON deliveries (secret_id);

-- Runs that are to be ended, whoever has them.
CREATE INDEX jobs_to_cancel ON jobs (id) WHERE cancel_requested = 1 AND status IN ('starting_browser', 'running');
