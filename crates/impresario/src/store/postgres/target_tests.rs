use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::store::postgres::passfile::{Wanted, password};

/// What a URL and variables make of a target.
fn parse(url: &str, variables: &[(&str, &str)]) -> Result<Target, String> {
    let env = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name)?;
        Some(found.1.to_owned())
    };
    Target::parse(url, &env)
}

fn secret(target: &Target) -> Option<&str> {
    use secrecy::ExposeSecret as _;
    Some(target.password.as_ref()?.expose_secret())
}

fn shown(url: &str, variables: &[(&str, &str)]) -> String {
    parse(url, variables).unwrap().shown()
}

#[test]
fn a_url_says_where_and_as_whom() {
    for (url, expected) in [
        (
            "postgres://me:pw@db.example:6543/app",
            "postgres://me@db.example:6543/app",
        ),
        ("postgresql://me@db.example", "postgres://me@db.example:5432/me"),
        ("postgres://me@[::1]:1/app", "postgres://me@[::1]:1/app"),
        ("postgres://a%40b:c@h/d%2Fe", "postgres://a%40b@h:5432/d%2Fe"),
        (
            "postgres://me@a:1,b,[::2]:3/app",
            "postgres://me@a:1,b:5432,[::2]:3/app",
        ),
        ("postgres://me@a,b/app?port=7", "postgres://me@a:7,b:7/app"),
        (
            "postgres://me@%2Frun%2Fpg:5/app",
            "postgres://me@%2Frun%2Fpg:5/app",
        ),
        (
            "postgres:///app?host=/run/pg&user=me",
            "postgres://me@%2Frun%2Fpg:5432/app",
        ),
        (
            "postgres://h/app?user=a@b&dbname=other",
            "postgres://a%40b@h:5432/other",
        ),
        ("postgres://?host=h&user=u&port=", "postgres://u@h:5432/u"),
        ("postgres://u@h?hostaddr=192.0.2.1", "postgres://u@h:5432/u"),
        (
            "postgres://u@?hostaddr=192.0.2.1",
            "postgres://u@192.0.2.1:5432/u",
        ),
        (" postgres://u@h/d\n", "postgres://u@h:5432/d"),
    ] {
        assert_eq!(shown(url, &[]), expected, "{url}");
    }
    let target = parse("postgres://me:p%3Aw%20%2f@h", &[]).unwrap();
    assert_eq!(secret(&target), Some("p:w /"));
    let target = parse("postgres://me@h?password=a+b%26", &[]).unwrap();
    assert_eq!(secret(&target), Some("a+b&"));
}

#[test]
fn what_a_url_says_can_be_read_again_from_what_is_shown() {
    for url in [
        "postgres://a%40b@%2Frun%2Fp%3A:5,h/d%25",
        "postgres://u@[::1]:1,x:2/%C3%A4",
    ] {
        let once = shown(url, &[]);
        assert_eq!(shown(&once, &[]), once);
    }
}

#[test]
fn what_a_url_leaves_open_comes_from_the_variables_of_libpq() {
    let variables = [
        ("PGHOST", "db.example,/run/pg"),
        ("PGPORT", "1,2"),
        ("PGUSER", "me"),
        ("PGPASSWORD", "hunter2"),
        ("PGDATABASE", "app"),
        ("PGSSLMODE", "require"),
        ("PGSSLROOTCERT", "/roots"),
        ("PGSSLCERT", "/cert"),
        ("PGSSLKEY", "/key"),
        ("PGCONNECT_TIMEOUT", "7"),
        ("PGAPPNAME", "night shift"),
        ("PGOPTIONS", "-c search_path=app"),
        ("PGTARGETSESSIONATTRS", "any"),
        ("PGPASSFILE", "/pass"),
        ("PGCHANNELBINDING", "require"),
        ("HOME", "/nowhere"),
    ];
    let target = parse("postgres://", &variables).unwrap();
    assert_eq!(target.shown(), "postgres://me@db.example:1,%2Frun%2Fpg:2/app");
    assert_eq!(secret(&target), Some("hunter2"));
    assert_eq!(
        target.tls,
        Tls {
            mode: SslMode::Require,
            roots: Roots::File("/roots".into()),
            identity: Some(("/cert".into(), "/key".into())),
        }
    );
    assert_eq!(target.timeout, Duration::from_secs(7));
    assert_eq!(target.application_name, "night shift");
    assert_eq!(target.options.as_deref(), Some("-c search_path=app"));
    assert_eq!(target.session, TargetSessionAttrs::Any);
    assert_eq!(target.passfile, Some("/pass".into()));
    assert_eq!(target.channel_binding, ChannelBinding::Require);
    // The URL wins, each part of it for itself.
    let url = "postgres://you:other@h:3/d?sslmode=disable&connect_timeout=9&application_name=x&passfile=/p";
    let target = parse(url, &variables).unwrap();
    assert_eq!(target.shown(), "postgres://you@h:3/d");
    assert_eq!(
        (secret(&target), target.tls.mode),
        (Some("other"), SslMode::Disable)
    );
    assert_eq!((target.timeout.as_secs(), &*target.application_name), (9, "x"));
    assert_eq!(target.options.as_deref(), Some("-c search_path=app"));
    let error = parse("postgres://h", &[("PGPORT", "many")]).unwrap_err();
    assert_eq!(
        error,
        "the variable PGPORT is \"many\": a port must be a whole number from 1 to 65535"
    );
}

