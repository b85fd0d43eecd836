//! Which files of a directory belong to its bundle: in comes the directory, out go its files in the order of their
//! names, and what was left out that somebody may miss.

use std::{
    fs::{self, Metadata},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder},
};

use crate::builder::BuildLimits;

/// The files that say what is left out. The first of them that the directory has is the one that counts, there and in the
/// directories below it.
const RULES: [&str; 3] = [".impresarioignore", ".npmignore", ".gitignore"];
/// The largest of them that is read.
const RULES_MAX: u64 = 1024 * 1024;
/// What no bundle needs: the server installs dependencies itself, and the rest is about the directory.
const NEVER: [&str; 6] = ["node_modules", ".git", ".DS_Store", RULES[0], RULES[1], RULES[2]];
/// From how many bytes on a name takes two entries of the archive.
const LONG_NAME: usize = 100;
/// How many files a sentence names.
const NAMED: usize = 5;

/// A file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// In the bundle: relative, with `/`.
    pub(super) name: String,
    /// Where it is read, without links.
    pub(super) path: PathBuf,
    /// Bytes.
    pub(super) size: u64,
    pub(super) executable: bool,
}

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// By name.
    pub(super) files: Vec<Found>,
    /// What may hold secrets and is never packed, by name.
    pub(super) kept_back: Vec<String>,
    /// The file whose rules were followed, if there was one.
    pub(super) rules: Option<&'static str>,
}

impl Listing {
    /// Bytes of all files together.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let found = self.files.binary_search_by(|file| file.name.as_str().cmp(name));
        found.is_ok()
    }

    /// The largest files and their sizes, for a sentence.
    pub(super) fn largest(&self) -> String {
        let mut files: Vec<&Found> = self.files.iter().collect();
        files.sort_by_key(|file| std::cmp::Reverse(file.size));
        let shown = |file: &&Found| format!("{:?} ({})", file.name, size(file.size));
        let named: Vec<String> = files.iter().take(NAMED).map(shown).collect();
        named.join(", ")
    }
}

/// Bytes, for people.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// Looks through a directory.
///
/// # Errors
/// A sentence that names the file that no bundle can hold, or that cannot be read.
pub(super) fn walk(dir: &Path, limits: &BuildLimits) -> anyhow::Result<Listing> {
    let unreadable = || format!("the directory {} cannot be read", dir.display());
    let root = fs::canonicalize(dir).with_context(unreadable)?;
    let rules = RULES.into_iter().find(|name| root.join(name).is_file());
    let mut walk = Walk {
        limits,
        entries: 0,
        levels: Vec::new(),
        above: Vec::new(),
        listing: Listing {
            rules,
            ..Listing::default()
        },
        root: root.clone(),
    };
    walk.directory(&root, Path::new(""))?;
    let Walk { mut listing, .. } = walk;
    listing.files.sort_by(|one, other| one.name.cmp(&other.name));
    listing.kept_back.sort();
    let bytes = listing.bytes();
    if bytes > limits.total_bytes {
        bail!(
            "the files have {} together, and a bundle may have {}: leave some out in .impresarioignore; the largest are {}",
            size(bytes),
            size(limits.total_bytes),
            listing.largest(),
        );
    }
    Ok(listing)
}

struct Walk<'a> {
    root: PathBuf,
    limits: &'a BuildLimits,
    /// What the server will count.
    entries: usize,
    /// The rules of the directories on the way down, with how many parts their names have.
    levels: Vec<(usize, Gitignore)>,
    /// The directories on the way down, to notice links that lead back.
    above: Vec<PathBuf>,
    listing: Listing,
}

