//! What the command line says of itself: help, completions, the document of the API.

use std::process::Stdio;

use serde_json::Value;

use crate::support::{Server, Setup, process};

fn desk() -> Server {
    // Nothing here needs a server.
    Setup::at("2027-01-01T00:00:30Z").embedded().unstarted()
}

/// The commands that `--help` of this one lists.
fn below(server: &Server, words: &[&str]) -> Vec<String> {
    let help = server.cli(&[words, &["--help"]].concat());
    let Some((_, list)) = help.split_once("\nCommands:\n") else {
        return Vec::new();
    };
    let lines = list.lines().take_while(|line| !line.is_empty());
    let named = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let mut names: Vec<String> = named.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    names.retain(|name| name != "help");
    names
}

#[test]
fn each_command_that_sends_or_writes_something_has_an_example() {
    let server = desk();
    let mut seen = 0;
    for group in [
        "deploy",
        "deployments",
        "workflows",
        "webhooks",
        "credentials",
        "completions",
        "openapi",
    ] {
        let mut leaves: Vec<Vec<&str>> = vec![vec![group]];
        let names = below(&server, &[group]);
        if !names.is_empty() {
            leaves = names.iter().map(|name| vec![group, name.as_str()]).collect();
        }
        for words in leaves {
            let help = server.cli(&[words.as_slice(), &["--help"]].concat());
            let command = format!("impresario {}", words.join(" "));
            assert!(
                help.matches(&command).count() > 1,
                "{command} has no example: {help}"
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 20);
}

#[test]
fn bash_completes_what_is_typed() {
    let server = desk();
    let script = server.cli(&["completions", "bash"]);
    let folder = server.data_dir().parent().unwrap().to_owned();
    server.write_file("completions.bash", &script);
    let checked = process::command("bash")
        .args(["-n", "completions.bash"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(
        checked.status.success() && checked.stderr.is_empty(),
        "{checked:?}"
    );

    let program = format!(
        "set -eu\nimpresario() {{ {} \"$@\"; }}\nsource <(impresario completions bash)\ncomplete -p impresario\n\
         COMP_WORDS=(impresario webhooks re); COMP_CWORD=2; _impresario impresario re webhooks\n\
         echo \"${{COMPREPLY[@]}}\"\n\
         COMP_WORDS=(impresario deplo); COMP_CWORD=1; _impresario impresario deplo impresario\n\
         echo \"${{COMPREPLY[@]}}\"\n",
        env!("CARGO_BIN_EXE_impresario")
    );
    let ran = process::command("bash")
        .args(["--norc", "-c", &program])
        .env_clear()
        .stdin(Stdio::null())
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let errors = String::from_utf8(ran.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(ran.status.success(), "{said} {errors}");
    assert!(lines[0].contains("-F _impresario"), "{said}");
    assert_eq!(lines[1..], ["redeliver", "deploy deployments"], "{errors}");
}

#[test]
fn there_are_completions_for_three_shells() {
    let server = desk();
    assert!(
        server
            .cli(&["completions", "zsh"])
            .starts_with("#compdef impresario\n")
    );
    let fish = server.cli(&["completions", "fish"]);
    assert!(fish.contains("complete -c impresario") && fish.contains("redeliver"));
    let (code, error) = server.cli_fails(&["completions", "powershell"]);
    assert!(
        code == 2 && error.contains("[possible values: bash, zsh, fish]"),
        "{error}"
    );
}

#[test]
fn the_document_of_the_api_is_json_that_names_every_route() {
    let server = desk();
    let ran = server.cli_with(&["openapi"], &[], "");
    assert!(
        ran.stdout.starts_with("{\n  \"openapi\": \"3.1") && ran.stdout.ends_with("}\n"),
        "{ran:?}"
    );
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    for route in [
        "/v1/deployments/create",
        "/v1/webhooks/redeliver",
        "/health/ready",
    ] {
        assert!(document["paths"][route].is_object(), "{route}");
    }
}
