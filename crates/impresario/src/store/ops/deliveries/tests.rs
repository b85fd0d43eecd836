//! Bounded work, fairness, and the queue of receivers that both rest on.

mod again;
mod endpoints;
mod keeping;

use std::collections::BTreeMap;

use super::*;
use crate::domain::EndpointId;
use crate::store::ops::fixture::{Db, LEASE, at};

const PLACES: Places = Places {
    lane: Lane::Sound,
    free: 64,
    per_receiver: 2,
};
const FAILING: Places = Places {
    lane: Lane::Failing,
    free: 32,
    per_receiver: 1,
};

fn places(free: usize) -> Places {
    Places { free, ..PLACES }
}

struct Outbox {
    db: Db,
    jobs: BTreeMap<TenantId, (JobId, SecretId)>,
}

impl Outbox {
    fn new() -> Self {
        Self::on(Db::new())
    }

    fn on(db: Db) -> Self {
        Self {
            db,
            jobs: BTreeMap::new(),
        }
    }

    fn tenant(&mut self) -> TenantId {
        let tenant = self.db.tenant();
        let deployment = self.db.deployment(tenant, &[]);
        let job = self.db.job((tenant, deployment), "completed", 0);
        let secret: SecretId = self.db.id();
        let sql = "INSERT INTO secrets (id, tenant_id, sealed, created_at) VALUES ($1, $2, $3, 0)";
        self.db.sql(sql, params![secret, tenant, vec![0]]);
        self.jobs.insert(tenant, (job, secret));
        tenant
    }

    /// Deliveries that stand as `status` says and are due at `due`, straight into the table.
    fn owe(&self, tenant: TenantId, url: &str, (count, status, due): (u32, &str, i64)) {
        let (job, secret) = self.jobs[&tenant];
        let first = self.db.id::<DeliveryId>().0.as_u128();
        self.db.run(|tx| {
            for number in 0..u128::from(count) {
                let id = DeliveryId(uuid::Uuid::from_u128((first << 32) + number));
                tx.execute_one(
                    "INSERT INTO deliveries (id, tenant_id, job_id, url, secret_id, event, body, status,
                       next_attempt_at, created_at)
                     VALUES ($1, $2, $3, $4, $5, 'job.completed', '{}', $6, $7, 0)",
                    params![id, tenant, job, url, secret, status, due],
                )?;
            }
            refresh(tx, &tenant.to_string(), url, at(due), false)
        });
    }

    /// What is due in either lane.
    fn claim(&self, now: i64) -> Vec<DueDelivery> {
        [PLACES, FAILING]
            .into_iter()
            .flat_map(|places| self.take(places, now))
            .collect()
    }

    /// How many places each tenant has in a lane, on the only node that there is.
    fn held(&self, places: Places) -> HashMap<String, usize> {
        let sql = "SELECT tenant_id, in_flight FROM delivery_receivers WHERE failing = $1 AND in_flight > 0";
        let rows: Vec<(String, u32)> = self.db.run(|tx| {
            tx.query(sql, params![places.failing()], |row| {
                Ok((row.get("tenant_id")?, row.get("in_flight")?))
            })
        });
        let mut held = HashMap::new();
        for (tenant, count) in rows {
            *held.entry(tenant).or_default() += count as usize;
        }
        held
    }

    fn take(&self, places: Places, now: i64) -> Vec<DueDelivery> {
        let held = self.held(places);
        self.db
            .run(|tx| claim(tx, (places, &held), LEASE, at(now)))
            .deliveries
    }

    fn record(&self, delivery: &DueDelivery, after: AfterAttempt, now: i64) -> bool {
        self.recorded(delivery, after, now) != Recorded::NotHeld
    }

    fn recorded(&self, delivery: &DueDelivery, after: AfterAttempt, now: i64) -> Recorded {
        let attempt = AttemptRecord {
            at: at(now),
            status: Some(500),
            latency_ms: 1,
            error: (after != AfterAttempt::Delivered)
                .then(|| ("status".to_owned(), "answered 500".to_owned())),
            excerpt: None,
            not_sent: false,
            revision: delivery.revision,
        };
        self.db
            .run(|tx| record(tx, (delivery.id, "token"), attempt, after, at(now)))
    }

    fn next_due(&self) -> Option<Timestamp> {
        let due = [PLACES, FAILING].map(|places| self.db.run(|tx| next_due(tx, places)));
        due.into_iter().flatten().min()
    }

    /// What the queue of receivers must say, worked out from the deliveries alone.
    fn check(&self) {
        let wrong = "SELECT COUNT(*) FROM delivery_receivers r WHERE
            in_flight <> (SELECT COUNT(*) FROM deliveries d
              WHERE d.tenant_id = r.tenant_id AND d.url = r.url AND d.lease_token IS NOT NULL)
            OR (turn_at IS NULL) <> NOT EXISTS (SELECT 1 FROM deliveries d
              WHERE d.tenant_id = r.tenant_id AND d.url = r.url AND d.status = 'pending' AND d.lease_token IS NULL
                AND d.next_attempt_at IS NOT NULL)";
        assert_eq!(self.db.count(wrong), 0);
        let (rows, owed) = (
            self.db.count("SELECT COUNT(*) FROM delivery_receivers"),
            self.db.count(
                "SELECT COUNT(*) FROM (SELECT DISTINCT tenant_id, url FROM deliveries
                 WHERE status = 'pending' AND next_attempt_at IS NOT NULL) owed",
            ),
        );
        assert_eq!(rows, owed);
        let held = "SELECT COUNT(*) FROM deliveries d
                    JOIN webhook_endpoints w ON w.id = d.webhook_endpoint_id AND w.active = 1 AND w.resuming = 0
                    WHERE d.status = 'pending' AND d.lease_token IS NULL AND d.next_attempt_at IS NULL";
        assert_eq!(self.db.count(held), 0, "held back though its endpoint is active");
    }
}

