//! The entries: does each take what it should, find its emulator, and run it.

use super::{Check, Level, Result, ok, unknown};
use crate::arch::{ARCHES, Arch};
use crate::emulator::own;
use crate::entry::{Entry, Rule};
use crate::host::{Instance, State};
use crate::probe::Outcome;
use crate::surroundings::Interpreter;

/// In match order of causes: an entry that is off need not be looked at further.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "entry-unreadable",
        about: "every entry can be read",
        story: "An entry that cannot be read or understood may take programs all the same.",
        blocks_install: false,
        run: unreadable,
    },
    Check {
        id: "entry-native",
        about: "no entry takes what the CPU runs itself",
        story: "binfmt_misc comes before the kernel's own ELF loader. An entry for the machine's own architecture \
            takes every program, its emulator included, so that nothing starts any more: remove it with a shell's \
            built-in echo. An entry for another architecture that the CPU runs as well only makes it slow.",
        blocks_install: false,
        run: native,
    },
    Check {
        id: "entry-disabled",
        about: "every emulator's entry is enabled",
        story: "Writing 0 to an entry switches it off and leaves it in place. Programs then get \"exec format error\".",
        blocks_install: false,
        run: disabled,
    },
    Check {
        id: "entry-matches",
        about: "every emulator's entry can match a program",
        story: "A mask that demands bytes which programs do not have, as QEMU's own one for microblaze did, makes an \
            entry that never takes anything.",
        blocks_install: false,
        run: matches,
    },
    Check {
        id: "entry-shadowed",
        about: "no emulator's entry is hidden by a newer one",
        story: "Of several entries that match, the newest enabled one wins. The one it hides does nothing until the \
            newer one goes.",
        blocks_install: false,
        run: shadowed,
    },
    Check {
        id: "entry-duplicate",
        about: "one emulator serves each architecture",
        story: "QEMU, FEX, box64 and Rosetta may all be registered for one architecture. The newest wins, and which \
            that is depends on the order of installation; after a reboot it may be another.",
        blocks_install: false,
        run: duplicate,
    },
    Check {
        id: "flag-f",
        about: "every emulator's entry has flag F",
        story: "Without F the kernel looks for the emulator when a program starts, in that program's own root. In a \
            container it is not there: \"no such file or directory\" for a program that exists.",
        blocks_install: false,
        run: flag_f,
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
        story: "Without P a program sees its own path in place of argv[0]: programs that go by the name they are called \
            by, such as busybox and those that look for their files beside it, go wrong; \"Error while loading \
            /usr/local/sbin/node: No such file or directory\" is one such. With P on a kernel before 5.12 the \
            emulator is not told, and arguments are shifted by one.",
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
        story: "A file without execute permission, or that is no program, cannot be registered with F and gives \
            \"permission denied\" or \"exec format error\" without.",
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
        story: "Files in FUSE are served by a process: when that ends, every foreign program fails.",
        blocks_install: false,
        run: |state| interpreters(state, Interpreter::Fuse),
    },
    Check {
        id: "emulator-runs",
        about: "every emulator runs a test program",
        story: "A tiny program of each registered architecture is started in an empty root, as a container would start \
            it. Its emulator crashed, did not end, or the kernel refused it.",
        blocks_install: false,
        run: runs,
    },
    Check {
        id: "emulator-version",
        about: "no emulator is of a version known for crashes",
        story: "QEMU 7.0 to 10.1 are reported to crash in arm64 programs of current distributions: \"qemu: uncaught \
            target signal 11\" while libc-bin or ldconfig is configured. The version is what the emulator that the \
            kernel really starts says of itself.",
        blocks_install: false,
        run: version,
    },
    Check {
        id: "other-handlers",
        about: "handlers of other tools are recognised",
        story: "Entries such as WSLInterop (Windows programs in WSL), rosetta (Docker Desktop, OrbStack, Lima), FEX, box64, \
            wine, Python and Java are other tools'. Nothing here removes one unless it is named in full.",
        blocks_install: false,
        run: others,
    },
];

