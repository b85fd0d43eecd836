-- Ids and JSON are TEXT, instants are milliseconds since 1970 UTC, booleans are 0 or 1: the same as in SQLite, because
-- the statements are the same. Texts are compared byte by byte, as there: lists go by the order of ids.

CREATE TABLE tenants (
  id         TEXT COLLATE "C" PRIMARY KEY,
  name       TEXT COLLATE "C" NOT NULL UNIQUE,
  created_at BIGINT NOT NULL
);

-- Only the hash of a key is here; the public id is the part by which it is looked up.
CREATE TABLE api_keys (
  id           TEXT COLLATE "C" PRIMARY KEY,
  tenant_id    TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
  public_id    TEXT COLLATE "C" NOT NULL UNIQUE,
  hash         BYTEA NOT NULL,
  label        TEXT COLLATE "C" NOT NULL,
  start        TEXT COLLATE "C" NOT NULL,
  created_at   BIGINT NOT NULL,
  revoked_at   BIGINT
);

-- Ciphertext bound to its row. Rows are never changed: a new value is a new row, so that a job or a delivery keeps
-- the secret it was made with. A credential's goes with it: jobs refer to the credential. Every column that refers
-- to a secret has an index, because each is looked through before a row may go.
CREATE TABLE secrets (
  id         TEXT COLLATE "C" PRIMARY KEY,
  tenant_id  TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
  sealed     BYTEA NOT NULL,
  created_at BIGINT NOT NULL
);

-- What the database must know of the server on it: the id of the key that secrets are sealed under, for one.
CREATE TABLE settings (
  name  TEXT COLLATE "C" PRIMARY KEY,
  value TEXT COLLATE "C" NOT NULL
);

