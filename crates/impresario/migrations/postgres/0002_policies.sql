-- What a schedule is called, when it is bounded, how its fires are spread, and what happens to missed and overlapping
-- ones.
ALTER TABLE schedules ADD COLUMN name TEXT COLLATE "C";
ALTER TABLE schedules ADD COLUMN description TEXT COLLATE "C";
ALTER TABLE schedules ADD COLUMN tags TEXT COLLATE "C" NOT NULL DEFAULT '[]';
ALTER TABLE schedules ADD COLUMN start_at BIGINT;
ALTER TABLE schedules ADD COLUMN end_at BIGINT;
ALTER TABLE schedules ADD COLUMN jitter_seconds BIGINT NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN misfire_policy TEXT COLLATE "C" NOT NULL DEFAULT 'fire_once'
  CHECK (misfire_policy IN ('fire_once', 'skip', 'fire_all'));
ALTER TABLE schedules ADD COLUMN catchup_window_seconds BIGINT NOT NULL DEFAULT 86400;
ALTER TABLE schedules ADD COLUMN overlap_policy TEXT COLLATE "C" NOT NULL DEFAULT 'allow'
  CHECK (overlap_policy IN ('allow', 'skip', 'buffer_one', 'cancel_running'));
ALTER TABLE schedules ADD COLUMN max_consecutive_failures BIGINT;
-- Of the failures in a row, those that count against the limit: the server's own faults do not.
ALTER TABLE schedules ADD COLUMN counted_failures BIGINT NOT NULL DEFAULT 0;
-- Why and when it disabled itself; NULL where its owner did, or nobody has.
ALTER TABLE schedules ADD COLUMN disabled_reason TEXT COLLATE "C";
ALTER TABLE schedules ADD COLUMN disabled_at BIGINT;
-- The deployment whose schema the params were last checked against, and what was wrong with them.
ALTER TABLE schedules ADD COLUMN params_checked TEXT COLLATE "C";
ALTER TABLE schedules ADD COLUMN params_error TEXT COLLATE "C";
-- How often the params were changed: a verdict holds only for those it was given on, whatever the clock does.
ALTER TABLE schedules ADD COLUMN params_revision BIGINT NOT NULL DEFAULT 0;
-- When the cursor's instant is acted on: the instant itself, and its share of the spread.
ALTER TABLE schedules ADD COLUMN next_due_at BIGINT;
UPDATE schedules SET next_due_at = next_fire_at;
DROP INDEX schedules_due;
CREATE INDEX schedules_due ON schedules (next_due_at) WHERE enabled = 1;
CREATE UNIQUE INDEX schedules_by_name ON schedules (tenant_id, name) WHERE name IS NOT NULL;
CREATE INDEX schedules_by_workflow ON schedules (tenant_id, workflow, created_at, id);
-- Those whose params do not fit: few, so neither their list nor a deployment's looks at all the others.
CREATE INDEX schedules_unfit ON schedules (tenant_id, created_at, id, params_checked, workflow)
  WHERE params_error IS NOT NULL;

-- When the instant was to be acted on, and the kind of reason for what became of it.
ALTER TABLE fires ADD COLUMN due_at BIGINT;
ALTER TABLE fires ADD COLUMN reason TEXT COLLATE "C";

-- What a schedule of the misfire policy 'fire_all' still owes: instants from `from_at` to `until_at`, fired oldest
-- first, one after the other. Not in the ledger until they fire, or are given up.
CREATE TABLE catch_ups (
  schedule_id TEXT COLLATE "C" NOT NULL REFERENCES schedules (id),
  from_at     BIGINT NOT NULL,
  until_at    BIGINT NOT NULL,
  instants    BIGINT NOT NULL,
  -- 0 while the next one waits for a job of the schedule to end.
  ready       BIGINT NOT NULL DEFAULT 1 CHECK (ready IN (0, 1)),
  -- When it last had a turn.
  served_at   BIGINT NOT NULL,
  PRIMARY KEY (schedule_id, until_at)
);
CREATE INDEX catch_ups_ready ON catch_ups (served_at) WHERE ready = 1;

-- A job that waits for the one before it of its schedule.
ALTER TABLE jobs ADD COLUMN held BIGINT NOT NULL DEFAULT 0 CHECK (held IN (0, 1));
-- Whether it makes up for a missed instant.
ALTER TABLE jobs ADD COLUMN catch_up BIGINT NOT NULL DEFAULT 0 CHECK (catch_up IN (0, 1));
-- What waits for a worker, without what waits for another job.
CREATE INDEX jobs_claimable ON jobs (tenant_id, created_at, id) WHERE status = 'queued' AND held = 0;
CREATE INDEX jobs_of_schedule_unfinished ON jobs (schedule_id, status, held)
  WHERE schedule_id IS NOT NULL AND status IN ('queued', 'starting_browser', 'running');

-- Which events an endpoint hears of.
ALTER TABLE webhook_endpoints ADD COLUMN events TEXT COLLATE "C" NOT NULL DEFAULT '["job.completed","job.failed"]';

-- A delivery may tell of a schedule and no job.
ALTER TABLE deliveries ALTER COLUMN job_id DROP NOT NULL;
-- No reference: the schedule may be deleted while somebody is owed news of it.
ALTER TABLE deliveries ADD COLUMN schedule_id TEXT COLLATE "C";
ALTER TABLE deliveries ADD CHECK (job_id IS NOT NULL OR schedule_id IS NOT NULL);
UPDATE deliveries SET schedule_id = (SELECT j.schedule_id FROM jobs j WHERE j.id = deliveries.job_id);
DROP INDEX deliveries_by_job;
CREATE INDEX deliveries_by_job ON deliveries (job_id, tenant_id, created_at, id) WHERE job_id IS NOT NULL;
CREATE INDEX deliveries_by_schedule ON deliveries (schedule_id, tenant_id, created_at, id)
  WHERE schedule_id IS NOT NULL;

-- Runs that are to be ended, whoever has them.
CREATE INDEX jobs_to_cancel ON jobs (id) WHERE cancel_requested = 1 AND status IN ('starting_browser', 'running');
