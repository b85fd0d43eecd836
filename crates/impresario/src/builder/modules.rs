//! A bundle's `node_modules`: links to the packages that the server provides, and what else the bundle depends on.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rand::Rng as _;
use serde_json::{Map, Value, json};

use super::{BuildError, BuildLimits, io_error};
use crate::runner::{RunnerSettings, npm_install};

/// Never installed per bundle: the browser and the host speak exactly the versions that the server has.
pub(super) const PROVIDED: [&str; 4] = ["playwright", "playwright-core", "chromium-bidi", "libretto"];

const PACKAGE_JSON_MAX: u64 = 4 * 1024 * 1024;

/// Why the provided packages could not be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server itself has not got one of them.
    #[error("the server's own packages are not installed: {} is missing", .0.display())]
    NotProvisioned(PathBuf),
    /// The link could not be made.
    #[error("node_modules could not be written at {}: {reason}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// Makes `node_modules` of the bundle in `dir` link to the provided packages of `modules`. Links that are right already
/// are left; others are replaced, each at once, so that a run beside never misses one.
///
/// # Errors
/// [`LinkError`].
pub fn link_provided(dir: &Path, modules: &Path) -> Result<(), LinkError> {
    let theirs = dir.join("node_modules");
    let write = |path: &Path, reason| LinkError::Write {
        path: path.to_owned(),
        reason,
    };
    let ours = std::path::absolute(modules)
        .map_err(|e| write(modules, e))?
        .join("node_modules");
    for package in PROVIDED {
        let target = ours.join(package);
        let link = theirs.join(package);
        if std::fs::read_link(&link).is_ok_and(|now| now == target) {
            continue;
        }
        if !target.join("package.json").exists() {
            return Err(LinkError::NotProvisioned(target));
        }
        std::fs::create_dir_all(&theirs).map_err(|e| write(&theirs, e))?;
        // One that came with the bundle gives way; a rename replaces a link but not a directory.
        if std::fs::symlink_metadata(&link).is_ok_and(|found| found.is_dir()) {
            std::fs::remove_dir_all(&link).map_err(|e| write(&link, e))?;
        }
        let draft = theirs.join(format!(".{package}-{:08x}", rand::rng().next_u32()));
        symlink(&target, &draft)
            .and_then(|()| std::fs::rename(&draft, &link))
            .map_err(|e| write(&link, e))?;
    }
    Ok(())
}

/// Installs the bundle's dependencies other than the provided ones, if it has any.
pub(super) async fn install(
    dir: &Path,
    settings: &RunnerSettings,
    limits: &BuildLimits,
) -> Result<(), BuildError> {
    let wanted = dependencies(dir)?;
    if wanted.is_empty() {
        return Ok(());
    }
    // Not in the bundle itself: its .npmrc could send npm's requests, or anything npm can read, elsewhere.
    let place = dir.join(".impresario-install");
    let package = json!({"name": "bundle", "version": "0.0.0", "private": true, "dependencies": wanted});
    std::fs::create_dir(&place)
        .and_then(|()| std::fs::write(place.join("package.json"), package.to_string()))
        .map_err(|e| io_error(&place, e))?;
    npm_install(
        &settings.node,
        &place,
        &["install", "--omit=dev", "--no-package-lock"],
        limits.install_timeout,
    )
    .await
    .map_err(|e| BuildError::Dependencies(e.to_string()))?;
    let made = place.join("node_modules");
    merge(&made, &dir.join("node_modules")).map_err(|e| io_error(&made, e))?;
    std::fs::remove_dir_all(&place).map_err(|e| io_error(&place, e))
}

/// Moves what was installed to where the bundle may have brought some itself; what was installed wins.
fn merge(made: &Path, theirs: &Path) -> io::Result<()> {
    if !made.exists() {
        return Ok(());
    }
    if !theirs.exists() {
        return std::fs::rename(made, theirs);
    }
    for entry in std::fs::read_dir(made)? {
        let entry = entry?;
        let target = theirs.join(entry.file_name());
        let scope = entry.file_name().to_string_lossy().starts_with('@');
        if scope && target.is_dir() {
            merge(&entry.path(), &target)?;
            continue;
        }
        match std::fs::symlink_metadata(&target) {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(&target)?,
            Ok(_) => std::fs::remove_file(&target)?,
            Err(_) => {}
        }
        std::fs::rename(entry.path(), target)?;
    }
    Ok(())
}

