//! One dead receiver among a thousand and few places; and endpoints that are changed while much goes to them.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::support::{Bundle, Client, PATIENCE, Receiver, Reply, Setup, wait_for, workflow};

const TENANTS: usize = 20;
const ENDPOINTS: usize = 50;

fn endpoint(client: &Client, url: &str) -> serde_json::Value {
    client.ok("webhooks/create", json!({"url": url}))["webhook_endpoint_id"].clone()
}

#[test]
fn one_dead_receiver_among_a_thousand_delays_none_of_the_others() {
    let server = Setup::at("2027-01-01T12:00:00Z").deliveries_at_once(8).start();
    let (well, dead) = (Receiver::start(), Receiver::start());
    dead.reply([const { Reply::Hang }; 200]);
    let tenants: Vec<Client> = (0..TENANTS)
        .map(|number| server.tenant(&format!("tenant-{number}")))
        .collect();
    let mut wells = Vec::new();
    for (number, client) in tenants.iter().enumerate() {
        let own = if number == 0 { ENDPOINTS - 1 } else { ENDPOINTS };
        for path in 0..own {
            wells.push((client, endpoint(client, &well.at(&format!("{number}/{path}")))));
        }
    }
    let hanging = endpoint(&tenants[0], &dead.url());
    for _ in 0..50 {
        tenants[0].ok("webhooks/test", json!({"id": hanging}));
    }
    dead.wait_at_least(2);
    // Two at once, and another one only when one of them has ended.
    let two_at_once = || {
        let asked = dead.received().len();
        let owed = tenants[0].ok(
            "webhooks/deliveries",
            json!({"webhook_endpoint_id": hanging, "limit": 200}),
        );
        let attempts = |one: &Value| one["attempts"].as_u64().unwrap();
        let ended: u64 = owed["deliveries"].as_array().unwrap().iter().map(attempts).sum();
        assert!(
            asked as u64 <= 2 + ended,
            "{asked} attempts, {ended} of them ended"
        );
    };
    for pinged in wells.chunks(ENDPOINTS) {
        for (client, id) in pinged {
            client.ok("webhooks/test", json!({"id": id}));
        }
        two_at_once();
    }
    wait_for("all the others", PATIENCE * 2, || {
        let paths: BTreeSet<String> = well.received().into_iter().map(|one| one.path).collect();
        if paths.len() == TENANTS * ENDPOINTS - 1 {
            Ok(())
        } else {
            Err(paths.len().to_string())
        }
    });
    dead.release();
}

/// All deliveries of a tenant.
fn deliveries(client: &Client) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut page = client.ok("webhooks/deliveries", json!({"limit": 200, "cursor": cursor}));
        all.append(page["deliveries"].as_array_mut().unwrap());
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return all;
        }
    }
}

#[test]
fn what_is_owed_arrives_however_its_endpoints_are_changed_meanwhile() {
    let server = Setup::at("2027-01-01T12:00:00Z").start();
    let client = server.tenant("acme");
    client.deploy(&Bundle::of(&workflow("quick", "return 1;")));
    let (one, other) = (Receiver::start(), Receiver::start());
    let endpoints: Vec<Value> = (0..10)
        .map(|number| endpoint(&client, &one.at(&number.to_string())))
        .collect();
    for _ in 0..6 {
        client.run(json!({"workflow": "quick"}));
    }
    // Everything of that again and again, while the endpoints are paused and moved and deliveries asked for.
    let changing = AtomicBool::new(true);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while changing.load(Ordering::Relaxed) {
                for delivery in deliveries(&client) {
                    let asked = client.call(
                        "webhooks/redeliver",
                        &json!({"delivery_id": delivery["delivery_id"]}),
                    );
                    assert!([200, 409].contains(&asked.status), "{:?}", asked.value());
                }
            }
        });
        for round in 0..12 {
            for (number, id) in endpoints.iter().enumerate() {
                let at = if round % 3 == 0 { &other } else { &one };
                let change = match (round + number) % 3 {
                    0 => json!({"id": id, "active": false}),
                    1 => json!({"id": id, "active": true}),
                    _ => json!({"id": id, "url": at.at(&number.to_string())}),
                };
                client.ok("webhooks/update", change);
            }
        }
        changing.store(false, Ordering::Relaxed);
        asking.join().unwrap();
    });
    for id in &endpoints {
        client.ok("webhooks/update", json!({"id": id, "active": true}));
    }
    wait_for("everything to arrive", PATIENCE, || {
        let open: Vec<Value> = deliveries(&client)
            .into_iter()
            .filter(|one| one["status"] != "delivered")
            .collect();
        if open.is_empty() {
            Ok(())
        } else {
            Err(json!(open).to_string())
        }
    });
    assert!(deliveries(&client).len() >= 10);
}