fn instance(state: &State) -> std::result::Result<&Instance, Vec<Result>> {
    state.instance.as_ref().map_err(|why| unknown(format!("entries cannot be seen: {why}")))
}

/// Runs `look` on each of QEMU's enabled entries and says `all_well` where it finds nothing.
fn each(state: &State, all_well: &str, look: impl Fn(&Entry) -> Option<Result>) -> Vec<Result> {
    let instance = match instance(state) {
        Ok(instance) => instance,
        Err(unknown) => return unknown,
    };
    let found: Vec<_> = instance
        .entries
        .iter()
        .filter(|entry| entry.enabled && entry.is_qemu())
        .filter_map(look)
        .collect();
    if found.is_empty() { ok(all_well) } else { found }
}

fn result(level: Level, what: String, breaks: String, repair: String) -> Result {
    Result { level, what, breaks, repair }
}

/// What people call the architectures that an entry is for: `arm64`; its own name if it is for none.
fn subject(entry: &Entry) -> String {
    let arches: Vec<_> = entry.arches().map(|arch| arch.oci).collect();
    if arches.is_empty() { entry.name.clone() } else { arches.join(",") }
}

fn replace(entry: &Entry) -> String {
    format!("binfmtctl --install {} --replace", subject(entry))
}

fn remove(entry: &Entry) -> String {
    format!("binfmtctl --uninstall {}", entry.name)
}

fn unreadable(state: &State) -> Vec<Result> {
    match instance(state) {
        Err(unknown) => unknown,
        Ok(instance) if instance.unreadable.is_empty() => ok("every entry can be read"),
        Ok(instance) => {
            let one = |(name, why): &(String, String)| {
                let breaks = "what it takes is not known".to_owned();
                result(
                    Level::Warning,
                    format!("the entry {name} cannot be read: {why}"),
                    breaks,
                    format!("binfmtctl --uninstall {name}"),
                )
            };
            instance.unreadable.iter().map(one).collect()
        }
    }
}

fn native(state: &State) -> Vec<Result> {
    let instance = match instance(state) {
        Ok(instance) => instance,
        Err(unknown) => return unknown,
    };
    // Other architectures that the CPU runs can be told only where nothing else runs them: 386 on amd64.
    let also = match own().oci {
        "amd64" => Some("386"),
        "arm64" => Some("arm"),
        _ => None,
    };
    let mut found = Vec::new();
    for entry in instance.entries.iter().filter(|entry| entry.enabled) {
        if entry.takes(&own().probe()) {
            found.push(result(
                Level::Failure,
                format!("{} takes this machine's own programs", entry.name),
                "every program of the machine".to_owned(),
                format!("echo -1 > /proc/sys/fs/binfmt_misc/{}", entry.name),
            ));
        } else if entry.is_qemu()
            && let Some(arch) = ARCHES.iter().find(|arch| Some(arch.oci) == also)
            && entry.takes(&arch.probe())
            && own().oci == "amd64"
        {
            found.push(result(
                Level::Warning,
                format!(
                    "{} emulates {}, which most CPUs of this kind run by themselves",
                    entry.name, arch.oci
                ),
                format!("the speed of {} programs", arch.oci),
                remove(entry),
            ));
        }
    }
    if found.is_empty() { ok("no entry takes what the CPU runs itself") } else { found }
}

fn disabled(state: &State) -> Vec<Result> {
    let instance = match instance(state) {
        Ok(instance) => instance,
        Err(unknown) => return unknown,
    };
    let off =
        instance.entries.iter().filter(|entry| !entry.enabled && entry.is_qemu()).map(|entry| {
            let repair = format!("echo 1 > /proc/sys/fs/binfmt_misc/{}", entry.name);
            result(
                Level::Failure,
                format!("{} is disabled", entry.name),
                format!("{} programs: exec format error", subject(entry)),
                repair,
            )
        });
    let off: Vec<_> = off.collect();
    if off.is_empty() { ok("every emulator's entry is enabled") } else { off }
}

