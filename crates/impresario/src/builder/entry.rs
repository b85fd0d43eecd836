//! Which file of a bundle is loaded.

use std::path::{Component, Path};

/// The API's default, which is not what most bundles hold once they are bundled.
const DEFAULT: &str = "index.ts";
const USUAL: [&str; 3] = ["index.js", "index.mjs", "index.cjs"];
const ENTRY_MAX: usize = 512;

/// Why a bundle's entry point cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EntryError {
    /// It is not a path inside of the bundle.
    #[error("the entry point {0:?} must be a relative path inside of the bundle, such as \"index.js\"")]
    NotInside(String),
    /// It is not there.
    #[error("the entry point {entry} is not in the bundle{hint}")]
    Missing {
        /// What was asked for.
        entry: String,
        /// What might be meant instead.
        hint: String,
    },
}

/// The file of the bundle in `dir` that the entry point means, relative to `dir`: itself; or, for the API's default
/// `index.ts` in a bundle without one, `index.js`, `index.mjs` or `index.cjs`.
///
/// # Errors
/// [`EntryError`].
pub fn resolve_entry(dir: &Path, entry_point: &str) -> Result<String, EntryError> {
    let not_inside = || EntryError::NotInside(entry_point.chars().take(ENTRY_MAX).collect());
    let path = Path::new(entry_point);
    let plain = path
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !plain || entry_point.is_empty() || entry_point.len() > ENTRY_MAX || entry_point.contains(['\0', '\\'])
    {
        return Err(not_inside());
    }
    let is_file = |name: &str| dir.join(name).is_file();
    if is_file(entry_point) {
        return Ok(entry_point.to_owned());
    }
    let usual: Vec<&str> = USUAL.into_iter().filter(|name| is_file(name)).collect();
    match usual.first() {
        Some(first) if entry_point == DEFAULT => Ok((*first).to_owned()),
        Some(first) => Err(EntryError::Missing {
            entry: entry_point.to_owned(),
            hint: format!("; {first} is: pass entry_point \"{first}\""),
        }),
        None => Err(EntryError::Missing {
            entry: entry_point.to_owned(),
            hint: "; pass the name of the file that exports your workflows as entry_point".to_owned(),
        }),
    }
}

/// Whether Node must strip types from it.
pub(super) fn is_typescript(entry: &str) -> bool {
    [".ts", ".mts", ".cts"].iter().any(|end| entry.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_falls_back_to_javascript_and_others_do_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(resolve_entry(dir.path(), "index.ts").is_err());
        std::fs::write(dir.path().join("index.mjs"), "").unwrap();
        assert_eq!(resolve_entry(dir.path(), "index.ts").unwrap(), "index.mjs");
        let error = resolve_entry(dir.path(), "main.js").unwrap_err().to_string();
        assert!(
            error.contains("main.js is not in the bundle; index.mjs is"),
            "{error}"
        );
        for bad in ["", "../index.mjs", "/etc/passwd", "a/../../b", "a\\b"] {
            assert!(
                matches!(resolve_entry(dir.path(), bad), Err(EntryError::NotInside(_))),
                "{bad}"
            );
        }
    }
}
