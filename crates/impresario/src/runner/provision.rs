//! Installs what every bundle is provided with: Playwright and our `libretto`, once per version of this server.
//!
//! The list and its lock file are part of the binary. They are installed into a directory named by their hash, so a new
//! version of the server never meets the packages of an old one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::Rng as _;
use sha2::{Digest as _, Sha256};

use super::process::{NpmError, npm_install};

const HOST: &str = include_str!("../../../../runner/host.mjs");

/// What is written before npm is run.
const FILES: [(&str, &str); 4] = [
    ("package.json", include_str!("../../../../runner/package.json")),
    (
        "package-lock.json",
        include_str!("../../../../runner/package-lock.json"),
    ),
    (
        "libretto/package.json",
        include_str!("../../../../runner/libretto/package.json"),
    ),
    (
        "libretto/index.js",
        include_str!("../../../../runner/libretto/index.js"),
    ),
];

const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// Why the packages could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// npm is missing, could not reach its registry, or failed otherwise; says what to do.
    #[error("the runner's packages could not be installed into {}: {reason}", dir.display())]
    Npm {
        /// Where they were to go.
        dir: PathBuf,
        /// What npm said, and what helps.
        reason: String,
    },
    /// The directory could not be written.
    #[error("the runner's packages could not be written to {}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Makes sure that the provided packages are installed below `runner_dir`; the directory that holds `node_modules`.
///
/// Safe to call from several servers at once, and after a crash at any moment: the work is done beside, and renamed.
///
/// # Errors
/// Where npm is missing or fails, or the directory cannot be written.
pub async fn provision(runner_dir: &Path, node: &Path) -> Result<PathBuf, ProvisionError> {
    let hash = FILES.iter().fold(Sha256::new(), |hash, (name, text)| {
        hash.chain_update(name)
            .chain_update([0])
            .chain_update(text)
            .chain_update([0])
    });
    let name: String = hash
        .finalize()
        .iter()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect();
    let io_error = |source| ProvisionError::Io {
        dir: runner_dir.to_owned(),
        source,
    };
    // Bundles link to it, so it must not depend on a working directory.
    let runner_dir = std::path::absolute(runner_dir).map_err(io_error)?;
    let done = runner_dir.join(&name);
    if is_complete(&done) {
        return Ok(done);
    }
    let draft = runner_dir.join(format!(".{name}-{:08x}", rand::rng().next_u32()));
    let made = install(&draft, node).await;
    let moved = match made {
        Ok(()) => std::fs::rename(&draft, &done).map_err(io_error),
        Err(error) => Err(error),
    };
    // Left where npm failed, or where another server was first; its result is as good as ours.
    let _ = std::fs::remove_dir_all(&draft);
    if is_complete(&done) {
        Ok(done)
    } else {
        moved.map(|()| done)
    }
}

fn is_complete(dir: &Path) -> bool {
    ["playwright-core", "playwright", "chromium-bidi", "libretto"]
        .iter()
        .all(|package| {
            dir.join("node_modules")
                .join(package)
                .join("package.json")
                .exists()
        })
}

async fn install(draft: &Path, node: &Path) -> Result<(), ProvisionError> {
    let write = || -> io::Result<()> {
        for (name, text) in FILES {
            let file = draft.join(name);
            std::fs::create_dir_all(file.parent().unwrap_or(draft))?;
            std::fs::write(file, text)?;
        }
        Ok(())
    };
    write().map_err(|source| ProvisionError::Io {
        dir: draft.to_owned(),
        source,
    })?;
    npm_install(node, draft, &["ci"], INSTALL_LIMIT)
        .await
        .map_err(|error| ProvisionError::Npm {
            dir: draft.parent().unwrap_or(draft).to_owned(),
            reason: advice(&error),
        })
}

fn advice(error: &NpmError) -> String {
    let text = match error {
        NpmError::Start(source) => format!("{error}: {source}"),
        _ => error.to_string(),
    };
    let unreachable = [
        "ENOTFOUND",
        "EAI_AGAIN",
        "ECONNREFUSED",
        "ETIMEDOUT",
        "ECONNRESET",
        "network",
    ];
    if unreachable.iter().any(|sign| text.contains(sign)) {
        return format!(
            "{text}; the npm registry cannot be reached from here: set npm_config_registry or HTTPS_PROXY, or run \
             `npm ci --ignore-scripts` in the project's `runner` folder elsewhere and set IMPRESARIO_RUNNER_DIR to a copy of it"
        );
    }
    text
}

/// Writes `host.mjs` into `dir`; its path.
///
/// # Errors
/// Where it cannot be written.
pub fn write_host(dir: &Path) -> io::Result<PathBuf> {
    let dir = std::path::absolute(dir)?;
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("host.mjs");
    // Another server may be starting a run from it at this moment, so it is replaced whole.
    let draft = dir.join(format!(".host-{:08x}.mjs", rand::rng().next_u32()));
    std::fs::write(&draft, HOST)?;
    std::fs::rename(&draft, &path)?;
    Ok(path)
}