/// `dependencies` of the bundle's `package.json`, without the provided ones.
fn dependencies(dir: &Path) -> Result<Map<String, Value>, BuildError> {
    let path = dir.join("package.json");
    let refuse = |why: String| BuildError::Dependencies(why);
    let size = match std::fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(io_error(&path, error)),
    };
    if size > PACKAGE_JSON_MAX {
        return Err(refuse(format!(
            "package.json has {size} bytes; at most {PACKAGE_JSON_MAX} are read"
        )));
    }
    let text = std::fs::read(&path).map_err(|e| io_error(&path, e))?;
    let package: Value = serde_json::from_slice(&text).map_err(|e| refuse(format!("package.json: {e}")))?;
    let mut wanted = match package.get("dependencies") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(wanted)) => wanted.clone(),
        Some(_) => {
            return Err(refuse(
                "package.json: `dependencies` must be an object".to_owned(),
            ));
        }
    };
    wanted.retain(|name, _| !PROVIDED.contains(&name.as_str()));
    for (name, version) in &wanted {
        let fine = version.as_str().is_some_and(from_registry) && is_package_name(name);
        if !fine {
            return Err(refuse(format!(
                "{name:?} in package.json must be a version from the npm registry, such as \"^1.2.3\", not {version}"
            )));
        }
    }
    Ok(wanted)
}

/// Whether this is a version, a range or a tag of the registry: files and links would read from the server, addresses
/// would make it fetch from wherever they say.
fn from_registry(version: &str) -> bool {
    let version = version.strip_prefix("npm:").unwrap_or(version);
    let (name, rest) = match version.rfind('@') {
        Some(at) if at > 0 => (&version[..at], &version[at + 1..]),
        _ => ("", version),
    };
    (name.is_empty() || is_package_name(name)) && !rest.contains(['/', ':', '\\']) && rest.len() <= 256
}

fn is_package_name(name: &str) -> bool {
    let bare = match name.strip_prefix('@') {
        Some(scoped) => match scoped.split_once('/') {
            Some((scope, bare)) if is_word(scope) => bare,
            _ => return false,
        },
        None => name,
    };
    is_word(bare) && name.len() <= 214
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_of_the_registry_are_taken() {
        for good in [
            "1.2.3",
            "^1.2.3",
            ">=1 <2 || 3.x",
            "*",
            "latest",
            "",
            "npm:left-pad@1.3.0",
            "npm:@scope/x@^1",
            "1 - 2",
        ] {
            assert!(from_registry(good), "{good}");
        }
        for bad in [
            "file:../../etc",
            "link:x",
            "git+https://h/x.git",
            "https://h/x.tgz",
            "user/repo",
            "../x",
            "npm:../x@1",
            "/x",
        ] {
            assert!(!from_registry(bad), "{bad}");
        }
        assert!(is_package_name("@a/b-c") && is_package_name("zod"));
        for bad in ["", "../x", "@a", "@/b", ".bin", "a/b", "a b", "@a/../b"] {
            assert!(!is_package_name(bad), "{bad}");
        }
    }

    #[test]
    fn provided_packages_are_not_dependencies() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"dependencies":{"libretto":"1","playwright":"*","playwright-core":"x","chromium-bidi":"y","zod":"4"}}"#;
        std::fs::write(dir.path().join("package.json"), text).unwrap();
        assert_eq!(
            dependencies(dir.path()).unwrap().keys().collect::<Vec<_>>(),
            ["zod"]
        );
        std::fs::write(
            dir.path().join("package.json"),
            r#"{"dependencies":{"x":"file:/etc"}}"#,
        )
        .unwrap();
        assert!(
            dependencies(dir.path())
                .unwrap_err()
                .to_string()
                .contains("npm registry")
        );
    }
}
