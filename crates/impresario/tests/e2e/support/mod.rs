//! What the tests are written with: a server, clients of it, bundles, a receiver of callbacks, and waiting.

mod bundle;
mod client;
mod contract;
mod database;
mod http;
pub(crate) mod process;
mod quickstart;
mod receiver;
pub(crate) mod server;
mod setup;
mod signature;
mod typist;
mod wait;

pub(crate) use bundle::{BRAND, Bundle, workflow};
pub(crate) use client::{Client, assert_error, keys};
pub(crate) use database::Database;
pub(crate) use http::{Answer, Request};
pub(crate) use process::{alive, signal_pid};
pub(crate) use quickstart::Quickstart;
pub(crate) use receiver::{Received, Receiver, Reply};
pub(crate) use server::{Ran, Server};
pub(crate) use setup::Setup;
pub(crate) use signature::{assert_signed, signed_by};
pub(crate) use typist::Typist;
pub(crate) use wait::{PATIENCE, wait_for, wait_until};
