use super::*;
use crate::store::ops::fixture::{Db, at};

fn add_key(db: &Db, tenant: TenantId, made: i64, expires: Option<i64>) -> (bool, KeyId, String) {
    let id: KeyId = db.id();
    let digits = format!("{:08}", id.0.as_u128());
    let key = NewApiKey {
        id,
        tenant,
        public_id: digits.clone(),
        hash: [7; 32],
        label: format!("key {digits}"),
        start: format!("imp_{digits}"),
        expires_at: expires.map(at),
    };
    (db.run(|tx| add(tx, key, at(made))), id, digits)
}

#[test]
fn a_key_opens_until_the_instant_at_which_it_expires() {
    let db = Db::new();
    let tenant = db.tenant();
    let (_, id, digits) = add_key(&db, tenant, 0, Some(1_000));
    let found = db.run(|tx| live(tx, &digits, at(999))).unwrap();
    assert_eq!((found.id, found.tenant), (id, tenant));
    assert!(db.run(|tx| live(tx, &digits, at(1_000))).is_none());
    let state = |now| db.run(|tx| list(tx, tenant, at(now)))[0].state;
    assert_eq!([state(999), state(1_000)], [KeyState::Live, KeyState::Expired]);
}

#[test]
fn a_key_is_revoked_once_and_by_its_own_tenant() {
    let db = Db::new();
    let (tenant, other) = (db.tenant(), db.tenant());
    let (_, first, digits) = add_key(&db, tenant, 0, None);
    let (_, second, _) = add_key(&db, tenant, 1, Some(2));
    let take = |tenant, name: KeyName| db.run(|tx| revoke(tx, tenant, &name, at(5)));
    assert_eq!(take(other, KeyName::Id(first)), RevokeOutcome::Unknown);
    let start = KeyName::Start(format!("imp_{digits}"));
    assert_eq!(take(tenant, start.clone()), RevokeOutcome::Revoked(first));
    assert_eq!(take(tenant, start), RevokeOutcome::Already);
    assert!(db.run(|tx| live(tx, &digits, at(0))).is_none());
    // One that has expired can still be taken back.
    assert_eq!(take(tenant, KeyName::Id(second)), RevokeOutcome::Revoked(second));
    let states = db.run(|tx| list(tx, tenant, at(5)));
    let states: Vec<_> = states.iter().map(|key| (key.id, key.state)).collect();
    assert_eq!(
        states,
        [(second, KeyState::Revoked), (first, KeyState::Revoked)],
        "newest first"
    );
}

#[test]
fn a_tenant_has_so_many_live_keys_and_a_dead_one_makes_room() {
    let db = Db::new();
    let (tenant, other) = (db.tenant(), db.tenant());
    let (_, first, _) = add_key(&db, tenant, 0, None);
    for number in 2..MOST_LIVE {
        assert!(add_key(&db, tenant, 0, None).0, "{number}");
    }
    assert!(add_key(&db, tenant, 0, Some(10)).0);
    assert!(!add_key(&db, tenant, 9, None).0);
    assert!(add_key(&db, other, 9, None).0);
    // The one with an end has expired by now.
    assert!(add_key(&db, tenant, 10, None).0);
    assert!(!add_key(&db, tenant, 10, None).0);
    db.run(|tx| revoke(tx, tenant, &KeyName::Id(first), at(10)));
    assert!(add_key(&db, tenant, 10, None).0);
}

#[test]
fn a_live_key_is_listed_however_many_dead_ones_are_newer() {
    let db = Db::new();
    let tenant = db.tenant();
    let (_, live, _) = add_key(&db, tenant, 0, None);
    for number in 0..=i64::from(MOST_DEAD_SHOWN) {
        add_key(&db, tenant, 10 + number, Some(5));
    }
    let keys = db.run(|tx| list(tx, tenant, at(10_000)));
    assert_eq!(keys.len(), MOST_DEAD_SHOWN as usize + 1);
    assert_eq!(keys.last().map(|key| key.id), Some(live));
    assert_eq!(
        keys[0].created_at,
        at(10 + i64::from(MOST_DEAD_SHOWN)),
        "the newest of the dead"
    );
}

#[test]
fn a_use_is_written_once_a_minute() {
    let db = Db::new();
    let tenant = db.tenant();
    let (_, id, digits) = add_key(&db, tenant, 0, None);
    let key = |now| db.run(|tx| live(tx, &digits, at(now))).unwrap();
    assert!(key(0).is_use_news(at(0)), "it was never used");
    db.run(|tx| used(tx, id, at(100_000)));
    for (now, news) in [
        (100_000, false),
        (159_999, false),
        (160_000, true),
        (99_000, false),
        (0, true),
    ] {
        assert_eq!(key(now).is_use_news(at(now)), news, "{now}");
    }
    let listed = db.run(|tx| list(tx, tenant, at(0)));
    assert_eq!(listed[0].last_used_at, Some(at(100_000)));
}
