//! Signatures: in come a secret and a body, out go the values of the two signature headers.
//!
//! Two schemes at once, so that receivers written for either can verify. `x-webhook-signature` covers the body alone;
//! the Standard Webhooks one also covers the id and the time, so a captured delivery cannot be replayed later.

use base64::{
    Engine as _,
    alphabet::STANDARD as ALPHABET,
    engine::{
        GeneralPurpose,
        general_purpose::{NO_PAD, STANDARD},
    },
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::SecretString;
use sha2::Sha256;

use crate::ids::Ids;

/// What a Standard Webhooks secret starts with; the rest is base64.
const SECRET_PREFIX: &str = "whsec_";

/// Reads a secret whose `=` at the end are taken off. A secret that somebody made up, such as `whsec_secret`, ends in
/// bits that no encoder writes; the receivers' libraries pass over them, so its signature must be made like that as well.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&ALPHABET, NO_PAD.with_decode_allow_trailing_bits(true));

/// The values of the signature headers of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// `x-webhook-signature`: the HMAC-SHA256 of the body in 64 lowercase hexadecimal digits.
    pub x_webhook_signature: String,
    /// `webhook-signature`: `v1,` and the HMAC-SHA256 of id, time and body in base64.
    pub webhook_signature: String,
}

/// Signs one attempt. `body` must be exactly the bytes that are sent, `timestamp_secs` (seconds since 1970) exactly
/// the `webhook-timestamp` header.
///
/// The plain signature takes the secret's bytes as they are written. The Standard Webhooks one decodes a secret of the
/// form `whsec_<base64>`, as its libraries do, and takes every other secret as it is written.
///
/// ```
/// use impresario::delivery::sign::sign;
///
/// let signed = sign("Jefe", "msg_1", 1_700_000_000, b"what do ya want for nothing?");
/// // The second test case of RFC 4231.
/// assert_eq!(
///     signed.x_webhook_signature,
///     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
/// );
/// ```
#[must_use]
pub fn sign(secret: &str, webhook_id: &str, timestamp_secs: i64, body: &[u8]) -> Signatures {
    let plain = hmac(secret.as_bytes(), &[body]);
    // People drop the `=` at the end when they copy a secret; it says nothing, so none are missed and none too many.
    let decoded = secret
        .strip_prefix(SECRET_PREFIX)
        .and_then(|text| LENIENT.decode(text.trim_end_matches('=')).ok());
    let key = decoded.as_deref().unwrap_or(secret.as_bytes());
    let head = format!("{webhook_id}.{timestamp_secs}.");
    let standard = hmac(key, &[head.as_bytes(), body]);
    Signatures {
        x_webhook_signature: plain.iter().map(|byte| format!("{byte:02x}")).collect(),
        webhook_signature: format!("v1,{}", STANDARD.encode(standard)),
    }
}

/// A secret for an endpoint that was registered without one: `whsec_` and 32 random bytes in base64.
#[must_use]
pub fn new_secret(ids: &Ids) -> SecretString {
    let mut bytes = [0; 32];
    ids.fill(&mut bytes);
    SecretString::from(format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)))
}

#[expect(
    clippy::expect_used,
    reason = "HMAC takes a key of any length, the empty one too"
)]
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn the_vector_of_the_standard_webhooks_specification() {
        // Published with the reference libraries: secret, id, time, body, signature.
        let signed = sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(
            signed.webhook_signature,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn padding_does_not_matter_and_other_secrets_are_taken_as_written() {
        let at = |secret| sign(secret, "id", 1, b"body").webhook_signature;
        assert_eq!(at("whsec_c2VjcmV0IQ=="), at("whsec_c2VjcmV0IQ"));
        assert_eq!(at("whsec_c2VjcmV0IQ=="), at("secret!"));
        assert_eq!(at("whsec_c2VjcmV0IQ==="), at("secret!"));
        assert_eq!(at("whsec_c2VjcmV0="), at("secret"));
        // Not base64 after the prefix: the whole text is the secret.
        assert_ne!(at("whsec_not base64!"), at("not base64!"));
        assert_ne!(at(""), at("whsec_x"));
    }

    #[test]
    fn a_secret_that_no_encoder_wrote_is_decoded_as_the_libraries_decode_it() {
        let at = |secret| sign(secret, "id", 1, b"body").webhook_signature;
        // What `standardwebhooks` 1.1 makes of it, for JavaScript and for Python.
        assert_eq!(
            at("whsec_secret"),
            "v1,jm5ygSB9Sv7RbdjiVLLR2JNzvM8GsmktFjl4p6t4dQE="
        );
        // One letter more than a multiple of four holds no byte: the whole text is the secret.
        assert_ne!(at("whsec_c2VjcmV0c"), at("secret"));
    }

    #[test]
    fn the_plain_signature_covers_the_body_alone_and_the_standard_one_all_three() {
        let base = sign("s", "a", 1, b"body");
        for (other, same_plain) in [
            (sign("s", "b", 1, b"body"), true),
            (sign("s", "a", 2, b"body"), true),
            (sign("s", "a", 1, b"bodY"), false),
            (sign("t", "a", 1, b"body"), false),
        ] {
            assert_eq!(other.x_webhook_signature == base.x_webhook_signature, same_plain);
            assert_ne!(other.webhook_signature, base.webhook_signature);
        }
    }

    #[test]
    fn a_new_secret_is_of_the_standard_form_and_decodes() {
        let secret = new_secret(&Ids::seeded(1));
        let text = secret
            .expose_secret()
            .strip_prefix(SECRET_PREFIX)
            .unwrap()
            .to_owned();
        assert_eq!(STANDARD.decode(text).unwrap().len(), 32);
        assert_ne!(
            secret.expose_secret(),
            new_secret(&Ids::seeded(2)).expose_secret()
        );
    }
}
