//! The URLs of the corpus as they stand: refused before anything is sent.

use impresario::delivery::http::ErrorClass;

use crate::{
    canary::Canary,
    corpus::{Verdict, corpus},
    counters::Counters,
    dns::{Answer, Dns},
    namespace::inside,
    oddities::{NAMES, PASSWORD},
    sending::{assert_refused, attempt, block_on, class, sender},
};

#[test]
fn no_forbidden_url_sends_a_packet() {
    inside("literals::no_forbidden_url_sends_a_packet", || {
        let canary = Canary::start();
        let sender = sender(&[]);
        let before = Counters::read();
        block_on(async {
            for case in corpus().iter().filter(|case| case.verdict != Verdict::Name) {
                let url = &case.url;
                let result = sender.post(&attempt(url)).await;
                let message = result
                    .error
                    .as_ref()
                    .map_or("", |error| &error.message)
                    .to_owned();
                match case.verdict {
                    Verdict::NotAUrl => {
                        assert_eq!(class(&result), Some(ErrorClass::Protocol), "{url:?}: {result:?}");
                    }
                    Verdict::Metadata => {
                        assert_refused(&result, url);
                        assert!(message.contains("never"), "{url:?}: {message}");
                    }
                    _ => {
                        assert_refused(&result, url);
                        assert!(message.contains("an operator can allow"), "{url:?}: {message}");
                    }
                }
                assert!(!message.contains(PASSWORD), "{url:?}: {message}");
                before.assert_silence(url);
            }
        });
        canary.assert_silence("the whole corpus");
    });
}

/// What only a name server can tell, where that leads to this machine or to a metadata service.
#[test]
fn names_that_look_like_something_reach_nothing_either() {
    inside(
        "literals::names_that_look_like_something_reach_nothing_either",
        || {
            let canary = Canary::start();
            let dns = Dns::start();
            for url in NAMES {
                let url = url::Url::parse(url).unwrap();
                let name = url.host_str().unwrap().trim_end_matches('.');
                dns.tell(name, vec![Answer::of(&["127.0.0.1", "169.254.169.254", "::1"])]);
            }
            let sender = sender(&[]);
            let before = Counters::read();
            for url in NAMES {
                let result = block_on(sender.post(&attempt(url)));
                // A name of two dots at the end is none for the machine's resolver.
                if url.contains("..") {
                    assert_eq!(class(&result), Some(ErrorClass::Dns), "{url}: {result:?}");
                } else {
                    assert_refused(&result, url);
                }
                assert_eq!(before.since().opens, 0, "{url}");
            }
            canary.assert_silence("names");
        },
    );
}