fn urls(claimed: &[DueDelivery]) -> Vec<&str> {
    claimed.iter().map(|delivery| delivery.url.as_str()).collect()
}

#[test]
fn the_work_of_a_claim_grows_neither_with_the_backlog_nor_with_the_history() {
    let work = |due: u32, history: u32| {
        let mut outbox = Outbox::on(Db::embedded());
        let tenant = outbox.tenant();
        outbox.owe(tenant, "https://slow.example/", (history, "delivered", 0));
        for receiver in 0..10 {
            outbox.owe(
                tenant,
                &format!("https://{receiver}.example/"),
                (due / 10, "pending", 0),
            );
        }
        let (claimed, work) = outbox
            .db
            .work(|tx| claim(tx, (PLACES, &HashMap::new()), LEASE, at(1)));
        assert_eq!(claimed.deliveries.len(), 20);
        let (_, look) = outbox.db.work(|tx| next_due(tx, PLACES));
        let (freed, recovery) = outbox.db.work(|tx| recover(tx, at(1)));
        assert_eq!(freed, 20);
        outbox.check();
        (work, look, recovery)
    };
    let (few, many) = (work(20, 10), work(4_000, 4_000));
    assert!(many.0 < few.0 * 2, "a claim: {few:?}, {many:?}");
    assert!(many.1 <= few.1 + 100, "a look: {few:?}, {many:?}");
    assert!(many.2 < few.2 * 2, "a recovery: {few:?}, {many:?}");
}

