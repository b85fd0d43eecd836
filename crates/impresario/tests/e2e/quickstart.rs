//! `impresario quickstart`: what a newcomer sees first, with a real browser.

use crate::support::{PATIENCE, Quickstart, alive, wait_for};

#[test]
fn the_quickstart_shows_a_run_on_demand_and_a_scheduled_one_and_its_curl_lines_work() {
    let mut quickstart = Quickstart::start("2027-01-01T00:00:30Z");
    quickstart.wait_for_line("it fires in");
    quickstart.set_clock("2027-01-01T00:01:00Z");
    quickstart.wait_for_line("Ctrl-C ends this server");
    let text = quickstart.text();
    assert_eq!(text.matches("and its signature is right").count(), 2, "{text}");
    assert!(
        text.contains("the schedule fired for 2027-01-01T00:01:00.000Z"),
        "{text}"
    );

    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let export = lines.iter().find(|line| line.starts_with("export ")).unwrap();
    let curls = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.starts_with("curl "));
    let commands: Vec<String> = curls
        .map(|(at, line)| format!("{export}\n{line}\n{}", lines[at + 1]))
        .collect();
    assert_eq!(commands.len(), 4, "{text}");
    for command in commands {
        let answer: serde_json::Value = serde_json::from_str(&quickstart.shell(&command)).unwrap();
        assert!(
            answer["json"].is_object() && answer["json"]["code"].is_null(),
            "{command}: {answer}"
        );
    }
    assert_eq!(quickstart.interrupt().code(), Some(0));
}

#[test]
fn ctrl_c_ends_it_while_it_still_installs() {
    let (quickstart, pid) = Quickstart::start_with_endless_npm();
    let npm: u64 = wait_for("npm to run", PATIENCE, || {
        let text = std::fs::read_to_string(&pid).map_err(|error| error.to_string())?;
        text.trim()
            .parse()
            .map_err(|error: std::num::ParseIntError| error.to_string())
    });
    assert_eq!(quickstart.interrupt().code(), Some(0));
    wait_for("npm to end", PATIENCE, || {
        if alive(npm) {
            Err("it runs".to_owned())
        } else {
            Ok(())
        }
    });
}
