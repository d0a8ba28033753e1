//! The entries: does each take what it should, and nothing else.

use std::ffi::OsString;

use super::{Check, Level, Result, Way, echo, install, ok, remove, unknown};
use crate::arch::{self, ARCHES, Arch, HOST};
use crate::entry::{Entry, Rule};
use crate::state::{Instance, Probe, State, Takers};

/// In match order of causes: an entry that is off need not be looked at further.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "entry-unreadable",
        about: "every entry can be read",
        story: "An entry that cannot be read or understood may still match programs.",
        blocks_install: false,
        run: unreadable,
    },
    Check {
        id: "entry-native",
        about: "no entry handles programs that the CPU runs itself",
        story: "The kernel asks binfmt_misc before its own ELF loader. An entry for the machine's own architecture matches \
            every program, its own emulator too, so no program starts any more: remove it with the shell's built-in \
            echo. Where the kernel runs 386 programs by itself, an entry for 386 only makes them slow.",
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
        about: "every emulator's entry matches programs of its architecture, and no others",
        story: "If the mask asks for bytes that programs do not have, as QEMU's own one for microblaze did, the entry never \
            matches. If it asks for too little, it also matches programs of other architectures, which its emulator \
            cannot run: \"Invalid ELF image for this architecture\".",
        blocks_install: false,
        run: matches,
    },
    Check {
        id: "entry-complete",
        about: "entries match every kind of program of their architecture",
        story: "Programs are linked at fixed addresses or position-independent (PIE), and static programs of glibc often \
            have OS ABI 3. If magic and mask allow only some of these, some programs of an image run, and others give \
            \"exec format error\".",
        blocks_install: false,
        run: complete,
    },
    Check {
        id: "entry-shadowed",
        about: "no emulator's entry is hidden by a newer one",
        story: "If several entries match, the kernel uses the newest enabled one. The older ones do nothing until the newer \
            one is removed.",
        blocks_install: false,
        run: shadowed,
    },
    Check {
        id: "entry-duplicate",
        about: "one emulator is registered for each architecture",
        story: "QEMU, FEX, box64 and Rosetta may all be registered for one architecture. The kernel uses the newest. Which \
            one that is depends on the order of installation, and may change with a reboot.",
        blocks_install: false,
        run: duplicate,
    },
];

pub(super) fn instance(state: &State) -> std::result::Result<&Instance, Vec<Result>> {
    state.instance.as_ref().map_err(|why| unknown(format!("entries cannot be seen: {why}")))
}

/// Runs `look` on each of QEMU's enabled entries and says `all_well` where it finds nothing.
///
/// Entries that a newer one hides entirely are left out: they do nothing, so nothing is wrong with
/// them but that, which `entry-shadowed` says.
pub(super) fn each(
    state: &State,
    all_well: &str,
    look: impl Fn(&Entry) -> Option<Result>,
) -> Vec<Result> {
    each_of(state, all_well, Entry::is_qemu, look)
}

/// The same, of other enabled entries.
pub(super) fn each_of(
    state: &State,
    all_well: &str,
    which: impl Fn(&Entry) -> bool,
    look: impl Fn(&Entry) -> Option<Result>,
) -> Vec<Result> {
    let instance = match instance(state) {
        Ok(instance) => instance,
        Err(unknown) => return unknown,
    };
    let takers = state.takers();
    let found: Vec<_> = instance
        .entries
        .iter()
        .filter(|entry| entry.enabled && which(entry) && !hidden(entry, &takers))
        .filter_map(look)
        .collect();
    if found.is_empty() { ok(all_well) } else { found }
}

/// Whether newer entries take everything that this one would.
fn hidden(entry: &Entry, takers: &Takers<'_>) -> bool {
    let mut others = takers.instead_of(entry).peekable();
    others.peek().is_some() && others.all(|other| other.is_some())
}