#[test]
fn a_dead_receiver_s_backlog_delays_nobody_else() {
    let mut outbox = Outbox::new();
    let (tenant, other) = (outbox.tenant(), outbox.tenant());
    outbox.owe(tenant, "https://dead.example/", (500, "pending", 0));
    outbox.owe(tenant, "https://well.example/", (1, "pending", 100));
    outbox.owe(other, "https://other.example/", (1, "pending", 100));
    let mut claimed = outbox.claim(100);
    claimed.sort_by(|a, b| a.url.cmp(&b.url));
    assert_eq!(
        urls(&claimed),
        [
            "https://dead.example/",
            "https://dead.example/",
            "https://other.example/",
            "https://well.example/"
        ]
    );
    // Both places of the dead one are taken, so it is not due: the loop sleeps until one of them ends.
    assert_eq!((outbox.next_due(), outbox.claim(101).len()), (None, 0));
    outbox.check();
    // One that fails has one place, and that is taken as well.
    assert!(outbox.record(&claimed[0], AfterAttempt::Retry(at(5_000)), 200));
    assert_eq!(outbox.next_due(), None);
    assert!(outbox.record(&claimed[1], AfterAttempt::Retry(at(5_000)), 200));
    assert_eq!(outbox.next_due(), Some(at(100)));
    let probe = outbox.claim(200);
    assert_eq!(urls(&probe), ["https://dead.example/"]);
    // It is well again: two at once.
    assert!(outbox.record(&probe[0], AfterAttempt::Delivered, 300));
    assert_eq!(outbox.claim(300).len(), 2);
    outbox.check();
}

#[test]
fn receivers_that_fail_take_no_place_of_the_others() {
    let mut outbox = Outbox::new();
    let (crowd, other) = (outbox.tenant(), outbox.tenant());
    for job in 0..64 {
        outbox.owe(crowd, &format!("https://dead.example/{job}"), (2, "pending", 0));
    }
    while let found = outbox.take(PLACES, 1)
        && !found.is_empty()
    {
        for delivery in found {
            assert!(outbox.record(&delivery, AfterAttempt::Retry(at(1_000)), 1));
        }
    }
    outbox.owe(other, "https://well.example/", (1, "pending", 2));
    assert_eq!(urls(&outbox.take(PLACES, 2)), ["https://well.example/"]);
    assert_eq!(outbox.db.run(|tx| next_due(tx, PLACES)), None);
    // A tenant never holds more places than are free, in this lane as well.
    assert_eq!(outbox.take(FAILING, 2).len(), 16);
    outbox.check();
}

#[test]
fn a_receiver_that_is_slow_gets_no_second_place_until_it_has_answered() {
    let mut outbox = Outbox::new();
    let tenant = outbox.tenant();
    let url = "https://slow.example/";
    let suspect = || outbox.db.run(|tx| suspect(tx, tenant, url));
    suspect();
    outbox.check();
    outbox.owe(tenant, url, (4, "pending", 0));
    let first = outbox.take(places(1), 1).remove(0);
    suspect();
    assert_eq!(outbox.next_due(), None);
    assert_eq!(outbox.claim(2).len(), 0);
    // It has answered, and is well.
    assert!(outbox.record(&first, AfterAttempt::Delivered, 3));
    assert_eq!(outbox.take(PLACES, 3).len(), 2);
    outbox.check();
}

#[test]
fn receivers_take_turns_when_places_are_short() {
    let mut outbox = Outbox::new();
    let tenant = outbox.tenant();
    for receiver in 0..5 {
        outbox.owe(
            tenant,
            &format!("https://{receiver}.example/"),
            (50, "pending", receiver),
        );
    }
    let mut served = Vec::new();
    for now in 0..10 {
        let claimed = outbox.take(places(1), 100 + now);
        assert_eq!(claimed.len(), 1);
        served.push(claimed[0].url.clone());
        assert!(outbox.record(&claimed[0], AfterAttempt::Delivered, 100 + now));
    }
    let five: Vec<_> = (0..5)
        .map(|receiver| format!("https://{receiver}.example/"))
        .collect();
    assert_eq!(served, [five.clone(), five].concat());
}

#[test]
fn a_tenant_with_a_crowd_of_hanging_receivers_leaves_places_to_others() {
    let mut outbox = Outbox::new();
    let (crowd, other) = (outbox.tenant(), outbox.tenant());
    for job in 0..100 {
        outbox.owe(crowd, &format!("https://dead.example/{job}"), (1, "pending", 0));
    }
    let held = outbox.claim(1).len();
    assert_eq!(held, 32);
    outbox.owe(other, "https://other.example/", (1, "pending", 50));
    let claimed = outbox.take(places(PLACES.free - held), 60);
    assert_eq!(urls(&claimed), ["https://other.example/"]);
    outbox.check();
}

