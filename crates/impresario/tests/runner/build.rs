//! From an archive to a directory that runs.
