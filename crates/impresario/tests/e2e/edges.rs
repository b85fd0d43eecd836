//! What a stranger's half-sent request, a wrong setting or a message with a path may not do.

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{Bundle, Setup};

#[test]
fn a_half_sent_request_holds_up_no_end() {
    let mut server = Setup::at("2027-01-01T00:00:30Z").grace(60).start();
    let client = server.tenant("acme");
    let mut line = TcpStream::connect(client.address()).unwrap();
    line.write_all(b"POST /v1/sched").unwrap();
    let mut body = TcpStream::connect(client.address()).unwrap();
    let head = format!(
        "POST /v1/schedules/list HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{\"json\"",
        client.key()
    );
    body.write_all(head.as_bytes()).unwrap();
    // Answered after the two were accepted.
    client.ok("schedules/list", json!({}));
    server.terminate();
    let told = Instant::now();
    let (status, log) = server.ended_with_log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        told.elapsed() < Duration::from_secs(20),
        "{:?}: {log}",
        told.elapsed()
    );
}

#[test]
fn no_message_and_no_stack_shows_where_the_server_keeps_its_files() {
    let server = Setup::at("2027-01-01T00:00:30Z").start();
    let client = server.tenant("acme");
    let bodies = [
        ("url", "throw new Error(import.meta.url)"),
        ("abort", "process.abort()"),
        ("stack", "throw new Error(new Error('x').stack)"),
        ("module", "await import('./not-there.js')"),
    ];
    let kept = server.data_dir().display().to_string();
    for (name, body) in bodies {
        client.deploy(&Bundle::with(name, body));
        let job = client.run(json!({"workflow": name}));
        assert_eq!(job["status"], "failed", "{job}");
        assert!(!job.to_string().contains(&kept), "{job}");
    }
    let broken = client.build(&Bundle::with(
        "broken",
        "return 1; }, get x() { throw new Error(import.meta.url)",
    ));
    assert!(!broken.to_string().contains(&kept), "{broken}");
}
