//! Fake hosts: one directory a situation, laid over `tests/hosts/healthy`.
//!
//! `probes.json` says what became of the test programs (`native`, an errno, or a QEMU version);
//! `expected` holds the report, the plan and what stops an install. `UPDATE_EXPECTED=1` rewrites
//! it: read the difference before you commit it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use binfmtctl::testing::{
    ARCHES, Arch, Emulators, HOST, Identity, MOUNT_POINT, Options, Outcome, Probe, Probes, Program,
    Report, Root, State, Summary, Terminal, check_host, install, json, observe, obstacle,
    requested, uninstall,
};

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
        let said = given.and_then(|given| given.as_str());
        let (emulator, program) = match said {
            Some("native") => (None, Program::Itself),
            Some(version) => {
                let (family, version) = ("QEMU".to_owned(), version.to_owned());
                (Some(Identity { family, version }), Program::Emulator { is_static: true })
            }
            None => (None, Program::Unknown),
        };
        let levels = Vec::new();
        Probe { outcome, emulator, program, ours: false, anchored: false, levels }
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
    json(&Summary::new(state).unwrap(), &mut summary).unwrap();
    text.push_str(&String::from_utf8(summary).unwrap());
    text.push('\n');
    let report = Report::new(state, &emulators, check_host(state)).unwrap();
    text.push_str(&report.table(Terminal::default(), false));
    for (title, options) in [
        ("plan", Options::default()),
        ("plan to replace", Options { replace: true, ..Options::default() }),
    ] {
        writeln!(text, "\n{title}:").unwrap();
        let wanted = requested(&["all".to_owned(), "amd64".to_owned()], &emulators);
        let plan = install(&wanted, &options, &emulators, state).unwrap();
        plan.to_string().lines().for_each(|line| writeln!(text, "  {line}").unwrap());
    }
    writeln!(text, "\nplan to uninstall:").unwrap();
    let plan = uninstall(&["all".to_owned()], &emulators, state);
    let mut steps: Vec<_> = plan.steps.iter().map(ToString::to_string).collect();
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
        state.probes =
            Ok(probes(&fs::read_to_string(temporary.path().join("probes.json")).unwrap()));

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
