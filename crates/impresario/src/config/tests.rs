use super::*;

const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn env(pairs: &[(&str, &str)]) -> Environment {
    pairs
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn load(pairs: &[(&str, &str)]) -> Result<Settings, String> {
    Settings::from_sources(&Flags::default(), None, &env(pairs))
}

/// Settings from a file of this content, with these variables.
fn load_file(content: &str, pairs: &[(&str, &str)]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    std::fs::write(&path, content).unwrap();
    let flags = Flags {
        config: Some(path),
        ..Flags::default()
    };
    Settings::from_sources(&flags, None, &env(pairs))
}

#[test]
fn a_variable_is_text_whatever_it_looks_like() {
    let settings = load(&[
        ("IMPRESARIO_DATA_DIR", "2024"),
        ("IMPRESARIO_NODE", "true"),
        ("IMPRESARIO_CHROMIUM", "[1]"),
        ("IMPRESARIO_DEFAULT_PROXY", "12345"),
        ("IMPRESARIO_JOB_SLOTS", "7"),
    ])
    .unwrap();
    assert_eq!(settings.data_dir, Path::new("2024"));
    assert_eq!(settings.node.unwrap(), Path::new("true"));
    assert_eq!(settings.chromium.unwrap(), Path::new("[1]"));
    assert_eq!(settings.default_proxy.unwrap().expose_secret(), "12345");
    assert_eq!(settings.job_slots, 7);
}

#[test]
fn a_path_need_not_be_utf_8() {
    use std::os::unix::ffi::OsStringExt as _;
    let path = OsString::from_vec(b"/data/\xff".to_vec());
    let environment = vec![("IMPRESARIO_DATA_DIR".into(), path.clone())];
    let settings = Settings::from_sources(&Flags::default(), None, &environment).unwrap();
    assert_eq!(settings.data_dir, Path::new(&path));
    let environment = vec![("IMPRESARIO_LISTEN".into(), path)];
    let error = Settings::from_sources(&Flags::default(), None, &environment).unwrap_err();
    assert_eq!(error, "the variable IMPRESARIO_LISTEN is not UTF-8");
}

#[test]
fn an_error_names_the_setting_its_source_and_what_is_allowed() {
    for (name, value, parts) in [
        ("JOB_SLOTS", "0", ["job_slots", "\"0\"", "from 1 to 1000"]),
        ("JOB_SLOTS", "-1", ["job_slots", "\"-1\"", "from 1 to 1000"]),
        ("JOB_SLOTS", "4.0", ["job_slots", "\"4.0\"", "from 1 to 1000"]),
        (
            "MAX_BUNDLE_BYTES",
            "99999999999999999999",
            ["max_bundle_bytes", "99999", "from 1 to 1073741824"],
        ),
        (
            "SHUTDOWN_GRACE_SECONDS",
            "30 s\nx",
            ["shutdown_grace_seconds", "30 s\\nx", "from 0 to 86400"],
        ),
        (
            "REQUESTS_PER_SECOND",
            "100001",
            ["requests_per_second", "100001", "from 0 to 100000"],
        ),
        (
            "REQUEST_BURST",
            "0",
            ["request_burst", "\"0\"", "from 1 to 100000"],
        ),
        (
            "DELIVERIES_AT_ONCE",
            "3",
            ["deliveries_at_once", "\"3\"", "from 4 to 10000"],
        ),
        (
            "KEEP_DELIVERIES_DAYS",
            "3651",
            ["keep_deliveries_days", "\"3651\"", "from 0 to 3650"],
        ),
        ("LEASE_SECONDS", "1", ["lease_seconds", "\"1\"", "from 2 to 600"]),
        (
            "LEASE_SECONDS",
            "601",
            ["lease_seconds", "\"601\"", "from 2 to 600"],
        ),
        (
            "ROLES",
            "api,builder",
            ["roles", "api,builder", "api, scheduler, worker, delivery"],
        ),
        (
            "LISTEN",
            "localhost",
            ["listen", "\"localhost\"", "127.0.0.1:8080"],
        ),
        (
            "ALLOW_PRIVATE_CALLBACKS",
            "10.0.0.0/8,here",
            ["allow_private_callbacks", "here", "10.1.0.0/16"],
        ),
    ] {
        let variable = format!("IMPRESARIO_{name}");
        let error = load(&[(&variable, value)]).unwrap_err();
        for part in parts.iter().chain(&[&*variable]) {
            assert!(error.contains(part), "{name}={value}: no {part} in {error}");
        }
        assert!(!error.contains('\n'), "{error}");
    }
    let serve = ServeFlags {
        job_slots: Some(0),
        ..ServeFlags::default()
    };
    let error = Settings::from_sources(&Flags::default(), Some(&serve), &env(&[])).unwrap_err();
    assert!(error.contains("the flag --job-slots is \"0\""), "{error}");
}

#[test]
fn no_error_repeats_a_secret() {
    for secret in ["12345", "hunter2", "true", "[\"hunter2\"]", "AQEB"] {
        let error = load(&[("IMPRESARIO_SECRET_KEY", secret)]).unwrap_err();
        assert!(!error.contains(secret), "{error}");
        assert!(error.contains("IMPRESARIO_SECRET_KEY"), "{error}");
        assert!(error.contains("32 bytes in base64"), "{error}");
    }
    for content in [
        "secret_key = 12345",
        "secret_key = [\"12345\"]",
        "secret_key = \"12345",
        "secret_key = 12345x",
        "secret_key = \"x\"\nsecret_key = \"12345\"",
        "secret_key = \"12345\"",
        "default_proxy = 12345",
    ] {
        let error = load_file(content, &[]).unwrap_err();
        assert!(!error.contains("12345"), "{content}: {error}");
        assert!(!error.contains('\n'), "{content}: {error}");
    }
    let error = load_file("job_slots = 1\n\nsecret_key = 12345x\n", &[]).unwrap_err();
    assert!(error.contains("line 3"), "{error}");
}

#[test]
fn nothing_shows_the_secrets_of_settings() {
    let settings = load(&[
        ("IMPRESARIO_SECRET_KEY", KEY),
        ("IMPRESARIO_RESIDENTIAL_PROXY", "http://u:hunter2@gate.example"),
        ("IMPRESARIO_DEFAULT_PROXY", "http://u:hunter3@gate.example"),
    ])
    .unwrap();
    let shown = format!("{settings:?} {settings:#?}");
    for secret in [KEY, "hunter2", "hunter3"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(settings.secret_key.unwrap().expose_secret(), KEY);
}

#[test]
fn a_database_is_a_url_from_any_source_with_what_it_leaves_open_from_the_variables_of_libpq() {
    assert!(load(&[("PGHOST", "db.example")]).unwrap().database.is_none());
    let variables = [
        ("IMPRESARIO_DATABASE_URL", "postgres://"),
        ("PGHOST", "db.example"),
        ("PGUSER", "me"),
        ("PGPASSWORD", "hunter2"),
        ("PGDATABASE", ""),
    ];
    let target = load(&variables).unwrap().database.unwrap();
    assert_eq!(target.shown(), "postgres://me@db.example:5432/me");
    let content = "database_url = \"postgres://other:hunter3@[::1]:1/app\"";
    let settings = load_file(content, &variables[1..]).unwrap();
    assert_eq!(settings.database.unwrap().shown(), "postgres://other@[::1]:1/app");
    let flags = Flags {
        database_url: Some("postgres://flag@h/d".into()),
        ..Flags::default()
    };
    let settings = Settings::from_sources(&flags, None, &env(&variables)).unwrap();
    assert_eq!(settings.database.unwrap().shown(), "postgres://flag@h:5432/d");
}

#[test]
fn nothing_says_the_password_of_the_database() {
    let url = "postgres://me:hunter2@db.example/app?password=hunter3";
    let variables = [("IMPRESARIO_DATABASE_URL", url), ("PGPASSWORD", "hunter4")];
    let settings = load(&variables).unwrap();
    let flags = Flags {
        database_url: Some(url.into()),
        ..Flags::default()
    };
    let shown = format!("{settings:?} {settings:#?} {flags:?} {flags:#?}");
    assert!(
        shown.contains("db.example") && !shown.contains("hunter"),
        "{shown}"
    );
    for (place, error) in [
        (
            "the variable IMPRESARIO_DATABASE_URL",
            load(&[("IMPRESARIO_DATABASE_URL", "mysql://me:hunter2@db.example")]),
        ),
        (
            "the flag --database-url",
            Settings::from_sources(
                &Flags {
                    database_url: Some("postgres://me:hunter2@db.example:0/app".into()),
                    ..Flags::default()
                },
                None,
                &env(&[]),
            ),
        ),
        (
            "database_url in the file",
            load_file("database_url = \"hunter2\"", &[]),
        ),
        (
            "database_url in the file",
            load_file("database_url = [\"hunter2\"]", &[]),
        ),
    ] {
        let error = error.unwrap_err();
        assert!(error.contains(place), "{error}");
        assert!(!error.contains("hunter") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn later_sources_win_and_empty_ones_do_not_count() {
    let content =
        "job_slots = 5\nlisten = \"127.0.0.1:1\"\nallow_private_callbacks = [\"10.0.0.0/8\", \"192.0.2.1\"]";
    let settings = load_file(
        content,
        &[("IMPRESARIO_JOB_SLOTS", "6"), ("IMPRESARIO_LISTEN", "")],
    )
    .unwrap();
    assert_eq!((settings.job_slots, settings.listen.port()), (6, 1));
    assert_eq!(settings.allow_private_callbacks.len(), 2);
    let serve = ServeFlags {
        job_slots: Some(7),
        ..ServeFlags::default()
    };
    // What a flag replaces is not even looked at.
    let environment = env(&[("IMPRESARIO_JOB_SLOTS", "many")]);
    let settings = Settings::from_sources(&Flags::default(), Some(&serve), &environment).unwrap();
    assert_eq!(settings.job_slots, 7);
}

#[test]
fn a_node_s_share_of_the_work_comes_from_any_source() {
    let settings = load(&[]).unwrap();
    assert!(settings.roles.are_all());
    assert_eq!(settings.lease_seconds, 30);
    let content = "roles = [\"api\", \"worker\"]\nlease_seconds = 2";
    let settings = load_file(content, &[("IMPRESARIO_LEASE_SECONDS", "600")]).unwrap();
    assert_eq!(settings.roles.to_string(), "api,worker");
    assert_eq!(settings.lease_seconds, 600);
    assert!(settings.roles.has(Role::Worker) && !settings.roles.has(Role::Delivery));
    let serve = ServeFlags {
        roles: Some("delivery".to_owned()),
        lease_seconds: Some(9),
        ..ServeFlags::default()
    };
    let environment = env(&[("IMPRESARIO_ROLES", "api")]);
    let settings = Settings::from_sources(&Flags::default(), Some(&serve), &environment).unwrap();
    assert_eq!(settings.roles.to_string(), "delivery");
    assert_eq!(settings.lease_seconds, 9);
}

#[test]
fn how_often_a_key_may_ask_comes_from_any_source() {
    let limit = |settings: Settings| (settings.requests_per_second, settings.request_burst);
    assert_eq!(limit(load(&[]).unwrap()), (50, 200));
    let content = "requests_per_second = 0\nrequest_burst = 100000";
    assert_eq!(limit(load_file(content, &[]).unwrap()), (0, 100_000));
    let variables = [
        ("IMPRESARIO_REQUESTS_PER_SECOND", "100000"),
        ("IMPRESARIO_REQUEST_BURST", "1"),
    ];
    assert_eq!(limit(load_file(content, &variables).unwrap()), (100_000, 1));
    let serve = ServeFlags {
        requests_per_second: Some(7),
        request_burst: Some(8),
        ..ServeFlags::default()
    };
    let settings = Settings::from_sources(&Flags::default(), Some(&serve), &env(&variables)).unwrap();
    assert_eq!(limit(settings), (7, 8));
}

#[test]
fn the_file_is_read_strictly() {
    for (content, part) in [
        ("job_slot = 5", "did you mean job_slots?"),
        ("colour = 5", "shutdown_grace_seconds"),
        ("data_dir = 2024", "must be text in quotes"),
        ("job_slots = true", "must be a whole number"),
        ("allow_private_callbacks = [1]", "must be a list of texts"),
        ("job_slots = 1001", "from 1 to 1000"),
    ] {
        let error = load_file(content, &[]).unwrap_err();
        assert!(
            error.contains(part) && error.contains("settings.toml"),
            "{content}: {error}"
        );
    }
    let error = load(&[("IMPRESARIO_CONFIG", "/nonexistent")]).unwrap_err();
    assert!(error.contains("/nonexistent"), "{error}");
}

#[test]
fn a_variable_that_nobody_reads_is_named() {
    fn unknown(pairs: &[(&str, &str)]) -> Option<String> {
        sources::unknown_variables(&env(pairs))
    }
    for known in ["LISTEN", "SECRET_KEY", "CLOCK_FILE", "URL", "LOG", "CONFIG"] {
        assert_eq!(unknown(&[(&format!("IMPRESARIO_{known}"), "x")]), None, "{known}");
    }
    assert_eq!(unknown(&[("PATH", "x"), ("LIBRETTO_API_KEY", "x")]), None);
    let line = unknown(&[
        ("IMPRESARIO_JOBSLOTS", "hunter2"),
        ("impresario_listen", "x"),
        ("IMPRESARIO_COLOUR", "x"),
    ])
    .unwrap();
    for part in [
        "\"IMPRESARIO_JOBSLOTS\" (did you mean IMPRESARIO_JOB_SLOTS?)",
        "\"impresario_listen\" (did you mean IMPRESARIO_LISTEN?)",
        "\"IMPRESARIO_COLOUR\"",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert!(!line.contains("hunter2") && !line.contains('\n'), "{line}");
    let many: Vec<String> = (0..40).map(|n| format!("IMPRESARIO_NO\n{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "x")).collect();
    let line = unknown(&many).unwrap();
    assert!(
        line.ends_with("and 35 more") && !line.contains('\n') && line.len() < 400,
        "{line}"
    );
}

#[test]
fn what_a_cluster_sets_by_itself_is_no_slip() {
    let of_a_service = env(&[
        ("IMPRESARIO_SERVICE_HOST", "10.0.0.1"),
        ("IMPRESARIO_SERVICE_PORT", "8080"),
        ("IMPRESARIO_SERVICE_PORT_HTTP", "8080"),
        ("IMPRESARIO_PORT", "tcp://10.0.0.1:8080"),
        ("IMPRESARIO_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ]);
    assert_eq!(sources::unknown_variables(&of_a_service), None);
    assert!(sources::unknown_variables(&env(&[("IMPRESARIO_PORT", "8080")])).is_some());
}