impl Walk<'_> {
    /// Goes through the directory that is at `real` and is called `name` in the bundle.
    fn directory(&mut self, real: &Path, name: &Path) -> anyhow::Result<()> {
        let unreadable = || format!("the directory {} cannot be read", shown(name));
        let level = self.rules_of(real, name)?;
        let with_rules = level.is_some();
        self.levels.extend(level);
        self.above.push(real.to_owned());
        let mut below = Vec::new();
        for entry in fs::read_dir(real).with_context(unreadable)? {
            below.push(entry.with_context(unreadable)?.file_name());
        }
        below.sort();
        for part in below {
            self.entry(&real.join(&part), &name.join(&part))?;
        }
        self.above.pop();
        if with_rules {
            self.levels.pop();
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &Path) -> anyhow::Result<()> {
        if self.is_never_packed(name, name) {
            return Ok(());
        }
        let found = fs::symlink_metadata(path).map_err(|error| gone_or_unreadable(name, error))?;
        if !found.is_symlink() {
            return match self.is_left_out(name, found.is_dir()) {
                true => Ok(()),
                false => self.take(path, name, &found),
            };
        }
        // As for git, a link is no directory, whatever it leads to.
        if self.is_left_out(name, false) {
            return Ok(());
        }
        let target = self.target(path, name)?;
        let inside = target.strip_prefix(&self.root).map(Path::to_owned);
        if inside.is_ok_and(|inside| self.is_never_packed(&inside, name)) {
            return Ok(());
        }
        let found = fs::metadata(&target).map_err(|error| gone_or_unreadable(name, error))?;
        self.take(&target, name, &found)
    }

    /// Where a link leads.
    fn target(&self, path: &Path, name: &Path) -> anyhow::Result<PathBuf> {
        let target = match fs::canonicalize(path) {
            Ok(target) => target,
            Err(error) => {
                let to = fs::read_link(path).unwrap_or_default();
                return Err(anyhow::Error::new(error).context(format!(
                    "{} is a symbolic link to {to:?}, which cannot be followed: mend it, or leave it out in \
                     .impresarioignore",
                    shown(name)
                )));
            }
        };
        if !target.starts_with(&self.root) {
            bail!(
                "{} is a symbolic link out of the directory, to {target:?}; a bundle holds only what is in its directory: put \
                 a copy there, or leave it out in .impresarioignore",
                shown(name)
            );
        }
        if self.above.contains(&target) {
            bail!(
                "{} is a symbolic link to a directory that it is in itself: leave it out in .impresarioignore",
                shown(name)
            );
        }
        Ok(target)
    }

    fn take(&mut self, path: &Path, name: &Path, found: &Metadata) -> anyhow::Result<()> {
        let text = self.checked_name(name)?;
        if found.is_dir() {
            return self.directory(path, name);
        }
        if !found.is_file() {
            bail!(
                "{} is a pipe, a socket or a device, and bundles hold only files and directories: leave it out in \
                 .impresarioignore",
                shown(name)
            );
        }
        self.entries += 1 + usize::from(text.len() > LONG_NAME);
        if self.entries > self.limits.entries {
            bail!(
                "a bundle may have {} files, and there are more: leave some out in .impresarioignore (the last that was \
                 counted is {})",
                self.limits.entries,
                shown(name)
            );
        }
        self.listing.files.push(Found {
            name: text,
            path: path.to_owned(),
            size: found.len(),
            executable: found.permissions().mode() & 0o111 != 0,
        });
        Ok(())
    }

    /// The name, where the server takes it.
    fn checked_name(&self, name: &Path) -> anyhow::Result<String> {
        let refuse = |why: String| anyhow::anyhow!("{} {why}; no bundle may have it", shown(name));
        let text = name
            .to_str()
            .ok_or_else(|| refuse("has a name that is not UTF-8".to_owned()))?;
        if text.contains('\\') || text.chars().any(char::is_control) {
            return Err(refuse(
                "has a backslash or a control character in its name".to_owned(),
            ));
        }
        if text.len() > self.limits.path_bytes {
            let most = self.limits.path_bytes;
            return Err(refuse(format!("has a name of more than {most} bytes")));
        }
        if name.components().count() > self.limits.depth {
            let most = self.limits.depth;
            return Err(refuse(format!("is deeper than {most} directories")));
        }
        Ok(text.to_owned())
    }

    /// Whether a part of `inside` is never packed. What may hold secrets is told of, as `name`.
    fn is_never_packed(&mut self, inside: &Path, name: &Path) -> bool {
        let mut parts = inside.iter().map(|part| part.to_string_lossy());
        let Some(part) = parts.find(|part| NEVER.contains(&part.as_ref()) || may_hold_secrets(part)) else {
            return false;
        };
        if may_hold_secrets(&part) {
            self.listing.kept_back.push(name.to_string_lossy().into_owned());
        }
        true
    }

    /// Whether rules leave it out. Those of the directory that is nearest to it come first, as for git.
    fn is_left_out(&self, name: &Path, is_dir: bool) -> bool {
        for (depth, rules) in self.levels.iter().rev() {
            let below: PathBuf = name.iter().skip(*depth).collect();
            match rules.matched(below, is_dir) {
                Match::None => {}
                found => return found.is_ignore(),
            }
        }
        false
    }

    /// The rules that a directory has.
    fn rules_of(&self, real: &Path, name: &Path) -> anyhow::Result<Option<(usize, Gitignore)>> {
        let Some(file) = self.listing.rules else {
            return Ok(None);
        };
        let path = real.join(file);
        if !path.is_file() {
            return Ok(None);
        }
        let shown = shown(&name.join(file));
        let mut text = Vec::new();
        fs::File::open(&path)
            .and_then(|opened| opened.take(RULES_MAX + 1).read_to_end(&mut text))
            .with_context(|| format!("{shown} cannot be read"))?;
        if text.len() as u64 > RULES_MAX {
            bail!("{shown} is larger than 1 MiB");
        }
        let mut builder = GitignoreBuilder::new("");
        for (index, line) in String::from_utf8_lossy(&text).lines().enumerate() {
            builder
                .add_line(None, line)
                .with_context(|| format!("{shown}, line {}: {line:?} is no rule", index + 1))?;
        }
        let rules = builder
            .build()
            .with_context(|| format!("the rules of {shown} cannot be followed"))?;
        Ok(Some((name.iter().count(), rules)))
    }
}

/// Passwords and tokens of the machine that the directory is on; `.npmrc` holds those for registries.
fn may_hold_secrets(part: &str) -> bool {
    let part = part.to_ascii_lowercase();
    part.starts_with(".env") || part == ".npmrc"
}

/// A name for a sentence: on one line, whatever it is.
fn shown(name: &Path) -> String {
    if name.as_os_str().is_empty() {
        return "\".\"".to_owned();
    }
    format!("{name:?}")
}

/// What became of a file between two looks, or why it cannot be read.
pub(super) fn gone_or_unreadable(name: &Path, error: io::Error) -> anyhow::Error {
    let sentence = match error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "{} was there and is gone: deploy again when nothing writes to the directory",
                shown(name)
            )
        }
        _ => format!(
            "{} cannot be read: make it readable, or leave it out in .impresarioignore",
            shown(name)
        ),
    };
    anyhow::Error::new(error).context(sentence)
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
