//! API keys: in comes randomness, or a token from a request; out go the public id that finds a key's row and the hash
//! that is compared with the one kept there.
//!
//! A token is `imp_`, 43 base62 digits that stand for 32 random bytes, and 6 base62 digits of a CRC-32 over those 43:
//!
//! ```text
//! imp_ PPPPPPPP SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS CCCCCC   (without the spaces)
//!      public   secret                              checksum
//! ```
//!
//! The checksum is for secret scanners, and lets the server turn away a mistyped key without asking the store; it
//! proves nothing. The eight public digits find the row without a search by secret. The other 35 hold about 208 bits,
//! so a key is kept as a plain SHA-256: a slow hash would protect nothing that could be guessed.

use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::ids::Ids;

/// What every token starts with. Secret scanners look for it: it never changes.
pub const PREFIX: &str = "imp_";
const BODY_DIGITS: usize = 43;
const PUBLIC_DIGITS: usize = 8;
const CHECK_DIGITS: usize = 6;

/// A key that was just made. The token is shown once and then forgotten.
#[derive(Debug)]
pub struct NewKey {
    /// The whole token.
    pub token: SecretString,
    /// The digits that find the key's row: unique, and no secret.
    pub public_id: String,
    /// What is kept: the SHA-256 of the whole token.
    pub hash: [u8; 32],
    /// What lists show: the prefix and the public id.
    pub start: String,
}

/// What a well-formed token says of itself. It may still be unknown, expired or revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedKey {
    /// The digits that find the key's row.
    pub public_id: String,
    /// The SHA-256 of the whole token, to compare with [`matches()`].
    pub hash: [u8; 32],
}

/// Makes a key of 32 random bytes.
#[must_use]
pub fn generate(ids: &Ids) -> NewKey {
    let mut bytes = [0; 32];
    ids.fill(&mut bytes);
    let body = base62(&bytes, BODY_DIGITS);
    let token = format!("{PREFIX}{body}{}", checksum(&body));
    NewKey {
        public_id: body[..PUBLIC_DIGITS].to_owned(),
        hash: Sha256::digest(token.as_bytes()).into(),
        start: token[..PREFIX.len() + PUBLIC_DIGITS].to_owned(),
        token: SecretString::from(token),
    }
}

/// Takes a token from a request; `None` where it is malformed or its checksum is wrong.
#[must_use]
pub fn parse(token: &str) -> Option<ParsedKey> {
    let digits = token.strip_prefix(PREFIX)?;
    if digits.len() != BODY_DIGITS + CHECK_DIGITS || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let (body, check) = digits.split_at(BODY_DIGITS);
    (checksum(body) == check).then(|| ParsedKey {
        public_id: body[..PUBLIC_DIGITS].to_owned(),
        hash: Sha256::digest(token.as_bytes()).into(),
    })
}

/// Compares two hashes in a time that does not depend on where they differ.
#[must_use]
pub fn matches(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}

fn checksum(body: &str) -> String {
    base62(&crc32fast::hash(body.as_bytes()).to_be_bytes(), CHECK_DIGITS)
}

/// `bytes` as one big-endian number in base 62, padded with zeros on the left to `width` digits.
fn base62(bytes: &[u8], width: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number = bytes.to_vec();
    let mut digits = Vec::with_capacity(width);
    for _ in 0..width {
        // One long division by 62: what is left over is the next digit from the right.
        let mut rest = 0_u16;
        for byte in &mut number {
            let value = rest * 256 + u16::from(*byte);
            let [_, quotient] = (value / 62).to_be_bytes(); // below 256, as `rest` is below 62
            *byte = quotient;
            rest = value % 62;
        }
        digits.push(char::from(DIGITS[usize::from(rest)]));
    }
    digits.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn base62_of_known_numbers() {
        assert_eq!(base62(&[0, 0], 3), "000");
        assert_eq!(base62(&[61], 2), "0z");
        assert_eq!(base62(&[62], 2), "10");
        assert_eq!(base62(&[0x01, 0x00], 2), "48");
        // 2^32 - 1 = 4*62^5 + 42*62^4 + 41*62^3 + 15*62^2 + 12*62 + 3
        assert_eq!(base62(&[255; 4], 6), "4gfFC3");
        // 2^256 - 1 fits into 43 digits, so none is ever cut off.
        assert!(base62(&[255; 32], 44).starts_with('0'));
    }

    #[test]
    fn a_new_key_parses_to_what_is_kept_of_it() {
        let ids = Ids::seeded(1);
        let key = generate(&ids);
        let token = key.token.expose_secret();
        assert_eq!(token.len(), 53);
        assert!(token.starts_with(&key.start));
        assert_eq!(key.start, format!("imp_{}", key.public_id));
        let parsed = parse(token).unwrap();
        assert_eq!(parsed.public_id, key.public_id);
        assert!(matches(&parsed.hash, &key.hash));
        let other = generate(&ids);
        assert_ne!(other.public_id, key.public_id);
        assert!(!matches(&other.hash, &key.hash));
        assert!(!format!("{key:?}").contains(&token[12..]));
    }

    #[test]
    fn every_single_changed_character_is_noticed() {
        let token = generate(&Ids::seeded(2)).token.expose_secret().to_owned();
        for at in 0..token.len() {
            for digit in ['0', '1', 'A', 'z'] {
                let mut forged = token.clone();
                forged.replace_range(at..=at, &digit.to_string());
                assert_eq!(parse(&forged).is_some(), forged == token, "{forged}");
            }
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_none() {
        let token = generate(&Ids::seeded(3)).token.expose_secret().to_owned();
        for bad in [
            "",
            "imp_",
            "imp_é",
            "sk_live_1",
            &token[1..],
            &token[..52],
            &format!("{token} "),
            &format!(" {token}"),
            &format!("{token}0"),
            &token.replace("imp_", "IMP_"),
            &format!("imp_{}", "é".repeat(24) + "0"),
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn parse_never_panics(text in "(imp_)?\\PC{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn every_generated_key_parses(seed: u64) {
            let key = generate(&Ids::seeded(seed));
            let parsed = parse(key.token.expose_secret()).unwrap();
            prop_assert_eq!(parsed.hash, key.hash);
        }
    }
}
