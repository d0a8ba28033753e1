//! What came of starting a program because the user asked for it. Pure.

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::message::{self, Message};
use super::run::{End, Ran};
use super::subject::{Content, Program, Subject};
use crate::check::{
    Finding, Level, Result, Way, advice, command, failure, ok, repair, unknown, warning,
};

/// Id of the finding.
pub(super) const ID: &str = "file-run";

/// Judges how it ended; `chain` is what was looked at before, and `explained` whether what was found there
/// tells why it fails.
pub(super) fn judge(ran: &Ran, chain: &[Subject<'_>], explained: bool) -> Vec<Finding> {
    let program = chain.iter().rev().find_map(|subject| match &subject.content {
        Content::Program(program) => Some((subject, program.as_ref())),
        _ => None,
    });
    let said =
        message::telling(&ran.last).map_or(String::new(), |said| format!("; it said: {said}"));
    let known = ran.last.iter().rev().find_map(|line| message::of_emulator(line));
    let found = match ran.end {
        End::NotEntered(errno) => {
            unknown(format!("it was not started: its root cannot be entered: {}", errno.desc()))
        }
        End::Refused(errno) => {
            failure(format!("it did not start: {}", errno.desc()), "", advice(refused(errno)))
        }
        End::Status(0) => ok("it ran"),
        End::Status(status) => failed(status, known, &said),
        End::Signal(signal) => killed(signal, program, ran, &said),
        End::TimedOut(limit) => vec![Result {
            level: Level::Unknown,
            what: format!(
                "it started, and was ended as it still ran after {} s{said}",
                limit.as_secs()
            ),
            effect: String::new(),
            way: advice(
                "a server does that, and a program that hangs: --timeout SECONDS gives it longer",
            ),
        }],
        End::Interrupted => unknown("it was interrupted"),
    };
    let found = found.into_iter().map(|result| result.called(ID));
    found.map(|finding| if explained { below(finding) } else { finding }).collect()
}

/// What to do where nothing before tells why the kernel refused.
fn refused(errno: Errno) -> &'static str {
    match errno {
        Errno::ETXTBSY => {
            "something has its file open for writing: `fuser -v` with its path names it; end that, or copy the file and start the copy"
        }
        Errno::E2BIG => {
            "its arguments and its environment are too long together: start it with fewer"
        }
        Errno::EACCES | Errno::EPERM => {
            "a security module (SELinux, AppArmor, fapolicyd) may forbid it: the kernel's log tells, `dmesg` or `journalctl -k`"
        }
        Errno::ENOMEM | Errno::EAGAIN => {
            "memory or processes ran out, or a limit is reached: `ulimit -a`, --memory and --pids-limit of a container"
        }
        _ => "the kernel's log may tell why: `dmesg`",
    }
}

const ABOVE: &str = "the findings before this one tell why";

/// The same, where a finding before it gives the way out: a second one would only mislead.
fn below(finding: Finding) -> Finding {
    if finding.level < Level::Warning {
        return finding;
    }
    Finding { way: advice(ABOVE), ..finding }
}

fn failed(status: i32, known: Option<&Message>, said: &str) -> Vec<Result> {
    if let Some(Message { means, advice: words, .. }) = known {
        return failure(
            format!("it ended with exit status {status}: {means}{said}"),
            "",
            advice(*words),
        );
    }
    match status {
        127 => failure(
            format!(
                "it ended with exit status 127: a command or a library that it needs was not found{said}"
            ),
            "",
            advice("install what it names"),
        ),
        126 => failure(
            format!(
                "it ended with exit status 126: something that it starts cannot be executed{said}"
            ),
            "",
            advice("`binfmtctl doctor` with that program tells why"),
        ),
        129..=192 => failure(
            format!(
                "it ended with exit status {status}: what it started was killed by {}{said}",
                name(status - 128)
            ),
            "",
            advice("`binfmtctl doctor --run` with that program tells more"),
        ),
        _ => warning(
            format!("it ran, and failed by itself: exit status {status}{said}"),
            "",
            advice("it was started as it should be: what it said, and its arguments, tell more"),
        ),
    }
}

fn killed(
    signal: i32,
    program: Option<(&Subject<'_>, &Program<'_>)>,
    ran: &Ran,
    said: &str,
) -> Vec<Result> {
    let name = name(signal);
    match program {
        Some((subject, program)) if program.runner.emulates() => {
            emulated(signal, subject, program, ran, said)
        }
        _ => failure(
            format!("it crashed by itself, without any emulator: {name}{said}"),
            "",
            advice(native(signal)),
        ),
    }
}

