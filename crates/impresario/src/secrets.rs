//! Secrets at rest: in comes a secret and the cell it will stand in, out goes a sealed value; and back.
//!
//! Callback secrets, signing secrets and credentials must be read again, so they are sealed with XChaCha20-Poly1305
//! under the server's key. Tenant, table, row and column are the associated data: a ciphertext that somebody moves to
//! another cell does not open there. There is no fallback: without the key nothing is stored and nothing is read.
//!
//! ```text
//! version (1) | key id (4) | nonce (24) | ciphertext and tag (length of the secret + 16)
//! ```

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};

use crate::ids::Ids;

const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const HEAD_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_BYTES;
/// More than a hundred keys fit; whatever is larger is some other file.
const MAX_KEY_FILE_BYTES: u64 = 8 * 1024;

/// Where a sealed value stands. All four are part of what is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell<'a> {
    /// The id of the tenant it belongs to.
    pub tenant: &'a str,
    /// The table.
    pub table: &'a str,
    /// The row's id.
    pub row: &'a str,
    /// The column.
    pub column: &'a str,
}

impl Cell<'_> {
    /// Each part is preceded by its length: no two cells read the same, whatever their parts contain.
    fn associated_data(&self) -> Vec<u8> {
        let mut data = vec![VERSION];
        for part in [self.tenant, self.table, self.row, self.column] {
            data.extend_from_slice(&(part.len() as u64).to_le_bytes());
            data.extend_from_slice(part.as_bytes());
        }
        data
    }
}

/// Why there is no keyring. No variant repeats a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A key is not what is expected; `position` counts from 1.
    #[error(
        "secret key number {position} must be 32 bytes in base64, as `openssl rand -base64 32` prints them"
    )]
    Format {
        /// Which of the comma-separated keys, from 1.
        position: usize,
    },
    /// Somebody other than the owner can read or write the key file.
    #[error("the secret key file {} is open to others (mode {mode:03o}): run `chmod 600` on it", path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The path leads to a folder, a device, or something too large to be a key file.
    #[error("{} is not a secret key file", path.display())]
    NotAKeyFile {
        /// What stands there.
        path: PathBuf,
    },
    /// The contents of the file are not keys.
    #[error("the secret key file {} cannot be used", path.display())]
    FileFormat {
        /// The file.
        path: PathBuf,
        /// Which key in it is wrong.
        source: Box<KeyringError>,
    },
    /// The file cannot be read or made.
    #[error("the secret key file {} cannot be read or created", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was sealed under a key that this server does not have.
    #[error(
        "sealed under the secret key {key_id}, which is not among IMPRESARIO_SECRET_KEY: add that key to the list"
    )]
    UnknownKey {
        /// The id of the missing key, as [`Keyring::key_id`] writes it.
        key_id: String,
    },
    /// It was changed, cut short, or moved from another cell.
    #[error("the sealed value is damaged, or was sealed for another row or column")]
    Damaged,
}

struct Key {
    id: [u8; KEY_ID_BYTES],
    bytes: SecretBox<[u8; 32]>,
}

impl Key {
    fn new(bytes: [u8; 32]) -> Self {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let [a, b, c, d, ..] = digest;
        Self {
            id: [a, b, c, d],
            bytes: SecretBox::new(Box::new(bytes)),
        }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.bytes.expose_secret().into())
    }
}

/// The id of the key that a value was sealed under, as [`Keyring::key_id`] writes it; nothing where it is none.
#[must_use]
pub fn sealed_under(sealed: &[u8]) -> Option<String> {
    let (version, rest) = sealed.split_first()?;
    let (id, _) = rest.split_first_chunk::<KEY_ID_BYTES>()?;
    (*version == VERSION).then(|| hex(id))
}

/// The server's secret keys: the first seals, all of them open.
pub struct Keyring {
    first: Key,
    others: Vec<Key>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("key_id", &self.key_id())
            .field("others", &self.others.len())
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads the value of `IMPRESARIO_SECRET_KEY`: one or more keys, each 32 bytes in base64, separated by commas. To
    /// rotate, put the new key in front and keep the old ones until nothing is sealed under them any more.
    ///
    /// # Errors
    /// [`KeyringError::Format`] names the first key that is malformed.
    pub fn from_base64(list: &str) -> Result<Self, KeyringError> {
        let mut keys = list.split(',').zip(1..).map(|(text, position)| {
            let bytes = STANDARD.decode(text.trim()).ok();
            bytes
                .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
                .map(Key::new)
                .ok_or(KeyringError::Format { position })
        });
        let first = keys.next().unwrap_or(Err(KeyringError::Format { position: 1 }))?;
        let others = keys.collect::<Result<_, _>>()?;
        Ok(Self { first, others })
    }

