use super::*;
use serde_json::{Value, json};

/// What `read` makes of an object, or the messages that refuse it.
fn nested<T>(value: &Value, read: fn(&mut Fields) -> Option<T>) -> Result<T, Vec<String>> {
    let Value::Object(object) = json!({"x": value}) else {
        panic!("an object")
    };
    let mut input = Fields::new(object);
    let found = input.nested("x", read);
    match input.finish() {
        Ok(()) => Ok(found.expect("fine, so there is a value")),
        Err(error) => Err(error.issues().iter().map(|issue| issue.message.clone()).collect()),
    }
}

#[test]
fn start_urls() {
    for good in [
        "https://example.com",
        "HTTP://EXAMPLE.com/",
        "http://[::1]:3000/x?y#z",
        "https://user:pw@example.com/",
        "https://пример.рф/путь",
        "data:text/html,<p>hi</p> there",
        "about:blank",
    ] {
        assert_eq!(start_url(good).unwrap(), good);
    }
    for bad in [
        "example.com",
        "example.com:8080",
        "//host",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "javascript:alert(1)",
        "chrome://version",
        "view-source:https://example.com",
        "ftp://host/",
        "blob:https://example.com/1",
        "ws://host/",
        " https://example.com",
        "https://example.com ",
        "java\nscript:alert(1)",
        "https://exam\tple.com",
        "https:example.com",
        "http:/example.com",
        "https://",
        "https://[::1",
        "http://host:99999/",
        "",
    ] {
        assert_eq!(start_url(bad).unwrap_err().code, "invalid_format", "{bad}");
    }
    let message = start_url("file:///etc/passwd").unwrap_err().message;
    assert_eq!(
        message,
        "the scheme \"file\" is not allowed (one of http, https, data, about)"
    );
}

#[test]
fn callback_urls() {
    for good in ["https://example.com/hook?a=b", "http://127.0.0.1:9/x"] {
        assert!(callback_url(good).is_ok(), "{good}");
    }
    for bad in [
        "data:text/html,x",
        "about:blank",
        "hook",
        "https://user:hunter2@example.com/",
        "https://user@example.com/",
        "https://user:hunter2@exa mple.com/",
    ] {
        let flaw = callback_url(bad).unwrap_err();
        assert!(
            !flaw.message.contains("hunter2"),
            "{bad}: the password is repeated"
        );
    }
}

#[test]
fn viewports() {
    assert_eq!(
        nested(&json!({"width": 1, "height": 4320.0}), viewport).unwrap(),
        Viewport {
            width: 1,
            height: 4320
        }
    );
    for (given, messages) in [
        (json!({}), vec!["x.width: is required", "x.height: is required"]),
        (
            json!({"width": 0, "height": 4321}),
            vec![
                "x.width: 0 is out of range (1 to 7680)",
                "x.height: 4321 is out of range (1 to 4320)",
            ],
        ),
        (
            json!({"width": 1, "height": 1, "deviceScaleFactor": 2}),
            vec!["x: unrecognized key \"deviceScaleFactor\" (allowed: width, height)"],
        ),
        (json!([1, 2]), vec!["x: expected an object, got a list"]),
        (json!("1x1"), vec!["x: expected an object, got \"1x1\""]),
    ] {
        assert_eq!(nested(&given, viewport).unwrap_err(), messages);
    }
}

#[test]
fn proxies_that_are_taken() {
    for (given, kept) in [
        (json!({"country": "us"}), json!({"country": "US"})),
        (
            json!({"country": "US", "state": "ca", "city": "san-francisco"}),
            json!({"country": "US", "state": "CA", "city": "san-francisco"}),
        ),
        (
            json!({"country": "US", "state": "dc"}),
            json!({"country": "US", "state": "DC"}),
        ),
        (
            json!({"country": "US", "state": "PR"}),
            json!({"country": "US", "state": "PR"}),
        ),
        (
            json!({"country": "US", "zip": "00501"}),
            json!({"country": "US", "zip": "00501"}),
        ),
        (
            json!({"country": "de", "city": "berlin"}),
            json!({"country": "DE", "city": "berlin"}),
        ),
        (
            json!({"country": "Gb", "asn": "as7922"}),
            json!({"country": "GB", "asn": "AS7922"}),
        ),
        (
            json!({"country": "US", "zip": "94105", "asn": "AS1"}),
            json!({"country": "US", "zip": "94105", "asn": "AS1"}),
        ),
    ] {
        assert_eq!(
            serde_json::to_value(nested(&given, residential_proxy).unwrap()).unwrap(),
            kept,
            "{given}"
        );
    }
}

