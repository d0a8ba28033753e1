//! The emulators behind the entries: flags, interpreters, what their test programs met, versions.

use super::entries::{each, each_of, instance, replace, result, subject};
use super::{Check, Fix, Level, Result, Way, advice, command, ok, remove, unknown, without_filter};
use crate::arch::{ARCHES, Arch, HOST};
use crate::entry::{Entry, Rule};
use crate::kernel;
use crate::state::Interpreter;
use crate::state::State;
use crate::state::{Outcome, Probe};
use crate::tree::quoted;

/// What an entry promises before what its emulator does.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "flag-f",
        about: "every emulator's entry has flag F",
        story: "Without F the kernel looks for the emulator when a program starts, in that program's own root. In a \
            container it is not there: \"no such file or directory\" for a program that exists.",
        blocks_install: false,
        run: flag_f,
    },
    Check {
        id: "flag-o",
        about: "every emulator's entry has flag O or C",
        story: "With O the kernel opens the program and hands it to the emulator. Without O the emulator opens it with the \
            caller's rights: programs that may be executed but not read give \"Error while loading\" and \"permission \
            denied\". C includes O.",
        blocks_install: false,
        run: flag_o,
    },
    Check {
        id: "flag-c",
        about: "every emulator's entry has flag C",
        story: "Without C a setuid program of another architecture runs with the rights of who started it: sudo says \
            \"effective uid is not 0\". With C, a setuid foreign program runs the emulator with its owner's rights, \
            which some do not want on machines with users they do not trust. Debian left it out in 2025.",
        blocks_install: false,
        run: flag_c,
    },
    Check {
        id: "flag-p",
        about: "every emulator's entry has flag P",
        story: "Without P a program sees its own path as argv[0]. Programs that look at the name they were called by, such \
            as busybox, then fail: \"Error while loading /usr/local/sbin/node: No such file or directory\" is one \
            example. Before Linux 5.12 or QEMU 6.0 the emulator does not know of P, and the arguments are shifted by \
            one.",
        blocks_install: false,
        run: flag_p,
    },
    Check {
        id: "interpreter-missing",
        about: "every interpreter without flag F is there",
        story: "An entry without F whose interpreter is not at its path gives \"no such file or directory\". With F the \
            path need not exist: the kernel holds the file itself.",
        blocks_install: false,
        run: |state| interpreters(state, Interpreter::Missing),
    },
    Check {
        id: "interpreter-dynamic",
        about: "every interpreter is statically linked",
        story: "F holds the emulator's file, not its libraries. A dynamically linked one starts on the host and gives \
            \"no such file or directory\" in every container.",
        blocks_install: false,
        run: |state| interpreters(state, Interpreter::Dynamic),
    },
    Check {
        id: "interpreter-script",
        about: "no emulator is a script",
        story: "A script needs its own interpreter in each container.",
        blocks_install: false,
        run: |state| interpreters(state, Interpreter::Script),
    },
    Check {
        id: "interpreter-arch",
        about: "every interpreter is built for this machine",
        story: "An interpreter of another architecture needs an interpreter itself: \"too many levels of symbolic links\".",
        blocks_install: false,
        run: |state| interpreters(state, Interpreter::ForeignArch),
    },
    Check {
        id: "interpreter-executable",
        about: "every interpreter is an executable program",
        story: "A file without execute permission, or that is no program, cannot be registered with F. Without F, programs \
            then give \"permission denied\" or \"exec format error\".",
        blocks_install: false,
        run: |state| {
            [Interpreter::NotExecutable, Interpreter::NoProgram]
                .into_iter()
                .map(|kind| interpreters(state, kind))
                .find(|found| found[0].level != Level::Ok)
                .unwrap_or_else(|| interpreters(state, Interpreter::NoProgram))
        },
    },
    Check {
        id: "interpreter-noexec",
        about: "no interpreter is on a noexec file system",
        story: "The kernel executes nothing from a mount with noexec: \"permission denied\".",
        blocks_install: false,
        run: |state| interpreters(state, Interpreter::NoExecMount),
    },
    Check {
        id: "interpreter-fuse",
        about: "no interpreter is on a FUSE file system",
        story: "A process serves the files of a FUSE file system. When it ends, every program for another architecture \
            fails.",
        blocks_install: false,
        run: |state| interpreters(state, Interpreter::Fuse),
    },
    Check {
        id: "emulator-runs",
        about: "every emulator runs a test program",
        story: "A tiny program of each registered architecture is started in an empty root, as in a container. A failure \
            means that the emulator crashed, or did not end, or that the kernel refused to start it.",
        blocks_install: false,
        run: runs,
    },
    Check {
        id: "emulator-version",
        about: "no emulator has a version with known faults",
        story: "Old QEMUs fail on programs of current distributions. Before 10.2, arm64 images crash while libc-bin or \
            ldconfig is configured (\"qemu: uncaught target signal 11\"), and tar and apk of Alpine get \"Function not \
            implemented\" for openat2. Before 9.2, so does tar of Ubuntu 26.04. Before 8.1, programs that generate code \
            as they run crash. Docker Desktop had 8.1.5 until 4.56, colima has 7.0.0. The version is that of the \
            emulator which the kernel really starts.",
        blocks_install: false,
        run: version,
    },
    Check {
        id: "other-handlers",
        about: "handlers of other tools are recognised",
        story: "Entries such as WSLInterop (Windows programs in WSL), rosetta (Docker Desktop, OrbStack, Lima), FEX, box64, \
            wine, Python and Java belong to other tools. binfmtctl removes one only if you give its full name.",
        blocks_install: false,
        run: others,
    },
];