    /// Reads the key file at `path`, or makes one with a new random key that only its owner can read. Processes that
    /// start at the same time end with the same key.
    ///
    /// # Errors
    /// [`KeyringError`]: the file is open to others, is no key file, or cannot be read or made.
    pub fn load_or_create(path: &Path, ids: &Ids) -> Result<Self, KeyringError> {
        let failed = |source| KeyringError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(keyring) = Self::load(path)? {
            return Ok(keyring);
        }
        create(path, ids).map_err(failed)?;
        // Read it back even where this process made it: another one may have been first.
        Self::load(path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// Reads the key file at `path`; `None` where there is no such file.
    ///
    /// # Errors
    /// [`KeyringError`]: the file is open to others, is no key file, or cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>, KeyringError> {
        let failed = |source| KeyringError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // Asked of the open file, so that nobody can swap it between the check and the read.
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() || metadata.len() > MAX_KEY_FILE_BYTES {
            return Err(KeyringError::NotAKeyFile {
                path: path.to_owned(),
            });
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyringError::OpenToOthers {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let text = SecretString::from(text);
        Self::from_base64(text.expose_secret())
            .map(Some)
            .map_err(|source| KeyringError::FileFormat {
                path: path.to_owned(),
                source: Box::new(source),
            })
    }

    /// Seals `plain` for `cell` under the first key.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "the cipher refuses only messages of 256 GiB and more"
    )]
    pub fn seal(&self, ids: &Ids, cell: &Cell<'_>, plain: &str) -> Vec<u8> {
        // 24 random bytes: no counter to keep, and no collision to fear before 2^80 messages.
        let mut nonce = [0; NONCE_BYTES];
        ids.fill(&mut nonce);
        let payload = Payload {
            msg: plain.as_bytes(),
            aad: &cell.associated_data(),
        };
        let body = self
            .first
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .expect("a secret is shorter than 256 GiB");
        [[VERSION].as_slice(), &self.first.id, &nonce, &body].concat()
    }

    /// Opens what [`Keyring::seal`] made for the same cell.
    ///
    /// # Errors
    /// [`OpenError::UnknownKey`] where no key of this ring has the id it was sealed under, else
    /// [`OpenError::Damaged`].
    pub fn open(&self, cell: &Cell<'_>, sealed: &[u8]) -> Result<SecretString, OpenError> {
        let (head, body) = sealed
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(OpenError::Damaged)?;
        let (version, head) = head.split_first().ok_or(OpenError::Damaged)?;
        let (id, nonce) = head
            .split_first_chunk::<KEY_ID_BYTES>()
            .ok_or(OpenError::Damaged)?;
        let nonce = <[u8; NONCE_BYTES]>::try_from(nonce).map_err(|_| OpenError::Damaged)?;
        if *version != VERSION {
            return Err(OpenError::Damaged);
        }
        let mut known = false;
        // Ids are short, so two keys may share one: every key that fits is tried.
        for key in std::iter::once(&self.first)
            .chain(&self.others)
            .filter(|key| key.id == *id)
        {
            known = true;
            let payload = Payload {
                msg: body,
                aad: &cell.associated_data(),
            };
            if let Ok(plain) = key.cipher().decrypt(&XNonce::from(nonce), payload) {
                return String::from_utf8(plain)
                    .map(SecretString::from)
                    .map_err(|_| OpenError::Damaged);
            }
        }
        if known {
            Err(OpenError::Damaged)
        } else {
            Err(OpenError::UnknownKey { key_id: hex(id) })
        }
    }

    /// A text that is the same for the same secret of the same tenant, and from which the secret cannot be guessed
    /// without the first key: an HMAC-SHA256, hexadecimal. Another first key gives another text.
    #[must_use]
    pub fn fingerprint(&self, tenant: &str, secret: &str) -> String {
        // A key of its own, so that the one that seals is used for nothing else.
        let key = mac(self.first.bytes.expose_secret(), &["impresario fingerprint v1"]);
        hex(&mac(&key, &[tenant, secret]))
    }

    /// Whether a key of this id is among them.
    #[must_use]
    pub fn has(&self, key_id: &str) -> bool {
        std::iter::once(&self.first)
            .chain(&self.others)
            .any(|key| hex(&key.id) == key_id)
    }

    /// The ids of all of them, the one that seals first.
    #[must_use]
    pub fn key_ids(&self) -> Vec<String> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .map(|key| hex(&key.id))
            .collect()
    }

    /// The id of the key that seals, 8 hexadecimal digits of its SHA-256: for health pages and logs.
    #[must_use]
    pub fn key_id(&self) -> String {
        hex(&self.first.id)
    }
}

/// Makes the key file, unless somebody else makes it first.
///
/// It is written whole under another name and then linked: a crash leaves no half key, and a link, unlike a rename,
/// never replaces the file of a process that was faster.
fn create(path: &Path, ids: &Ids) -> io::Result<()> {
    let mut key = [0; 32];
    ids.fill(&mut key);
    let mut suffix = [0; 8];
    ids.fill(&mut suffix);
    let text = SecretString::from(STANDARD.encode(key) + "\n");
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}-{}.new", std::process::id(), hex(&suffix)));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(text.expose_secret().as_bytes())?;
            file.sync_all()
        });
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    // A draft that stays behind is a random number nobody uses, so failing to remove it is no failure.
    let _ = fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // The name must be as durable as what will be sealed under the key.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// HMAC-SHA256 of the parts, each preceded by its length: where one ends and the next begins counts too.
#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn mac(key: &[u8], parts: &[&str]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("a key of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
