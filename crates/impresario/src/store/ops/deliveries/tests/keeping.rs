//! What is done with deliveries and secrets by and by: strays, secrets whose time is over, and what is old.

use super::{
    endpoints::{A, Stage, one},
    *,
};
use crate::store::ops::webhooks::{self, EndpointChange, EndpointOutcome};

#[test]
fn what_is_held_back_for_one_that_is_deleted_is_given_up_and_what_nobody_makes_due_is_found() {
    let stage = Stage::new();
    stage.owe(5);
    stage.set_active(false, 1);
    assert_eq!(stage.outbox.claim(2).len(), 0);
    assert_eq!(stage.outbox.db.run(strays), []);
    // As a program that knows nothing of it would do.
    stage
        .outbox
        .db
        .sql("UPDATE webhook_endpoints SET active = 1", &[]);
    let found = stage.outbox.db.run(strays);
    let exists = Stray {
        endpoint: stage.endpoint,
        exists: true,
    };
    assert_eq!(found, [exists]);
    assert_eq!(stage.outbox.db.run(|tx| settle(tx, exists, at(3), 2)), 0);
    assert_eq!(stage.outbox.db.run(strays), []);
    assert_eq!(stage.resume(3, 2), Some(2));
    // Gone, with a part of it made due.
    assert!(
        stage
            .outbox
            .db
            .run(|tx| webhooks::delete(tx, stage.tenant, stage.endpoint, at(70)))
    );
    let gone = Stray {
        endpoint: stage.endpoint,
        exists: false,
    };
    let settled = || stage.outbox.db.run(|tx| settle(tx, gone, at(4), 2));
    assert_eq!(stage.outbox.db.run(strays), [gone]);
    assert_eq!((settled(), settled()), (2, 1));
    assert_eq!(stage.outbox.db.run(strays), []);
    assert_eq!(stage.outbox.claim(5).len(), 0);
    assert_eq!(stage.stand(), [one("failed", Some(standing::DELETED), 5)]);
    stage.outbox.check();
}

#[test]
fn the_secrets_before_sign_as_well_until_their_time_is_over() {
    let stage = Stage::new();
    let signing = |now| -> Vec<SecretId> {
        stage
            .outbox
            .db
            .run(|tx| webhooks::signing(tx, stage.tenant, stage.endpoint, at(now)))
            .into_iter()
            .map(|secret| secret.id)
            .collect()
    };
    let first = signing(0)[0];
    let rotate = |until: i64, now: i64| {
        let secret = Stage::secret(&stage.outbox);
        let id = secret.id;
        let change = EndpointChange {
            secret: Some((secret, at(until))),
            ..EndpointChange::default()
        };
        let changed = stage
            .outbox
            .db
            .run(|tx| webhooks::update(tx, stage.tenant, stage.endpoint, change, at(now)));
        (changed, id)
    };
    let (_, second) = rotate(100, 10);
    let (_, third) = rotate(50, 20);
    assert_eq!(signing(20), [third, first, second]);
    assert_eq!(signing(49), [third, first, second]);
    assert_eq!(signing(50), [third, first]);
    assert_eq!(signing(100), [third]);
    assert_eq!(stage.shown().health.old_secrets_until, Some(at(100)));
    // At most so many at once, of those that still sign.
    for _ in 0..2 {
        assert_eq!(rotate(90, 30).0, EndpointOutcome::Done);
    }
    assert_eq!(rotate(90, 30).0, EndpointOutcome::TooManySecrets(4));
    assert_eq!(rotate(90, 60).0, EndpointOutcome::Done);
    // Without a grace period none of them does any more.
    let (_, last) = rotate(70, 70);
    assert_eq!(signing(70), [last]);
    // Gone with the webhook; another tenant's never.
    let other = stage.outbox.db.tenant();
    let none = stage
        .outbox
        .db
        .run(|tx| webhooks::signing(tx, other, stage.endpoint, at(70)));
    assert!(none.is_empty());
    rotate(90, 70);
    assert!(
        stage
            .outbox
            .db
            .run(|tx| webhooks::delete(tx, stage.tenant, stage.endpoint, at(70)))
    );
    assert!(signing(70).is_empty());

    // Those whose time is over are removed, but for one that something was sent with which is kept.
    let secrets = || stage.outbox.db.count("SELECT COUNT(*) FROM secrets");
    let all = secrets();
    stage.owe(1);
    stage
        .outbox
        .db
        .sql("UPDATE deliveries SET secret_id = $1", params![second]);
    let forget = |before: i64| {
        let forgotten = |tx: &mut Tx<'_>| webhooks::forget_secrets(tx, at(before), 4);
        stage.outbox.db.run(forgotten)
    };
    assert_eq!(forget(1), 0);
    let gone = [forget(91), forget(91), forget(91)];
    assert_eq!(
        (gone.iter().sum::<u64>(), gone[0], gone[2]),
        (7, 4, 0),
        "{gone:?}"
    );
    assert_eq!(secrets(), all - 7);
}

#[test]
fn an_end_that_a_wrong_clock_has_reckoned_is_over() {
    let stage = Stage::new();
    let ahead = 100 * 365 * 24 * 3_600_000;
    let change = EndpointChange {
        secret: Some((Stage::secret(&stage.outbox), at(ahead + 1_000))),
        ..EndpointChange::default()
    };
    stage.change(change, ahead);
    let signing = |now: i64| {
        let found = stage
            .outbox
            .db
            .run(|tx| webhooks::signing(tx, stage.tenant, stage.endpoint, at(now)));
        found.len()
    };
    assert_eq!((signing(ahead), signing(10)), (2, 1));
}

#[test]
fn what_is_old_goes_in_batches_and_what_is_owed_stays_however_old_it_is() {
    let stage = Stage::new();
    stage.outbox.owe(stage.tenant, A, (5, "delivered", 0));
    stage
        .outbox
        .db
        .sql("UPDATE deliveries SET completed_at = 10, attempts = 1", &[]);
    let sql = "INSERT INTO delivery_attempts (delivery_id, number, attempted_at, latency_ms)
               SELECT id, 1, 0, 1 FROM deliveries";
    stage.outbox.db.sql(sql, &[]);
    stage.owe(2);
    let deliveries = || stage.outbox.db.count("SELECT COUNT(*) FROM deliveries");
    let prune = |before: i64| stage.outbox.db.run(|tx| prune(tx, at(before), 3));
    assert!(!stage.outbox.db.run(|tx| any_old(tx, at(10))));
    assert_eq!((prune(10), deliveries()), (0, 7));
    assert!(stage.outbox.db.run(|tx| any_old(tx, at(11))));
    assert_eq!((prune(11), deliveries()), (3, 4));
    assert_eq!((prune(11), prune(11), deliveries()), (2, 0, 2));
    assert_eq!(stage.outbox.db.count("SELECT COUNT(*) FROM delivery_attempts"), 0);
    // Held back for longer than anything is kept, however old it was before.
    stage.set_active(false, 20);
    assert_eq!(stage.outbox.claim(20).len(), 0);
    assert_eq!((prune(20), prune(21), deliveries()), (0, 2, 0));
    stage.outbox.check();
}
