//! From an uploaded archive to a directory that can be run, and the list of workflows in it.
//!
//! In: a gzip tar of a bundle and the name of its entry point. Out: a directory at the path that was asked for, there
//! whole or not at all, and the workflows that the bundle's manifest names or its entry point exports.
//!
//! The steps: `unpack` writes the files after checking every header, `entry` finds the module to load, `modules` installs
//! what else the bundle depends on and links the provided packages, `manifest` reads what it says of its workflows or has
//! the runner load it.

mod entry;
mod manifest;
mod modules;
mod unpack;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::Rng as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::entry::{EntryError, resolve_entry};
pub use self::modules::{LinkError, link_provided};
use crate::runner::{NodeRunner, RunFailure};

/// How large a bundle may be, and how long building it may take.
#[derive(Debug, Clone)]
pub struct BuildLimits {
    /// Bytes of all files together. Default 512 MiB.
    pub total_bytes: u64,
    /// Files and directories. Default 20,000.
    pub entries: usize,
    /// Bytes unpacked for each byte of the archive, looked at from 8 MiB on. Default 200.
    pub ratio: u64,
    /// Directories above a file. Default 32.
    pub depth: usize,
    /// Bytes of a path in the bundle. Default 512.
    pub path_bytes: usize,
    /// Until npm must have installed the dependencies. Default 180 s.
    pub install_timeout: Duration,
}

impl Default for BuildLimits {
    fn default() -> Self {
        Self {
            total_bytes: 512 * 1024 * 1024,
            entries: 20_000,
            ratio: 200,
            depth: 32,
            path_bytes: 512,
            install_timeout: Duration::from_secs(180),
        }
    }
}

/// What was built.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// At least one, no two of one name, in the order of the bundle.
    pub workflows: Vec<DiscoveredWorkflow>,
}

/// What a bundle says of one of its workflows. Its JSON is that of the bundle's manifest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscoveredWorkflow {
    /// Its name.
    pub name: String,
    /// The credentials that it is given, by name.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub credential_names: Vec<String>,
    /// A JSON Schema of its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    /// A JSON Schema of its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Opened before it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_url: Option<String>,
    /// The size of its page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewport: Option<impresario_api::Viewport>,
    /// Whether its browser may use a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<bool>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Why a bundle could not be built. All but [`BuildError::Io`] are the bundle's fault, and their text is for its author.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The archive is damaged, or holds what no bundle may.
    #[error("the bundle's archive is refused: {0}")]
    Archive(String),
    /// The entry point is not there or cannot be run.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// `package.json` cannot be read, or npm could not install what it asks for.
    #[error("the bundle's dependencies cannot be installed: {0}")]
    Dependencies(String),
    /// `.libretto-workflows.json` is not what it should be.
    #[error("the bundle's .libretto-workflows.json cannot be read: {0}")]
    Manifest(String),
    /// Loading the entry point failed.
    #[error("{}", .0.message)]
    Load(RunFailure),
    /// There is nothing to run.
    #[error(
        "the bundle has no workflow: {0} must export one, an object with the brand Symbol.for(\"libretto.workflow\"), a \
         name and a function run (such as `workflow(name, handler)` of libretto makes)"
    )]
    NoWorkflow(String),
    /// A workflow's name is empty or too long.
    #[error("a workflow's name must have 1 to {NAME_MAX} bytes, which {0:?} has not")]
    BadName(String),
    /// Two of one name.
    #[error("two workflows of the bundle are named {0:?}; names must differ")]
    DuplicateName(String),
    /// The server's fault: it could not write the bundle.
    #[error("the bundle could not be written to {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The longest name of a workflow, in bytes.
pub(crate) const NAME_MAX: usize = 256;

