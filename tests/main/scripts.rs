//! What the scripts promise: emulators that somebody built stay, and nothing ends without a word.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Ran, SOURCE};

fn script(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(Path::new(SOURCE).join("scripts").join(name));
    command.args(args).env("LC_ALL", "C.UTF-8");
    command
}

fn ran(command: &mut Command) -> Ran {
    Ran::new(&command.output().unwrap())
}

/// The two others hand it on: to cargo, and to the program.
#[test]
fn each_script_explains_itself_and_does_nothing_else() {
    for entry in fs::read_dir(Path::new(SOURCE).join("scripts")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !path.is_file()
            || !fs::read(&path).unwrap().starts_with(b"#!")
            || ["build", "run"].contains(&name)
        {
            continue;
        }
        let ran = ran(script(name, &["--help"]).current_dir("/"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{name}");
        assert!(ran.stdout.contains(&format!("scripts/{name}")), "{name}: {}", ran.stdout);
    }
}

const BUILT: &str = "# Built by scripts/qemu-build from Debian's source package of QEMU: target qemu package size sha256 pack\n\
    riscv64 10.2.2 1:10.2.2+ds-1 3 0 emulators.xz\n";

#[test]
fn emulators_that_somebody_built_are_replaced_only_on_request() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("manifest"), BUILT).unwrap();
    fs::write(dir.path().join("emulators.xz"), "xyz").unwrap();
    for args in [&["--out"][..], &["--locked", "--out"], &["--update", "--out"]] {
        let ran = ran(script("get-qemu", args).arg(dir.path()));
        assert_eq!(ran.code, 1);
        let wanted = format!(
            "error: {} holds emulators that scripts/qemu-build built\n\
             hint: use them as they are, or --replace to have Debian's instead\n",
            dir.path().display()
        );
        assert_eq!(ran.stderr, wanted);
    }
    assert_eq!(fs::read_to_string(dir.path().join("manifest")).unwrap(), BUILT);
    assert_eq!(fs::read_to_string(dir.path().join("emulators.xz")).unwrap(), "xyz");
}

#[test]
fn a_set_of_emulators_is_taken_if_it_is_whole_and_for_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let whose = || {
        let program = ". scripts/lib; emulators \"$1\" || echo none";
        let mut command = Command::new("sh");
        command.args(["-euc", program, "sh"]).arg(dir.path()).current_dir(SOURCE);
        ran(&mut command).ok().stdout
    };
    let manifest = |text: &str| fs::write(dir.path().join("manifest"), text).unwrap();
    assert_eq!(whose(), "none\n");
    manifest(BUILT);
    assert_eq!(whose(), "none\n", "its pack is not there");
    fs::write(dir.path().join("emulators.xz"), "xyz").unwrap();
    assert_eq!(whose(), "our own 1 emulators, of QEMU 1:10.2.2+ds-1\n");
    manifest(
        "arm 11.1.3 1:11.1.3+ds-1 3 0 emulators.xz\nsh4 11.1.3 1:11.1.3+ds-1 3 0 emulators.xz\n",
    );
    assert_eq!(whose(), "Debian's 2 emulators, of QEMU 1:11.1.3+ds-1\n");
    manifest(&format!("{BUILT}{} 10.2.2 1:10.2.2+ds-1 3 0 emulators.xz\n", std::env::consts::ARCH));
    assert_eq!(whose(), "none\n", "they are for another machine");
    manifest("# nothing\n");
    assert_eq!(whose(), "none\n");
}

#[test]
fn a_build_that_cannot_go_on_names_the_step() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let ran = ran(script("qemu-build", &["--fetch", "--work"])
        .arg(&work)
        .env("DEBIAN_MIRROR", format!("file:{}", dir.path().display())));
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let lines: Vec<_> = ran.stderr.lines().collect();
    let named = lines.iter().position(|line| *line == "error: cannot fetch the source").unwrap();
    assert!(lines[named + 1].starts_with("hint: "), "{}", ran.stderr);
    let log = work.canonicalize().unwrap().join("log/fetch-the-source");
    assert!(
        ran.last_line().ends_with(&format!("; the whole log is {}", log.display())),
        "{}",
        ran.stderr
    );
    assert!(log.is_file());
}