#[test]
fn places_count_where_they_were_taken_also_once_their_receivers_are_suspected() {
    let mut outbox = Outbox::new();
    let (crowd, other) = (outbox.tenant(), outbox.tenant());
    for job in 0..100 {
        outbox.owe(crowd, &format!("https://dead.example/{job}"), (1, "pending", 0));
    }
    for delivery in outbox.claim(1) {
        outbox.db.run(|tx| suspect(tx, crowd, &delivery.url));
    }
    let held = HashMap::from([(crowd.to_string(), 32)]);
    let next = |now: i64| {
        let claimed = outbox.db.run(|tx| claim(tx, (places(32), &held), LEASE, at(now)));
        claimed.deliveries
    };
    assert_eq!(urls(&next(2)), [] as [&str; 0]);
    outbox.owe(other, "https://other.example/", (1, "pending", 2));
    assert_eq!(urls(&next(3)), ["https://other.example/"]);
}

#[test]
fn never_more_than_the_limit_and_never_early() {
    let mut outbox = Outbox::new();
    let tenant = outbox.tenant();
    outbox.owe(tenant, "https://a.example/", (3, "pending", 1_000));
    assert_eq!(outbox.next_due(), Some(at(1_000)));
    assert_eq!(outbox.claim(999).len(), 0);
    assert_eq!(outbox.take(places(0), 1_000).len(), 0);
    assert_eq!(outbox.take(places(1), 1_000).len(), 1);
    assert_eq!(outbox.claim(1_000).len(), 1, "two in flight to one receiver");
    outbox.check();
}

#[test]
fn what_is_claimed_is_held_until_it_is_recorded_or_recovered() {
    let mut outbox = Outbox::new();
    let tenant = outbox.tenant();
    outbox.owe(tenant, "https://a.example/", (1, "pending", 0));
    let first = outbox.claim(1);
    assert_eq!(outbox.claim(1).len(), 0);
    assert_eq!(outbox.db.run(|tx| recover(tx, at(2))), 1);
    outbox.check();
    let again = outbox.claim(3);
    assert_eq!(again[0].id, first[0].id);
    assert!(outbox.record(&again[0], AfterAttempt::Delivered, 4));
    assert!(!outbox.record(&again[0], AfterAttempt::Delivered, 4), "once");
    assert_eq!(outbox.next_due(), None);
    outbox.check();
}

#[test]
fn what_a_node_left_is_freed_and_sent_again_under_the_same_id() {
    let mut outbox = Outbox::new();
    let tenant = outbox.tenant();
    outbox.owe(tenant, "https://a.example/", (1, "pending", 0));
    let first = outbox.claim(1);
    let id = first[0].id.to_string();
    let expired = |now| outbox.db.run(|tx| expired(tx, now, 9));
    outbox.db.sql("UPDATE deliveries SET lease_until = 100", &[]);
    assert!(expired(99).is_empty());
    assert!(!outbox.db.run(|tx| reap(tx, &id, 99, at(2))));
    assert_eq!(outbox.claim(3).len(), 0);
    assert_eq!(expired(100), std::slice::from_ref(&id));
    assert!(outbox.db.run(|tx| reap(tx, &id, 100, at(3))));
    assert!(!outbox.db.run(|tx| reap(tx, &id, 100, at(3))), "once");
    outbox.check();
    assert!(
        !outbox.record(&first[0], AfterAttempt::Delivered, 4),
        "the zombie's record"
    );
    let again = outbox.claim(5);
    assert_eq!(again[0].id, first[0].id);
    assert!(outbox.record(&again[0], AfterAttempt::Delivered, 6));
    outbox.check();
}

#[test]
fn a_clock_that_is_set_back_holds_up_no_receiver() {
    let mut outbox = Outbox::new();
    let tenant = outbox.tenant();
    let later = 10_i64.pow(12);
    outbox.owe(tenant, "https://a.example/", (5, "pending", 0));
    let claimed = outbox.claim(later);
    assert!(outbox.record(&claimed[0], AfterAttempt::Delivered, 10));
    assert_eq!(outbox.next_due(), Some(at(0)));
    assert_eq!(outbox.claim(10).len(), 1);
}

