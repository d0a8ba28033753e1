//! Fake hosts: one directory a situation, laid over `tests/hosts/healthy`.
//!
//! `probes.json` says what became of the test programs (`native`, an errno, or a QEMU version);
//! `expected` holds the report, the plan and what stops an install. `UPDATE_EXPECTED=1` rewrites
//! it: read the difference before you commit it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use binfmtctl::arch::{ARCHES, Arch, HOST};
use binfmtctl::check::{check_host, obstacle};
use binfmtctl::emulator::Emulators;
use binfmtctl::host::observe;
use binfmtctl::plan::{self, Options};
use binfmtctl::report::{Report, Summary, Terminal, json};
use binfmtctl::root::{MOUNT_POINT, Root};
use binfmtctl::state::State;
use binfmtctl::state::{Outcome, Probe, Probes};

/// The directory of situations.
pub(crate) fn hosts() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts")
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            fs::copy(file.path(), &target).unwrap();
        }
    }
}

pub(crate) fn probes(text: &str) -> Probes {
    let given: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).unwrap();
    let probe = |arch: &Arch| {
        let given = given.get(arch.target);
        let outcome = match given {
            Some(serde_json::Value::Number(errno)) => {
                Outcome::Refused(errno.as_i64().unwrap() as i32)
            }
            Some(_) => Outcome::Ran,
            None => Outcome::Refused(8), // ENOEXEC
        };
        let qemu = given
            .and_then(|given| given.as_str())
            .filter(|text| *text != "native")
            .map(str::to_owned);
        Probe { outcome, qemu, ours: false, anchored: false, levels: Vec::new() }
    };
    let by_target = ARCHES.iter().map(|arch| (arch.target.to_owned(), probe(arch))).collect();
    Probes { empty_root: true, by_target }
}

/// All that the program would say of this host.
fn describe(root: &Root, state: &State) -> String {
    // Emulators by name only, so that the expectation does not depend on what is embedded.
    let dir = tempfile::tempdir().unwrap();
    for arch in ["aarch64", "arm", "riscv64", "i386"] {
        fs::write(dir.path().join(format!("qemu-{arch}")), HOST.probe()).unwrap();
    }
    let emulators = Emulators::new(Some(dir.path()), "").unwrap();

    let mut text = String::new();
    let mut summary = Vec::new();
    json(&Summary::new(state), &mut summary).unwrap();
    text.push_str(&String::from_utf8(summary).unwrap());
    text.push('\n');
    text.push_str(&Report::new(state, &emulators, check_host(state)).table(Terminal::default()));
    for (title, options) in [
        ("plan", Options::default()),
        ("plan to replace", Options { replace: true, ..Options::default() }),
    ] {
        writeln!(text, "\n{title}:").unwrap();
        let requested = plan::requested("all,amd64", &emulators).unwrap();
        for step in plan::install(&requested, &options, &emulators, state).unwrap() {
            writeln!(text, "  {step}").unwrap();
        }
    }
    let entries =
        state.instance.as_ref().map(|instance| instance.entries.as_slice()).unwrap_or_default();
    writeln!(text, "\nplan to uninstall:").unwrap();
    let mut steps: Vec<_> = plan::uninstall("all", &emulators, entries)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    steps.sort();
    steps.iter().for_each(|step| writeln!(text, "  {step}").unwrap());
    if let Some(finding) = obstacle(state) {
        writeln!(text, "\nan install stops: {}\n  {}", finding.what, finding.way.in_one_line())
            .unwrap();
    }
    // The root is a temporary directory of changing name.
    text.replace(&root.path("/").display().to_string(), "/")
        .replace(dir.path().to_str().unwrap(), "/emulators")
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "the expectations are those of an x86-64 host")]
fn every_situation_is_described_as_expected() {
    let hosts = hosts();
    let mut wrong = Vec::new();
    let mut cases = 0;
    for case in fs::read_dir(&hosts).unwrap().map(Result::unwrap) {
        cases += 1;
        let temporary = tempfile::tempdir().unwrap();
        copy(&hosts.join("healthy"), temporary.path());
        copy(&case.path(), temporary.path());
        let root = Root::new(temporary.path(), Path::new(MOUNT_POINT));
        let mut state = observe(&root);
        state.probes = probes(&fs::read_to_string(temporary.path().join("probes.json")).unwrap());

        let expected = case.path().join("expected");
        let text = describe(&root, &state);
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &text).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", case.file_name().display()));
        }
    }
    assert!(cases >= 13, "{cases}");
    assert!(wrong.is_empty(), "these differ from their `expected`:\n{}", wrong.join("\n"));
}