-- The archives as they were uploaded, once per content.
CREATE TABLE bundles (
  sha256     TEXT COLLATE "C" PRIMARY KEY,
  archive    BYTEA NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE deployments (
  -- The order in which they were accepted: a clock that is set cannot change it.
  number         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id             TEXT COLLATE "C" NOT NULL UNIQUE,
  tenant_id      TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
  bundle_sha256  TEXT COLLATE "C" NOT NULL REFERENCES bundles (sha256),
  entry_point    TEXT COLLATE "C" NOT NULL,
  description    TEXT COLLATE "C",
  status         TEXT COLLATE "C" NOT NULL CHECK (status IN ('building', 'ready', 'failed')),
  created_at     BIGINT NOT NULL,
  built_at       BIGINT,
  build_error    TEXT COLLATE "C",
  -- Builds that were begun: one that takes the server down is not begun for ever.
  build_attempts BIGINT NOT NULL DEFAULT 0,
  -- The names of what it exports, once it is ready: what lists show.
  workflow_names TEXT COLLATE "C",
  -- The same with schemas, start URLs, viewports, declared credentials.
  workflows      TEXT COLLATE "C"
);
CREATE INDEX deployments_by_status ON deployments (status, tenant_id, number);
CREATE INDEX deployments_by_tenant ON deployments (tenant_id, number);

-- A name and the newest ready deployment that exports it.
CREATE TABLE workflows (
  id                TEXT COLLATE "C" PRIMARY KEY,
  tenant_id         TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
  name              TEXT COLLATE "C" NOT NULL,
  deployment_id     TEXT COLLATE "C" NOT NULL REFERENCES deployments (id),
  -- That deployment's: a slower, older build never takes the name back.
  deployment_number BIGINT NOT NULL,
  created_at        BIGINT NOT NULL,
  updated_at        BIGINT NOT NULL,
  UNIQUE (tenant_id, name)
);
CREATE INDEX workflows_by_deployment ON workflows (deployment_id);

CREATE TABLE schedules (
  id                   TEXT COLLATE "C" PRIMARY KEY,
  tenant_id            TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
  -- By name, not by id: a schedule follows the name through redeploys, a delete and a new deploy.
  workflow             TEXT COLLATE "C" NOT NULL,
  params               TEXT COLLATE "C" NOT NULL,
  cron_expr            TEXT COLLATE "C" NOT NULL,
  timezone             TEXT COLLATE "C" NOT NULL,
  -- Time limit, start URL, viewport, proxy: copied to each job as it stands at the fire.
  launch               TEXT COLLATE "C" NOT NULL,
  callback_url         TEXT COLLATE "C",
  callback_secret_id   TEXT COLLATE "C" REFERENCES secrets (id),
  skip_callbacks       BIGINT NOT NULL CHECK (skip_callbacks IN (0, 1)),
  enabled              BIGINT NOT NULL CHECK (enabled IN (0, 1)),
  -- Since when it has this pattern and is enabled: no instant before is owed, whatever a clock says.
  pattern_since        BIGINT NOT NULL,
  -- The durable cursor: the oldest instant that is not yet in the ledger. NULL where it never fires again.
  next_fire_at         BIGINT,
  last_fire_at         BIGINT,
  last_job_id          TEXT COLLATE "C",
  last_error           TEXT COLLATE "C",
  consecutive_failures BIGINT NOT NULL DEFAULT 0,
  created_at           BIGINT NOT NULL,
  updated_at           BIGINT NOT NULL,
  CHECK ((callback_url IS NULL) = (callback_secret_id IS NULL))
);
CREATE INDEX schedules_due ON schedules (next_fire_at) WHERE enabled = 1;
CREATE INDEX schedules_by_tenant ON schedules (tenant_id, created_at, id);
CREATE INDEX schedules_by_secret ON schedules (callback_secret_id) WHERE callback_secret_id IS NOT NULL;

-- The ledger: one row per instant that was accounted for. A row of outcome 'missed' stands for `missed` instants,
-- from `fire_at` to `missed_until`. It outlives its schedule.
CREATE TABLE fires (
  schedule_id  TEXT COLLATE "C" NOT NULL,
  fire_at      BIGINT NOT NULL,
  tenant_id    TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
  outcome      TEXT COLLATE "C" NOT NULL CHECK (outcome IN ('fired', 'skipped_overlap', 'missed', 'rejected')),
  recorded_at  BIGINT NOT NULL,
  job_id       TEXT COLLATE "C",
  missed       BIGINT NOT NULL DEFAULT 0,
  missed_until BIGINT,
  error        TEXT COLLATE "C",
  PRIMARY KEY (schedule_id, fire_at)
);
CREATE INDEX fires_missed ON fires (missed_until) WHERE outcome = 'missed';

CREATE TABLE jobs (
  id                 TEXT COLLATE "C" PRIMARY KEY,
  tenant_id          TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
  schedule_id        TEXT COLLATE "C",
  fire_at            BIGINT,
  workflow_id        TEXT COLLATE "C" NOT NULL,
  workflow           TEXT COLLATE "C" NOT NULL,
  deployment_id      TEXT COLLATE "C" NOT NULL REFERENCES deployments (id),
  nonce              TEXT COLLATE "C",
  -- SHA-256 of the request that carried the nonce: the same nonce with another request is a conflict.
  nonce_request      TEXT COLLATE "C",
  callback_url       TEXT COLLATE "C",
  callback_secret_id TEXT COLLATE "C" REFERENCES secrets (id),
  skip_callbacks     BIGINT NOT NULL CHECK (skip_callbacks IN (0, 1)),
  status             TEXT COLLATE "C" NOT NULL
                     CHECK (status IN ('queued', 'starting_browser', 'running', 'completed', 'failed', 'cancelled')),
  attempt            BIGINT NOT NULL DEFAULT 0,
  -- Whoever runs the job holds this token; a write without it changes nothing.
  lease_token        TEXT COLLATE "C",
  cancel_requested   BIGINT NOT NULL DEFAULT 0,
  failure_class      TEXT COLLATE "C",
  created_at         BIGINT NOT NULL,
  started_at         BIGINT,
  completed_at       BIGINT,
  launch             TEXT COLLATE "C" NOT NULL,
  -- The credential that the launch asks for by id: for an index, so that a credential's jobs are found without a look
  -- into each. By its text, because a launch that is damaged must not keep anybody from writing its row.
  credential_id      TEXT COLLATE "C" GENERATED ALWAYS AS
                     (substring(launch FROM '"credential_id":"([^"]*)"')) STORED,
  params             TEXT COLLATE "C" NOT NULL,
  error              TEXT COLLATE "C",
  stack              TEXT COLLATE "C",
  result             TEXT COLLATE "C",
  UNIQUE (schedule_id, fire_at),
  UNIQUE (tenant_id, nonce)
);
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
  tenant_id TEXT COLLATE "C" NOT NULL,
  -- Counted for each tenant by itself: it is shown as the place where a list goes on, and must not tell how much
  -- others write.
  number    BIGINT NOT NULL,
  job_id    TEXT COLLATE "C" NOT NULL REFERENCES jobs (id),
  level     TEXT COLLATE "C" NOT NULL CHECK (level IN ('info', 'warn', 'error')),
  message   TEXT COLLATE "C" NOT NULL,
  logged_at BIGINT NOT NULL,
  UNIQUE (tenant_id, number)
);
CREATE INDEX job_logs_by_job ON job_logs (job_id, tenant_id, number);

