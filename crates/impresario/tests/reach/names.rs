//! Names that a name server answers with forbidden addresses, alone, among others, and one time but not the other.

use impresario::delivery::{gate::SETTING, http::ErrorClass};

use crate::{
    canary::{Canary, PUBLIC_V4, PUBLIC_V6, at},
    corpus::addresses,
    counters::Counters,
    dns::{Answer, Dns},
    namespace::{inside, ip},
    sending::{assert_refused, attempt, block_on, class, post, sender},
};

const URL: &str = "http://hooks.test:8080/hook?token=in-the-query";
const NAME: &str = "hooks.test";
const FORBIDDEN: [&str; 8] = [
    "127.0.0.1",
    "10.0.0.1",
    "169.254.169.254",
    "168.63.129.16",
    "::1",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
];

#[test]
fn no_forbidden_answer_is_connected_to() {
    inside("names::no_forbidden_answer_is_connected_to", || {
        let (canary, dns) = (Canary::start(), Dns::start());
        let sender = sender(&[]);
        let before = Counters::read();
        let mut count = 0;
        block_on(async {
            for (address, _) in addresses() {
                for (kind, answer) in [
                    ("plain", Answer::Addresses(vec![address])),
                    ("alias", Answer::Alias(vec![address])),
                ] {
                    let name = format!("{kind}-{count}.test");
                    dns.tell(&name, vec![answer]);
                    let result = sender.post(&attempt(&format!("http://{name}:8080/"))).await;
                    let what = format!("{kind} {address}");
                    assert_refused(&result, &what);
                    // The inside of the operator's network is not for tenants to learn.
                    let message = result.error.unwrap().message;
                    assert!(message.contains(SETTING) && message.contains(&name), "{message}");
                    assert!(!message.contains(&address.to_string()), "{message}");
                    assert_eq!(dns.asked(&name), (1, 1), "{what}: both kinds are asked for, once");
                    assert_eq!(before.since().opens, 0, "{what}");
                    count += 1;
                }
            }
        });
        println!("{count} names");
        let sent = before.since();
        assert_eq!(
            (sent.opens, sent.datagrams, sent.no_routes),
            (0, dns.datagrams(), 0),
            "nothing but the questions and their answers"
        );
        canary.assert_silence("names");
    });
}

#[test]
fn of_several_answers_only_the_public_ones_are_connected_to() {
    inside(
        "names::of_several_answers_only_the_public_ones_are_connected_to",
        || {
            let (canary, dns) = (Canary::start(), Dns::start());
            let sender = sender(&[]);
            for public in [PUBLIC_V4, PUBLIC_V6] {
                for place in 0..=FORBIDDEN.len() {
                    let mut addresses = FORBIDDEN.to_vec();
                    addresses.insert(place, public);
                    dns.tell(NAME, vec![Answer::of(&addresses)]);
                    let before = Counters::read();
                    let result = post(&sender, URL);
                    assert!(result.delivered(), "{addresses:?}: {result:?}");
                    assert_eq!(canary.take(1), [at(public, 8080)]);
                    assert_eq!(before.since().opens, 1, "{addresses:?}");
                }
            }

            // Where the public one cannot be reached, the others are no substitute.
            ip("route add prohibit 93.184.215.14 table local");
            ip("-6 route add prohibit 2606:4700::1111 table local");
            for public in [PUBLIC_V4, PUBLIC_V6] {
                let addresses = [FORBIDDEN.as_slice(), &[public], &FORBIDDEN].concat();
                dns.tell(NAME, vec![Answer::of(&addresses)]);
                let before = Counters::read();
                let result = post(&sender, URL);
                assert_eq!(class(&result), Some(ErrorClass::Connect), "{result:?}");
                assert_eq!(before.since().opens, 0, "{public}");
            }
            canary.assert_silence("after the public ones were shut");
        },
    );
}

#[test]
fn a_name_that_changes_its_mind_gains_nothing() {
    inside("names::a_name_that_changes_its_mind_gains_nothing", || {
        let (canary, dns) = (Canary::start(), Dns::start());
        let sender = sender(&[]);
        for public in [PUBLIC_V4, PUBLIC_V6] {
            for forbidden in FORBIDDEN {
                let [good, bad] = [public, forbidden].map(|ip| Answer::of(&[ip]));
                let turns = [good.clone(), bad.clone(), good.clone(), bad.clone(), bad, good];
                dns.tell(NAME, turns.to_vec());
                for (turn, goes) in [true, false, true, false, false, true].into_iter().enumerate() {
                    let before = Counters::read();
                    let result = post(&sender, URL);
                    let what = format!("{public}, {forbidden}, turn {turn}");
                    // One question for each attempt: a second would be the one that is answered otherwise.
                    assert_eq!(dns.asked(NAME), (turn + 1, turn + 1), "{what}");
                    if goes {
                        assert!(result.delivered(), "{what}: {result:?}");
                        assert_eq!(canary.take(1), [at(public, 8080)], "{what}");
                    } else {
                        assert_refused(&result, &what);
                        canary.assert_silence(&what);
                    }
                    assert_eq!(before.since().opens, u64::from(goes), "{what}");
                }
            }
        }
    });
}
