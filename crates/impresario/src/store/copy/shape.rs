//! What tables a database has, with which columns and in which order they can be filled: asked of the databases, so that a
//! migration changes nothing here.

use std::collections::BTreeSet;

use crate::store::error::{Result, StoreError};

/// The types that both engines have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Int,
    Text,
    Blob,
}

/// A column that can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) class: Class,
    /// Whether the database numbers the rows by it.
    pub(super) numbered: bool,
    /// Whether a row may be without it.
    pub(super) optional: bool,
}

/// A table, with its columns by name: those that are worked out of others are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The other tables that its rows refer to.
    pub(super) refers_to: BTreeSet<String>,
}

impl Table {
    pub(super) fn quoted(&self) -> String {
        quoted(&self.name)
    }

    /// Its columns as a list in a statement.
    pub(super) fn list(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| quoted(&column.name)).collect();
        names.join(", ")
    }

    /// The column that the database numbers the rows by.
    pub(super) fn numbered(&self) -> Option<&Column> {
        self.columns.iter().find(|column| column.numbered)
    }
}

/// A name as SQL writes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Adds a column to the table that a list of them, by table, is at.
pub(super) fn add(tables: &mut Vec<Table>, table: &str, column: Column) {
    match tables.last_mut() {
        Some(last) if last.name == table => last.columns.push(column),
        _ => tables.push(Table {
            name: table.to_owned(),
            columns: vec![column],
            refers_to: BTreeSet::new(),
        }),
    }
}

/// The tables to be copied, those that others refer to first, with the columns that the source has. Both databases have been
/// made by this program, or by one that this one goes on beside: tables of somebody else's in a shared schema are left out.
pub(super) fn plan(source: Vec<Table>, target: &[Table]) -> Result<Vec<Table>> {
    let mut planned = Vec::new();
    for mut table in source {
        let Some(to) = target.iter().find(|to| to.name == table.name) else {
            return Err(differ(
                &table.name,
                "is missing in the database that is copied to",
            ));
        };
        for column in &table.columns {
            match to.columns.iter().find(|other| other.name == column.name) {
                Some(other) if other.class == column.class => {}
                Some(_) => return Err(differ(&table.name, &format!("has another {} there", column.name))),
                None => return Err(differ(&table.name, &format!("has no {} there", column.name))),
            }
        }
        let needed = |other: &&Column| !other.optional && !table.columns.iter().any(|c| c.name == other.name);
        if let Some(missing) = to.columns.iter().find(needed) {
            return Err(differ(&table.name, &format!("needs a {} there", missing.name)));
        }
        // What must be there first is the target's affair.
        table.refers_to.clone_from(&to.refers_to);
        planned.push(table);
    }
    sorted(planned)
}

fn differ(table: &str, how: &str) -> StoreError {
    StoreError::Open(format!(
        "the two databases are not of the same version: the table {table} {how}. Use the newest program, and run `impresario \
         migrate` with it"
    ))
}

/// Each after those that it refers to.
fn sorted(mut tables: Vec<Table>) -> Result<Vec<Table>> {
    let mut sorted: Vec<Table> = Vec::new();
    while !tables.is_empty() {
        let waits = |table: &Table| {
            let others = tables.iter().filter(|other| other.name != table.name);
            others.clone().any(|other| table.refers_to.contains(&other.name))
        };
        let Some(next) = tables.iter().position(|table| !waits(table)) else {
            return Err(StoreError::Open(format!(
                "the tables {} refer to each other in a circle",
                tables.iter().map(|t| &*t.name).collect::<Vec<_>>().join(", ")
            )));
        };
        sorted.push(tables.remove(next));
    }
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, optional: bool) -> Column {
        Column {
            name: name.to_owned(),
            class: Class::Int,
            numbered: false,
            optional,
        }
    }

    fn table(name: &str, columns: &[Column], refers_to: &[&str]) -> Table {
        Table {
            name: name.to_owned(),
            columns: columns.to_vec(),
            refers_to: refers_to.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn what_others_refer_to_comes_first() {
        let id = [column("id", false)];
        let tables = vec![
            table("a", &id, &["b", "a"]),
            table("b", &id, &["c", "elsewhere"]),
            table("c", &id, &[]),
        ];
        let names: Vec<String> = plan(tables.clone(), &tables)
            .unwrap()
            .into_iter()
            .map(|t| t.name)
            .collect();
        assert_eq!(names, ["c", "b", "a"]);
        let circle = vec![table("a", &id, &["b"]), table("b", &id, &["a"])];
        assert!(plan(circle.clone(), &circle).is_err());
    }

    #[test]
    fn what_only_the_target_has_may_be_left_empty_and_what_only_the_source_has_may_not_be_lost() {
        let small = table("a", &[column("id", false)], &[]);
        let more = table("a", &[column("id", false), column("new", true)], &[]);
        let other = table("b", &[column("id", false)], &[]);
        assert_eq!(
            plan(vec![small.clone()], &[more.clone(), other.clone()]).unwrap(),
            vec![small.clone()]
        );
        for (source, target, reason) in [
            (vec![more], vec![small.clone()], "has no new there"),
            (
                vec![small.clone(), other],
                vec![small.clone()],
                "table b is missing",
            ),
            (
                vec![small],
                vec![table("a", &[column("id", false), column("new", false)], &[])],
                "needs a new there",
            ),
        ] {
            let error = plan(source, &target).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
