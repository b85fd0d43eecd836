//! A network and a view of `/etc` that one test has to itself: in comes the body of a test, out goes its verdict.
//!
//! The test's program starts itself again under `unshare`, for that one test. There the loopback device takes every
//! address, of IPv4 and of IPv6, as its own, so a listener on the wildcard address is whoever is called: a metadata
//! service, a router, a receiver on the internet. The machine's resolver is told to ask the test's own name server.

use std::{fs, path::Path, process::Output};

use crate::support::process;

/// Names the test whose body is to be run, in the environment of the program that was started again.
const INSIDE: &str = "IMPRESARIO_REACH_INSIDE";
/// Printed when everything is in place.
const READY: &str = "in a network of its own";
/// Where the machine's resolver is told to ask.
pub(crate) const NAME_SERVER: &str = "127.0.0.53";
/// A name server that does not answer is given up after a second, and not asked again.
const RESOLV_CONF: &str = "nameserver 127.0.0.53\nsearch .\noptions timeout:1 attempts:1\n";
/// Neither multicast DNS nor a daemon of the machine's: the name server alone, and the hosts file before it.
const NSSWITCH_CONF: &str = "hosts: files dns\n";

/// Runs `body` in a network of its own. `name` is the test's, as the harness knows it.
#[track_caller]
pub(crate) fn inside(name: &str, body: impl FnOnce()) {
    inside_with(name, &[], body);
}

/// As [`inside`], with these variables in the environment.
#[track_caller]
#[expect(
    clippy::disallowed_methods,
    reason = "the variable by which the program knows that it was started again"
)]
pub(crate) fn inside_with(name: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
        let _etc = prepare();
        println!("{READY}");
        return body();
    }
    let program = std::env::current_exe().unwrap();
    let output = process::command("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--"])
        .arg(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, name)
        .envs(variables.iter().copied())
        .output()
        .unwrap_or_else(|error| {
            panic!("this test needs `unshare` (util-linux) to make a network of its own: {error}")
        });
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
    println!("{stdout}");
    assert!(
        stdout.contains(READY) || stdout.contains("0 passed"),
        "this test needs a user, a network and a mount namespace of its own, which this machine does not give it \
         (a container without them? `kernel.apparmor_restrict_unprivileged_userns`, `user.max_user_namespaces`?): \
         {stderr}"
    );
    assert!(output.status.success(), "{stderr}");
    // A misspelt name would run no test at all, successfully.
    assert!(
        stdout.contains("test result: ok. 1 passed"),
        "there is no test called {name}: {stdout}"
    );
}

/// Makes every address this machine's, and its resolver ask [`NAME_SERVER`].
fn prepare() -> tempfile::TempDir {
    ip("link set lo up");
    ip("route add local 0.0.0.0/0 dev lo");
    ip("-6 route add local ::/0 dev lo");
    let etc = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("resolv.conf", RESOLV_CONF),
        ("nsswitch.conf", NSSWITCH_CONF),
        (
            "hosts",
            "127.0.0.1 localhost localhost.localdomain\n::1 ip6-localhost ip6-loopback\n",
        ),
    ] {
        let own = etc.path().join(file);
        fs::write(&own, text).unwrap();
        run(
            "mount",
            &["--bind", own.to_str().unwrap(), &format!("/etc/{file}")],
        );
    }
    // A cache of the machine's names hears through the file system, which no network namespace shuts.
    if Path::new("/run/nscd").exists() {
        run("mount", &["-t", "tmpfs", "none", "/run/nscd"]);
    }
    etc
}

/// Runs `ip` with these words.
pub(crate) fn ip(words: &str) {
    run("ip", &words.split(' ').collect::<Vec<_>>());
}

fn run(program: &str, arguments: &[&str]) {
    let output: Output = process::command(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("this test needs `{program}`: {error}"));
    assert!(
        output.status.success(),
        "`{program} {}` is needed in the test's own network, and failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
