//! The PostgreSQL engine, for any number of nodes.

mod migrate;
mod pool;
mod session;
#[cfg(test)]
pub(super) mod testing;

pub(super) use self::{
    pool::Postgres,
    session::{Session, cell},
};
