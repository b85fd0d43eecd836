//! What becomes of deliveries, and of the stored webhook they go to, when it fails, is made inactive, moves or goes.

use super::*;
use crate::{
    ids::Ids,
    store::ops::{
        secrets::SealedSecret,
        webhooks::{self, Endpoint, EndpointChange, EndpointOutcome, Health},
    },
};

const HOUR: i64 = 3_600_000;
pub(super) const A: &str = "https://a.example/";

pub(super) struct Stage {
    pub(super) outbox: Outbox,
    pub(super) tenant: TenantId,
    pub(super) endpoint: EndpointId,
}

impl Stage {
    pub(super) fn new() -> Self {
        let mut outbox = Outbox::new();
        let tenant = outbox.tenant();
        let endpoint = Endpoint {
            id: outbox.db.id(),
            url: A.to_owned(),
            description: None,
            active: true,
            events: Vec::new(),
            created_at: at(0),
            updated_at: at(0),
            health: Health::default(),
        };
        let (id, secret) = (endpoint.id, Self::secret(&outbox));
        assert!(
            outbox
                .db
                .run(|tx| webhooks::create(tx, tenant, (endpoint, secret), 9))
        );
        Self {
            outbox,
            tenant,
            endpoint: id,
        }
    }

    pub(super) fn secret(outbox: &Outbox) -> SealedSecret {
        SealedSecret {
            id: outbox.db.id(),
            sealed: vec![0],
        }
    }

    /// Deliveries that are due to it at 0.
    pub(super) fn owe(&self, count: u32) {
        self.outbox.owe(self.tenant, A, (count, "pending", 0));
        let sql = "UPDATE deliveries SET webhook_endpoint_id = $1 WHERE webhook_endpoint_id IS NULL";
        self.outbox.db.sql(sql, params![self.endpoint]);
    }

    pub(super) fn change(&self, change: EndpointChange, now: i64) {
        let changed = self
            .outbox
            .db
            .run(|tx| webhooks::update(tx, self.tenant, self.endpoint, change, at(now)));
        assert_eq!(changed, EndpointOutcome::Done);
    }

    pub(super) fn set_active(&self, active: bool, now: i64) {
        let active = Some(active);
        self.change(
            EndpointChange {
                active,
                ..EndpointChange::default()
            },
            now,
        );
    }

    pub(super) fn shown(&self) -> Endpoint {
        let mut all = self.outbox.db.run(|tx| webhooks::list(tx, self.tenant, at(0)));
        all.remove(0)
    }

    pub(super) fn resume(&self, now: i64, limit: u32) -> Option<u64> {
        let endpoint = self.outbox.db.run(|tx| resuming(tx, None))?;
        let resumed = self.outbox.db.run(|tx| resume(tx, endpoint, at(now), limit));
        self.outbox.check();
        Some(resumed)
    }

    /// The statuses and reasons that there are, and of how many.
    pub(super) fn stand(&self) -> Vec<(String, Option<String>, u32)> {
        let sql = "SELECT status, reason, COUNT(*) AS number FROM deliveries GROUP BY status, reason ORDER BY status, reason";
        self.outbox.db.run(|tx| {
            tx.query(sql, &[], |row| {
                Ok((row.get("status")?, row.get("reason")?, row.get("number")?))
            })
        })
    }

    /// A single one of what is due, once others have been put aside that were to be.
    fn one(&self, now: i64) -> DueDelivery {
        let lanes = [places(1), Places { free: 1, ..FAILING }];
        let mut found = lanes
            .repeat(3)
            .into_iter()
            .map(|places| self.outbox.take(places, now));
        found.find(|found| !found.is_empty()).unwrap().remove(0)
    }

    fn fail(&self, now: i64) -> Recorded {
        self.outbox.db.sql(
            "UPDATE deliveries SET next_attempt_at = 0 WHERE next_attempt_at > 0",
            &[],
        );
        self.outbox
            .db
            .run(|tx| refresh(tx, &self.tenant.to_string(), A, at(now), false));
        let claimed = self.one(now);
        let recorded = self
            .outbox
            .recorded(&claimed, AfterAttempt::Retry(at(now + 1)), now);
        self.outbox.check();
        recorded
    }
}

pub(super) fn one(status: &str, reason: Option<&str>, count: u32) -> (String, Option<String>, u32) {
    (status.to_owned(), reason.map(str::to_owned), count)
}

