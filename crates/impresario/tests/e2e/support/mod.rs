//! What the tests are written with: a server, clients of it, bundles, a receiver of callbacks, and waiting.

mod bundle;
mod client;
mod database;
mod http;
mod process;
mod quickstart;
mod receiver;
mod server;
mod signature;
mod wait;

pub(crate) use bundle::{BRAND, Bundle, workflow};
pub(crate) use client::{Client, assert_error, keys};
pub(crate) use http::{Answer, Request};
#[allow(unused_imports, reason = "another test target uses them")]
pub(crate) use process::{alive, command, of_runs, signal_pid, sweep};
pub(crate) use quickstart::Quickstart;
pub(crate) use receiver::{Received, Receiver, Reply};
#[allow(unused_imports, reason = "another test target uses them")]
pub(crate) use server::{Ran, Server, Setup, node, runner_dir};
pub(crate) use signature::assert_signed;
pub(crate) use wait::{PATIENCE, wait_for, wait_until};