pub(super) fn result(level: Level, what: String, effect: String, way: Way) -> Result {
    Result { level, what, effect, way }
}

/// What people call the architectures that an entry is for: `arm64`; its own name if it is for none.
pub(super) fn subject(entry: &Entry) -> String {
    if let Some(own) = own(entry).filter(|own| entry.takes(&own.probe())) {
        return own.oci.to_owned();
    }
    let arches: Vec<_> = entry.arches().map(|arch| arch.oci).collect();
    if arches.is_empty() { entry.name.clone() } else { arches.join(",") }
}

/// The architecture that an emulator's entry is for, by its name.
fn own(entry: &Entry) -> Option<&'static Arch> {
    Arch::by_target(entry.name.strip_prefix("qemu-")?)
}

/// Architectures whose programs it takes, and that an entry for `own` is not to take.
fn strays(entry: &Entry, own: &Arch) -> Vec<&'static Arch> {
    let (magic, mask) = (own.magic(), own.mask());
    let stray = |arch: &&'static Arch| !arch::matches(&arch.probe(), &magic, &mask);
    entry.arches().filter(stray).collect()
}

pub(super) fn replace(state: &State, entry: &Entry) -> Way {
    install(state, &subject(entry), true)
}

fn unreadable(state: &State) -> Vec<Result> {
    match instance(state) {
        Err(unknown) => unknown,
        Ok(instance) if instance.unreadable.is_empty() => ok("every entry can be read"),
        Ok(instance) => {
            let one = |(file, why): &(OsString, String)| {
                let name = file.display();
                let effect = "it is not known which programs it matches".to_owned();
                result(
                    Level::Warning,
                    format!("the entry {name} cannot be read: {why}"),
                    effect,
                    remove(state, &file.to_string_lossy()),
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
    let natives = HOST.kinds();
    let i386 = ARCHES.iter().find(|arch| arch.oci == "386").map(Arch::probe).unwrap_or_default();
    // Whether the CPU would run 386 itself cannot be tried while an entry takes it.
    let runs_386 = state.surroundings.as_ref().map(|around| around.native_386.clone());
    let mut found = Vec::new();
    for entry in instance.entries.iter().filter(|entry| entry.enabled) {
        let name = &entry.name;
        if natives.iter().any(|(_, program)| entry.takes(program)) {
            found.push(result(
                Level::Failure,
                format!("{name} handles this machine's own programs"),
                "no program of this machine starts any more".to_owned(),
                echo(state, "-1", &entry.file),
            ));
        } else if entry.is_qemu()
            && HOST.oci == "amd64"
            && entry.takes(&i386)
            // `entry-matches` says that.
            && own(entry).is_none_or(|own| own.oci == "386")
        {
            match &runs_386 {
                Some(Ok(true)) => found.push(result(
                    Level::Warning,
                    format!("{name} emulates 386, which this kernel runs by itself"),
                    "386 programs are slow".to_owned(),
                    remove(state, &entry.name),
                )),
                Some(Err(why)) => found.extend(unknown(format!(
                    "{name} emulates 386; whether this kernel would run it by itself is unknown: {why}"
                ))),
                _ => {}
            }
        }
    }
    if found.is_empty() { ok("no entry handles programs that the CPU runs itself") } else { found }
}

fn disabled(state: &State) -> Vec<Result> {
    let instance = match instance(state) {
        Ok(instance) => instance,
        Err(unknown) => return unknown,
    };
    // Where another entry serves in its place nothing is missing.
    let off = instance
        .entries
        .iter()
        .filter(|entry| !entry.enabled && entry.is_qemu())
        .filter(|entry| entry.arches().any(|arch| state.run_by(arch) == Ok(None)))
        .map(|entry| {
            result(
                Level::Failure,
                format!("{} is disabled", entry.name),
                format!("{} programs: exec format error", subject(entry)),
                echo(state, "1", &entry.file),
            )
        });
    let off: Vec<_> = off.collect();
    if off.is_empty() { ok("every emulator's entry is enabled") } else { off }
}

fn matches(state: &State) -> Vec<Result> {
    each(state, "every emulator's entry can match a program", |entry| {
        let own = own(entry).filter(|_| matches!(entry.rule, Rule::Magic { .. }))?;
        let takes_own = own.kinds().iter().any(|(_, program)| entry.takes(program));
        let strays = strays(entry, own);
        let names: Vec<_> = strays.iter().map(|arch| arch.oci).collect();
        match (takes_own, strays.is_empty()) {
            (true, true) => None,
            (false, true) => Some(result(
                Level::Failure,
                format!("{} matches no program of its architecture", entry.name),
                "it does nothing".to_owned(),
                remove(state, &entry.name),
            )),
            (_, false) => {
                // Those for which it was registered by mistake are to run as well.
                let list = match takes_own {
                    true => own.oci.to_owned(),
                    false => format!("{},{}", own.oci, names.join(",")),
                };
                Some(result(
                    Level::Failure,
                    format!(
                        "{} handles programs for {}: its magic and mask are not those of {own}",
                        entry.name,
                        names.join(", ")
                    ),
                    "these do not run: Invalid ELF image for this architecture".to_owned(),
                    install(state, &list, true),
                ))
            }
        }
    })
}

fn complete(state: &State) -> Vec<Result> {
    let instance = match instance(state) {
        Ok(instance) => instance,
        Err(unknown) => return unknown,
    };
    let look = |arch: &&'static Arch| {
        let missed = state.missed(arch);
        let kinds = || arch.kinds().into_iter().map(|(_, program)| program);
        let taker = kinds().find_map(|program| instance.taker(&program))?;
        (!missed.is_empty()).then(|| {
            let what = format!(
                "{} handles only some programs for {arch}: its magic and mask miss {}",
                taker.name,
                missed.join(" and ")
            );
            let effect = "the others do not start: exec format error".to_owned();
            let way = install(state, arch.oci, true);
            result(Level::Failure, what, effect, way)
        })
    };
    let found: Vec<_> = ARCHES.iter().filter_map(|arch| look(&arch)).collect();
    if found.is_empty() {
        ok("every entry matches all programs of its architecture")
    } else {
        found
    }
}

/// Whether an entry wins and does not work: then what it hides is what may help.
fn fails(state: &State, winner: &Entry) -> bool {
    let ran = |arch| state.probe(arch).is_some_and(Probe::ran);
    let mut arches = winner.arches().peekable();
    arches.peek().is_some() && !arches.any(ran)
}

fn shadowed(state: &State) -> Vec<Result> {
    let instance = match instance(state) {
        Ok(instance) => instance,
        Err(unknown) => return unknown,
    };
    let takers = state.takers();
    let look = |entry: &Entry| {
        // One of another tool is for `entry-duplicate`.
        let winner = takers.instead_of(entry).flatten().next().filter(|winner| winner.is_qemu())?;
        if fails(state, winner) {
            return None;
        }
        let what = format!("{} is hidden by the newer {}", entry.name, winner.name);
        let effect = format!("nothing, as long as {} works", winner.name);
        Some(result(Level::Warning, what, effect, remove(state, &entry.name)))
    };
    let entries = instance.entries.iter().filter(|entry| entry.enabled && entry.is_qemu());
    let found: Vec<_> = entries.filter_map(look).collect();
    if found.is_empty() { ok("no emulator's entry is hidden by a newer one") } else { found }
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
            && !fails(state, winner)
        {
            found.push(result(
                Level::Warning,
                format!(
                    "{} and {} both match {arch} programs; the kernel uses {}",
                    winner.name, other.name, winner.name
                ),
                "the same image may behave differently after the next restart".to_owned(),
                remove(state, &other.name),
            ));
        }
    }
    if found.is_empty() { ok("one emulator is registered for each architecture") } else { found }
}
