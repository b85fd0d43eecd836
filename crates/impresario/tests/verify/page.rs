//! The code blocks of docs/receiving.md: each has a line `<!-- verify: its name -->` above it.

use std::{fs, path::PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The text of a block, and the language that it is fenced as.
pub(crate) fn block(name: &str) -> (String, String) {
    let page = fs::read_to_string(root().join("docs/receiving.md")).unwrap();
    let marker = format!("<!-- verify: {name} -->\n```");
    let mut found = page.split(&marker).skip(1);
    let (Some(rest), None) = (found.next(), found.next()) else {
        panic!("docs/receiving.md must have {marker:?} once");
    };
    let (language, rest) = rest.split_once('\n').unwrap();
    let (text, _) = rest.split_once("\n```\n").unwrap();
    (language.to_owned(), format!("{text}\n"))
}

/// The text of a block that must be fenced as this language.
pub(crate) fn code(name: &str, language: &str) -> String {
    let (fenced, text) = block(name);
    assert_eq!(fenced, language, "the block {name:?}");
    text
}

#[test]
fn every_block_of_code_is_one_that_runs_here() {
    let page = fs::read_to_string(root().join("docs/receiving.md")).unwrap();
    let names: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("<!-- verify: ")?.strip_suffix(" -->"))
        .collect();
    assert_eq!(
        names,
        [
            "node",
            "node package",
            "python",
            "python package",
            "rust dependencies",
            "rust",
            "go"
        ]
    );
    let fences = page.lines().filter(|line| line.starts_with("```")).count();
    assert_eq!(fences, 2 * names.len(), "a block without a marker");
}
