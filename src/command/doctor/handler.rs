//! Rows on what runs a program: the CPU, an entry's emulator, and what that inherits. Pure.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::environment::{Blamed, Cause, Environment, Limit, Trial};
use super::file::{foreign_system, is_program};
use super::message;
use super::run::End;
use super::subject::{Content, Program, Runner, Subject};
use crate::arch::{self, Arch, Class};
use crate::check::{
    self, Finding, Result, Way, advice, echo, failure, ok, repair, unknown, warning,
};
use crate::entry::{Entry, Rule};
use crate::state::{Interpreter, Outcome, Probe, State};

/// Of a system call that a filter forbids.
const SIGSYS: i32 = Signal::SIGSYS as i32;

/// `file-handler`: the CPU or an entry runs it.
pub(super) fn handler(subject: &Subject<'_>) -> Vec<Result> {
    match &subject.content {
        Content::Program(program)
            if is_program(subject, program)
                && foreign_system(program).is_none()
                && program.as_text.is_none() =>
        {
            of_program(subject, program)
        }
        Content::Unread | Content::Program(_) => Vec::new(),
        _ => subject.taker.map_or(Vec::new(), |entry| of_other(subject, entry)),
    }
}

/// What an entry takes that is no ELF program: for Wine, Java, Python.
fn of_other(subject: &Subject<'_>, entry: &Entry) -> Vec<Result> {
    let (name, interpreter) = (&entry.name, entry.interpreter.display());
    if entry.flags.has('F') || subject.place.has(&entry.interpreter) {
        return Vec::new();
    }
    failure(
        format!(
            "{name} is registered for it, but its interpreter {interpreter} is not in {}",
            subject.root()
        ),
        "No such file or directory, though the file exists",
        check::remove(subject.state, name)
            .by_hand()
            .and(format!("or install what has {interpreter}")),
    )
}

fn of_program(subject: &Subject<'_>, program: &Program<'_>) -> Vec<Result> {
    let arch = program.arch;
    match program.runner {
        Runner::Native => ok("this machine runs it by itself"),
        Runner::Hidden => match &program.trial {
            Some(trial) if trial.ran.end != End::Status(0) => {
                fails(subject, program, trial, "an entry that cannot be seen")
            }
            _ => ok(format!("{} run here, by an entry that cannot be seen", programs_for(arch))),
        },
        Runner::Entry(entry) if matches!(entry.rule, Rule::Extension(_)) => {
            let found = of_other(subject, entry);
            let what =
                || format!("the entry {}, for all files with that ending, runs it", entry.name);
            if found.is_empty() { ok(what()) } else { found }
        }
        Runner::Entry(entry) => taken(subject, program, entry),
        Runner::Nobody => nobody(subject, program),
    }
}

fn programs_for(arch: Option<&Arch>) -> String {
    arch.map_or_else(|| "such programs".to_owned(), |arch| format!("programs for {arch}"))
}

fn replace(state: &State, arch: &Arch) -> Way {
    check::install(state, arch.oci, true)
}

fn taken(subject: &Subject<'_>, program: &Program<'_>, entry: &Entry) -> Vec<Result> {
    let name = &entry.name;
    let probe = program.arch.and_then(|arch| subject.state.probe(arch));
    let ran = probe.is_some_and(Probe::ran);
    let version = probe.and_then(|probe| probe.emulator.as_ref());
    let version = version.map_or(String::new(), |version| format!(", {version}"));
    if !entry.flags.has('F') && !ran {
        return without_f(subject, entry, program.arch);
    }
    match &program.trial {
        Some(trial) if trial.ran.end != End::Status(0) => fails(subject, program, trial, name),
        Some(_) if !ran => in_empty_root(subject, entry, probe),
        Some(_) => ok(format!("{name} runs {}{version}", programs_for(program.arch))),
        None if ran => ok(format!("{name} runs {}{version}", programs_for(program.arch))),
        None => match program.arch {
            Some(_) if let Err(why) = &subject.state.probes => unknown(format!(
                "{name} is registered for it; whether that works is not known: {why}"
            )),
            Some(arch) => {
                let what = format!(
                    "{name} is registered for it, but: {}",
                    subject.state.why_not_running(entry)
                );
                failure(what, effect(probe), replace(subject.state, arch))
            }
            None => {
                unknown(format!("{name} is registered for it; whether that works is not known"))
            }
        },
    }
}