#[test]
fn five_days_of_nothing_but_failures_disable_it_and_hold_back_what_it_is_owed() {
    let stage = Stage::new();
    stage.owe(3);
    for day in 0..5 {
        assert_eq!(stage.fail(day * 24 * HOUR), Recorded::Done);
        let shown = stage.shown();
        assert_eq!((shown.active, shown.health.failing_since), (true, Some(at(0))));
    }
    let Recorded::Disabled(endpoint, reason) = stage.fail(5 * 24 * HOUR) else {
        panic!("it goes on");
    };
    assert_eq!(endpoint, stage.endpoint);
    assert!(
        reason.starts_with("nothing but failures for five days") && reason.ends_with("answered 500"),
        "{reason}"
    );
    let shown = stage.shown();
    assert!(!shown.active);
    assert_eq!(shown.health.disabled, Some((at(5 * 24 * HOUR), reason)));
    // The others are put aside when their turn comes, and nothing is due after that.
    assert_eq!(stage.outbox.claim(6 * 24 * HOUR).len(), 0);
    stage.outbox.check();
    assert_eq!(stage.stand(), [one("pending", Some(standing::INACTIVE), 3)]);
    assert_eq!(stage.outbox.next_due(), None);
    assert_eq!(stage.resume(0, 9), None);

    stage.set_active(true, 7 * 24 * HOUR);
    assert_eq!(stage.shown().health, Health::default());
    assert_eq!(stage.resume(7 * 24 * HOUR, 2), Some(2));
    assert_eq!(stage.resume(7 * 24 * HOUR, 2), Some(1));
    assert_eq!(stage.resume(7 * 24 * HOUR, 2), None);
    assert_eq!(stage.stand(), [one("pending", None, 3)]);
    assert_eq!(stage.outbox.claim(7 * 24 * HOUR).len(), 2);
}

#[test]
fn a_success_or_two_days_without_an_attempt_begin_the_five_days_anew() {
    let stage = Stage::new();
    stage.owe(9);
    assert_eq!(stage.fail(0), Recorded::Done);
    let claimed = stage.one(HOUR);
    assert!(stage.outbox.record(&claimed, AfterAttempt::Delivered, HOUR));
    assert_eq!(stage.shown().health, Health::default());
    assert_eq!(stage.fail(200 * HOUR), Recorded::Done);
    assert_eq!(stage.fail(249 * HOUR), Recorded::Done);
    assert_eq!(stage.shown().health.failing_since, Some(at(249 * HOUR)));
    // What failed on this side says nothing of it.
    let claimed = stage.one(250 * HOUR);
    let attempt = AttemptRecord {
        at: at(250 * HOUR),
        status: None,
        latency_ms: 0,
        error: Some(("internal".to_owned(), "no secret".to_owned())),
        excerpt: None,
        not_sent: true,
        revision: claimed.revision,
    };
    let after = AfterAttempt::Retry(at(251 * HOUR));
    let recorded = stage
        .outbox
        .db
        .run(|tx| record(tx, (claimed.id, "token"), attempt, after, at(400 * HOUR)));
    assert_eq!(recorded, Recorded::Done);
    assert_eq!(stage.shown().health.failing_since, Some(at(249 * HOUR)));
}

#[test]
fn one_that_says_it_is_gone_is_disabled_at_once_and_a_callback_of_a_job_s_own_is_given_up() {
    let stage = Stage::new();
    stage.owe(1);
    let claimed = stage.outbox.claim(1).remove(0);
    let recorded = stage.outbox.recorded(&claimed, AfterAttempt::Gone, 2);
    assert!(
        matches!(&recorded, Recorded::Disabled(_, reason) if reason.contains("410 Gone")),
        "{recorded:?}"
    );
    assert_eq!(stage.stand(), [one("pending", Some(standing::INACTIVE), 1)]);
    stage.outbox.check();

    let mut outbox = Outbox::new();
    let tenant = outbox.tenant();
    outbox.owe(tenant, A, (1, "pending", 0));
    let claimed = outbox.claim(1).remove(0);
    assert_eq!(outbox.recorded(&claimed, AfterAttempt::Gone, 2), Recorded::Done);
    let given_up = "SELECT COUNT(*) FROM deliveries WHERE status = 'failed' AND completed_at = 2
                    AND reason = 'the receiver answered 410 Gone'";
    assert_eq!(outbox.db.count(given_up), 1);
    outbox.check();
}

