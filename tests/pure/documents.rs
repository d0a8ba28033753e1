//! README and docs say only what is so: every command is understood, every link leads somewhere.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use binfmtctl::testing::parse;

fn documents() -> Vec<(String, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(source.join("docs")).unwrap();
    let mut paths: Vec<_> = docs.map(|file| file.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.push(source.join("README.md"));
    paths.sort();
    let name = |path: &Path| path.strip_prefix(source).unwrap().display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// What is between backticks, and lines of code that begin with a command.
fn code(text: &str) -> Vec<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("    ")).map(str::trim_start);
    let lines = lines.map(|line| line.strip_prefix("$ ").unwrap_or(line));
    let spans = text.lines().filter(|line| !line.starts_with("    "));
    lines.chain(spans.flat_map(|line| line.split('`').skip(1).step_by(2))).collect()
}

/// The arguments of binfmtctl in a line of shell, if it is called there: by its name, or by its image's.
fn arguments(line: &str) -> Option<Vec<String>> {
    const STARTS: [&str; 7] =
        ["binfmtctl ", "sudo binfmtctl ", "docker run ", "podman ", "wsl ", "limactl ", "colima "];
    if !STARTS.iter().any(|start| line.starts_with(start)) || line.contains('…') {
        return None;
    }
    let words = shlex::split(line)?;
    let at = words.iter().position(|word| word == "binfmtctl" || word.ends_with("/binfmtctl"))?;
    let end = |word: &String| ["|", "&&", ";", ">"].contains(&word.as_str());
    Some(words[at..].iter().take_while(|word| !end(word)).cloned().collect())
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let mut count = 0;
    for (name, text) in documents() {
        for line in code(&text) {
            let Some(arguments) = arguments(line) else { continue };
            count += 1;
            // Placeholders stand for what they say.
            let arguments = arguments
                .iter()
                .map(|word| OsString::from(word.replace("SHELL", "bash").replace("LIST", "arm64")));
            let understood = parse(arguments);
            assert!(understood.is_ok(), "{name}: {line}: {:?}", understood.err());
        }
    }
    assert!(count >= 40, "{count}");
}

#[test]
fn the_test_above_would_find_a_wrong_command() {
    let line = "docker run --rm --privileged ghcr.io/OWNER/binfmtctl --instal all # all";
    let arguments = arguments(line).unwrap();
    assert_eq!(arguments, ["ghcr.io/OWNER/binfmtctl", "--instal", "all"]);
    assert!(parse(arguments.into_iter().map(OsString::from)).is_err());
}

#[test]
fn every_link_leads_somewhere() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for (name, text) in documents() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            count += 1;
            let path = link.split('#').next().unwrap_or(link);
            let target = source.join(&name).parent().unwrap().join(path);
            assert!(target.exists(), "{name}: {link}");
        }
    }
    assert!(count >= 15, "{count}");
}

#[test]
fn the_readme_is_read_in_five_minutes() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    assert!(readme.lines().count() <= 120, "{}", readme.lines().count());
}
