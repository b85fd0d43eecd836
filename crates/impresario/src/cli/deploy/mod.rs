//! `deploy`: from a directory to a deployment.

mod pack;
mod package;
mod walk;
