-- Until when a holder has what it holds, in milliseconds on the database's clock. NULL where nothing ends a lease but its
-- holder: in an embedded database it ends with the process, and the next server settles what is left at its start.
ALTER TABLE jobs ADD COLUMN lease_until BIGINT;
ALTER TABLE deliveries ADD COLUMN lease_until BIGINT;
-- A build has one holder: a write without its token changes nothing.
ALTER TABLE deployments ADD COLUMN lease_token TEXT COLLATE "C";
ALTER TABLE deployments ADD COLUMN lease_until BIGINT;

-- What is held at the moment, for the reaper: none of these grows with the history.
CREATE INDEX jobs_by_lease ON jobs (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX deliveries_by_lease ON deliveries (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX deployments_in_build ON deployments (tenant_id, lease_until) WHERE lease_token IS NOT NULL;
