//! `copy`: everything from one engine to the other, and what is to be done next.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::bail;
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};

use super::{backup::clock, say};
use crate::{
    clock::SharedClock,
    config::{self, Flags, Settings},
    ids::Ids,
    store::{
        Target,
        copy::{self, Copied, Place, Progress},
    },
};

#[derive(Debug, Args)]
pub(super) struct CopyOptions {
    /// The database to copy, on which no server may run: sqlite:DIR (a data directory) or postgres://…
    #[arg(long, value_name = "DATABASE")]
    from: SecretString,
    /// The database to copy to, which must have nothing in it: of the other kind, written in the same way
    #[arg(long, value_name = "DATABASE", required_unless_present = "undo")]
    to: Option<SecretString>,
    /// Instead of a copy: let servers start again on a database that was copied elsewhere
    #[arg(long, conflicts_with = "to")]
    undo: bool,
}

/// Reads `sqlite:DIR`, also with the file in it, or `postgres://…`.
fn place(flag: &str, text: &SecretString) -> anyhow::Result<Place> {
    let text = text.expose_secret();
    if let Some(path) = text.strip_prefix("sqlite:") {
        let path = Path::new(path.strip_prefix("//").unwrap_or(path));
        let dir = match path.file_name() {
            Some(name) if name == "impresario.db" => match path.parent() {
                Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
                Some(dir) => dir,
                None => path,
            },
            _ => path,
        };
        if dir.as_os_str().is_empty() || dir.is_file() {
            bail!(
                "{flag}: name the data directory, as in sqlite:./data; a backup belongs into one, as its impresario.db"
            );
        }
        return Ok(Place::Sqlite(dir.to_owned()));
    }
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        let target = Target::parse(text, &config::variable);
        return target
            .map(|target| Place::Postgres(Box::new(target)))
            .map_err(|why| anyhow::anyhow!("{flag}: {why}"));
    }
    bail!("{flag}: must be sqlite:DIR, such as sqlite:./data, or postgres://…")
}

fn tell(line: &str) {
    let _closed = writeln!(std::io::stderr(), "impresario: {line}");
}

pub(super) async fn copy(flags: &Flags, options: CopyOptions) -> anyhow::Result<()> {
    let settings = Settings::load(flags, None).map_err(anyhow::Error::msg)?;
    let from = place("--from", &options.from)?;
    let clock = clock(&settings)?;
    let Some(to) = &options.to else {
        return undo(&from, &clock).await;
    };
    let to = place("--to", to)?;
    let ids = Arc::new(Ids::from_os());
    let progress = |progress: Progress| {
        let Progress { table, rows, done } = progress;
        let noun = if rows == 1 { "row" } else { "rows" };
        let so_far = if done { "" } else { " so far" };
        tell(&format!("{table}: {rows} {noun}{so_far}"));
    };
    let copied = copy::copy((&from, &to), (&clock, &ids), progress).await?;
    for (table, values) in &copied.replaced {
        tell(&format!(
            "{table}: {values} {} had a NUL character, which PostgreSQL cannot hold: U+FFFD stands in its place",
            if *values == 1 { "value" } else { "values" }
        ));
    }
    let (tables, rows) = (copied.tables, copied.rows);
    say(&if copied.before {
        format!("{} had been copied to {} before", from.shown(), to.shown())
    } else {
        format!(
            "copied {rows} rows in {tables} tables from {} to {}",
            from.shown(),
            to.shown()
        )
    })?;
    next_steps((&from, &to), &copied);
    Ok(())
}

/// What is to be done now. It never shows a key.
fn next_steps((from, to): (&Place, &Place), copied: &Copied) {
    if let Some(id) = &copied.key_id {
        let place = match (from, to) {
            (Place::Sqlite(dir), _) if key_file(dir).is_file() => {
                format!("copy {} into its data directory", key_file(dir).display())
            }
            (_, Place::Sqlite(dir)) => {
                format!("put the nodes' key file there as {}", key_file(dir).display())
            }
            _ => "give it the same key file".to_owned(),
        };
        tell(&format!(
            "next: every server on the copy needs the secret key {id}: {place}, or set IMPRESARIO_SECRET_KEY as before"
        ));
    }
    tell(&match to {
        Place::Postgres(target) => format!(
            "then start `impresario serve --database-url {}` (with its password in PGPASSWORD or ~/.pgpass, if it has one)",
            target.shown()
        ),
        Place::Sqlite(dir) => format!("then start `impresario serve --data-dir {}`", dir.display()),
    });
    let old = from.shown();
    tell(&format!(
        "keep {old} as a backup. No server starts on it any more, because both would fire; `impresario copy --undo --from \
         {old}` takes that back"
    ));
}

fn key_file(dir: &Path) -> PathBuf {
    dir.join("secret.key")
}

async fn undo(from: &Place, clock: &SharedClock) -> anyhow::Result<()> {
    let shown = from.shown();
    match copy::undo(from, clock).await? {
        None => say(&format!(
            "{shown} was not copied anywhere: servers may start on it"
        ))?,
        Some(mark) => {
            say(&format!("servers may start on {shown} again"))?;
            tell(&format!(
                "nothing may be served from {} now: both would fire",
                mark.to
            ));
            if mark.done {
                tell(
                    "the next start writes down what has come due since as missed, and fails the jobs that are unfinished: \
                     they may have run there",
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let place = place("--from", &text.to_owned().into());
        place.map(|place| place.shown()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_database_is_named_by_its_directory_its_file_or_its_url() {
        for (text, shown) in [
            ("sqlite:./data", "sqlite:./data"),
            ("sqlite:/srv/data/impresario.db", "sqlite:/srv/data"),
            ("sqlite:impresario.db", "sqlite:."),
            ("sqlite:///srv/data", "sqlite:/srv/data"),
            (
                "postgres://me:hush@db.example/app",
                "postgres://me@db.example:5432/app",
            ),
        ] {
            assert_eq!(read(text).unwrap(), shown);
        }
        for text in [
            "./data",
            "sqlite:",
            "mysql://x",
            "postgres://me:hush@db.example/app?what=1",
            "",
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with("--from") && !error.contains("hush"), "{error}");
        }
    }
}
