//! The PostgreSQL engine, for any number of nodes: 15 or newer.

mod connect;
mod inspect;
mod migrate;
mod parameters;
mod passfile;
mod pool;
mod session;
mod target;
#[cfg(test)]
pub(super) mod testing;
mod tls;
mod trouble;

pub use self::{
    connect::{cancel, connect},
    inspect::{inspect, may_migrate, may_use},
    target::Target,
};
pub(super) use self::{
    pool::Postgres,
    session::{Session, cell},
};

#[cfg(test)]
#[path = "../../../tests/common/postgres.rs"]
mod server;