fn matches(state: &State) -> Vec<Result> {
    each(state, "every emulator's entry can match a program", |entry| {
        let by_magic = matches!(entry.rule, Rule::Magic { .. });
        let known = Arch::by_target(entry.name.trim_start_matches("qemu-"));
        (by_magic && known.is_some() && entry.arches().next().is_none()).then(|| {
            let what = format!("{} matches no program of its architecture", entry.name);
            result(Level::Failure, what, format!("{} programs", entry.name), remove(entry))
        })
    })
}

fn shadowed(state: &State) -> Vec<Result> {
    each(state, "no emulator's entry is hidden by a newer one", |entry| {
        let winner = entry.arches().find_map(|arch| state.taker(arch))?;
        // Another tool's winning is for `entry-duplicate`.
        (winner.name != entry.name && winner.is_qemu()).then(|| {
            let what = format!("{} is hidden by the newer {}", entry.name, winner.name);
            result(
                Level::Warning,
                what,
                format!("nothing, as long as {} works", winner.name),
                remove(entry),
            )
        })
    })
}

fn duplicate(state: &State) -> Vec<Result> {
    let instance = match instance(state) {
        Ok(instance) => instance,
        Err(unknown) => return unknown,
    };
    let mut found = Vec::new();
    for arch in ARCHES {
        let program = arch.probe();
        let takers: Vec<_> = instance
            .entries
            .iter()
            .filter(|entry| entry.enabled && entry.takes(&program))
            .collect();
        // Two of QEMU's are for `entry-shadowed`.
        if let [winner, others @ ..] = takers.as_slice()
            && let Some(other) = others.iter().find(|other| other.is_qemu() != winner.is_qemu())
        {
            found.push(result(
                Level::Warning,
                format!(
                    "{} and {} both take {arch} programs; {} wins",
                    winner.name, other.name, winner.name
                ),
                "the same image may behave differently after the next restart".to_owned(),
                format!("binfmtctl --uninstall {}", other.name),
            ));
        }
    }
    if found.is_empty() { ok("one emulator serves each architecture") } else { found }
}

fn flag_f(state: &State) -> Vec<Result> {
    each(state, "every emulator's entry has flag F", |entry| {
        (!entry.flags.has('F')).then(|| {
            let what = format!(
                "{} lacks flag F, so {} would have to be in every container",
                entry.name,
                entry.interpreter.display()
            );
            result(
                Level::Failure,
                what,
                format!("{} containers: no such file or directory", subject(entry)),
                replace(entry),
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
                format!("sudo and other setuid programs of {}", subject(entry)),
                replace(entry),
            )
        })
    })
}

fn flag_p(state: &State) -> Vec<Result> {
    // Where kernel and QEMU cannot agree on it, it is right to leave it out.
    let agreed = state.version().is_none_or(|v| {
        (v.major, v.minor) >= (5, 12) || ((v.major, v.minor) == (5, 10) && v.patch >= 225)
    });
    each(state, "every emulator's entry has flag P where it works", |entry| {
        match (entry.flags.has('P'), agreed) {
            (false, true) => Some(result(
                Level::Warning,
                format!("{} lacks flag P", entry.name),
                format!("{} programs that go by the name they are called by", subject(entry)),
                replace(entry),
            )),
            (true, false) => Some(result(
                Level::Warning,
                format!("{} has flag P, which this kernel cannot tell QEMU", entry.name),
                format!("the arguments of {} programs, shifted by one", subject(entry)),
                format!("binfmtctl --install {} --replace --flags OCF", subject(entry)),
            )),
            _ => None,
        }
    })
}