fn flag_f(state: &State) -> Vec<Result> {
    let which = |entry: &Entry| entry.is_qemu() || entry.arches().next().is_some();
    each_of(state, "every emulator's entry has flag F", which, |entry| {
        let around = state.surroundings.as_ref();
        let file = around.and_then(|around| around.interpreters.get(&entry.name));
        // `interpreter-missing` says that.
        let gone = !entry.is_qemu() && file == Some(&Interpreter::Missing);
        (!entry.flags.has('F') && !gone).then(|| {
            let what = format!(
                "{} lacks flag F, so {} would have to be in every container",
                called(entry),
                entry.interpreter.display()
            );
            let effect = format!("{} containers: no such file or directory", subject(entry));
            if entry.is_qemu() {
                return result(Level::Failure, what, effect, replace(state, entry));
            }
            // Such an emulator may be meant for this machine's own files alone.
            let way = command(state, format!("--install {}", subject(entry)))
                .and("that puts another emulator before it");
            result(Level::Warning, what, effect, way)
        })
    })
}

fn flag_o(state: &State) -> Vec<Result> {
    each(state, "every emulator's entry has flag O or C", |entry| {
        (!entry.flags.has('O') && !entry.flags.has('C')).then(|| {
            result(
                Level::Warning,
                format!("{} lacks flag O", entry.name),
                format!(
                    "{} programs that may be executed but not read do not start",
                    subject(entry)
                ),
                replace(state, entry).by_hand(),
            )
        })
    })
}

fn flag_c(state: &State) -> Vec<Result> {
    each(state, "every emulator's entry has flag C", |entry| {
        (!entry.flags.has('C')).then(|| {
            let what = format!("{} lacks flag C", entry.name);
            result(
                Level::Warning,
                what,
                format!(
                    "sudo and other setuid programs for {} run without their owner's rights",
                    subject(entry)
                ),
                replace(state, entry).by_hand(),
            )
        })
    })
}