CREATE TABLE webhook_endpoints (
  id          TEXT COLLATE "C" PRIMARY KEY,
  tenant_id   TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
  url         TEXT COLLATE "C" NOT NULL,
  description TEXT COLLATE "C",
  active      BIGINT NOT NULL CHECK (active IN (0, 1)),
  secret_id   TEXT COLLATE "C" NOT NULL REFERENCES secrets (id),
  created_at  BIGINT NOT NULL,
  updated_at  BIGINT NOT NULL
);
CREATE INDEX webhook_endpoints_by_tenant ON webhook_endpoints (tenant_id, created_at, id);
CREATE INDEX webhook_endpoints_by_secret ON webhook_endpoints (secret_id);

-- The outbox. The id is the `webhook-id` of every attempt.
CREATE TABLE deliveries (
  id                  TEXT COLLATE "C" PRIMARY KEY,
  tenant_id           TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
  job_id              TEXT COLLATE "C" NOT NULL REFERENCES jobs (id),
  -- NULL for a job's own callback. No reference: an endpoint may be deleted while it is owed something.
  webhook_endpoint_id TEXT COLLATE "C",
  url                 TEXT COLLATE "C" NOT NULL,
  secret_id           TEXT COLLATE "C" NOT NULL REFERENCES secrets (id),
  event               TEXT COLLATE "C" NOT NULL,
  body                TEXT COLLATE "C" NOT NULL,
  status              TEXT COLLATE "C" NOT NULL CHECK (status IN ('pending', 'delivered', 'failed')),
  attempts            BIGINT NOT NULL DEFAULT 0,
  next_attempt_at     BIGINT,
  lease_token         TEXT COLLATE "C",
  created_at          BIGINT NOT NULL,
  completed_at        BIGINT
);
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
  tenant_id TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
  url       TEXT COLLATE "C" NOT NULL,
  in_flight BIGINT NOT NULL,
  -- Its place in the queue: when its next attempt is due, or when it was last served, whichever is later. NULL where
  -- all that it is owed is under way.
  turn_at   BIGINT,
  served_at BIGINT,
  PRIMARY KEY (tenant_id, url)
);
CREATE INDEX delivery_receivers_by_turn ON delivery_receivers (turn_at) WHERE turn_at IS NOT NULL;
CREATE INDEX delivery_receivers_by_tenant ON delivery_receivers (tenant_id, turn_at) WHERE turn_at IS NOT NULL;

CREATE TABLE delivery_attempts (
  delivery_id      TEXT COLLATE "C" NOT NULL REFERENCES deliveries (id),
  number           BIGINT NOT NULL,
  attempted_at     BIGINT NOT NULL,
  status_code      BIGINT,
  latency_ms       BIGINT NOT NULL,
  error_class      TEXT COLLATE "C",
  error            TEXT COLLATE "C",
  response_excerpt TEXT COLLATE "C",
  PRIMARY KEY (delivery_id, number)
);

CREATE TABLE credentials (
  id         TEXT COLLATE "C" PRIMARY KEY,
  tenant_id  TEXT COLLATE "C" NOT NULL REFERENCES tenants (id),
  name       TEXT COLLATE "C" NOT NULL,
  secret_id  TEXT COLLATE "C" NOT NULL REFERENCES secrets (id),
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  UNIQUE (tenant_id, name)
);
CREATE INDEX credentials_by_secret ON credentials (secret_id);
