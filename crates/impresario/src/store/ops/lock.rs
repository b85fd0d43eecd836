//! Rows that an operation keeps to itself until it has ended: what it reads of them afterwards is what holds. SQLite has a
//! single writer, so there nobody is in the way and nothing is asked.

use crate::store::{Dialect, error::Result, tx::Tx, value::Value};

/// Waits for the rows of `from`, a table with its WHERE, and locks them.
pub(super) fn rows(tx: &mut Tx<'_>, from: &str, params: &[Value]) -> Result<()> {
    if tx.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let sql = format!("SELECT 1 FROM {from}{}", tx.dialect().lock());
    tx.query(&sql, params, |_| Ok(())).map(|_| ())
}

/// Locks a row if nobody else has it: `false` where somebody has, or where there is none.
pub(super) fn try_row(tx: &mut Tx<'_>, from: &str, params: &[Value]) -> Result<bool> {
    if tx.dialect() == Dialect::Sqlite {
        return Ok(true);
    }
    let sql = format!("SELECT 1 FROM {from}{}", tx.dialect().claim());
    Ok(tx.query_opt(&sql, params, |_| Ok(()))?.is_some())
}
