//! Which uses of API keys this node has begun to write down lately: while one is on its way to the store, or cannot get there,
//! those that follow need not try as well.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use crate::{domain::KeyId, store::ops::api_keys};

/// The last use of each key that was noted here, as long as it stands for others.
#[derive(Debug, Default)]
pub struct KeyUses {
    noted: Mutex<HashMap<KeyId, Timestamp>>,
}

impl KeyUses {
    /// Whether a use is to be written down: `false` where one of the same minute was.
    #[must_use]
    pub fn is_first(&self, key: KeyId, now: Timestamp) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.get(&key).is_some_and(|last| !api_keys::is_news(*last, now)) {
            return false;
        }
        // This comes to pass once a minute for each key, so the whole is gone through as seldom.
        noted.retain(|_, last| !api_keys::is_news(*last, now));
        noted.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_use_a_minute_is_noted_and_old_ones_are_forgotten() {
        let uses = KeyUses::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let key = |number| KeyId(uuid::Uuid::from_u128(number));
        assert!(uses.is_first(key(1), at(0)));
        assert!(!uses.is_first(key(1), at(59)));
        assert!(uses.is_first(key(2), at(59)));
        assert!(uses.is_first(key(1), at(60)));
        assert_eq!(uses.noted.lock().unwrap().len(), 2);
        assert!(uses.is_first(key(3), at(1_000)));
        assert_eq!(uses.noted.lock().unwrap().len(), 1);
        // A clock that was ahead does not keep uses from being noted for long.
        assert!(uses.is_first(key(3), at(100)));
    }
}
