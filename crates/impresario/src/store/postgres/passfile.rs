//! The password file, `~/.pgpass` or what PGPASSFILE names, as libpq reads it: lines `host:port:database:user:password`
//! with `*` for anything and a backslash before a colon or a backslash that is meant.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use secrecy::SecretString;

/// The bits that let others than the owner do something with a file.
const OTHERS: u32 = 0o077;

/// What a connection is looked up by.
pub(super) struct Wanted<'a> {
    /// The host's name or address; `localhost` for the default directory of sockets.
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password of the first line that fits.
///
/// # Errors
/// Why the file is not used although it is there, as a sentence without any of its content.
pub(super) fn password(file: &Path, wanted: &Wanted<'_>) -> Result<Option<SecretString>, String> {
    let Ok(about) = std::fs::metadata(file) else {
        return Ok(None);
    };
    if !about.is_file() {
        return Err(format!(
            "the password file {file:?} is no plain file and is not used"
        ));
    }
    if about.mode() & OTHERS != 0 {
        return Err(format!(
            "the password file {file:?} is not used because others than its owner may read it: chmod 0600 it"
        ));
    }
    let content =
        std::fs::read(file).map_err(|error| format!("the password file {file:?} cannot be read: {error}"))?;
    let content = String::from_utf8_lossy(&content);
    Ok(content.lines().find_map(|line| of_line(line, wanted)))
}

fn of_line(line: &str, wanted: &Wanted<'_>) -> Option<SecretString> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line.chars().peekable();
    let port = wanted.port.to_string();
    for value in [wanted.host, &port, wanted.database, wanted.user] {
        let (text, plain) = field(&mut rest)?;
        if text != value && !(plain && text == "*") {
            return None;
        }
    }
    // The password goes on to the end of the line, colons and all, but for the escapes.
    let mut password = String::new();
    while let Some(c) = rest.next() {
        password.push(if c == '\\' { rest.next().unwrap_or(c) } else { c });
    }
    (!password.is_empty()).then(|| password.into())
}

/// A field up to its colon, and whether nothing in it was escaped; `None` where the line ends before one.
fn field(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<(String, bool)> {
    let (mut text, mut plain) = (String::new(), true);
    loop {
        match rest.next()? {
            ':' => return Some((text, plain)),
            '\\' => {
                plain = false;
                text.push(rest.next()?);
            }
            c => text.push(c),
        }
    }
}
