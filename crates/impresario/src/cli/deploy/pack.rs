//! From files to the archive that the server takes: the same files make the same bytes, whenever and wherever.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use rustix::fs::OFlags;

use super::walk::{Found, Listing, gone_or_unreadable, size};

/// What may be wrong while packing, on its way through the readers and writers of others.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("it changed while it was read")]
    Changed,
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    #[error("the archive is too large")]
    TooLarge,
}

/// Packs the files as a gzip-compressed tar of at most `most` bytes. `read` hears of each chunk that was read, in bytes.
///
/// # Errors
/// A sentence that names the file that changed or cannot be read, or the largest ones where the archive gets too large.
pub(super) fn pack(listing: &Listing, most: u64, read: &dyn Fn(u64)) -> anyhow::Result<Vec<u8>> {
    let bounded = Bounded {
        bytes: Vec::new(),
        most,
    };
    let mut archive = tar::Builder::new(GzEncoder::new(bounded, Compression::default()));
    for file in &listing.files {
        append(&mut archive, file, read).map_err(|error| explain(error, Some(file), listing, most))?;
    }
    archive
        .into_inner()
        .and_then(GzEncoder::finish)
        .map(|bounded| bounded.bytes)
        .map_err(|error| explain(error, None, listing, most))
}

fn append(archive: &mut tar::Builder<impl Write>, file: &Found, read: &dyn Fn(u64)) -> io::Result<()> {
    let (opened, before) = open(&file.path).map_err(|error| io::Error::other(Trouble::Unreadable(error)))?;
    // What is not a file any more would be read for ever, or not at all.
    if !before.is_file() || before.len() != file.size {
        return Err(io::Error::other(Trouble::Changed));
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(file.size);
    // Whose it is and when it was made is nothing of the bundle: it would make another hash of the same files.
    header.set_mode(if file.executable { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let content = Content {
        file: opened,
        before,
        left: file.size,
        read,
    };
    archive.append_data(&mut header, &file.name, content)
}

fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // Without waiting for the other end of what has become a pipe.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let found = file.metadata()?;
    Ok((file, found))
}

/// A file that must have as many bytes as were announced, and be at its end what it was at its beginning.
struct Content<'a> {
    file: File,
    before: Metadata,
    left: u64,
    read: &'a dyn Fn(u64),
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => io::Error::other(Trouble::Unreadable(error)),
        };
        let read = self.file.read(buffer).map_err(unreadable)?;
        let left = self.left.checked_sub(read as u64);
        self.left = left.ok_or_else(|| io::Error::other(Trouble::Changed))?;
        if read == 0 && !buffer.is_empty() {
            let after = self.file.metadata().map_err(unreadable)?;
            let stamp = |of: &Metadata| (of.len(), of.mtime(), of.mtime_nsec());
            if self.left > 0 || stamp(&after) != stamp(&self.before) {
                return Err(io::Error::other(Trouble::Changed));
            }
        }
        (self.read)(read as u64);
        Ok(read)
    }
}

struct Bounded {
    bytes: Vec<u8>,
    most: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + bytes.len()) as u64 > self.most {
            return Err(io::Error::other(Trouble::TooLarge));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn explain(error: io::Error, file: Option<&Found>, listing: &Listing, most: u64) -> anyhow::Error {
    let name = file.map(|file| file.name.as_str()).unwrap_or_default();
    match error.downcast::<Trouble>() {
        Ok(Trouble::Changed) => anyhow::anyhow!(
            "{name:?} changed while it was packed: deploy again when nothing writes to the directory"
        ),
        Ok(Trouble::Unreadable(error)) => gone_or_unreadable(Path::new(name), error),
        Ok(Trouble::TooLarge) => too_large(listing, most),
        Err(error) => anyhow::Error::new(error).context(format!("{name:?} cannot be packed")),
    }
}

fn too_large(listing: &Listing, most: u64) -> anyhow::Error {
    anyhow::anyhow!(
        "the packed files have more than {}, which is what fits into a request: leave some out in .impresarioignore, or have \
         the operator raise max_bundle_bytes of the server and pass the same as --max-bundle-bytes; the largest are {}",
        size(most),
        listing.largest(),
    )
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