#[test]
fn while_it_is_not_active_everything_waits_and_a_flood_is_put_aside_in_bounded_steps() {
    let stage = Stage::new();
    stage.owe(250);
    let under_way = stage.outbox.take(places(1), 1).remove(0);
    stage.set_active(false, 2);
    let step = stage
        .outbox
        .db
        .run(|tx| claim(tx, (places(2), &HashMap::new()), LEASE, at(3)));
    assert_eq!((step.deliveries.len(), step.put_aside), (0, 1));
    let held_back = "SELECT COUNT(*) FROM deliveries WHERE next_attempt_at IS NULL";
    assert_eq!(stage.outbox.db.count(held_back), 100);
    assert_eq!(stage.outbox.claim(3).len(), 0);
    assert_eq!(stage.outbox.db.count(held_back), 249);
    stage.outbox.check();
    // The one that was under way fails, and waits like the others.
    assert!(stage.outbox.record(&under_way, AfterAttempt::Retry(at(9)), 4));
    assert_eq!(stage.outbox.db.count(held_back), 250);
    assert!(!stage.shown().active && stage.shown().health.disabled.is_none());
    // Inactive again before all of it was made due.
    stage.set_active(true, 5);
    assert_eq!(stage.resume(5, 100), Some(100));
    stage.set_active(false, 6);
    assert_eq!(stage.resume(6, 100), None);
    assert_eq!(stage.outbox.claim(6).len(), 0);
    assert_eq!(stage.outbox.db.count(held_back), 250);
    stage.outbox.check();
}

#[test]
fn what_it_is_owed_goes_to_where_it_is_now_and_nowhere_once_it_is_deleted() {
    let stage = Stage::new();
    stage.owe(3);
    let under_way = stage.outbox.take(places(1), 1).remove(0);
    stage.change(
        EndpointChange {
            url: Some("https://b.example/".to_owned()),
            ..EndpointChange::default()
        },
        2,
    );
    assert_eq!(urls(&stage.outbox.claim(3)), ["https://b.example/"; 2]);
    stage.outbox.check();
    assert!(stage.outbox.record(&under_way, AfterAttempt::GiveUp, 4));
    let asked = stage
        .outbox
        .db
        .run(|tx| redeliver(tx, stage.tenant, under_way.id, || at(5)));
    assert_eq!(asked, RedeliverOutcome::Due);
    stage.outbox.check();
    let moved = "SELECT COUNT(*) FROM deliveries WHERE url = 'https://b.example/'";
    assert_eq!(stage.outbox.db.count(moved), 3);

    let gone = stage
        .outbox
        .db
        .run(|tx| webhooks::delete(tx, stage.tenant, stage.endpoint, at(70)));
    assert!(gone);
    assert_eq!(stage.outbox.claim(6).len(), 0);
    let given_up = "SELECT COUNT(*) FROM deliveries WHERE status = 'failed'";
    assert_eq!(
        stage.outbox.db.count(given_up),
        0,
        "both places of the receiver are taken"
    );
    let sql = "SELECT id FROM deliveries WHERE lease_token IS NOT NULL ORDER BY id";
    let ids: Vec<DeliveryId> = stage.outbox.db.run(|tx| tx.query(sql, &[], |row| row.get("id")));
    for id in ids {
        let under_way = DueDelivery {
            id,
            ..under_way.clone()
        };
        assert!(stage.outbox.record(&under_way, AfterAttempt::Retry(at(99)), 7));
    }
    assert_eq!(stage.outbox.claim(8).len(), 0);
    assert_eq!(stage.stand(), [one("failed", Some(standing::DELETED), 3)]);
    stage.outbox.check();
}