fn flag_p(state: &State) -> Vec<Result> {
    // Where kernel and QEMU cannot agree on it, it is right to leave it out.
    let agreed = state.version().is_none_or(|v| kernel::FLAG_P_IS_TOLD.is_in(&v));
    // Debian's builds of that name take it for granted, on every kernel.
    let by_name = |entry: &Entry| entry.interpreter.to_string_lossy().ends_with("-binfmt-P");
    // QEMU learns of it from the kernel since 6.0; the patch is of February 2021.
    let old = |entry: &Entry| {
        let version = entry.arches().find_map(|arch| state.probe(arch)?.qemu().map(str::to_owned));
        version.filter(|version| number(version).is_some_and(|number| number < (6, 0)))
    };
    each(state, "every emulator's entry has flag P where it works", |entry| {
        match (entry.flags.has('P'), agreed) {
            (true, _) if by_name(entry) => None,
            (true, true) => old(entry).map(|version| {
                result(
                    Level::Warning,
                    format!("{} has flag P, which QEMU {version} may not know", entry.name),
                    format!("{} programs get their arguments shifted by one", subject(entry)),
                    replace(state, entry).by_hand(),
                )
            }),
            (false, true) if old(entry).is_none() => Some(result(
                Level::Warning,
                format!("{} lacks flag P", entry.name),
                format!(
                    "{} programs that go by the name they are called by, such as busybox, go wrong",
                    subject(entry)
                ),
                replace(state, entry).by_hand(),
            )),
            (true, false) => Some(result(
                Level::Warning,
                format!("{} has flag P, which this kernel cannot tell QEMU", entry.name),
                format!("{} programs get their arguments shifted by one", subject(entry)),
                command(state, format!("--install {} --replace --flags OCF", subject(entry))),
            )),
            _ => None,
        }
    })
}

/// What is wrong with an entry's interpreter file.
struct Fault {
    kind: Interpreter,
    level: Level,
    /// What is said where no entry has it.
    well: &'static str,
    /// What the interpreter is.
    wrong: &'static str,
    /// What programs meet.
    effect: &'static str,
}

#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    Fault { kind: Interpreter::Missing, level: Level::Failure, well: "every interpreter is there, or held by flag F",
        wrong: "is not there", effect: "no such file or directory" },
    Fault { kind: Interpreter::Dynamic, level: Level::Failure, well: "no interpreter is dynamically linked",
        wrong: "is dynamically linked", effect: "no such file or directory, in containers" },
    Fault { kind: Interpreter::Script, level: Level::Failure, well: "no interpreter is a script",
        wrong: "is a script", effect: "no such file or directory, in containers" },
    Fault { kind: Interpreter::ForeignArch, level: Level::Failure, well: "no interpreter is built for another architecture",
        wrong: "is built for another architecture", effect: "too many levels of symbolic links" },
    Fault { kind: Interpreter::NotExecutable, level: Level::Failure, well: "every interpreter can be executed",
        wrong: "is not executable", effect: "permission denied" },
    Fault { kind: Interpreter::NoProgram, level: Level::Failure, well: "every interpreter can be executed",
        wrong: "is no program", effect: "exec format error" },
    Fault { kind: Interpreter::NoExecMount, level: Level::Failure, well: "no interpreter is on a noexec file system",
        wrong: "is on a noexec file system", effect: "permission denied" },
    Fault { kind: Interpreter::Fuse, level: Level::Warning, well: "no interpreter is on a FUSE file system",
        wrong: "is on a FUSE file system", effect: "none runs once the process that serves it ends" },
];

