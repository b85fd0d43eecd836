//! One dead receiver among a thousand, and few places.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{Client, PATIENCE, Receiver, Reply, Setup, wait_for};

const TENANTS: usize = 20;
const ENDPOINTS: usize = 50;

fn endpoint(client: &Client, url: &str) -> serde_json::Value {
    client.ok("webhooks/create", json!({"url": url}))["webhook_endpoint_id"].clone()
}

#[test]
fn one_dead_receiver_among_a_thousand_delays_none_of_the_others() {
    // Without a limit for each receiver, the dead one would have all four places for a quarter of a minute at a time.
    let server = Setup::at("2027-01-01T12:00:00Z").deliveries_at_once(4).start();
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
    for (client, id) in &wells {
        client.ok("webhooks/test", json!({"id": id}));
    }
    wait_for("all the others", PATIENCE, || {
        let paths: BTreeSet<String> = well.received().into_iter().map(|one| one.path).collect();
        if paths.len() == TENANTS * ENDPOINTS - 1 {
            Ok(())
        } else {
            Err(paths.len().to_string())
        }
    });
    // It was asked no more often than two at once allow, however long that took.
    let owed = tenants[0].ok(
        "webhooks/deliveries",
        json!({"webhook_endpoint_id": hanging, "limit": 200}),
    );
    let waiting = owed["deliveries"].as_array().unwrap();
    let untried = waiting.iter().filter(|one| one["attempts"] == 0).count();
    assert!(untried >= 10, "{untried} of {}", waiting.len());
    dead.release();
}
