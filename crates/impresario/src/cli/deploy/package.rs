//! What `package.json` says, and which file of the bundle is loaded.

use std::{
    fs,
    io::Read as _,
    path::{Component, Path},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::walk::Listing;

const NAME: &str = "package.json";
/// The largest that the server reads.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
const USUAL: [&str; 3] = ["index.js", "index.mjs", "index.cjs"];
const JAVASCRIPT: [&str; 3] = [".js", ".mjs", ".cjs"];
const TYPESCRIPT: [&str; 4] = [".ts", ".mts", ".cts", ".tsx"];

/// `package.json` of the directory.
///
/// # Errors
/// A sentence, where there is none or it is no JSON object.
pub(super) fn read(dir: &Path) -> anyhow::Result<Value> {
    let path = dir.join(NAME);
    let unreadable = || format!("{} cannot be read", path.display());
    let found = match fs::metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = match fs::metadata(dir) {
                Ok(found) if found.is_dir() => "has no package.json",
                Ok(_) => "is no directory",
                Err(_) => "is not there",
            };
            bail!(
                "{dir:?} {what}: deploy takes the directory of a package.json and the JavaScript file that exports your \
                 workflows"
            );
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            bail!("{dir:?} is a file: deploy takes the directory that it is in");
        }
        Err(error) => return Err(anyhow::Error::new(error).context(unreadable())),
    };
    if !found.is_file() {
        bail!("{} is no file", path.display());
    }
    let mut text = Vec::new();
    fs::File::open(&path)
        .and_then(|opened| opened.take(BYTES_MAX + 1).read_to_end(&mut text))
        .with_context(unreadable)?;
    if text.len() as u64 > BYTES_MAX {
        bail!("{} is larger than 4 MiB", path.display());
    }
    let package: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    if !package.is_object() {
        bail!(
            "{} must be an object, such as {{\"type\": \"module\"}}",
            path.display()
        );
    }
    Ok(package)
}

/// The file that is loaded: the one that was asked for, else what `main` means, else `index.js` (or `.mjs`, `.cjs`).
///
/// # Errors
/// A sentence, where it is not in the bundle or is no JavaScript.
pub(super) fn entry(
    dir: &Path,
    package: &Value,
    listing: &Listing,
    asked: Option<&str>,
) -> anyhow::Result<String> {
    if !listing.has(NAME) {
        bail!("{}", missing(dir, listing, NAME));
    }
    let wanted = match (asked, package.get("main")) {
        (Some(asked), _) => plain(asked),
        (None, Some(Value::String(main))) if !main.is_empty() => by_main(dir, listing, main),
        (None, None | Some(Value::Null | Value::String(_))) => by_habit(listing),
        (None, Some(other)) => {
            bail!("package.json: main must be the name of a file, not {other}; or pass --entry-point")
        }
    };
    if TYPESCRIPT.iter().any(|end| wanted.ends_with(end)) {
        bail!(
            "the entry point {wanted:?} is TypeScript: build it to JavaScript first, for example with `npx esbuild {wanted} \
             --bundle --platform=node --format=esm --packages=external --outfile=index.js`, and pass `--entry-point index.js`"
        );
    }
    if !listing.has(&wanted) {
        bail!("the entry point is missing: {}", missing(dir, listing, &wanted));
    }
    if !JAVASCRIPT.iter().any(|end| wanted.ends_with(end)) {
        bail!("the entry point {wanted:?} is no JavaScript file: its name must end in .js, .mjs or .cjs");
    }
    Ok(wanted)
}

fn plain(name: &str) -> String {
    name.strip_prefix("./").unwrap_or(name).to_owned()
}

/// As Node reads `main`: a file, one without its ending, or a directory with an `index.js`.
fn by_main(dir: &Path, listing: &Listing, main: &str) -> String {
    let name = plain(main.trim_end_matches('/'));
    let tried = [
        name.clone(),
        format!("{name}.js"),
        plain(&format!("{name}/index.js")),
    ];
    let packed = tried.iter().find(|name| listing.has(name));
    let found = packed.or_else(|| tried.iter().find(|name| dir.join(name).is_file()));
    found.cloned().unwrap_or(name)
}

fn by_habit(listing: &Listing) -> String {
    let typescript = TYPESCRIPT.map(|end| format!("index{end}"));
    let all = USUAL.into_iter().chain(typescript.iter().map(String::as_str));
    let mut found = all.filter(|name| listing.has(name));
    found.next().unwrap_or(USUAL[0]).to_owned()
}

