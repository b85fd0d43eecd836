//! Secrets at rest, and API keys.
//!
//! What must be read again (callback secrets, webhook signing secrets, credentials) is sealed with XChaCha20-Poly1305
//! under the server's secret key, bound to the cell it stands in: tenant, table, row and column are the associated
//! data, so a ciphertext that is moved to another cell does not open. What need not be read again (API keys) is kept
//! only as a SHA-256; they are 256 random bits, so a slow hash would add nothing.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::Rng as _;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

/// Where a sealed value stands.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    /// Whose it is.
    pub tenant: Uuid,
    /// The table.
    pub table: &'a str,
    /// The row's id.
    pub row: Uuid,
    /// The column.
    pub column: &'a str,
}

impl Cell<'_> {
    fn associated_data(&self) -> Vec<u8> {
        format!("{}\0{}\0{}\0{}", self.tenant, self.table, self.row, self.column).into_bytes()
    }
}

/// Why a sealed value could not be opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealError {
    /// The value was sealed under another key than the one this server has.
    #[error("the value was sealed under another secret key (key id {0:02x?}); set IMPRESARIO_SECRET_KEY to the one it was sealed with")]
    OtherKey([u8; KEY_ID_BYTES]),
    /// The value was changed, cut, or moved from another row.
    #[error("the sealed value is damaged or belongs to another row")]
    Damaged,
}

const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const FORMAT: u8 = 1;

/// The server's secret key.
pub struct Keyring {
    id: [u8; KEY_ID_BYTES],
    key: SecretBox<[u8; 32]>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({:02x?})", self.id)
    }
}

impl Keyring {
    /// A keyring of one key of 32 bytes.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        let digest = Sha256::digest(key);
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        Self { id, key: SecretBox::new(Box::new(key)) }
    }

    /// Reads a key as it stands in `IMPRESARIO_SECRET_KEY`: 32 bytes in base64.
    ///
    /// # Errors
    /// A sentence that says what is expected; it does not repeat the value.
    pub fn from_base64(text: &str) -> Result<Self, String> {
        let bytes = BASE64.decode(text.trim()).map_err(|_| KEY_FORMAT.to_owned())?;
        let key: [u8; 32] = bytes.try_into().map_err(|_| KEY_FORMAT.to_owned())?;
        Ok(Self::new(key))
    }

    /// Reads the key file at `path`, or makes one that only its owner can read.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn from_file_or_new(path: &Path) -> Result<Self, String> {
        let fail = |e: &dyn fmt::Display| format!("secret key file {}: {e}", path.display());
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_base64(&text).map_err(|e| fail(&e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0u8; 32];
                rand::rng().fill_bytes(&mut key);
                // Made under another name and linked: a crash leaves no half key, and of two processes that start
                // at once both end up with the one that was first.
                let draft = path.with_extension(format!("{}.new", std::process::id()));
                let _ = std::fs::remove_file(&draft);
                let mut file = std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&draft)
                    .map_err(|e| fail(&e))?;
                writeln!(file, "{}", BASE64.encode(key)).map_err(|e| fail(&e))?;
                file.sync_all().map_err(|e| fail(&e))?;
                let linked = std::fs::hard_link(&draft, path);
                let _ = std::fs::remove_file(&draft);
                match linked {
                    Ok(()) => Ok(Self::new(key)),
                    Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                        let text = std::fs::read_to_string(path).map_err(|e| fail(&e))?;
                        Self::from_base64(&text).map_err(|e| fail(&e))
                    }
                    Err(e) => Err(fail(&e)),
                }
            }
            Err(e) => Err(fail(&e)),
        }
    }

    /// Seals `plain` for `cell`.
    #[must_use]
    pub fn seal(&self, cell: Cell<'_>, plain: &str) -> Vec<u8> {
        let mut nonce = [0u8; NONCE_BYTES];
        rand::rng().fill_bytes(&mut nonce);
        let aad = cell.associated_data();
        let payload = Payload { msg: plain.as_bytes(), aad: &aad };
        // The cipher refuses only messages of more than 256 GiB; the API takes secrets of kilobytes.
        let body = self.cipher().encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        let mut sealed = Vec::with_capacity(1 + KEY_ID_BYTES + NONCE_BYTES + body.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        sealed
    }

    /// Opens what [`Keyring::seal`] made for the same cell.
    ///
    /// # Errors
    /// [`SealError`]: another key, or damaged.
    pub fn open(&self, cell: Cell<'_>, sealed: &[u8]) -> Result<SecretString, SealError> {
        let (head, body) = sealed.split_at_checked(1 + KEY_ID_BYTES + NONCE_BYTES).ok_or(SealError::Damaged)?;
        if head[0] != FORMAT {
            return Err(SealError::Damaged);
        }
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&head[1..=KEY_ID_BYTES]);
        if id != self.id {
            return Err(SealError::OtherKey(id));
        }
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&head[1 + KEY_ID_BYTES..]);
        let aad = cell.associated_data();
        let plain = self
            .cipher()
            .decrypt(&XNonce::from(nonce), Payload { msg: body, aad: &aad })
            .map_err(|_| SealError::Damaged)?;
        String::from_utf8(plain).map(SecretString::from).map_err(|_| SealError::Damaged)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.key.expose_secret().into())
    }
}