fn interpreters(state: &State, kind: Interpreter) -> Vec<Result> {
    let Some(surroundings) = &state.surroundings else {
        return unknown("interpreters were not looked at");
    };
    let (level, wrong, breaks) = match kind {
        Interpreter::Missing => (Level::Failure, "is not there", "no such file or directory"),
        Interpreter::Dynamic => {
            (Level::Failure, "is dynamically linked", "no such file or directory, in containers")
        }
        Interpreter::Script => {
            (Level::Failure, "is a script", "no such file or directory, in containers")
        }
        Interpreter::ForeignArch => (
            Level::Failure,
            "is built for another architecture",
            "too many levels of symbolic links",
        ),
        Interpreter::NotExecutable => (Level::Failure, "is not executable", "permission denied"),
        Interpreter::NoProgram => (Level::Failure, "is no program", "exec format error"),
        Interpreter::NoExecMount => {
            (Level::Failure, "is on a noexec file system", "permission denied")
        }
        Interpreter::Fuse => (
            Level::Warning,
            "is on a FUSE file system",
            "everything, when the process that serves it ends",
        ),
        Interpreter::Static => (Level::Ok, "", ""),
    };
    each(state, &format!("no interpreter {wrong}"), |entry| {
        let found = surroundings.interpreters.get(&entry.name)?;
        // With F the kernel holds a file that may not be the one at that path here, and the test program tells
        // whether it works.
        let held = entry.flags.has('F')
            && entry
                .arches()
                .any(|arch| state.probes.get(arch).is_some_and(crate::probe::Probe::ran));
        let excused = kind == Interpreter::Missing && entry.flags.has('F');
        (*found == kind && !held && !excused).then(|| {
            let what = format!("{} of {} {wrong}", entry.interpreter.display(), entry.name);
            result(level, what, format!("{} programs: {breaks}", subject(entry)), replace(entry))
        })
    })
}

fn runs(state: &State) -> Vec<Result> {
    each(state, "every emulator runs a test program", |entry| {
        let arch = entry.arches().find(|arch| state.taker(arch) == Some(entry))?;
        let probe = state.probes.get(arch)?;
        // What lacks F fails for that reason, which has a check of its own.
        let expected = !entry.flags.has('F') && matches!(probe.outcome, Outcome::Refused(_));
        (!probe.ran() && !expected).then(|| {
            let what = format!("{}: {}", entry.name, probe.outcome);
            result(Level::Failure, what, format!("{arch} programs"), replace(entry))
        })
    })
}

/// Major and minor number of `7.2.0 (Debian …)`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn version(state: &State) -> Vec<Result> {
    let suspect = |arch: &&Arch| {
        let version = state.probes.get(arch)?.qemu.as_deref()?;
        let known_bad = number(version).is_some_and(|number| ((7, 0)..=(10, 1)).contains(&number));
        known_bad.then(|| {
            let name =
                state.taker(arch).map_or_else(|| arch.emulator_name(), |entry| entry.name.clone());
            result(
                Level::Warning,
                format!("{name} is QEMU {version}"),
                "configuring libc-bin in arm64 images: uncaught target signal 11".to_owned(),
                format!("binfmtctl --install {arch} --replace"),
            )
        })
    };
    let found: Vec<_> = ARCHES
        .iter()
        .filter(|arch| arch.oci == "arm64")
        .filter_map(|arch| suspect(&arch))
        .collect();
    if found.is_empty() { ok("no emulator is of a version known for crashes") } else { found }
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

fn others(state: &State) -> Vec<Result> {
    let instance = match instance(state) {
        Ok(instance) => instance,
        Err(unknown) => return unknown,
    };
    let name = |entry: &Entry| {
        let known = OTHERS.iter().find(|(prefix, _)| entry.name.starts_with(prefix));
        result(
            Level::Ok,
            format!("{} is {}", entry.name, known.map_or("another tool's", |(_, what)| what)),
            String::new(),
            String::new(),
        )
    };
    let others: Vec<_> =
        instance.entries.iter().filter(|entry| !entry.is_qemu()).map(name).collect();
    if others.is_empty() { ok("no handlers of other tools") } else { others }
}
