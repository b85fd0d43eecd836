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

    /// Whether a key of this id is among them.
    #[must_use]
    pub fn has(&self, key_id: &str) -> bool {
        std::iter::once(&self.first)
            .chain(&self.others)
            .any(|key| hex(&key.id) == key_id)
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

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use proptest::prelude::*;

    use super::*;

    const CELL: Cell<'static> = Cell {
        tenant: "t1",
        table: "schedules",
        row: "r1",
        column: "callback_secret",
    };

    fn ring(bytes: &[u8]) -> Keyring {
        let list: Vec<_> = bytes.iter().map(|byte| STANDARD.encode([*byte; 32])).collect();
        Keyring::from_base64(&list.join(" , ")).unwrap()
    }

    #[test]
    fn a_sealed_value_opens_only_in_its_own_cell() {
        let ring = ring(&[7]);
        let sealed = ring.seal(&Ids::seeded(1), &CELL, "hunter2");
        assert_eq!(ring.open(&CELL, &sealed).unwrap().expose_secret(), "hunter2");
        assert_eq!(sealed.len(), HEAD_BYTES + 7 + 16);
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        for moved in [
            Cell { tenant: "t2", ..CELL },
            Cell {
                table: "webhooks",
                ..CELL
            },
            Cell { row: "r2", ..CELL },
            Cell {
                column: "value",
                ..CELL
            },
            // The same letters, cut elsewhere.
            Cell {
                tenant: "t1s",
                table: "chedules",
                ..CELL
            },
            Cell {
                tenant: "t1schedules",
                table: "",
                ..CELL
            },
            Cell {
                tenant: "t1\0schedules",
                table: "",
                ..CELL
            },
        ] {
            assert_eq!(
                ring.open(&moved, &sealed).unwrap_err(),
                OpenError::Damaged,
                "{moved:?}"
            );
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let ring = ring(&[7, 8]);
        let sealed = ring.seal(&Ids::seeded(1), &CELL, "hunter2");
        for at in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert!(ring.open(&CELL, &changed).is_err(), "bit {at}");
        }
        for length in 0..sealed.len() {
            assert!(ring.open(&CELL, &sealed[..length]).is_err(), "{length} bytes");
        }
        assert!(ring.open(&CELL, &[&sealed[..], &[0]].concat()).is_err());
    }

    #[test]
    fn the_first_key_seals_and_all_keys_open() {
        let ids = Ids::seeded(1);
        let (old, rotated, new) = (ring(&[1]), ring(&[2, 1]), ring(&[2]));
        let before = old.seal(&ids, &CELL, "a");
        let after = rotated.seal(&ids, &CELL, "b");
        assert_eq!(rotated.open(&CELL, &before).unwrap().expose_secret(), "a");
        assert_eq!(new.open(&CELL, &after).unwrap().expose_secret(), "b");
        let lost = new.open(&CELL, &before).unwrap_err();
        assert_eq!(lost, OpenError::UnknownKey { key_id: old.key_id() });
        assert!(lost.to_string().contains(&old.key_id()));
        assert_eq!(rotated.key_id(), new.key_id());
        // The nonce is new every time.
        assert_ne!(new.seal(&ids, &CELL, "b"), new.seal(&ids, &CELL, "b"));
    }

    #[test]
    fn a_malformed_list_names_the_key_and_repeats_none() {
        let good = STANDARD.encode([1; 32]);
        let short = STANDARD.encode([1; 31]);
        for (list, position) in [
            (String::new(), 1),
            ("correct horse battery staple".to_owned(), 1),
            (short.clone(), 1),
            (format!("{good},"), 2),
            (format!("{good},{good},{short}"), 3),
        ] {
            let error = Keyring::from_base64(&list).unwrap_err();
            let named = matches!(error, KeyringError::Format { position: named } if named == position);
            assert!(named, "{error:?}");
            assert!(!format!("{error} {error:?}").contains("horse"));
        }
        let ring = Keyring::from_base64(&good).unwrap();
        let shown = format!("{ring:?}");
        assert!(
            shown.contains(&ring.key_id()) && !shown.contains(&good),
            "{shown}"
        );
    }

    #[test]
    fn a_key_file_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        let first = Keyring::load_or_create(&path, &Ids::seeded(1)).unwrap();
        let again = Keyring::load_or_create(&path, &Ids::seeded(2)).unwrap();
        assert_eq!(first.key_id(), again.key_id());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no draft is left"
        );

        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Keyring::load_or_create(&path, &Ids::seeded(3)).unwrap_err();
            assert!(matches!(error, KeyringError::OpenToOthers { .. }), "{error:?}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(
            Keyring::load_or_create(&path, &Ids::seeded(3)).unwrap().key_id(),
            first.key_id()
        );
    }

    #[test]
    fn a_damaged_key_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        for content in ["", "short", &"A".repeat(10_000)] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(
                Keyring::load_or_create(&path, &Ids::seeded(1)).is_err(),
                "{content}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert!(Keyring::load_or_create(folder.path(), &Ids::seeded(1)).is_err());
        assert!(Keyring::load_or_create(&folder.path().join("none/secret.key"), &Ids::seeded(1)).is_err());
    }

    #[test]
    fn all_that_start_at_once_end_with_the_same_key() {
        for round in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("secret.key");
            let start = Barrier::new(8);
            let found: Vec<String> = thread::scope(|scope| {
                let starters: Vec<_> = (0..8)
                    .map(|seed| {
                        let (start, path) = (&start, &path);
                        scope.spawn(move || {
                            start.wait();
                            let ids = Ids::seeded(round * 8 + seed);
                            Keyring::load_or_create(path, &ids).unwrap().key_id()
                        })
                    })
                    .collect();
                starters
                    .into_iter()
                    .map(|starter| starter.join().unwrap())
                    .collect()
            });
            assert!(found.iter().all(|id| *id == found[0]), "{found:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(plain in "\\PC{0,200}", seed: u64) {
            let ring = ring(&[9]);
            let sealed = ring.seal(&Ids::seeded(seed), &CELL, &plain);
            let opened = ring.open(&CELL, &sealed).unwrap();
            prop_assert_eq!(opened.expose_secret(), plain.as_str());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(ring(&[9]).open(&CELL, &bytes).is_err());
        }

        #[test]
        fn no_two_cells_read_the_same(a: [String; 4], b: [String; 4]) {
            let data = |[tenant, table, row, column]: &[String; 4]| {
                Cell { tenant, table, row, column }.associated_data()
            };
            prop_assert_eq!(data(&a) == data(&b), a == b);
        }
    }
}