#[test]
fn proxies_that_are_refused_name_every_field_that_is_wrong() {
    for (given, fields) in [
        (json!("US"), vec!["x:"]),
        (json!({}), vec!["x.country:"]),
        (json!({"country": null}), vec!["x.country:"]),
        (json!({"country": ""}), vec!["x.country:"]),
        (json!({"country": "XX"}), vec!["x.country:"]),
        (json!({"country": "UK"}), vec!["x.country:"]),
        (json!({"country": "USA"}), vec!["x.country:"]),
        (json!({"country": 1, "state": 2}), vec!["x.country:", "x.state:"]),
        (json!({"country": "DE", "state": "CA"}), vec!["x.state:"]),
        (json!({"country": "US", "state": "ZZ"}), vec!["x.state:"]),
        (json!({"country": "US", "state": "California"}), vec!["x.state:"]),
        (json!({"country": "US", "city": "San Francisco"}), vec!["x.city:"]),
        (json!({"country": "US", "city": "-x"}), vec!["x.city:"]),
        (json!({"country": "US", "city": "a--b"}), vec!["x.city:"]),
        (json!({"country": "US", "city": ""}), vec!["x.city:"]),
        (json!({"country": "DE", "zip": "10115"}), vec!["x.zip:"]),
        (json!({"country": "US", "zip": "94105-1234"}), vec!["x.zip:"]),
        (json!({"country": "US", "zip": "٩٤١٠٥"}), vec!["x.zip:"]),
        (json!({"country": "US", "zip": 94105}), vec!["x.zip:"]),
        (
            json!({"country": "US", "zip": "94105", "city": "x"}),
            vec!["x.zip:"],
        ),
        (
            json!({"country": "US", "zip": "94105", "state": "CA"}),
            vec!["x.zip:"],
        ),
        (json!({"country": "US", "asn": "7922"}), vec!["x.asn:"]),
        (json!({"country": "US", "asn": "AS"}), vec!["x.asn:"]),
        (json!({"country": "US", "asn": "AS4294967296"}), vec!["x.asn:"]),
        (
            json!({"country": "US", "asn": "AS1", "state": "CA"}),
            vec!["x.asn:"],
        ),
        (
            json!({"country": "DE", "zip": "1", "asn": "1", "city": "x"}),
            vec!["x.zip:", "x.asn:", "x.zip:", "x.zip:", "x.asn:"],
        ),
        (json!({"country": "US", "region": "CA"}), vec!["x:"]),
    ] {
        let messages = nested(&given, residential_proxy).unwrap_err();
        let found: Vec<&str> = messages
            .iter()
            .filter_map(|message| message.split(' ').next())
            .collect();
        assert_eq!(found, fields, "{given}: {messages:#?}");
    }
}

#[test]
fn every_state_code_is_two_letters_and_stands_once() {
    let mut codes = US_STATES.to_vec();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), 56);
    assert!(
        codes
            .iter()
            .all(|code| code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase()))
    );
}

#[test]
fn rules_of_two_fields() {
    let proxy = ResidentialProxy {
        country: "US".into(),
        state: None,
        city: None,
        zip: None,
        asn: None,
    };
    assert!(one_proxy(Some(true), Some(&proxy)).is_err());
    for (disable, residential) in [
        (Some(true), None),
        (Some(false), Some(&proxy)),
        (None, Some(&proxy)),
        (None, None),
    ] {
        assert!(one_proxy(disable, residential).is_ok());
    }
    assert_eq!(callback_pair(true, false).unwrap_err().0, "callback_secret");
    assert_eq!(callback_pair(false, true).unwrap_err().0, "callback_url");
    assert!(callback_pair(true, true).is_ok() && callback_pair(false, false).is_ok());
}
