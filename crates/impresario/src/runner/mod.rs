//! One Node process per job.