#[test]
fn what_was_under_way_when_it_moved_or_was_changed_says_nothing_of_what_it_is_now() {
    let stage = Stage::new();
    stage.owe(4);
    let claimed = stage.outbox.take(PLACES, 1);
    assert_eq!(claimed.len(), 2);
    stage.change(
        EndpointChange {
            url: Some("https://b.example/".to_owned()),
            ..EndpointChange::default()
        },
        2,
    );
    assert_eq!(
        stage.outbox.recorded(&claimed[0], AfterAttempt::Gone, 3),
        Recorded::Done
    );
    assert!(stage.outbox.record(&claimed[1], AfterAttempt::GiveUp, 3));
    assert_eq!(stage.stand(), [one("pending", None, 4)]);
    let shown = stage.shown();
    assert_eq!((shown.active, shown.health), (true, Health::default()));
    stage.outbox.check();
    // The one that was told that nobody is there any more goes to where it is now.
    assert_eq!(stage.outbox.take(FAILING, 4).len(), 0, "they move first");
    let moved = stage.outbox.take(PLACES, 4);
    assert!(
        moved.iter().all(|one| one.url == "https://b.example/"),
        "{moved:?}"
    );
    assert!(stage.outbox.record(&moved[0], AfterAttempt::Retry(at(99)), 5));
    assert_eq!(stage.shown().health.failing_since, Some(at(5)));

    // Begun before its owner made it active again, and ended after that.
    stage.set_active(true, 10);
    let attempt = AttemptRecord {
        at: at(9),
        status: Some(410),
        latency_ms: 1,
        error: Some(("status".to_owned(), "answered 410".to_owned())),
        excerpt: None,
        not_sent: false,
        revision: moved[1].revision,
    };
    let recorded = stage
        .outbox
        .db
        .run(|tx| record(tx, (moved[1].id, "token"), attempt, AfterAttempt::Gone, at(11)));
    assert_eq!(recorded, Recorded::Done);
    assert!(stage.shown().active);
    // At another URL it begins anew, at the same one it does not.
    for (url, since) in [("https://b.example/", Some(at(20))), (A, None)] {
        let claimed = stage.one(20);
        assert!(stage.outbox.record(&claimed, AfterAttempt::Retry(at(20)), 20));
        stage.change(
            EndpointChange {
                url: Some(url.to_owned()),
                ..EndpointChange::default()
            },
            20,
        );
        assert_eq!(stage.shown().health.failing_since, since, "{url}");
    }
}

#[test]
fn a_ping_goes_to_one_that_is_not_active_once_and_says_whether_it_is_well() {
    let (stage, ids) = (Stage::new(), Ids::seeded(3));
    stage.set_active(false, 1);
    stage.owe(1);
    let ping = |tenant, endpoint| {
        let moment = Moment::at(at(2), &ids);
        stage.outbox.db.run(|tx| ping(tx, tenant, endpoint, &moment))
    };
    assert_eq!(ping(stage.tenant, stage.outbox.db.id()), PingOutcome::Unknown);
    assert_eq!(
        ping(stage.outbox.db.tenant(), stage.endpoint),
        PingOutcome::Unknown
    );
    let PingOutcome::Due(id) = ping(stage.tenant, stage.endpoint) else {
        panic!("it is not due");
    };
    let claimed = stage.outbox.claim(3);
    assert_eq!(claimed.iter().map(|one| one.id).collect::<Vec<_>>(), [id]);
    assert!(stage.outbox.record(&claimed[0], AfterAttempt::GiveUp, 4));
    assert_eq!(stage.shown().health.failing_since, Some(at(4)));
    let PingOutcome::Due(_) = ping(stage.tenant, stage.endpoint) else {
        panic!("it is not due");
    };
    let claimed = stage.outbox.claim(5).remove(0);
    assert!(stage.outbox.record(&claimed, AfterAttempt::Delivered, 6));
    assert_eq!(stage.shown().health.failing_since, None);
    stage.outbox.check();

    stage.owe(99);
    assert!(matches!(ping(stage.tenant, stage.endpoint), PingOutcome::Due(_)));
    assert_eq!(ping(stage.tenant, stage.endpoint), PingOutcome::Crowded(100));
}

#[test]
fn one_that_failed_is_among_the_failing_also_after_it_was_owed_nothing_for_a_while() {
    let (stage, ids) = (Stage::new(), Ids::seeded(4));
    let lanes = |now: i64, after| {
        let moment = Moment::at(at(now), &ids);
        let asked = stage
            .outbox
            .db
            .run(|tx| ping(tx, stage.tenant, stage.endpoint, &moment));
        assert!(matches!(asked, PingOutcome::Due(_)));
        let found = [PLACES, FAILING].map(|places| stage.outbox.take(places, now));
        for delivery in found.iter().flatten() {
            assert!(stage.outbox.record(delivery, after, now));
        }
        stage.outbox.check();
        assert_eq!(
            stage.outbox.db.count("SELECT COUNT(*) FROM delivery_receivers"),
            0
        );
        found.map(|found| found.len())
    };
    assert_eq!(lanes(1, AfterAttempt::GiveUp), [1, 0]);
    assert_eq!(lanes(2, AfterAttempt::GiveUp), [0, 1]);
    assert_eq!(lanes(3, AfterAttempt::Delivered), [0, 1]);
    assert_eq!(lanes(4, AfterAttempt::Delivered), [1, 0]);
}
