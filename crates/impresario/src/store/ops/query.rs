//! A SELECT that is put together from the conditions that are asked for. One text for all of them, with
//! `$2 IS NULL OR …`, would hide from the planner every index that a condition could use.

use crate::store::{
    PageCursor,
    error::Result,
    tx::{Row, Tx},
    value::Value,
};

pub(super) struct Query {
    sql: String,
    params: Vec<Value>,
}

impl Query {
    /// `sql` with a `?` for each of `values`; it ends in a WHERE and its first condition.
    pub(super) fn new<const N: usize>(sql: &str, values: [Value; N]) -> Self {
        let mut query = Self {
            sql: String::new(),
            params: Vec::new(),
        };
        query.push(sql, values);
        query
    }

    /// One more condition, if there are values for it.
    pub(super) fn and<const N: usize>(mut self, condition: &str, values: Option<[Value; N]>) -> Self {
        if let Some(values) = values {
            self.push(" AND ", []);
            self.push(condition, values);
        }
        self
    }

    /// Only what comes after the cursor, if there is one; `condition` compares with its instant and its id.
    pub(super) fn after(self, condition: &str, cursor: Option<PageCursor>) -> Self {
        self.and(
            condition,
            cursor.map(|cursor| [cursor.at.into(), cursor.id.into()]),
        )
    }

    /// Runs it with `tail`, the order and the limit, at its end.
    pub(super) fn run<T, const N: usize>(
        mut self,
        tx: &mut Tx<'_>,
        (tail, values): (&str, [Value; N]),
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.push(" ", []);
        self.push(tail, values);
        tx.query(&self.sql, &self.params, read)
    }

    fn push<const N: usize>(&mut self, sql: &str, values: [Value; N]) {
        let mut values = values.into_iter();
        for (at, part) in sql.split('?').enumerate() {
            if at > 0 {
                self.params.extend(values.next());
                self.sql.push('$');
                self.sql.push_str(&self.params.len().to_string());
            }
            self.sql.push_str(part);
        }
    }

    /// How the database would go about it.
    #[cfg(test)]
    pub(super) fn plan<const N: usize>(self, tx: &mut Tx<'_>, tail: (&str, [Value; N])) -> Result<String> {
        let explained = Self {
            sql: format!("EXPLAIN QUERY PLAN {}", self.sql),
            ..self
        };
        let steps = explained.run(tx, tail, |row| row.get::<String>("detail"))?;
        Ok(steps.join("; "))
    }
}