/// It works here, and did not where nothing else is.
fn in_empty_root(subject: &Subject<'_>, entry: &Entry, probe: Option<&Probe>) -> Vec<Result> {
    let why = match probe {
        Some(probe) => probe.outcome.to_string(),
        None => return ok(format!("{} runs such programs", entry.name)),
    };
    warning(
        format!("{} runs such programs here, but not in an empty root: {why}", entry.name),
        "it may fail in containers that hold little",
        advice(match subject.state.surroundings.as_ref().map(|around| &around.seccomp) {
            Some(Ok(true)) => {
                "system calls are filtered here, which may be why: try it without the filter"
            }
            _ => "`binfmtctl doctor` looks at the entry",
        }),
    )
}

fn effect(probe: Option<&Probe>) -> &'static str {
    match probe.map(|probe| &probe.outcome) {
        Some(Outcome::Refused(errno)) => Errno::from_raw(*errno).desc(),
        Some(Outcome::Crashed(_)) => "it ends at once",
        Some(Outcome::TimedOut) => "it hangs",
        _ => "not known",
    }
}

/// The smallest program of its architecture failed in this very environment.
fn fails(subject: &Subject<'_>, program: &Program<'_>, trial: &Trial, name: &str) -> Vec<Result> {
    if trial.cause.is_some() {
        // The row on the environment says why.
        return ok(format!("{name} is registered for it"));
    }
    let Some(arch) = program.arch else { return Vec::new() };
    let state = subject.state;
    let said = message::telling(&trial.ran.last)
        .map_or(String::new(), |said| format!("; it says: {said}"));
    let unfit = unfit(program, state);
    let (why, effect) = match trial.ran.end {
        End::Refused(Errno::ENOEXEC) if state.not_asked().iter().any(|(of, _)| *of == arch) => {
            return check::not_asked(state);
        }
        End::Refused(errno) if let Some(wrong) = unfit => {
            (format!("its interpreter {wrong}"), errno.desc())
        }
        End::Refused(errno) => (format!("the kernel refuses: {}", errno.desc()), errno.desc()),
        End::TimedOut(_) => ("its emulator hangs".to_owned(), "it hangs"),
        End::Signal(SIGSYS) => (
            "a filter (seccomp) forbids a system call that its emulator makes".to_owned(),
            "it ends at once",
        ),
        End::Signal(signal) => {
            (format!("its emulator crashes with signal {signal}"), "it ends at once")
        }
        End::Status(status) => {
            (format!("its emulator fails: exit status {status}"), "it ends at once")
        }
        End::NotEntered(_) | End::Interrupted => {
            return unknown(format!("{name} is registered for it; it was not tried"));
        }
    };
    let known = trial.ran.last.iter().find_map(|line| message::of_emulator(line));
    let why = known.map_or(why, |message| message.means.to_owned());
    let way = replace(state, arch);
    let filtered = state.surroundings.as_ref().is_some_and(|around| around.seccomp == Ok(true));
    let way = match known.filter(|message| !message.advice.is_empty()) {
        _ if filtered => advice(check::without_filter(&way)),
        Some(message) => way.and(message.advice),
        None => way,
    };
    failure(format!("{name} is registered for it, but {why}{said}"), effect, way)
}

