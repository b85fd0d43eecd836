-- Ids and JSON are TEXT, instants are milliseconds since 1970 UTC, booleans are 0 or 1.

CREATE TABLE tenants (
  id         TEXT PRIMARY KEY,
  name       TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL
) STRICT;

-- Only the hash of a key is here; the public id is the part by which it is looked up.
CREATE TABLE api_keys (
  id           TEXT PRIMARY KEY,
  tenant_id    TEXT NOT NULL REFERENCES tenants (id),
  public_id    TEXT NOT NULL UNIQUE,
  hash         BLOB NOT NULL,
  label        TEXT NOT NULL,
  start        TEXT NOT NULL,
  created_at   INTEGER NOT NULL,
  revoked_at   INTEGER
) STRICT;

-- Ciphertext bound to its row. Rows are never changed: a new value is a new row, so that a job or a delivery keeps
-- the secret it was made with. A credential's goes with it: jobs refer to the credential. Every column that refers
-- to a secret has an index, because each is looked through before a row may go.
CREATE TABLE secrets (
  id         TEXT PRIMARY KEY,
  tenant_id  TEXT NOT NULL REFERENCES tenants (id),
  sealed     BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

-- What the database must know of the server on it: the id of the key that secrets are sealed under, for one.
CREATE TABLE settings (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

-- The archives as they were uploaded, once per content.
CREATE TABLE bundles (
  sha256     TEXT PRIMARY KEY,
  archive    BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE deployments (
  -- The order in which they were accepted: a clock that is set cannot change it.
  number         INTEGER PRIMARY KEY AUTOINCREMENT,
  id             TEXT NOT NULL UNIQUE,
  tenant_id      TEXT NOT NULL REFERENCES tenants (id),
  bundle_sha256  TEXT NOT NULL REFERENCES bundles (sha256),
  entry_point    TEXT NOT NULL,
  description    TEXT,
  status         TEXT NOT NULL CHECK (status IN ('building', 'ready', 'failed')),
  created_at     INTEGER NOT NULL,
  built_at       INTEGER,
  build_error    TEXT,
  -- Builds that were begun: one that takes the server down is not begun for ever.
  build_attempts INTEGER NOT NULL DEFAULT 0,
  -- The names of what it exports, once it is ready: what lists show.
  workflow_names TEXT,
  -- The same with schemas, start URLs, viewports, declared credentials: large, so it comes last.
  workflows      TEXT
) STRICT;
CREATE INDEX deployments_by_status ON deployments (status, tenant_id, number);
CREATE INDEX deployments_by_tenant ON deployments (tenant_id, number);

-- A name and the newest ready deployment that exports it.
CREATE TABLE workflows (
  id                TEXT PRIMARY KEY,
  tenant_id         TEXT NOT NULL REFERENCES tenants (id),
  name              TEXT NOT NULL,
  deployment_id     TEXT NOT NULL REFERENCES deployments (id),
  -- That deployment's: a slower, older build never takes the name back.
  deployment_number INTEGER NOT NULL,
  created_at        INTEGER NOT NULL,
  updated_at        INTEGER NOT NULL,
  UNIQUE (tenant_id, name)
) STRICT;
CREATE INDEX workflows_by_deployment ON workflows (deployment_id);

CREATE TABLE schedules (
  id                   TEXT PRIMARY KEY,
  tenant_id            TEXT NOT NULL REFERENCES tenants (id),
  -- By name, not by id: a schedule follows the name through redeploys, a delete and a new deploy.
  workflow             TEXT NOT NULL,
  params               TEXT NOT NULL,
  cron_expr            TEXT NOT NULL,
  timezone             TEXT NOT NULL,
  -- Time limit, start URL, viewport, proxy: copied to each job as it stands at the fire.
  launch               TEXT NOT NULL,
  callback_url         TEXT,
  callback_secret_id   TEXT REFERENCES secrets (id),
  skip_callbacks       INTEGER NOT NULL CHECK (skip_callbacks IN (0, 1)),
  enabled              INTEGER NOT NULL CHECK (enabled IN (0, 1)),
  -- Since when it has this pattern and is enabled: no instant before is owed, whatever a clock says.
  pattern_since        INTEGER NOT NULL,
  -- The durable cursor: the oldest instant that is not yet in the ledger. NULL where it never fires again.
  next_fire_at         INTEGER,
  last_fire_at         INTEGER,
  last_job_id          TEXT,
  last_error           TEXT,
  consecutive_failures INTEGER NOT NULL DEFAULT 0,
  created_at           INTEGER NOT NULL,
  updated_at           INTEGER NOT NULL,
  CHECK ((callback_url IS NULL) = (callback_secret_id IS NULL))
) STRICT;
CREATE INDEX schedules_due ON schedules (next_fire_at) WHERE enabled = 1;
CREATE INDEX schedules_by_tenant ON schedules (tenant_id, created_at, id);
CREATE INDEX schedules_by_secret ON schedules (callback_secret_id) WHERE callback_secret_id IS NOT NULL;

-- The ledger: one row per instant that was accounted for. A row of outcome 'missed' stands for `missed` instants,
-- from `fire_at` to `missed_until`. It outlives its schedule.
CREATE TABLE fires (
  schedule_id  TEXT NOT NULL,
  fire_at      INTEGER NOT NULL,
  tenant_id    TEXT NOT NULL REFERENCES tenants (id),
  outcome      TEXT NOT NULL CHECK (outcome IN ('fired', 'skipped_overlap', 'missed', 'rejected')),
  recorded_at  INTEGER NOT NULL,
  job_id       TEXT,
  missed       INTEGER NOT NULL DEFAULT 0,
  missed_until INTEGER,
  error        TEXT,
  PRIMARY KEY (schedule_id, fire_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX fires_missed ON fires (missed_until) WHERE outcome = 'missed';

CREATE TABLE jobs (
  id                 TEXT PRIMARY KEY,
  tenant_id          TEXT NOT NULL REFERENCES tenants (id),
  schedule_id        TEXT,
  fire_at            INTEGER,
  workflow_id        TEXT NOT NULL,
  workflow           TEXT NOT NULL,
  deployment_id      TEXT NOT NULL REFERENCES deployments (id),
  nonce              TEXT,
  -- SHA-256 of the request that carried the nonce: the same nonce with another request is a conflict.
  nonce_request      TEXT,
  callback_url       TEXT,
  callback_secret_id TEXT REFERENCES secrets (id),
  skip_callbacks     INTEGER NOT NULL CHECK (skip_callbacks IN (0, 1)),
  status             TEXT NOT NULL
                     CHECK (status IN ('queued', 'starting_browser', 'running', 'completed', 'failed', 'cancelled')),
  attempt            INTEGER NOT NULL DEFAULT 0,
  -- Whoever runs the job holds this token; a write without it changes nothing.
  lease_token        TEXT,
  cancel_requested   INTEGER NOT NULL DEFAULT 0,
  failure_class      TEXT,
  created_at         INTEGER NOT NULL,
  started_at         INTEGER,
  completed_at       INTEGER,
  launch             TEXT NOT NULL,
  -- The credential that the launch asks for by id: for an index, so that a credential's jobs are found without a look
  -- into each.
  credential_id      TEXT GENERATED ALWAYS AS
                     (CASE WHEN json_valid(launch) THEN json_extract(launch, '$.credential_id') END) VIRTUAL,
  -- The large ones come last: SQLite walks past all that stands before a column to read it.
  params             TEXT NOT NULL,
  error              TEXT,
  stack              TEXT,
  result             TEXT,
  UNIQUE (schedule_id, fire_at),
  UNIQUE (tenant_id, nonce)
) STRICT;
-- The queue of each tenant, what runs, and a list by status: all three.
CREATE INDEX jobs_by_status ON jobs (status, tenant_id, created_at, id);
CREATE INDEX jobs_by_tenant ON jobs (tenant_id, created_at, id);
CREATE INDEX jobs_by_schedule ON jobs (schedule_id, tenant_id, created_at, id) WHERE schedule_id IS NOT NULL;
CREATE INDEX jobs_by_workflow ON jobs (tenant_id, workflow, created_at, id);
-- What unfinished jobs need: each (deployment, workflow) is one step away from the one before.
CREATE INDEX jobs_unfinished ON jobs (tenant_id, deployment_id, workflow, id)
  WHERE status IN ('queued', 'starting_browser', 'running');
CREATE INDEX jobs_by_credential ON jobs (tenant_id, credential_id, status) WHERE credential_id IS NOT NULL;
CREATE INDEX jobs_by_secret ON jobs (callback_secret_id) WHERE callback_secret_id IS NOT NULL;

CREATE TABLE job_logs (
  tenant_id TEXT NOT NULL,
  -- Counted for each tenant by itself: it is shown as the place where a list goes on, and must not tell how much
  -- others write.
  number    INTEGER NOT NULL,
  job_id    TEXT NOT NULL REFERENCES jobs (id),
  level     TEXT NOT NULL CHECK (level IN ('info', 'warn', 'error')),
  message   TEXT NOT NULL,
  logged_at INTEGER NOT NULL,
  UNIQUE (tenant_id, number)
) STRICT;
CREATE INDEX job_logs_by_job ON job_logs (job_id, tenant_id, number);

CREATE TABLE webhook_endpoints (
  id          TEXT PRIMARY KEY,
  tenant_id   TEXT NOT NULL REFERENCES tenants (id),
  url         TEXT NOT NULL,
  description TEXT,
  active      INTEGER NOT NULL CHECK (active IN (0, 1)),
  secret_id   TEXT NOT NULL REFERENCES secrets (id),
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX webhook_endpoints_by_tenant ON webhook_endpoints (tenant_id, created_at, id);
CREATE INDEX webhook_endpoints_by_secret ON webhook_endpoints (secret_id);

-- The outbox. The id is the `webhook-id` of every attempt.
CREATE TABLE deliveries (
  id                  TEXT PRIMARY KEY,
  tenant_id           TEXT NOT NULL REFERENCES tenants (id),
  job_id              TEXT NOT NULL REFERENCES jobs (id),
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
  completed_at        INTEGER
) STRICT;
-- What one receiver is owed, in order, and what is under way: neither grows with the history.
CREATE INDEX deliveries_waiting ON deliveries (tenant_id, url, next_attempt_at, id)
  WHERE status = 'pending' AND lease_token IS NULL;
CREATE INDEX deliveries_in_flight ON deliveries (tenant_id, url) WHERE lease_token IS NOT NULL;
CREATE INDEX deliveries_by_job ON deliveries (job_id, tenant_id, created_at, id);
CREATE INDEX deliveries_by_endpoint ON deliveries (webhook_endpoint_id, tenant_id, created_at, id)
  WHERE webhook_endpoint_id IS NOT NULL;
CREATE INDEX deliveries_by_tenant ON deliveries (tenant_id, created_at, id);
CREATE INDEX deliveries_by_secret ON deliveries (secret_id);

-- The receivers that are owed something, a row each: what a claim goes by, so that one receiver's backlog is never
-- walked to find another's delivery. Each row is worked out anew from `deliveries` whenever those change.
CREATE TABLE delivery_receivers (
  tenant_id TEXT NOT NULL REFERENCES tenants (id),
  url       TEXT NOT NULL,
  in_flight INTEGER NOT NULL,
  -- Its place in the queue: when its next attempt is due, or when it was last served, whichever is later. NULL where
  -- all that it is owed is under way.
  turn_at   INTEGER,
  served_at INTEGER,
  PRIMARY KEY (tenant_id, url)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_receivers_by_turn ON delivery_receivers (turn_at) WHERE turn_at IS NOT NULL;
CREATE INDEX delivery_receivers_by_tenant ON delivery_receivers (tenant_id, turn_at) WHERE turn_at IS NOT NULL;

CREATE TABLE delivery_attempts (
  delivery_id      TEXT NOT NULL REFERENCES deliveries (id),
  number           INTEGER NOT NULL,
  attempted_at     INTEGER NOT NULL,
  status_code      INTEGER,
  latency_ms       INTEGER NOT NULL,
  error_class      TEXT,
  error            TEXT,
  response_excerpt TEXT,
  PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE credentials (
  id         TEXT PRIMARY KEY,
  tenant_id  TEXT NOT NULL REFERENCES tenants (id),
  name       TEXT NOT NULL,
  secret_id  TEXT NOT NULL REFERENCES secrets (id),
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  UNIQUE (tenant_id, name)
) STRICT;
CREATE INDEX credentials_by_secret ON credentials (secret_id);
