//! Starts a program because the user asks for it, watches it for a while, and keeps what it said last.

#![expect(clippy::disallowed_methods, reason = "moves into the program's root")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, chdir, chroot};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::place::Place;
use crate::namespace::isolate_as_user;
use crate::root::Root;

/// How much of what a program says last is kept.
const TAIL: usize = 4096;
/// How often it is asked whether the program has ended.
const PAUSE: Duration = Duration::from_millis(10);

/// How a program ended, and the last lines that it, or its emulator, wrote to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) end: End,
    pub(super) last: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its root could not be entered.
    NotEntered(Errno),
    /// The kernel refused to start it.
    Refused(Errno),
    Status(i32),
    Signal(i32),
    /// It still ran after this time, and was ended.
    TimedOut(Duration),
    /// A signal to us ended both.
    Interrupted,
}

/// Runs it. In a root that is not ours this process moves there and cannot come back: it has
/// nothing left to do but to print.
///
/// The program has no input, and its output goes to standard error, as standard output is the
/// report's.
pub(super) fn run(
    root: &Root,
    place: &Place,
    path: &Path,
    arguments: &[OsString],
    limit: Option<Duration>,
) -> Ran {
    // Before the root changes: the other one need not have it.
    let null = File::open(root.path("/dev/null")).map_or_else(|_| Stdio::inherit(), Stdio::from);
    let mut program = path.to_owned();
    if !place.is_own() {
        if let Err(errno) = enter(root, place.path()) {
            return Ran { end: End::NotEntered(errno), last: Vec::new() };
        }
        program = Path::new("/").join(path);
    }
    let mut command = Command::new(program);
    command.args(arguments).stdin(null);
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(output) => command.stdout(output),
        Err(_) => command.stdout(Stdio::null()),
    };
    watch(command, limit, true)
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

/// Starts a command in a process group of its own and waits for its end. What it writes to standard
/// error is passed on to ours if `aloud`.
pub(super) fn watch(mut command: Command, limit: Option<Duration>, aloud: bool) -> Ran {
    let refused = |error: io::Error| {
        let errno = crate::error::errno(error);
        Ran { end: End::Refused(errno), last: Vec::new() }
    };
    let (from, to) = match io::pipe() {
        Ok(pipe) => pipe,
        Err(error) => return refused(error),
    };
    // It is not of our group any more, so a Ctrl-C has to be passed on.
    let ending: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    let signals = ending
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC))
        .ok();
    let child = command.stderr(OwnedFd::from(to)).process_group(0).spawn();
    // With it goes our copy of the pipe's other end.
    drop(command);
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return refused(error),
    };
    let mut tail = Tail { from: OwnedFd::from(from).into(), aloud, kept: Vec::new() };
    let end = follow(&mut child, &mut tail, signals.as_ref(), limit);
    if matches!(end, End::TimedOut(_) | End::Interrupted) {
        let group = Pid::from_raw(child.id().cast_signed());
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait();
    }
    // Not for ever: something that it left in the background may go on writing.
    (0..16).take_while(|_| tail.take(Duration::ZERO)).for_each(drop);
    let _ = ending.thread_unblock();
    Ran { end, last: tail.lines() }
}

fn follow(
    child: &mut Child,
    tail: &mut Tail,
    signals: Option<&SignalFd>,
    limit: Option<Duration>,
) -> End {
    let start = Instant::now();
    loop {
        if !tail.take(PAUSE) {
            // All of its output is closed, and poll(2) would return at once.
            std::thread::sleep(PAUSE);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return ended(status);
        }
        if signals.is_some_and(|signals| ready(signals, Duration::ZERO)) {
            return End::Interrupted;
        }
        if let Some(limit) = limit.filter(|limit| start.elapsed() > *limit) {
            return End::TimedOut(limit);
        }
    }
}

fn ended(status: ExitStatus) -> End {
    match status.signal() {
        Some(signal) => End::Signal(signal),
        None => End::Status(status.code().unwrap_or(-1)),
    }
}

fn ready(fd: impl AsFd, wait: Duration) -> bool {
    let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
    let fd = fd.as_fd();
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&wait)), Ok(1))
}

/// The end of a stream.
struct Tail {
    from: File,
    aloud: bool,
    kept: Vec<u8>,
}

impl Tail {
    /// Takes what comes within this time; false at the stream's end, or if nothing came.
    fn take(&mut self, wait: Duration) -> bool {
        let mut buffer = [0; TAIL];
        if !ready(&self.from, wait) {
            return !wait.is_zero();
        }
        match self.from.read(&mut buffer) {
            Ok(got) if got > 0 => {
                if self.aloud {
                    let _ = io::stderr().write_all(&buffer[..got]);
                }
                self.kept.extend(&buffer[..got]);
                self.kept.drain(..self.kept.len().saturating_sub(TAIL));
                true
            }
            _ => false,
        }
    }

    fn lines(self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.kept);
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .filter(|line| !line.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Option<Duration>) -> Ran {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        watch(command, limit, false)
    }

    #[test]
    fn the_end_and_the_last_words_are_kept() {
        let ran = shell("echo one >&2; echo two >&2; exit 3", None);
        assert_eq!((ran.end, ran.last), (End::Status(3), vec!["one".to_owned(), "two".to_owned()]));
        assert_eq!(shell("kill -SEGV $$", None).end, End::Signal(11));
        assert_eq!(watch(Command::new("/nonesuch"), None, false).end, End::Refused(Errno::ENOENT));
        let ran = shell("yes 0123456789 | head -c 110000 >&2; echo last >&2", None);
        assert_eq!(ran.last.last().map(String::as_str), Some("last"));
        assert!(ran.last.len() < TAIL / 8);
    }

    #[test]
    fn what_hangs_is_ended_with_all_it_started() {
        let limit = Duration::from_millis(100);
        let start = Instant::now();
        let ran = shell("sleep 60 & sleep 60", Some(limit));
        assert_eq!(ran.end, End::TimedOut(limit));
        // What goes on in the background, with our pipe open, does not keep us.
        assert_eq!(shell("sleep 60 & exit 0", Some(limit)).end, End::Status(0));
        assert_eq!(shell("exec 2>&-; sleep 0.05", None).end, End::Status(0));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
