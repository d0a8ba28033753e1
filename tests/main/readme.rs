//! What the README shows as output is what the program prints.

use std::fs;
use std::path::Path;

use crate::support::in_namespace;

/// The words of a line, but for what differs from machine to machine: numbers, and the CPU's levels.
fn words(line: &str) -> Vec<String> {
    let of_machine = |word: &&str| !["v2", "v3", "v4"].contains(word);
    let plain = |word: &str| match word.starts_with(|c: char| c.is_ascii_digit()) {
        true => "N".to_owned(),
        false => word.to_owned(),
    };
    line.split_whitespace().filter(of_machine).map(plain).collect()
}

/// Whether a printed line is the one shown, which may leave out words: `…`.
fn is_shown(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (words(shown), words(printed));
    match shown.iter().position(|word| word == "…") {
        Some(at) => printed.starts_with(&shown[..at]) && printed.ends_with(&shown[at + 1..]),
        None => shown == printed,
    }
}

#[test]
fn the_samples_are_what_is_printed() {
    let ran = in_namespace(
        "$B -q --install arm64,arm >/dev/null; echo 0 >$M/qemu-arm; $B --status; $B doctor 2>&1",
    );
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let samples = readme.split("    $ binfmtctl --status\n").nth(1).unwrap();
    let samples = samples.split("\n##").next().unwrap();
    let shown: Vec<_> = samples
        .lines()
        .filter(|line| line.starts_with("    ") && !line.starts_with("    $ "))
        .filter(|shown| !ran.stdout.lines().any(|printed| is_shown(shown, printed)))
        .collect();
    assert!(samples.lines().count() > 15 && shown.is_empty(), "{shown:#?}\n{}", ran.stdout);
}