fn interpreters(state: &State, kind: Interpreter) -> Vec<Result> {
    let Some(surroundings) = &state.surroundings else {
        return unknown("interpreters were not looked at");
    };
    let Some(Fault { level, well, wrong, effect, .. }) =
        FAULTS.iter().find(|fault| fault.kind == kind)
    else {
        return ok("every interpreter is statically linked");
    };
    // Another tool's interpreter may well be a script, or need libraries.
    const OF_ANY: [Interpreter; 3] =
        [Interpreter::Missing, Interpreter::NotExecutable, Interpreter::NoExecMount];
    let which = |entry: &Entry| entry.is_qemu() || OF_ANY.contains(&kind);
    each_of(state, well, which, |entry| {
        let found = surroundings.interpreters.get(&entry.name)?;
        // With F the kernel holds a file that may not be the one at that path here, and the test program tells
        // whether it works.
        let held = entry.flags.has('F')
            && entry.arches().any(|arch| state.probe(arch).is_some_and(Probe::ran));
        let excused = kind == Interpreter::Missing && entry.flags.has('F');
        (*found == kind && !held && !excused).then(|| {
            let what = format!("{} of {} {wrong}", entry.interpreter.display(), called(entry));
            let (level, whose) = match entry.arches().next() {
                Some(_) => (*level, format!("{} programs", subject(entry))),
                None if entry.is_qemu() => (*level, format!("{} programs", entry.name)),
                None => (Level::Warning, format!("files that {} handles", entry.name)),
            };
            result(level, what, format!("{whose}: {effect}"), way_out(state, entry))
        })
    })
}

/// An entry's name, and what it is of another tool's.
fn called(entry: &Entry) -> String {
    match others_name(entry).filter(|_| !entry.is_qemu()) {
        Some(tool) => format!("{} ({tool})", entry.name),
        None => entry.name.clone(),
    }
}

/// What puts one that works in an entry's place.
fn way_out(state: &State, entry: &Entry) -> Way {
    if entry.is_qemu() {
        return replace(state, entry);
    }
    let gone = Fix::Write { value: "-1", file: entry.file.clone() };
    // The host's own is never registered.
    let arches: Vec<_> = entry.arches().filter(|arch| *arch != HOST).map(|arch| arch.oci).collect();
    match arches.is_empty() {
        true => remove(state, &entry.name).done_by([gone]),
        false => {
            let (name, list) = (quoted(&entry.name), arches.join(","));
            command(state, format!("--uninstall {name} --install {list}"))
                .done_by([gone, Fix::Install { list, replace: false }])
        }
    }
}

fn runs(state: &State) -> Vec<Result> {
    let (takers, not_asked) = (state.takers(), state.not_asked());
    let which = |entry: &Entry| entry.arches().next().is_some();
    each_of(state, "every emulator runs a test program", which, |entry| {
        let arch = entry.arches().find(|arch| takers.of(arch) == Some(entry))?;
        let probe = state.probe(arch)?;
        // `private-instance` says that.
        if not_asked.iter().any(|(_, other)| *other == entry) {
            return None;
        }
        // What lacks F fails for that reason, which has a check of its own.
        let expected = !entry.flags.has('F') && matches!(probe.outcome, Outcome::Refused(_));
        (!probe.ran() && !expected).then(|| {
            let what = format!("{}: {}", called(entry), probe.outcome);
            let way = way_out(state, entry);
            let around = state.surroundings.as_ref();
            let filtered = around.is_some_and(|around| around.seccomp == Ok(true));
            let way = match filtered && matches!(probe.outcome, Outcome::Crashed(_)) {
                true => advice(without_filter(&way)),
                false => way,
            };
            result(Level::Failure, what, format!("{arch} programs do not run"), way)
        })
    })
}

/// Major and minor number of `7.2.0 (Debian …)`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What old QEMUs get wrong, worst first: repaired in this version; of this architecture's programs
/// alone, or of all.
#[rustfmt::skip]
const BUGS: &[((u32, u32), Option<&str>, &str)] = &[
    ((5, 2), None, "Rust programs: Invalid argument (sigaltstack)"),
    ((8, 1), None, "programs that make code as they run, such as Erlang's and Java's: signal 11"),
    ((10, 2), Some("arm64"), "configuring libc-bin: uncaught target signal 11"),
    ((9, 2), None, "tar of Ubuntu 26.04: Function not implemented (openat2)"),
    ((10, 2), None, "tar and apk of Alpine: Function not implemented (openat2)"),
];

/// Who brings such an old one.
const BROUGHT_BY: &[(&str, &str)] =
    &[("7.0.0", ", as colima brings it"), ("8.1.5", ", as Docker Desktop brought it before 4.56")];