/// What is wrong with the file that an entry names.
fn unfit(program: &Program<'_>, state: &State) -> Option<&'static str> {
    let Runner::Entry(entry) = program.runner else { return None };
    match state.surroundings.as_ref()?.interpreters.get(&entry.name)? {
        Interpreter::Script => Some("is a script, which needs one itself"),
        Interpreter::ForeignArch => Some("is for another architecture than this machine's"),
        Interpreter::NoProgram => Some("is no program"),
        Interpreter::Dynamic => {
            Some("is dynamically linked, and its loader is not where it is used")
        }
        Interpreter::NotExecutable => Some("is not executable"),
        Interpreter::NoExecMount => Some("is on a file system mounted noexec"),
        Interpreter::Static | Interpreter::Fuse | Interpreter::Missing | Interpreter::Unknown => {
            None
        }
    }
}

/// An entry without F finds its interpreter in the root of the program, if at all.
fn without_f(subject: &Subject<'_>, entry: &Entry, arch: Option<&Arch>) -> Vec<Result> {
    let (name, interpreter) = (&entry.name, entry.interpreter.display());
    let way = arch.map_or_else(
        || advice(format!("register {name} again, with flag F")),
        |arch| replace(subject.state, arch),
    );
    if subject.place.has(&entry.interpreter) {
        return warning(
            format!(
                "{name} is registered for it without flag F; its interpreter {interpreter} is in this root, so it may run here"
            ),
            "the same program in containers: No such file or directory",
            way,
        );
    }
    failure(
        format!(
            "{name} is registered for it, but lacks flag F, and its interpreter {interpreter} is not in {}",
            subject.root()
        ),
        "No such file or directory, though the program exists",
        way,
    )
}

/// Why no entry takes it.
fn nobody(subject: &Subject<'_>, program: &Program<'_>) -> Vec<Result> {
    let start = subject.start();
    let failure = |what: String, way: Way| failure(what, Errno::ENOEXEC.desc(), way);
    let install = |arch: &Arch| check::install(subject.state, arch.oci, false);
    let instance = match &subject.state.instance {
        Ok(instance) => instance,
        Err(why) => {
            return match program.arch {
                Some(arch) if subject.state.mount.is_err() => vec![Result {
                    level: check::Level::Unknown,
                    what: format!(
                        "whether an emulator for {arch} is registered cannot be seen: {why}"
                    ),
                    effect: String::new(),
                    way: repair("mount -t proc proc /proc").and("then look again"),
                }],
                Some(arch) => failure(
                    format!(
                        "no emulator for {arch} is registered here; entries cannot be seen: {why}"
                    ),
                    install(arch),
                ),
                None => unsupported(program),
            };
        }
    };
    if !instance.enabled {
        let what = "binfmt_misc is disabled as a whole, so no emulator is started".to_owned();
        return failure(what, echo(subject.state, "1", "status"));
    }
    let disabled = |entry: &&Entry| !entry.enabled && entry.takes(start);
    if let Some(entry) = instance.entries.iter().find(disabled) {
        return failure(
            format!("{} is registered for it, but disabled", entry.name),
            echo(subject.state, "1", &entry.file),
        );
    }
    let Some(arch) = program.arch else { return unsupported(program) };
    let near = instance.entries.iter().find_map(|entry| Some((entry, nearly(entry, start)?)));
    if let Some((entry, near)) = near {
        return missed(subject, program, arch, entry, &near);
    }
    match instance.entry(&arch.emulator_name()) {
        Some(entry) => failure(
            format!(
                "no emulator for {arch} is registered: {} is registered for something else",
                entry.name
            ),
            replace(subject.state, arch),
        ),
        None => failure(format!("no emulator for {arch} is registered"), install(arch)),
    }
}

/// An entry all but takes it: one of the two is unusual.
fn missed(
    subject: &Subject<'_>,
    program: &Program<'_>,
    arch: &Arch,
    entry: &Entry,
    near: &str,
) -> Vec<Result> {
    let failure = |what: String, way: Way| failure(what, Errno::ENOEXEC.desc(), way);
    let name = &entry.name;
    if arch::matches(subject.start(), &arch.magic(), &arch.mask()) {
        return failure(
            format!("{name} does not match it, as its magic and mask ask for too much: {near}"),
            replace(subject.state, arch),
        );
    }
    if program.elf.is_appimage() {
        let copy = crate::tree::quoted(&format!("{}.elf", subject.path.display()));
        let copy = if subject.place.is_own() { copy } else { format!("{}.elf", subject.here()) };
        return failure(
            format!("{name} does not match it, as it is an AppImage: {near}"),
            repair(format!(
                "cp {} {copy} && dd if=/dev/zero of={copy} bs=1 seek=8 count=3 conv=notrunc",
                subject.here()
            ))
            .and("start the copy, which lacks these bytes and nothing else"),
        );
    }
    failure(
        format!("{name} does not match it, as it is an unusual program: {near}"),
        advice("build it again, or ask where it comes from"),
    )
}

/// Why an entry does not take a file that it all but matches: up to three bytes differ.
fn nearly(entry: &Entry, start: &[u8]) -> Option<String> {
    let Rule::Magic { offset, magic, mask } = &entry.rule else { return None };
    let bytes = start.get(*offset..)?.get(..magic.len())?;
    let mask = |i: usize| *mask.as_ref().and_then(|mask| mask.get(i)).unwrap_or(&0xff);
    let differing: Vec<_> =
        (0..magic.len()).filter(|i| (bytes[*i] ^ magic[*i]) & mask(*i) != 0).collect();
    // Bytes 0 to 6 and the two of the machine's number are what an architecture is: an entry for
    // another one is not nearly the same.
    let telling = |i: &usize| (7..18).contains(&(offset + i)) || offset + i >= 20;
    if differing.is_empty() || differing.len() > 3 || !differing.iter().all(telling) {
        return None;
    }
    let byte = |i: &usize| {
        let (at, is, must) = (offset + i, bytes[*i], magic[*i]);
        let part = match at {
            7 => " (OS ABI)",
            8 => " (ABI version)",
            16 | 17 => " (kind: movable programs have 3, others 2)",
            _ => "",
        };
        match mask(*i) {
            0xff => format!("byte {at}{part} is {is:02x} and must be {must:02x}"),
            mask => {
                format!("byte {at}{part} is {is:02x} and must be {must:02x} under mask {mask:02x}")
            }
        }
    };
    let bytes: Vec<_> = differing.iter().map(byte).collect();
    Some(bytes.join(", "))
}

/// Programs for machines without an emulator.
fn unsupported(program: &Program<'_>) -> Vec<Result> {
    let (machine, small) = (program.elf.machine, program.elf.class == Class::Elf32);
    let (what, way) = match (machine, small) {
        (62, true) => (
            "it is for x32, amd64's form with 32-bit addresses, which few kernels run (CONFIG_X86_X32_ABI)",
            "use the build for amd64; on an amd64 machine whose kernel has it: boot with syscall.x32=y",
        ),
        (183, true) => (
            "it is for arm64's form with 32-bit addresses (ILP32), which no kernel release runs",
            "use the build for arm64, or for arm (armhf)",
        ),
        (22, true) => (
            "it is for s390 with 31-bit addresses, which has no emulator",
            "use the build for s390x",
        ),
        (50, _) => ("it is for Itanium (ia64), which has no emulator", "use another build"),
        (247, _) => (
            "it is for the kernel's own virtual machine (BPF)",
            "load it with `bpftool` or what it belongs to",
        ),
        (190 | 224, _) => ("it is for a graphics processor", "name the program that loads it"),
        (83 | 105 | 93 | 195 | 165, _) => {
            ("it is for a microcontroller", "load it onto that, or into its own emulator")
        }
        _ => {
            ("no emulator is known for its machine number", "use a build for another architecture")
        }
    };
    failure(what, Errno::ENOEXEC.desc(), advice(way))
}

/// `file-environment`: nothing that it inherits keeps its emulator from working.
pub(super) fn environment(subject: &Subject<'_>) -> Vec<Result> {
    let Some(program) = subject.program().filter(|program| program.runner.emulates()) else {
        return Vec::new();
    };
    let trial = program.trial.as_ref();
    if let Some((trial, cause)) = trial.and_then(|trial| Some((trial, trial.cause.as_ref()?))) {
        return to_blame(subject.environment, trial, cause);
    }
    // Where it fails without them as well, they need not be told.
    if trial.is_some_and(|trial| trial.ran.end != End::Status(0)) {
        return Vec::new();
    }
    inherited(subject.environment, |path| subject.place.has(path))
}

/// Id of what is found of the machine as a whole.
pub(super) const ENVIRONMENT: &str = "environment";

/// The same, for all that emulators run: `blamed` did not.
pub(super) fn of_machine(
    environment: &Environment,
    blamed: &[Blamed],
    has: impl Fn(&Path) -> bool,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut told: Vec<&Cause> = Vec::new();
    for Blamed { trial, .. } in blamed {
        let Some(cause) = trial.cause.as_ref().filter(|cause| !told.contains(cause)) else {
            continue;
        };
        told.push(cause);
        let alike = blamed.iter().filter(|other| other.trial.cause.as_ref() == Some(cause));
        let arches: Vec<_> = alike.map(|other| other.arch.oci).collect();
        for mut result in to_blame(environment, trial, cause) {
            result.effect = format!(
                "programs for {} that are started from here do not run: {}",
                arches.join(", "),
                result.effect
            );
            found.push(result);
        }
    }
    if blamed.is_empty() {
        let wrong = |result: &Result| result.level > check::Level::Ok;
        found.extend(inherited(environment, has).into_iter().filter(wrong));
    }
    found.into_iter().map(|result| result.called(ENVIRONMENT)).collect()
}

/// What is inherited that does not stop emulators, and yet may hurt.
fn inherited(environment: &Environment, has: impl Fn(&Path) -> bool) -> Vec<Result> {
    let variables = environment.variables.iter();
    let mut found: Vec<_> =
        variables.flat_map(|(name, value)| variable(&has, name, value)).collect();
    let (files, most) = environment.files;
    if files < FEW_FILES {
        let way = match most > files {
            true => repair(format!("ulimit -Sn {most}")),
            false => advice(ELSEWHERE),
        };
        let what = format!("only {files} files may be open at once (ulimit -n)");
        found.extend(warning(what, "programs fail: too many open files", way));
    }
    found
}

/// Fewer open files than programs can be expected to do with.
const FEW_FILES: u64 = 64;

fn to_blame(environment: &Environment, trial: &Trial, cause: &Cause) -> Vec<Result> {
    let said = message::telling(&trial.ran.last)
        .map_or(String::new(), |said| format!("; the emulator says: {said}"));
    let effect = match trial.ran.end {
        End::TimedOut(_) => "it hangs",
        End::Signal(_) => "its emulator crashes",
        _ => "its emulator gives up before it starts",
    };
    match cause {
        Cause::Variable(names) => {
            let values: Vec<_> = names
                .split(' ')
                .map(|name| format!("{name}={}", environment.variable(name).unwrap_or_default()))
                .collect();
            failure(
                format!("{} is the cause{said}", values.join(" ")),
                effect,
                repair(format!("unset {names}")),
            )
        }
        Cause::Limit(limit) => failure(
            format!(
                "the limit on {} is too low for the emulator ({}){said}",
                limit.what,
                limit.shown()
            ),
            effect,
            limit_way(limit),
        ),
    }
}

const ELSEWHERE: &str = "it cannot be raised from here: start it where it is not set; that is a new login, a systemd service \
    without Limit…=, a container with another --ulimit";

fn limit_way(limit: &Limit) -> Way {
    limit.raise.as_ref().map_or_else(|| advice(ELSEWHERE), repair)
}

/// What a variable that is set does to an emulator.
fn variable(has: &impl Fn(&Path) -> bool, name: &str, value: &str) -> Vec<Result> {
    let set = format!("{name}={value} is set");
    let unset = repair(format!("unset {name}"));
    match name {
        "QEMU_VERSION" => failure(
            format!("{set}: emulators print their version and start nothing"),
            "it does not run",
            unset,
        ),
        "QEMU_GDB" => failure(format!("{set}: emulators wait for a debugger"), "it hangs", unset),
        "QEMU_CPU" if value != "max" => warning(
            format!("{set}: programs get that CPU, and not the one that emulators choose"),
            "where it lacks what a program uses: signal 4, SIGILL",
            unset,
        ),
        "QEMU_LD_PREFIX" if !has(Path::new(value)) => warning(
            format!("{set}, and there is no such directory"),
            "loaders and libraries are not found there",
            unset,
        ),
        "QEMU_RESERVED_VA" | "QEMU_GUEST_BASE" | "QEMU_STACK_SIZE" | "QEMU_RTSIG_MAP" => warning(
            format!("{set}: it changes what memory or signals programs get"),
            "some programs may not start, or crash",
            unset,
        ),
        "QEMU_UNAME" => warning(
            format!("{set}: programs see that kernel version"),
            "they may do without what this kernel has, or refuse to start",
            unset,
        ),
        "QEMU_LOG"
        | "QEMU_STRACE"
        | "QEMU_TRACE"
        | "QEMU_PLUGIN"
        | "QEMU_ONE_INSN_PER_TB"
        | "QEMU_SINGLESTEP" => warning(
            format!("{set}, which is for finding faults"),
            "programs are slow, or print more than they should",
            unset,
        ),
        _ => ok(set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Flags;

    #[test]
    fn an_appimage_nearly_matches_and_the_bytes_are_named() {
        let arch = Arch::by_target("aarch64").unwrap();
        let entry = Entry {
            file: "qemu-aarch64".into(),
            name: "qemu-aarch64".to_owned(),
            enabled: true,
            interpreter: "/usr/bin/qemu-aarch64".into(),
            flags: Flags::parse("F").unwrap(),
            rule: Rule::Magic { offset: 0, magic: arch.magic(), mask: Some(arch.mask()) },
            unknown: Vec::new(),
        };
        let mut program = arch.probe();
        assert_eq!(nearly(&entry, &program), None);
        program[16] = 1;
        assert_eq!(
            nearly(&entry, &program).unwrap(),
            "byte 16 (kind: movable programs have 3, others 2) is 01 and must be 02 under mask fe"
        );
        program[16] = 2;
        program[8..11].copy_from_slice(b"AI\x02");
        assert_eq!(
            nearly(&entry, &program).unwrap(),
            "byte 8 (ABI version) is 41 and must be 00, byte 9 is 49 and must be 00, byte 10 is 02 and must be 00"
        );
        program[8..11].copy_from_slice(&[0; 3]);
        program[18] = 0;
        assert_eq!(nearly(&entry, &program), None);
    }
}