/// Unpacks a bundle to `dest`, makes it ready to run, and finds its workflows.
///
/// `dest` does not exist yet, its parent does or can be made; on an error there is nothing at `dest`.
///
/// # Errors
/// [`BuildError`], with a text for the bundle's author.
pub async fn build(
    source_gz: Vec<u8>,
    entry_point: &str,
    dest: &Path,
    runner: &NodeRunner,
    limits: &BuildLimits,
) -> Result<Built, BuildError> {
    let draft = Draft::beside(dest)?;
    prepare(source_gz, draft.path(), runner, limits).await?;
    let entry = resolve_entry(draft.path(), entry_point)?;
    let told = manifest::read(draft.path())?;
    let workflows = match told {
        Some(told) if !entry::is_typescript(&entry) => told,
        // TypeScript is loaded even if there is a manifest: whether this Node takes it shows now or in every run.
        told => {
            let loaded = runner
                .discover(draft.path(), &entry)
                .await
                .map_err(BuildError::Load)?;
            told.unwrap_or(loaded)
        }
    };
    check_names(&workflows, &entry)?;
    draft.publish(dest)?;
    Ok(Built { workflows })
}

/// Unpacks a bundle that was built before to `dest`, where a node has not got it yet. Where `dest` is there already, as
/// when two runs need it at once, nothing is done.
///
/// # Errors
/// As [`build`], without those of finding workflows.
pub async fn unpack_only(
    source_gz: Vec<u8>,
    dest: &Path,
    runner: &NodeRunner,
    limits: &BuildLimits,
) -> Result<(), BuildError> {
    if dest.exists() {
        return Ok(());
    }
    let draft = Draft::beside(dest)?;
    prepare(source_gz, draft.path(), runner, limits).await?;
    match draft.publish(dest) {
        Err(_) if dest.exists() => Ok(()),
        published => published,
    }
}

async fn prepare(
    source_gz: Vec<u8>,
    dir: &Path,
    runner: &NodeRunner,
    limits: &BuildLimits,
) -> Result<(), BuildError> {
    let (into, limits_of) = (dir.to_owned(), limits.clone());
    tokio::task::spawn_blocking(move || unpack::unpack(&source_gz, &into, &limits_of))
        .await
        .map_err(|e| io_error(dir, io::Error::other(e)))??;
    let settings = runner.settings();
    modules::install(dir, settings, limits).await?;
    link_provided(dir, &settings.modules).map_err(|e| BuildError::Dependencies(e.to_string()))
}

fn check_names(workflows: &[DiscoveredWorkflow], entry: &str) -> Result<(), BuildError> {
    if workflows.is_empty() {
        return Err(BuildError::NoWorkflow(entry.to_owned()));
    }
    let mut seen = std::collections::HashSet::new();
    for workflow in workflows {
        let name = workflow.name.as_str();
        if name.trim().is_empty() || name.len() > NAME_MAX || name.contains('\0') {
            return Err(BuildError::BadName(name.chars().take(NAME_MAX).collect()));
        }
        if !seen.insert(name) {
            return Err(BuildError::DuplicateName(name.to_owned()));
        }
    }
    Ok(())
}

fn io_error(path: &Path, source: io::Error) -> BuildError {
    BuildError::Io {
        path: path.to_owned(),
        source,
    }
}

/// A directory beside its destination, so that one rename moves it there. Removed if it was not moved.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn beside(dest: &Path) -> Result<Self, BuildError> {
        let dest = std::path::absolute(dest).map_err(|e| io_error(dest, e))?;
        let (Some(parent), Some(name)) = (dest.parent(), dest.file_name()) else {
            return Err(io_error(&dest, io::Error::from(io::ErrorKind::InvalidInput)));
        };
        let path = parent.join(format!(
            ".{}-{:08x}.new",
            name.to_string_lossy(),
            rand::rng().next_u32()
        ));
        std::fs::create_dir_all(&path).map_err(|e| io_error(&path, e))?;
        Ok(Self { path })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn publish(self, dest: &Path) -> Result<(), BuildError> {
        let flushed = std::fs::File::open(&self.path).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
        // A crash after the rename must not leave empty files under a name that says they are complete.
        flushed.map_err(|e| io_error(&self.path, e))?;
        std::fs::rename(&self.path, dest).map_err(|e| io_error(dest, e))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