#[test]
fn what_nobody_says_is_as_libpq_has_it() {
    let target = parse("postgres://", &[("PGHOST", ""), ("HOME", "/nowhere")]).unwrap();
    assert!(matches!(&target.endpoints[0].host, Host::Unix(path) if path.is_absolute()));
    assert_eq!((target.endpoints.len(), target.endpoints[0].port), (1, 5432));
    assert_eq!(target.user, whoami::username().unwrap());
    assert_eq!(target.database, target.user);
    assert_eq!(target.passfile, Some("/nowhere/.pgpass".into()));
    assert_eq!(
        (target.tls.mode, &target.tls.roots),
        (SslMode::Prefer, &Roots::System)
    );
    assert_eq!(target.timeout, Duration::from_secs(5));
    assert_eq!(target.application_name, "impresario");
    assert_eq!(target.session, TargetSessionAttrs::ReadWrite);
}

#[test]
fn the_files_of_tls_are_found_where_libpq_keeps_them() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".postgresql");
    std::fs::create_dir(&folder).unwrap();
    for name in ["root.crt", "postgresql.crt", "postgresql.key"] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    let variables = [("HOME", home.path().to_str().unwrap())];
    let tls = parse("postgres://u@h", &variables).unwrap().tls;
    assert_eq!(tls.roots, Roots::File(folder.join("root.crt")));
    assert_eq!(
        tls.identity,
        Some((folder.join("postgresql.crt"), folder.join("postgresql.key")))
    );
    let tls = parse("postgres://u@h?sslrootcert=system", &variables)
        .unwrap()
        .tls;
    assert_eq!((tls.roots, tls.mode), (Roots::System, SslMode::VerifyFull));
    for (text, mode) in [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Prefer),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ] {
        let tls = parse(&format!("postgres://u@h?sslmode={text}"), &[]).unwrap().tls;
        assert_eq!(tls.mode, mode);
    }
    assert_eq!(
        parse("postgres://u@h?ssl=true", &[]).unwrap().tls.mode,
        SslMode::Require
    );
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    for (url, parts) in [
        (
            "",
            [
                "postgres://",
                "the embedded store is chosen by leaving this setting out",
            ],
        ),
        ("sqlite://data.db", ["postgres://", "leaving this setting out"]),
        ("host=h user=u", ["postgres://", "leaving this setting out"]),
        ("postgres://u@h:0", ["the port is \"0\"", "from 1 to 65535"]),
        (
            "postgres://u@h:70000",
            ["the port is \"70000\"", "from 1 to 65535"],
        ),
        (
            "postgres://u@a,b,c?port=1,2",
            ["port is \"1,2\"", "as many as hosts (3)"],
        ),
        ("postgres://u@[::1", ["IPv6", "]"]),
        ("postgres://u@[::1]5", ["IPv6", ":port"]),
        (
            "postgres://u@a,b?hostaddr=::1",
            ["the host is \"a,b\"", "hostaddr (1)"],
        ),
        ("postgres://u@h?hostaddr=h", ["hostaddr is \"h\"", "IP address"]),
        ("postgres://u@h?sslmode=on", ["sslmode is \"on\"", "verify-full"]),
        (
            "postgres://u@h?sslmod=on",
            ["parameter \"sslmod\"", "did you mean sslmode?"],
        ),
        (
            "postgres://u@h?colour=on",
            ["parameter \"colour\"", "connect_timeout"],
        ),
        ("postgres://u@h?sslmode", ["key=value", "&"]),
        ("postgres://u@h?sslkey=/k", ["sslkey", "sslcert"]),
        ("postgres://u@h?sslcert=/c", ["sslcert", "sslkey"]),
        (
            "postgres://u@h?sslmode=require&sslrootcert=system",
            ["\"require\"", "verify-full"],
        ),
        (
            "postgres://u@h?connect_timeout=0",
            ["connect_timeout is \"0\"", "from 1 to 600"],
        ),
        (
            "postgres://u@h?connect_timeout=-1",
            ["connect_timeout is \"-1\"", "from 1 to 600"],
        ),
        (
            "postgres://u@h?target_session_attrs=standby",
            ["\"standby\"", "read-write"],
        ),
        (
            "postgres://u@h?channel_binding=on",
            ["\"on\"", "disable, prefer or require"],
        ),
        ("postgres://u@h/%", ["the database", "hexadecimal"]),
        ("postgres://u@h/%00", ["the database", "hexadecimal"]),
        ("postgres://u@h/%ff", ["the database", "UTF-8"]),
        ("postgres://u@h/%é1", ["the database", "hexadecimal"]),
        ("postgres://u@%40abstract", ["abstract", "directory"]),
    ] {
        let error = parse(url, &[]).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{url}: no {part} in {error}");
        }
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn no_part_of_a_password_is_repeated_however_it_is_misspelt() {
    for url in [
        "mysql://u:hunter2@h",
        "postgres://u:hunter2%@h",
        "postgres://u:hunter2%zz@h",
        "postgres://u:hunter2@hunter2@h",
        "postgres://u:hunter2/hunter2@h/d",
        "postgres://u:hunter2?hunter2@h/d",
        "postgres://u:hunter2?hunter2=x@h/d",
        "postgres://u:hunter2?sslmode=hunter2@h/d",
        "postgres://u:x@hunter2?hunter2=x@h/d",
        "postgres://u:x@hunter2:y?port=hunter2@h/d",
        "postgres://u:hunter2@h:0/d",
        "postgres://u:hunter2@h?x=1",
        "postgres://u@h?password=hunter2&x=1",
        "postgres://u@h?password=hunter2%",
        "postgres://u:%68unter2@h?port=x",
    ] {
        let error = parse(url, &[("PGPASSWORD", "hunter2")]).unwrap_err();
        assert!(!error.contains("hunter2"), "{url}: {error}");
    }
    let target = parse("postgres://u:hunter2@h/d?options=-c%20x=1", &[]).unwrap();
    let shown = format!("{target:?} {target:#?} {}", target.shown());
    assert!(shown.contains("u@h") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn the_password_file_is_read_as_libpq_reads_it() {
    use secrecy::ExposeSecret as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgpass");
    let content = "# db.example:5432:app:me:comment\n\
                   short\n\
                   db.example:5432:app:you:yours\n\
                   db.example:1:app:me:other port\n\
                   \\*:5432:app:me:no star\n\
                   a\\:b\\\\:5432:*:me:odd host\n\
                   db.example:5432:app:me:mine: with \\: and \\\\ and \\x\n\
                   *:*:*:me:any\n\
                   *:*:empty:you:\n";
    std::fs::write(&file, content).unwrap();
    let set_mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o600);
    let find = |host: &str, port, database: &str, user: &str| {
        let wanted = Wanted {
            host,
            port,
            database,
            user,
        };
        let found = password(&file, &wanted).unwrap();
        found.map(|found| found.expose_secret().to_owned())
    };
    for (host, port, database, user, expected) in [
        ("db.example", 5432, "app", "me", Some("mine: with : and \\ and x")),
        ("db.example", 5432, "app", "you", Some("yours")),
        ("db.example", 1, "app", "me", Some("other port")),
        ("*", 5432, "app", "me", Some("no star")),
        ("a:b\\", 5432, "app", "me", Some("odd host")),
        ("elsewhere", 2, "x", "me", Some("any")),
        ("elsewhere", 2, "x", "you", None),
        ("elsewhere", 2, "empty", "you", None),
    ] {
        assert_eq!(
            find(host, port, database, user).as_deref(),
            expected,
            "{host} {user}"
        );
    }
    for mode in [0o640, 0o604, 0o660] {
        set_mode(mode);
        let wanted = Wanted {
            host: "h",
            port: 1,
            database: "d",
            user: "me",
        };
        let why = password(&file, &wanted).unwrap_err();
        assert!(why.contains("chmod 0600") && why.contains("pgpass"), "{why}");
        assert!(!why.contains("any") && !why.contains("mine"), "{why}");
    }
    let wanted = Wanted {
        host: "h",
        port: 1,
        database: "d",
        user: "me",
    };
    assert!(password(&folder.path().join("none"), &wanted).unwrap().is_none());
}
