//! Attempts as the outbox makes them, one at a time or many.

use std::{future::Future, time::Duration};

use impresario::delivery::{
    gate::Gate,
    http::{Attempt, AttemptResult, ErrorClass, Limits, Sender},
    resolver::SystemLookup,
};

/// Longer than the machine's resolver waits for a name server, which it asks for both kinds of addresses at once and then
/// for one after the other.
pub(crate) const LIMITS: Limits = Limits {
    connect: Duration::from_millis(4_000),
    whole: Duration::from_millis(5_000),
};

pub(crate) fn attempt(url: &str) -> Attempt {
    Attempt {
        url: url.to_owned(),
        webhook_id: "msg_0198".to_owned(),
        event: "job.completed".to_owned(),
        body: b"{}".to_vec(),
        secret: "of nobody".to_owned(),
        old_secrets: Vec::new(),
        timestamp_secs: 1_835_438_400,
    }
}

/// A sender behind a gate that is open to these networks, with the machine's own resolver.
pub(crate) fn sender(allowed: &[&str]) -> Sender {
    with_limits(allowed, LIMITS)
}

pub(crate) fn with_limits(allowed: &[&str], limits: Limits) -> Sender {
    let gate = Gate::new(allowed.iter().map(|net| net.parse().unwrap()).collect());
    Sender::with(gate, limits, SystemLookup).unwrap()
}

pub(crate) fn class(result: &AttemptResult) -> Option<ErrorClass> {
    result.error.as_ref().map(|error| error.class)
}

/// Fails unless the gate refused it and nothing is told of the peer.
#[track_caller]
pub(crate) fn assert_refused(result: &AttemptResult, what: &str) {
    assert_eq!(
        class(result),
        Some(ErrorClass::RefusedAddress),
        "{what}: {result:?}"
    );
    assert_eq!(
        (result.status, &result.response_excerpt),
        (None, &None),
        "{what}: {result:?}"
    );
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

/// One attempt.
pub(crate) fn post(sender: &Sender, url: &str) -> AttemptResult {
    block_on(sender.post(&attempt(url)))
}
