//! Name servers that are broken, slow or lying: a failure of the attempt, and no way around the gate.

use std::time::{Duration, Instant};

use impresario::delivery::http::{ErrorClass, Limits};

use crate::{
    canary::Canary,
    counters::Counters,
    dns::{Answer, Dns, parsed},
    namespace::{NAME_SERVER, inside},
    sending::{LIMITS, assert_refused, attempt, block_on, class, post, sender, with_limits},
};

/// What a lie would lead to, if it were believed: once to where callbacks may go, once to where they may not.
const LIES: [&[&str]; 2] = [&["93.184.215.14", "2606:4700::1111"], &["127.0.0.1", "::1"]];

#[test]
fn a_name_server_that_fails_is_a_failure() {
    inside("resolvers::a_name_server_that_fails_is_a_failure", || {
        let (canary, dns) = (Canary::start(), Dns::start());
        let sender = sender(&[]);
        let before = Counters::read();
        let mut faults = vec![
            Answer::Failure,
            Answer::NoName,
            Answer::Refused,
            Answer::Addresses(Vec::new()),
            Answer::Alias(Vec::new()),
            Answer::Garbage,
            Answer::Short,
            Answer::Silence,
        ];
        for lie in LIES {
            faults.push(Answer::AnotherQuestion(parsed(lie)));
            faults.push(Answer::AnotherName(parsed(lie)));
        }
        block_on(async {
            let attempts = faults.iter().enumerate().map(|(place, fault)| {
                let name = format!("fault-{place}.test");
                dns.tell(&name, vec![fault.clone()]);
                let sender = &sender;
                async move {
                    sender
                        .post(&attempt(&format!("http://{name}:8080/?token=in-the-query")))
                        .await
                }
            });
            let start = Instant::now();
            let results = futures_util::future::join_all(attempts).await;
            assert!(start.elapsed() < LIMITS.whole, "{:?}", start.elapsed());
            for (fault, result) in faults.iter().zip(results) {
                assert_eq!(class(&result), Some(ErrorClass::Dns), "{fault:?}: {result:?}");
                let message = result.error.unwrap().message;
                assert!(
                    message.contains(".test:8080") && !message.contains("token"),
                    "{message}"
                );
            }
        });
        assert_eq!(before.since().opens, 0);
        canary.assert_silence("broken name servers");
    });
}

#[test]
fn a_name_server_that_hangs_ends_with_the_deadline_for_the_connection() {
    inside(
        "resolvers::a_name_server_that_hangs_ends_with_the_deadline_for_the_connection",
        || {
            let (canary, dns) = (Canary::start(), Dns::start());
            // The machine's resolver waits a second.
            let connect = Duration::from_millis(400);
            let sender = with_limits(&[], Limits { connect, ..LIMITS });
            dns.tell("hooks.test", vec![Answer::Silence]);
            let before = Counters::read();
            block_on(async {
                let start = Instant::now();
                let result = sender.post(&attempt("http://hooks.test:8080/")).await;
                assert_eq!(class(&result), Some(ErrorClass::Timeout), "{result:?}");
                assert!(
                    (connect..LIMITS.whole).contains(&start.elapsed()),
                    "{:?}",
                    start.elapsed()
                );
            });
            assert_eq!(before.since().opens, 0);
            canary.assert_silence("a name server that hangs");
        },
    );
}

/// A look-up that nobody waits for any more goes on: the machine's resolver knows no end but its own. The threads that it is
/// on are also those that read the store, so it must not have them all.
#[test]
fn look_ups_that_hang_leave_threads_for_others() {
    inside("resolvers::look_ups_that_hang_leave_threads_for_others", || {
        let dns = Dns::start();
        // What the machine's resolver does where it is told nothing else: half a minute and more for a name.
        std::fs::write(
            "/etc/resolv.conf",
            format!("nameserver {NAME_SERVER}\nsearch .\n"),
        )
        .unwrap();
        let sender = with_limits(
            &[],
            Limits {
                connect: Duration::from_millis(200),
                ..LIMITS
            },
        );
        // More than the runtime has threads.
        let names: Vec<String> = (0..600).map(|number| format!("hanging-{number}.test")).collect();
        for name in &names {
            dns.tell(name, vec![Answer::Silence]);
        }
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let attempts = names.iter().map(|name| {
                let sender = &sender;
                async move { sender.post(&attempt(&format!("http://{name}:8080/"))).await }
            });
            for result in futures_util::future::join_all(attempts).await {
                assert_eq!(class(&result), Some(ErrorClass::Timeout), "{result:?}");
            }
            let other = tokio::task::spawn_blocking(|| ());
            let other = tokio::time::timeout(Duration::from_secs(2), other).await;
            assert!(other.is_ok(), "every thread waits for the name server");
        });
        // The look-ups are still at it.
        runtime.shutdown_background();
    });
}

#[test]
fn an_answer_that_comes_over_tcp_passes_the_gate_as_well() {
    inside(
        "resolvers::an_answer_that_comes_over_tcp_passes_the_gate_as_well",
        || {
            let (canary, dns) = (Canary::start(), Dns::start());
            let sender = sender(&[]);
            for forbidden in [["127.0.0.1", "::1"], ["169.254.169.254", "fd00:ec2::254"]] {
                dns.tell("hooks.test", vec![Answer::Truncated(parsed(&forbidden))]);
                assert_refused(&post(&sender, "http://hooks.test:8080/"), forbidden[0]);
            }
            canary.assert_silence("forbidden answers over TCP");
            // The name server is believed over TCP: otherwise the above would say nothing.
            dns.tell("hooks.test", vec![Answer::Truncated(parsed(LIES[0]))]);
            let result = post(&sender, "http://hooks.test:8080/");
            assert!(result.delivered(), "{result:?}");
            canary.take(1);
        },
    );
}
