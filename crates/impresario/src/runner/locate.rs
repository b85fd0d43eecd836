//! Finds Node and Chromium on this machine, once at start.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::process::{PLAIN_PATH, ask};

/// The oldest major version of Node that runs the host.
const NODE_MIN: u32 = 20;

const INSTALL_NODE: &str =
    "install Node 20 or newer (nodejs.org, or your distribution's `nodejs`) or set IMPRESARIO_NODE";

const CHROMIUM_NAMES: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
    "chrome",
];

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Node, as an absolute path.
    pub node: PathBuf,
    /// What it calls its version, such as `v20.20.2`.
    pub node_version: String,
    /// Chromium, as an absolute path; without one, workflows that use no page still run.
    pub chromium: Option<PathBuf>,
}

/// Why the machine cannot run workflows; each says what to install or set.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// There is no Node on `PATH`.
    #[error("Node was not found on PATH: {INSTALL_NODE}")]
    NoNode,
    /// The one that was set cannot be run.
    #[error("Node at {} could not be run: {reason}; {INSTALL_NODE}", path.display())]
    NodeBroken {
        /// Where it is.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// It is older than 20.
    #[error("Node at {} is {version}: {INSTALL_NODE}", path.display())]
    NodeTooOld {
        /// Where it is.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// The one that was set is not a program.
    #[error("no program at {}: set IMPRESARIO_CHROMIUM to a Chromium, or unset it to use the one on PATH", .0.display())]
    NoChromium(PathBuf),
}

/// Finds Node (the given one, else `node` on `PATH`) and Chromium (the given one, else the usual names on `PATH`, else the
/// newest in Playwright's cache). Runs `node --version`.
///
/// # Errors
/// Where there is no Node of version 20 or newer, or where what was given is not there. That no Chromium is found is no
/// error.
pub fn locate(node: Option<&Path>, chromium: Option<&Path>) -> Result<Located, LocateError> {
    let node = match node {
        Some(path) => absolute(path),
        None => on_path("node").ok_or(LocateError::NoNode)?,
    };
    let broken = |reason: String| LocateError::NodeBroken {
        path: node.clone(),
        reason,
    };
    let said = ask(&node, "--version").map_err(|e| broken(e.to_string()))?;
    let node_version = said.stdout.trim().to_owned();
    let major = node_version
        .strip_prefix('v')
        .and_then(|v| v.split('.').next()?.parse::<u32>().ok());
    match major {
        Some(major) if said.status.success() && major >= NODE_MIN => {}
        Some(_) if said.status.success() => {
            return Err(LocateError::NodeTooOld {
                path: node,
                version: node_version,
            });
        }
        _ => {
            return Err(broken(format!(
                "`--version` said {:?}",
                first_line(&node_version, &said.stderr)
            )));
        }
    }
    let chromium = match chromium {
        Some(path) if is_program(&absolute(path)) => Some(absolute(path)),
        Some(path) => return Err(LocateError::NoChromium(path.to_owned())),
        None => CHROMIUM_NAMES
            .iter()
            .find_map(|name| on_path(name))
            .or_else(in_playwright_cache),
    };
    Ok(Located {
        node,
        node_version,
        chromium,
    })
}

fn first_line(stdout: &str, stderr: &str) -> String {
    let all = if stdout.is_empty() { stderr } else { stdout };
    all.lines().next().unwrap_or_default().chars().take(200).collect()
}

fn absolute(path: &Path) -> PathBuf {
    // A bare name is looked for on PATH, as a shell would.
    if path.components().count() == 1
        && path.is_relative()
        && let Some(found) = path.to_str().and_then(on_path)
    {
        return found;
    }
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The first program of this name on `PATH`. That variable is no setting of ours: it is how this machine finds programs.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    let path = crate::config::raw_variable("PATH").unwrap_or_else(|| PLAIN_PATH.into());
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| is_program(file))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Where `npx playwright install chromium` puts it.
fn in_playwright_cache() -> Option<PathBuf> {
    newest_in_cache(&std::env::home_dir()?.join(".cache/ms-playwright"))
}

fn newest_in_cache(cache: &Path) -> Option<PathBuf> {
    let revision =
        |dir: &Path| -> Option<u64> { dir.file_name()?.to_str()?.strip_prefix("chromium-")?.parse().ok() };
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(cache)
        .ok()?
        .filter_map(|entry| {
            let dir = entry.ok()?.path();
            Some((revision(&dir)?, dir))
        })
        .collect();
    found.sort();
    found
        .into_iter()
        .rev()
        .flat_map(|(_, dir)| {
            ["chrome-linux/chrome", "chrome-linux64/chrome"].map(|program| dir.join(program))
        })
        .find(|program| is_program(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn an_old_a_missing_and_a_broken_node_say_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old");
        program(&old, "#!/bin/sh\necho v18.19.0\n");
        let broken = dir.path().join("broken");
        program(&broken, "#!/bin/sh\necho 'no such luck' >&2\nexit 1\n");
        for (path, part) in [
            (old, "is v18.19.0"),
            (broken, "no such luck"),
            (dir.path().join("none"), "could not be run"),
        ] {
            let error = locate(Some(&path), None).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("IMPRESARIO_NODE"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_chromium_that_was_set_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("node");
        program(&node, "#!/bin/sh\necho v22.1.0\n");
        assert!(matches!(
            locate(Some(&node), Some(dir.path())),
            Err(LocateError::NoChromium(_))
        ));
        let located = locate(Some(&node), Some(&node)).unwrap();
        assert_eq!(
            (located.node_version.as_str(), located.chromium),
            ("v22.1.0", Some(node))
        );
    }

    #[test]
    fn the_newest_of_playwrights_cache_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        for revision in [
            "chromium-999",
            "chromium-1200",
            "chromium_headless_shell-1300",
            "ffmpeg-1011",
        ] {
            program(&dir.path().join(revision).join("chrome-linux/chrome"), "");
        }
        assert_eq!(
            newest_in_cache(dir.path()),
            Some(dir.path().join("chromium-1200/chrome-linux/chrome"))
        );
    }
}