fn version(state: &State) -> Vec<Result> {
    let mut old: Vec<(&str, Vec<&Arch>)> = Vec::new();
    for arch in ARCHES {
        let version = state.probe(arch).and_then(Probe::qemu);
        let Some(version) = version.filter(|version| bugs(version, arch).next().is_some()) else {
            continue;
        };
        match old.iter_mut().find(|(other, _)| *other == version) {
            Some((_, arches)) => arches.push(arch),
            None => old.push((version, vec![arch])),
        }
    }
    let told = |(version, arches): (&str, Vec<&Arch>)| {
        let name = |arch: &&Arch| match state.matching_entry(arch) {
            Some(entry) => entry.name.clone(),
            None => arch.emulator_name(),
        };
        let names: Vec<_> = arches.iter().map(name).collect();
        let be = if names.len() == 1 { "is" } else { "are" };
        let by = BROUGHT_BY.iter().find(|(of, _)| version.split(' ').next() == Some(of));
        let by = by.map_or("", |(_, by)| by);
        let mut effects: Vec<_> = arches.iter().flat_map(|arch| bugs(version, arch)).collect();
        effects.sort();
        effects.dedup();
        let list: Vec<_> = arches.iter().map(|arch| arch.oci).collect();
        result(
            Level::Warning,
            format!("{} {be} QEMU {version}{by}", names.join(", ")),
            effects.join("; "),
            command(state, format!("--install {} --replace", list.join(","))),
        )
    };
    let found: Vec<_> = old.into_iter().map(told).collect();
    if found.is_empty() { ok("no emulator has a version with known faults") } else { found }
}

/// The faults that a version has with programs of an architecture.
fn bugs(version: &str, arch: &Arch) -> impl Iterator<Item = &'static str> {
    let number = number(version);
    let has = move |repaired: &(u32, u32)| number.is_some_and(|number| number < *repaired);
    let concerns = move |of: &Option<&str>| of.is_none_or(|of| of == arch.oci);
    BUGS.iter()
        .filter(move |(repaired, of, _)| has(repaired) && concerns(of))
        .map(|(.., what)| *what)
}

/// Other tools' handlers, by the start of their entries' names.
const OTHERS: &[(&str, &str)] = &[
    ("WSLInterop", "WSL's handler for Windows programs"),
    ("rosetta", "Apple's Rosetta for amd64 programs"),
    ("FEX", "FEX for x86 programs"),
    ("box64", "box64 for amd64 programs"),
    ("box32", "box32 for 386 programs"),
    ("box86", "box86 for 386 programs"),
    ("wine", "Wine for Windows programs"),
    ("DOSWin", "Wine for Windows programs"),
    ("python", "Python for compiled modules"),
    ("jar", "Java for archives"),
    ("cli", "Mono for .NET programs"),
    ("llvm", "LLVM for bitcode"),
];

/// What another tool's entry is, where its name tells.
fn others_name(entry: &Entry) -> Option<&'static str> {
    OTHERS.iter().find(|(prefix, _)| entry.name.starts_with(prefix)).map(|(_, what)| *what)
}

fn others(state: &State) -> Vec<Result> {
    let instance = match instance(state) {
        Ok(instance) => instance,
        Err(unknown) => return unknown,
    };
    let name = |entry: &Entry| {
        let what = others_name(entry).unwrap_or("another tool's");
        let takes = match &entry.rule {
            Rule::Extension(extension) => {
                format!("; it matches every file called *.{extension}, programs too")
            }
            _ => String::new(),
        };
        let what = format!("{} is {what}{takes}", entry.name);
        result(Level::Ok, what, String::new(), Way::default())
    };
    let others: Vec<_> =
        instance.entries.iter().filter(|entry| !entry.is_qemu()).map(name).collect();
    if others.is_empty() { ok("no handlers of other tools") } else { others }
}