#[test]
fn a_delivery_that_cannot_be_read_is_given_up_and_stops_nothing() {
    let mut outbox = Outbox::new();
    let tenant = outbox.tenant();
    outbox.owe(tenant, "https://a.example/", (2, "pending", 0));
    let sql = "UPDATE deliveries SET attempts = -1 WHERE id = (SELECT MIN(id) FROM deliveries)";
    outbox.db.sql(sql, &[]);
    assert_eq!(outbox.claim(1).len(), 1);
    let failed = "SELECT COUNT(*) FROM deliveries WHERE status = 'failed' AND completed_at = 1";
    assert_eq!(outbox.db.count(failed), 1);
    outbox.check();
}

#[test]
fn what_is_put_into_the_outbox_is_due_at_once() {
    let (mut outbox, ids) = (Outbox::new(), crate::ids::Ids::seeded(1));
    let tenant = outbox.tenant();
    let (job, secret) = outbox.jobs[&tenant];
    let job = outbox
        .db
        .run(|tx| crate::store::ops::jobs::get(tx, tenant, job))
        .unwrap();
    for now in [5, 7] {
        let receiver = Receiver {
            endpoint: None,
            url: "https://a.example/".to_owned(),
            secret,
        };
        let about = About {
            tenant,
            job: Some(job.id),
            schedule: None,
        };
        let body = crate::domain::callback_body(&job, "job.completed");
        let moment = Moment::at(at(now), &ids);
        let _: DeliveryId = outbox
            .db
            .run(|tx| enqueue(tx, about, receiver, ("job.completed", &body), &moment));
        outbox.check();
        assert_eq!(outbox.next_due(), Some(at(5)));
    }
    assert_eq!(outbox.claim(7).len(), 2);
}

#[test]
fn the_deliveries_of_a_job_a_schedule_or_an_endpoint_are_found_without_the_others() {
    let mut outbox = Outbox::on(Db::embedded());
    let tenant = outbox.tenant();
    outbox.owe(tenant, "https://a.example/", (2_000, "delivered", 0));
    let (endpoint, schedule): (EndpointId, ScheduleId) = (outbox.db.id(), outbox.db.id());
    let sql = "UPDATE deliveries SET webhook_endpoint_id = $1, schedule_id = $2
               WHERE id = (SELECT MIN(id) FROM deliveries)";
    outbox.db.sql(sql, params![endpoint, schedule]);
    let unknown: JobId = outbox.db.id();
    let all = DeliveryFilter::default();
    let of_job = DeliveryFilter {
        job: Some(unknown),
        ..all
    };
    let of_schedule = DeliveryFilter {
        schedule: Some(schedule),
        ..all
    };
    let of_endpoint = DeliveryFilter {
        endpoint: Some(endpoint),
        ..all
    };
    outbox.owe(tenant, "https://b.example/", (1, "failed", 0));
    let sql = "UPDATE deliveries SET webhook_endpoint_id = $1, schedule_id = $2 WHERE status = 'failed'";
    outbox.db.sql(sql, params![endpoint, schedule]);
    let failed = DeliveryFilter {
        status: Some("failed"),
        ..all
    };
    let failed_of_endpoint = DeliveryFilter {
        status: Some("failed"),
        ..of_endpoint
    };
    let filters = [
        (of_job, 0),
        (of_schedule, 2),
        (of_endpoint, 2),
        (failed, 1),
        (failed_of_endpoint, 1),
    ];
    for (filter, count) in filters {
        let (found, work) = outbox.db.work(|tx| list(tx, tenant, filter, None, 50));
        assert_eq!(found.len(), count);
        assert!(
            found.iter().all(|one| one.schedule == Some(schedule)),
            "{found:?}"
        );
        assert!(work < 200, "{filter:?}: {work}");
    }
}
