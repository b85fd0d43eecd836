use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, general_purpose},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

const UNPADDED: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    general_purpose::NO_PAD.with_decode_allow_trailing_bits(true),
);

/// What a secret signs with: base64 after `whsec_` is decoded, every other secret is taken as it is written.
fn key_of(secret: &str) -> Vec<u8> {
    secret
        .strip_prefix("whsec_")
        .and_then(|text| UNPADDED.decode(text.trim_end_matches('=')).ok())
        .unwrap_or_else(|| secret.into())
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn equal(given: &str, expected: &str) -> bool {
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}

/// Whether a callback is signed with one of the secrets, and not long before or after `now`, in seconds since 1970.
pub fn verify<'a>(secrets: &[&str], header: impl Fn(&str) -> Option<&'a str>, body: &[u8], now: u64) -> bool {
    let [Some(id), Some(timestamp), Some(signatures)] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(header)
    else {
        return false;
    };
    if id.is_empty() || !timestamp.parse().is_ok_and(|sent| now.abs_diff(sent) <= 5 * 60) {
        return false;
    }
    let head = format!("{id}.{timestamp}.");
    secrets.iter().map(|secret| key_of(secret)).any(|key| {
        let mac = hmac(&key, &[head.as_bytes(), body]);
        let expected = format!("v1,{}", general_purpose::STANDARD.encode(mac));
        !key.is_empty() && signatures.split(' ').any(|given| equal(given, &expected))
    })
}

/// The same by `x-webhook-signature`, which knows neither the id nor the time.
pub fn verify_plain<'a>(secret: &str, header: impl Fn(&str) -> Option<&'a str>, body: &[u8]) -> bool {
    let mac = hmac(secret.as_bytes(), &[body]);
    let expected: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    !secret.is_empty() && header("x-webhook-signature").is_some_and(|given| equal(given, &expected))
}