/// Why a file is not in the bundle, and what to do.
fn missing(dir: &Path, listing: &Listing, name: &str) -> String {
    let inside = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        return format!("{name:?} is no file within the directory, such as \"dist/index.js\"");
    }
    if dir.join(name).is_file() {
        return match listing.rules {
            Some(rules) => format!(
                "{name:?} is left out by {rules}; write what is to be left out of bundles into an .impresarioignore, which is \
                 followed instead"
            ),
            None => format!("{name:?} is never packed"),
        };
    }
    let hint = match USUAL.into_iter().find(|usual| listing.has(usual)) {
        Some(usual) => format!("{usual} is there: pass --entry-point {usual}"),
        None => "build it first, or pass the file that exports your workflows as --entry-point".to_owned(),
    };
    format!("there is no {name:?} in {}; {hint}", dir.display())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{builder::BuildLimits, cli::deploy::walk::walk};

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("dist")).unwrap();
        for name in files {
            fs::write(dir.path().join(name), "{}").unwrap();
        }
        dir
    }

    fn found(files: &[&str], package: &Value, asked: Option<&str>) -> Result<String, String> {
        let dir = directory(&[files, &[NAME]].concat());
        let listing = walk(dir.path(), &BuildLimits::default()).unwrap();
        entry(dir.path(), package, &listing, asked).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_entry_is_what_was_asked_for_then_main_then_index() {
        let all = [
            "index.js",
            "a.mjs",
            "dist/index.js",
            "dist/b.js",
            "x.ts",
            "x.json",
            "index.ts",
        ];
        for (package, asked, expected) in [
            (json!({}), None, "index.js"),
            (json!({"main": null}), None, "index.js"),
            (json!({"main": ""}), None, "index.js"),
            (json!({"main": "./a.mjs"}), None, "a.mjs"),
            (json!({"main": "a.mjs"}), Some("dist/b.js"), "dist/b.js"),
            (json!({"main": "dist"}), None, "dist/index.js"),
            (json!({"main": "./dist/"}), None, "dist/index.js"),
            (json!({"main": "dist/b"}), None, "dist/b.js"),
            (json!({"main": "."}), None, "index.js"),
            (json!({"main": "./"}), None, "index.js"),
        ] {
            assert_eq!(found(&all, &package, asked).as_deref(), Ok(expected), "{package}");
        }
        assert_eq!(found(&["index.cjs"], &json!({}), None).unwrap(), "index.cjs");
        for (package, asked, expected) in [
            (json!({"main": "x.ts"}), None, "is TypeScript"),
            (json!({}), Some("x.ts"), "is TypeScript"),
            (json!({"main": 7}), None, "main must be the name of a file, not 7"),
            (json!({"main": "lib/x.js"}), None, "no \"lib/x.js\" in"),
            (
                json!({}),
                Some("../index.js"),
                "\"../index.js\" is no file within",
            ),
            (json!({}), Some("x.json"), "is no JavaScript file"),
        ] {
            let error = found(&all, &package, asked).unwrap_err();
            assert!(error.contains(expected), "{package}: {error}");
        }
        let error = found(&["index.ts"], &json!({}), None).unwrap_err();
        assert!(error.contains("\"index.ts\" is TypeScript"), "{error}");
        let error = found(&[], &json!({}), None).unwrap_err();
        assert!(
            error.contains("no \"index.js\" in") && error.contains("--entry-point"),
            "{error}"
        );
    }

    #[test]
    fn what_the_rules_leave_out_cannot_be_loaded() {
        let dir = directory(&[NAME, "dist/index.js"]);
        fs::write(dir.path().join(".gitignore"), "dist/\n").unwrap();
        let listing = walk(dir.path(), &BuildLimits::default()).unwrap();
        let error = entry(dir.path(), &json!({"main": "dist/index.js"}), &listing, None).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("\"dist/index.js\" is left out by .gitignore"),
            "{error}"
        );
        fs::write(dir.path().join(".impresarioignore"), "*.json\n").unwrap();
        let listing = walk(dir.path(), &BuildLimits::default()).unwrap();
        let error = entry(dir.path(), &json!({}), &listing, Some("dist/index.js")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("\"package.json\" is left out by .impresarioignore"),
            "{error}"
        );
    }

    #[test]
    fn package_json_must_be_there_and_an_object() {
        let dir = directory(&[]);
        let says = |expected: &str| {
            let error = format!("{:#}", read(dir.path()).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        says("has no package.json");
        fs::write(dir.path().join(NAME), "{").unwrap();
        says("is not JSON");
        fs::write(dir.path().join(NAME), "[]").unwrap();
        says("must be an object");
        fs::remove_file(dir.path().join(NAME)).unwrap();
        fs::create_dir(dir.path().join(NAME)).unwrap();
        says("is no file");
        let error = read(&dir.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("is not there"), "{error}");
    }
}