fn native(signal: i32) -> &'static str {
    match Signal::try_from(signal) {
        Ok(Signal::SIGILL) => {
            "it used an instruction that this CPU lacks: use a build for older CPUs"
        }
        Ok(Signal::SIGSEGV) => "it, or a library that does not fit it, has a fault",
        Ok(Signal::SIGBUS) => {
            "its file, or one that it maps, is cut short; or memory that it was promised is not there"
        }
        Ok(Signal::SIGSYS) => "a seccomp filter forbids a system call that it makes",
        Ok(Signal::SIGABRT) => "it gave up: what it said tells why",
        Ok(Signal::SIGKILL) => {
            "somebody ended it: usually the kernel, when memory runs out (see dmesg)"
        }
        _ => "it was ended from outside, or by itself",
    }
}

fn emulated(
    signal: i32,
    subject: &Subject<'_>,
    program: &Program<'_>,
    ran: &Ran,
    said: &str,
) -> Vec<Result> {
    let name = name(signal);
    let arch = program.arch.map_or("all", |arch| arch.oci);
    let of_guest = ran.last.iter().any(|line| line.contains("uncaught target signal"));
    let newer = command(subject.state, format!("--install {arch} --replace"));
    let variable = |variable: &str| subject.environment.variable(variable).is_some();
    let (who, way): (String, Way) = match (Signal::try_from(signal), of_guest) {
        (Ok(Signal::SIGILL), _) if variable("QEMU_CPU") => {
            let cpu = subject.environment.variable("QEMU_CPU").unwrap_or_default();
            (format!("it used an instruction that the CPU of QEMU_CPU={cpu} lacks"), repair("unset QEMU_CPU"))
        }
        (Ok(Signal::SIGILL), _) => (
            "it used an instruction that its emulator's CPU lacks".to_owned(),
            repair("export QEMU_CPU=max").and("or put a newer emulator in place: binfmtctl --install --replace"),
        ),
        (Ok(Signal::SIGKILL), _) => {
            ("it was ended from outside".to_owned(), advice("usually by the kernel, when memory runs out: see dmesg"))
        }
        (Ok(Signal::SIGSYS), _) => (
            "a seccomp filter forbids a system call that its emulator makes".to_owned(),
            advice("start it without that filter"),
        ),
        (Ok(Signal::SIGABRT), true) => ("it gave up".to_owned(), advice("what it said tells why")),
        (_, true) => (
            "it crashed in its emulator".to_owned(),
            newer.and("if it runs well on a machine of its own; the version in use stands in `binfmtctl --status`"),
        ),
        (_, false) => ("its emulator crashed".to_owned(), newer),
    };
    failure(format!("{who}: {name}{said}"), "", way)
}

fn name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(name) => format!("signal {signal}, {name}"),
        Err(_) => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(end: End, last: &[&str]) -> (Level, String) {
        let ran = Ran { end, last: last.iter().map(|line| (*line).to_owned()).collect() };
        let finding = judge(&ran, &[], false).remove(0);
        (finding.level, finding.what)
    }

    #[test]
    fn who_failed_is_told_apart() {
        assert_eq!(told(End::Status(0), &[]), (Level::Ok, "it ran".to_owned()));
        assert_eq!(
            told(End::Status(3), &["no input"]),
            (
                Level::Warning,
                "it ran, and failed by itself: exit status 3; it said: no input".to_owned()
            )
        );
        assert_eq!(told(End::Status(127), &[]).0, Level::Failure);
        assert_eq!(
            told(End::Status(1), &["qemu-arm: unable to find CPU model 'x'"]),
            (
                Level::Failure,
                "it ended with exit status 1: QEMU_CPU names a CPU that its emulator does not know; it said: \
                 qemu-arm: unable to find CPU model 'x'"
                    .to_owned()
            )
        );
        assert_eq!(
            told(End::Signal(11), &[]),
            (
                Level::Failure,
                "it crashed by itself, without any emulator: signal 11, SIGSEGV".to_owned()
            )
        );
        assert_eq!(
            told(End::Status(139), &[]).1,
            "it ended with exit status 139: what it started was killed by signal 11, SIGSEGV"
        );
    }
}
