//! Starts a program because the user asks for it, and tells how that ended.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{chdir, chroot};

use super::finding;
use super::place::Place;
use crate::check::{Finding, Level, Way, advice};
use crate::namespace::isolate_as_user;
use crate::root::Root;

const ID: &str = "file-run";

/// Runs it. In a root that is not ours this process moves there and cannot come back: it has
/// nothing left to do but to print.
///
/// The program has no input, and its output goes to standard error, as standard output is the
/// report's.
pub(super) fn run(root: &Root, place: &Place, path: &Path, arguments: &[String]) -> Finding {
    let (level, what, effect, way) = match start(root, place, path, arguments) {
        Ok(status) => ended(status),
        Err(Failure::Enter(errno)) => (
            Level::Unknown,
            format!("it was not started: its root cannot be entered: {}", errno.desc()),
            "",
            Way::default(),
        ),
        Err(Failure::Start(errno)) => (
            Level::Failure,
            format!("it did not start: {}", errno.desc()),
            "this program",
            advice("see the findings before this one"),
        ),
    };
    finding(ID, level, what, effect, way)
}

enum Failure {
    Enter(Errno),
    Start(Errno),
}

fn start(
    root: &Root,
    place: &Place,
    path: &Path,
    arguments: &[String],
) -> Result<ExitStatus, Failure> {
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    // Before the root changes: the other one need not have it.
    let null = File::open(root.path("/dev/null")).map_or_else(|_| Stdio::inherit(), Stdio::from);
    let output =
        io::stderr().as_fd().try_clone_to_owned().map_err(errno).map_err(Failure::Start)?;
    let mut program = path.to_owned();
    if !place.is_own() {
        enter(root, place.root()).map_err(Failure::Enter)?;
        program = Path::new("/").join(path);
    }
    Command::new(program)
        .args(arguments)
        .stdin(null)
        .stdout(output)
        .status()
        .map_err(|error| Failure::Start(errno(error)))
}

fn enter(root: &Root, to: &Path) -> Result<(), Errno> {
    let absolute = std::path::absolute(to).map_err(|_| Errno::ENOENT)?;
    if let Err(errno) = chroot(&absolute) {
        // Without the right to do so: in a user namespace of our own, which sees the same entries.
        isolate_as_user(root).map_err(|_| errno)?;
        chroot(&absolute)?;
    }
    chdir("/")
}

fn ended(status: ExitStatus) -> (Level, String, &'static str, Way) {
    if status.success() {
        return (Level::Ok, "it ran".to_owned(), "", Way::default());
    }
    match status.signal() {
        Some(signal) => {
            let name =
                Signal::try_from(signal).map_or_else(|_| String::new(), |s| format!(", {s}"));
            (
                Level::Failure,
                format!("it started, and was killed by signal {signal}{name}"),
                "this program",
                advice("try a newer emulator: `binfmtctl --status` shows which runs it"),
            )
        }
        None => (
            Level::Ok,
            format!("it ran, and ended with exit status {}", status.code().unwrap_or(-1)),
            "",
            Way::default(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_failure_and_a_status_is_the_programs_own_affair() {
        assert_eq!(ended(ExitStatus::from_raw(0)).0, Level::Ok);
        assert_eq!(ended(ExitStatus::from_raw(3 << 8)).1, "it ran, and ended with exit status 3");
        let (level, what, ..) = ended(ExitStatus::from_raw(11));
        assert_eq!(
            (level, what.as_str()),
            (Level::Failure, "it started, and was killed by signal 11, SIGSEGV")
        );
    }
}