const KEY_FORMAT: &str = "the secret key must be 32 bytes in base64, such as `openssl rand -base64 32` prints";

/// A new webhook signing secret: `whsec_` and 32 random bytes in base64.
#[must_use]
pub fn new_signing_secret() -> String {
    let mut bytes = [0u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    format!("whsec_{}", BASE64.encode(bytes))
}

/// An API key in the clear: `imp_`, 43 base62 digits that stand for 32 random bytes, and a checksum of six more.
///
/// The checksum lets secret scanners (and the server, without asking the store) tell a key from a string that only
/// looks like one.
pub struct ApiKey(SecretString);

const KEY_PREFIX: &str = "imp_";
const KEY_DIGITS: usize = 43;
const CHECK_DIGITS: usize = 6;
/// How many digits of a key are public: they find its row, and people recognise it by them.
const START_DIGITS: usize = 8;

impl ApiKey {
    /// A new random key.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = [0u8; 32];
        rand::rng().fill_bytes(&mut bytes);
        let digits = base62(&bytes, KEY_DIGITS);
        let check = checksum(&digits);
        Self(SecretString::from(format!("{KEY_PREFIX}{digits}{check}")))
    }

    /// Takes a key from a request; `None` where it is not of the form or its checksum is off.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(KEY_PREFIX)?;
        let well_formed =
            rest.len() == KEY_DIGITS + CHECK_DIGITS && rest.bytes().all(|b| b.is_ascii_alphanumeric());
        if !well_formed {
            return None;
        }
        let (digits, check) = rest.split_at(KEY_DIGITS);
        (checksum(digits) == check).then(|| Self(SecretString::from(text.to_owned())))
    }

    /// The key itself, to show once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.expose_secret()
    }

    /// The public beginning, which finds the row.
    #[must_use]
    pub fn start(&self) -> &str {
        &self.reveal()[..KEY_PREFIX.len() + START_DIGITS]
    }

    /// What is kept.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.reveal().as_bytes()).into()
    }

    /// Compares with a kept hash in constant time.
    #[must_use]
    pub fn matches(&self, kept: &[u8]) -> bool {
        self.hash().ct_eq(kept).into()
    }
}

impl Default for ApiKey {
    fn default() -> Self {
        Self::new()
    }
}

fn checksum(digits: &str) -> String {
    base62(&crc32fast::hash(digits.as_bytes()).to_be_bytes(), CHECK_DIGITS)
}

/// `bytes` as a big-endian number in base 62, padded with zeros to `width` digits.
fn base62(bytes: &[u8], width: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number = bytes.to_vec();
    let mut text = vec![b'0'; width];
    for slot in text.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = (rest << 8) | u32::from(*byte);
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        *slot = DIGITS[rest as usize];
    }
    text.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(row: u128) -> Cell<'static> {
        Cell { tenant: Uuid::from_u128(1), table: "schedules", row: Uuid::from_u128(row), column: "callback_secret" }
    }

    #[test]
    fn a_sealed_value_opens_only_in_its_own_cell_and_under_its_own_key() {
        let ring = Keyring::new([7; 32]);
        let sealed = ring.seal(cell(1), "hunter2");
        assert_eq!(ring.open(cell(1), &sealed).unwrap().expose_secret(), "hunter2");
        assert_eq!(ring.open(cell(2), &sealed).unwrap_err(), SealError::Damaged);
        let other_column = Cell { column: "signing_secret", ..cell(1) };
        assert_eq!(ring.open(other_column, &sealed).unwrap_err(), SealError::Damaged);
        assert!(matches!(Keyring::new([8; 32]).open(cell(1), &sealed), Err(SealError::OtherKey(_))));
        for cut in 0..sealed.len() {
            assert!(ring.open(cell(1), &sealed[..cut]).is_err(), "cut at {cut}");
        }
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
    }

    #[test]
    fn keys_have_a_checksum_and_no_two_are_alike() {
        let key = ApiKey::new();
        assert_eq!(key.reveal().len(), 53);
        assert!(ApiKey::parse(key.reveal()).unwrap().matches(&key.hash()));
        assert_ne!(key.reveal(), ApiKey::new().reveal());
        let mut forged = key.reveal().to_owned();
        let last = forged.pop().unwrap();
        forged.push(if last == '0' { '1' } else { '0' });
        assert!(ApiKey::parse(&forged).is_none());
        for bad in ["", "imp_", "imp_é", "sk_live", &key.reveal()[1..], &format!("{} ", key.reveal())] {
            assert!(ApiKey::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn base62_of_known_numbers() {
        assert_eq!(base62(&[0, 0], 3), "000");
        assert_eq!(base62(&[61], 2), "0z");
        assert_eq!(base62(&[62], 2), "10");
        assert_eq!(base62(&[255; 32], 43).len(), 43);
    }

    #[test]
    fn a_key_file_is_made_once_and_only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        let first = Keyring::from_file_or_new(&path).unwrap();
        let again = Keyring::from_file_or_new(&path).unwrap();
        assert_eq!(first.id, again.id);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(Keyring::from_file_or_new(&path).unwrap_err().contains("32 bytes"));
    }
}
