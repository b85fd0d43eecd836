//! Unpacks an archive that anyone may have made.
//!
//! Two passes over the bytes in memory. The first looks at every raw header: kinds, counts, sizes, and the sizes of the
//! headers that only describe the next one. The second takes names as they will be used, checks each again with the
//! same counts, and writes with our own walk into a directory that was empty: no link can be in it, since none is made.

use std::fs::OpenOptions;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::{BuildError, BuildLimits, io_error};

/// Where the ratio begins to count: a small text can be packed very well.
const RATIO_FROM: u64 = 8 * 1024 * 1024;
/// The longest header that describes the next entry (long names, pax records).
const EXTENSION_MAX: u64 = 64 * 1024;
const NAME_MAX: usize = 255;

/// Unpacks `source` into `dir`, which is there and empty. After an error it may hold a part.
pub(super) fn unpack(source: &[u8], dir: &Path, limits: &BuildLimits) -> Result<(), BuildError> {
    look(source, limits).map_err(BuildError::Archive)?;
    extract(source, dir, limits)
}

/// The unpacked bytes, bounded: whoever reads past the limit gets an error, and never more memory than asked for.
fn open(source: &[u8], limits: &BuildLimits) -> Archive<impl Read> {
    let packed = source.len() as u64;
    let by_ratio = packed.saturating_mul(limits.ratio).max(RATIO_FROM);
    // Headers and padding come on top of the files: at most 1.5 KiB each, and their extensions.
    let overhead = (limits.entries as u64).saturating_mul(4 * 1024);
    let left = limits.total_bytes.saturating_add(overhead).min(by_ratio);
    Archive::new(Bounded {
        source: MultiGzDecoder::new(source),
        left,
        by_ratio: left == by_ratio,
    })
}

struct Bounded<R> {
    source: R,
    left: u64,
    by_ratio: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            let what = if self.by_ratio {
                "it unpacks to far more than it is packed"
            } else {
                "it unpacks to too much"
            };
            return Err(io::Error::other(what));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.source.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// What was seen so far.
#[derive(Default)]
struct Count {
    entries: usize,
    bytes: u64,
}

impl Count {
    fn add(&mut self, size: u64, limits: &BuildLimits) -> Result<(), String> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.entries > limits.entries {
            return Err(format!(
                "it has more than {} files and directories",
                limits.entries
            ));
        }
        if self.bytes > limits.total_bytes {
            return Err(format!(
                "its files have more than {} bytes together",
                limits.total_bytes
            ));
        }
        Ok(())
    }
}

fn look(source: &[u8], limits: &BuildLimits) -> Result<(), String> {
    let mut archive = open(source, limits);
    let mut count = Count::default();
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let size = entry.header().entry_size().map_err(damaged)?;
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::Directory => count.add(size, limits)?,
            EntryType::GNULongName | EntryType::XHeader | EntryType::XGlobalHeader
                if size <= EXTENSION_MAX =>
            {
                count.add(size, limits)?;
            }
            EntryType::GNULongName | EntryType::XHeader | EntryType::XGlobalHeader => {
                return Err(format!("it has a header of {size} bytes"));
            }
            kind => return Err(format!("{} is {}", shown(&entry.path_bytes()), named(kind))),
        }
        // To the end of the entry, so that a file that is cut off is noticed here.
        io::copy(&mut entry, &mut io::sink()).map_err(damaged)?;
    }
    if count.entries == 0 {
        return Err("it is empty".to_owned());
    }
    Ok(())
}

fn extract(source: &[u8], dir: &Path, limits: &BuildLimits) -> Result<(), BuildError> {
    let refuse = BuildError::Archive;
    let mut archive = open(source, limits);
    let mut count = Count::default();
    for entry in archive.entries().map_err(|e| refuse(damaged(e)))? {
        let mut entry = entry.map_err(|e| refuse(damaged(e)))?;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        count.add(entry.size(), limits).map_err(refuse)?;
        let name = checked_name(&entry.path_bytes(), limits).map_err(refuse)?;
        let path = dir.join(&name);
        match kind {
            EntryType::Directory => make_dir(&path).map_err(|e| io_error(&path, e))?,
            EntryType::Regular | EntryType::Continuous if name.as_os_str().is_empty() => {
                return Err(refuse("it has a file without a name".to_owned()));
            }
            EntryType::Regular | EntryType::Continuous => {
                if let Some(parent) = path.parent() {
                    make_dir(parent).map_err(|e| clash(&name, parent, e))?;
                }
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(&path)
                    .map_err(|e| clash(&name, &path, e))?;
                copy(&mut entry, &mut file, &path)?;
            }
            kind => return Err(refuse(format!("{} is {}", name.display(), named(kind)))),
        }
    }
    Ok(())
}

/// Copies, and tells a damaged archive from a full disk.
fn copy(from: &mut impl Read, to: &mut std::fs::File, path: &Path) -> Result<(), BuildError> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = from
            .read(&mut chunk)
            .map_err(|e| BuildError::Archive(damaged(e)))?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&chunk[..read]).map_err(|e| io_error(path, e))?;
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Two entries of one name, or one below another that is a file, are the archive's fault; all else is the disk's.
fn clash(name: &Path, path: &Path, error: io::Error) -> BuildError {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            BuildError::Archive(format!(
                "{} is in it twice, or is both a file and a directory",
                name.display()
            ))
        }
        _ => io_error(path, error),
    }
}

/// A name as a path below the bundle; empty for the bundle itself (`./`).
fn checked_name(raw: &[u8], limits: &BuildLimits) -> Result<PathBuf, String> {
    let refuse = |why: &str| Err(format!("{} {why}", shown(raw)));
    if raw.len() > limits.path_bytes {
        return refuse(&format!("is longer than {} bytes", limits.path_bytes));
    }
    let Ok(name) = std::str::from_utf8(raw) else {
        return refuse("is not UTF-8");
    };
    if name.is_empty() || name.starts_with('/') {
        return refuse("is not a relative path");
    }
    if name.contains('\\') || name.chars().any(char::is_control) {
        return refuse("has a backslash or a control character");
    }
    let mut path = PathBuf::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return refuse("leads out of the bundle"),
            part if part.len() > NAME_MAX => {
                return refuse(&format!("has a part of more than {NAME_MAX} bytes"));
            }
            part => path.push(part),
        }
    }
    if path.components().count() > limits.depth {
        return refuse(&format!("is deeper than {} directories", limits.depth));
    }
    Ok(path)
}

fn named(kind: EntryType) -> String {
    match kind {
        EntryType::Symlink => "a symbolic link; bundles hold only files and directories".to_owned(),
        EntryType::Link => "a hard link; bundles hold only files and directories".to_owned(),
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            "a device or a pipe; bundles hold only files and directories".to_owned()
        }
        other => format!(
            "an entry of the kind {:#04x}; bundles hold only files and directories",
            other.as_byte()
        ),
    }
}

/// A name to show in a message.
fn shown(raw: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(raw).chars().take(100).collect();
    format!("{text:?}")
}

/// `map_err` hands errors over whole.
#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` calls")]
fn damaged(error: io::Error) -> String {
    format!("it is not a gzip tar, or damaged: {error}")
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
