//! What is sent once more because its owner asks.

use super::*;

fn ask(outbox: &Outbox, tenant: TenantId, id: DeliveryId, now: i64) -> RedeliverOutcome {
    let asked = outbox.db.run(|tx| redeliver(tx, tenant, id, || at(now)));
    outbox.check();
    asked
}

fn only(outbox: &Outbox) -> DeliveryId {
    let sql = "SELECT id FROM deliveries";
    outbox
        .db
        .run(|tx| tx.query_opt(sql, &[], |row| row.get("id")))
        .unwrap()
}

#[test]
fn what_has_ended_begins_a_round_of_its_own_and_its_attempts_count_on() {
    for end in [AfterAttempt::GiveUp, AfterAttempt::Delivered] {
        let mut outbox = Outbox::new();
        let tenant = outbox.tenant();
        outbox.owe(tenant, "https://one.example/", (1, "pending", 0));
        for (now, after) in [(1, AfterAttempt::Retry(at(2))), (2, end)] {
            let taken = outbox.claim(now).remove(0);
            assert!(outbox.record(&taken, after, now));
        }
        let id = only(&outbox);
        assert_eq!(outbox.next_due(), None);
        assert_eq!(ask(&outbox, tenant, id, 10), RedeliverOutcome::Due);
        let open = "SELECT COUNT(*) FROM deliveries WHERE status = 'pending' AND completed_at IS NULL";
        assert_eq!(outbox.db.count(open), 1);
        assert_eq!(outbox.next_due(), Some(at(10)));
        let taken = outbox.claim(10).remove(0);
        assert_eq!((taken.id, taken.attempts, taken.earlier_attempts), (id, 2, 2));
        assert_eq!(ask(&outbox, tenant, id, 11), RedeliverOutcome::UnderWay);
        assert!(outbox.record(&taken, AfterAttempt::Retry(at(99)), 12));
        // It waits: now it is due, and asking has cost it no attempt of its round.
        assert_eq!(ask(&outbox, tenant, id, 13), RedeliverOutcome::Due);
        assert_eq!(outbox.next_due(), Some(at(13)));
        // What is due already is not put off.
        assert_eq!(ask(&outbox, tenant, id, 20), RedeliverOutcome::Due);
        assert_eq!(outbox.next_due(), Some(at(13)));
        let taken = outbox.claim(20).remove(0);
        assert_eq!((taken.attempts, taken.earlier_attempts), (3, 3));
        assert!(outbox.record(&taken, AfterAttempt::Delivered, 21));
        outbox.check();
        let numbers = "SELECT COUNT(*) FROM delivery_attempts WHERE number IN (1, 2, 3, 4)";
        assert_eq!(outbox.db.count(numbers), 4);
    }
}

#[test]
fn another_tenant_s_is_not_there_and_an_endpoint_must_be_there_and_active() {
    let mut outbox = Outbox::new();
    let (tenant, other) = (outbox.tenant(), outbox.tenant());
    outbox.owe(tenant, "https://one.example/", (1, "failed", 0));
    let id = only(&outbox);
    assert_eq!(ask(&outbox, other, id, 1), RedeliverOutcome::Unknown);
    assert_eq!(ask(&outbox, tenant, outbox.db.id(), 1), RedeliverOutcome::Unknown);
    let endpoint: EndpointId = outbox.db.id();
    outbox.db.sql(
        "UPDATE deliveries SET webhook_endpoint_id = $1",
        params![endpoint],
    );
    assert_eq!(
        ask(&outbox, tenant, id, 1),
        RedeliverOutcome::EndpointDeleted(endpoint)
    );
    let sql = "INSERT INTO webhook_endpoints (id, tenant_id, url, active, secret_id, created_at, updated_at)
               VALUES ($1, $2, 'https://one.example/', 0, $3, 0, 0)";
    let secret = outbox.jobs[&tenant].1;
    outbox.db.sql(sql, params![endpoint, tenant, secret]);
    assert_eq!(
        ask(&outbox, tenant, id, 1),
        RedeliverOutcome::EndpointInactive(endpoint)
    );
    assert_eq!(outbox.next_due(), None, "nothing was changed");
    outbox.db.sql("UPDATE webhook_endpoints SET active = 1", &[]);
    assert_eq!(ask(&outbox, tenant, id, 1), RedeliverOutcome::Due);
}
